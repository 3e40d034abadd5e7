"""
One process of `test_hub.py`: `python hub_process.py ORDER`, where ORDER is JSON with the name of a function below, its
arguments, and whether the package may be imported. Prints what the function returns as JSON, on the last line.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    AutoTokenizer,
    pipelines,
)

pipeline: Any = pipelines.pipeline  # its type hints know the tasks of transformers only
BEAM = {"num_beams": 3, "num_return_sequences": 2}
MAX_NEW_TOKENS = 9


def translate(
    model: str,
    texts: list[str],
    trust: bool | None = None,
    without_task: bool = False,
    task: str = "translation",
) -> dict[str, Any]:
    """Loads a model in every way there is, and translates, or does another task."""
    options = {} if trust is None else {"trust_remote_code": trust}
    tokenizer = AutoTokenizer.from_pretrained(model, **options)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(model, **options)
    translator = pipeline(task, model=model, device="cpu", **options)
    result = {
        "modules": [
            type(thing).__module__
            for thing in (
                AutoConfig.from_pretrained(model, **options),
                AutoModel.from_pretrained(model, **options),
                loaded,
                translator,
            )
        ],
        "generated": generate(loaded, tokenizer, texts),
        "translated": translated(translator, texts),
    }
    if without_task:
        result["translated_without_task"] = translated(pipeline(model=model, device="cpu", **options), texts)
    return result


def transcribe(model: str, files: list[str], trust: bool | None = None, without_task: bool = False) -> dict[str, Any]:
    """Loads a model of speech in every way there is, and transcribes."""
    options = {} if trust is None else {"trust_remote_code": trust}
    task = {} if without_task else {"task": "automatic-speech-recognition"}
    loaded = AutoModelForSpeechSeq2Seq.from_pretrained(model, **options)
    processor = AutoProcessor.from_pretrained(model, **options)
    transcriber = pipeline(model=model, device="cpu", **task, **options)
    config = AutoConfig.from_pretrained(model, **options)
    return {
        "modules": [type(thing).__module__ for thing in (config, loaded, transcriber)],
        "processor": [type(processor).__name__, type(processor.feature_extractor).__name__],
        "transcribed": [transcriber(files, max_new_tokens=MAX_NEW_TOKENS, batch_size=size) for size in (1, 2)],
    }


def generate(model: Any, tokenizer: Any, texts: list[str]) -> list[list[list[int]]]:
    """The generated ids of a greedy and of a beam search."""
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    return [model.generate(**encoded, max_new_tokens=MAX_NEW_TOKENS, **search).tolist() for search in ({}, BEAM)]


def translated(translator: Any, texts: list[str]) -> list[Any]:
    """What the pipeline returns for a greedy and for a beam search."""
    return [translator(texts, batch_size=2, max_new_tokens=MAX_NEW_TOKENS, **search) for search in ({}, BEAM)]


def save_again(model: str, directory: str) -> None:
    """Loads a model with the code that came with it, and saves it by itself, as a pipeline, and without its code."""
    AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=True).save_pretrained(f"{directory}/model")
    AutoTokenizer.from_pretrained(model).save_pretrained(f"{directory}/model")
    translator = pipeline(model=model, device="cpu", trust_remote_code=True)
    translator.save_pretrained(f"{directory}/without_code", carry_code=False)
    translator.save_pretrained(f"{directory}/pipeline")


def load_without_trust(model: str) -> list[str]:
    """The errors of every way to load a model, without and against trusting its code."""
    ways: list[Callable[..., Any]] = [
        AutoConfig.from_pretrained,
        AutoModel.from_pretrained,
        AutoModelForSeq2SeqLM.from_pretrained,
        lambda name, **options: pipeline("translation", model=name, **options),
        lambda name, **options: pipeline(model=name, **options),
    ]
    errors = []
    for options in ({}, {"trust_remote_code": False}):
        for way in ways:
            try:
                way(model, **options)
            except ValueError as error:
                errors.append(str(error))
            else:
                errors.append("no error")
    return errors


def push(plain: str, names: dict[str, str]) -> None:
    """Pushes a model that was saved without code: without it again, with its code, and as a pipeline with a card."""
    tokenizer = AutoTokenizer.from_pretrained(plain)
    model = AutoModelForSeq2SeqLM.from_pretrained(plain)
    translator = pipeline("translation", model=model, tokenizer=tokenizer, device="cpu")
    translator.push_to_hub(names["pipeline"])
    card = b"---\npipeline_tag: translation\nlibrary_name: transformers\n---\nA card.\n"
    HfApi().upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=names["pipeline"])
    model.push_to_hub(names["plain"], carry_code=False)
    tokenizer.push_to_hub(names["plain"])
    model.push_to_hub(names["with_code"])
    tokenizer.push_to_hub(names["with_code"])


def push_speech(model: str, name: str) -> None:
    """Pushes the pipeline of a model of speech that was saved without code."""
    pipeline("automatic-speech-recognition", model=model, device="cpu").push_to_hub(name)


def push_what_came_as_code(model: str, names: dict[str, str]) -> None:
    """Pushes a model with the code that came with it, and in two ways without."""
    loaded = AutoModelForSeq2SeqLM.from_pretrained(model, trust_remote_code=True)
    loaded.push_to_hub(names["with_code"])
    loaded.push_to_hub(names["told"], carry_code=False)
    loaded.config.drop_code()
    loaded.push_to_hub(names["dropped"])


def main() -> None:
    order = json.loads(sys.argv[1])
    if order["with_package"]:
        import hf_rnn_s2s  # noqa: F401 - importing it is what is tested
    else:
        # importing it fails, as on a machine that does not have it
        sys.modules["hf_rnn_s2s"] = None  # type: ignore[assignment]
    results = [globals()[function](**arguments) for function, arguments in order["calls"]]
    remote = sorted(
        {Path(name.replace(".", "/")).name for name in sys.modules if name.startswith("transformers_modules.")}
    )
    print("\n" + json.dumps({"results": results, "remote_modules": [name for name in remote if "rnn_s2s" in name]}))


if __name__ == "__main__":
    main()
