"""The command `info`: what a model is, what lies in its folder, and whether all of it is there and loads."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq

from ..decoding.shortlist import FILE_NAME as SHORTLIST
from ..decoding.shortlist import Shortlist
from ..model.configuration_rnn_s2s import OPTIONS, PRESETS, RnnS2SConfig
from .models import LOADING_ERRORS, Loaded, load_model, one_line

PROBE = "1 a"  # a text for any tokenizer
CARD, RESULTS = "README.md", "all_results.json"
LONGEST = 10**9  # tokens; tokenizers without a limit have a larger number
# Sizes are told of files of these kinds
KINDS = {"weights": "*.safetensors", "code": "*_rnn_s2s.py", "tokenizer": "token*.json", "pictures": "*.png"}
PICTURE = re.compile(r"!\[[^\]]*\]\(([\w.-]+)\)")  # in a card, one that lies beside it


def describe(
    name: str, as_json: bool = False, device: str | None = None, trust_remote_code: bool = False
) -> list[str]:
    """Print what a model is.

    Args:
        name: a folder, or a name on the Hub.
        as_json: whether to print one JSON object.
        device: where it is tried.
        trust_remote_code: as in `load_model`.

    Returns:
        What is wrong with it; nothing if all that it has is there and loads.

    Raises:
        UsageError: if there is no model, or it cannot be loaded at all.
    """
    loaded = load_model(name, None, device, "auto", trust_remote_code, with_shortlist=False)  # find_problems reads it
    described, problems = description(loaded), list(find_problems(loaded, trust_remote_code))
    if as_json:
        print(json.dumps({**described, "problems": problems}, ensure_ascii=False, indent=2, default=str))
        return problems
    for title, value in described.items():
        print(f"{title}: {_plain(value)}")
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    print(f"state: {count if problems else 'everything is there and loads'}")
    for problem in problems:
        print(f"- {problem}")
    return problems


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def description(loaded: Loaded) -> dict[str, Any]:
    """What there is to say of a model, by titles."""
    model, config, tokenizer = loaded.writer.model, loaded.writer.model.config, loaded.writer.tokenizer
    described: dict[str, Any] = {"model": loaded.name, "kind": f"{type(model).__name__} ({config.model_type})"}
    if isinstance(config, RnnS2SConfig):
        usual = RnnS2SConfig()
        described["task"] = config.task
        described["languages"] = f"{config.source_lang or 'not told'} to {config.target_lang or 'not told'}"
        described["architecture"] = architecture(config)
        described["options"] = {
            name: getattr(config, name) for name in OPTIONS if getattr(config, name) != getattr(usual, name)
        }
    weights = list(model.parameters())
    described["parameters"] = sum(weight.numel() for weight in weights)
    described["type of weights"] = sorted({str(weight.dtype).removeprefix("torch.") for weight in weights})
    sides = {side: getattr(tokenizer, f"{side}_tokenizer", tokenizer) for side in ("source", "target")}
    described["tokens"] = {side: len(one) for side, one in sides.items()}
    if not loaded.listens:
        limit = tokenizer.model_max_length
        described["longest source"] = f"{limit:,} tokens" if limit < LONGEST else "not limited"
    described["generation"] = {
        name: value
        for name, value in model.generation_config.to_diff_dict().items()
        if name != "transformers_version" and not name.startswith("_")
    }
    folder = Path(loaded.name)
    if folder.is_dir():
        described["megabytes"] = sizes(folder)
        described["also there"] = extras(folder)
        described |= results(folder, loaded)
    return described


def architecture(config: RnnS2SConfig) -> str:
    """The preset that a model follows, perhaps with other sizes, or the default architecture."""
    best, options = "the default one", 0
    for name, preset in PRESETS.items():
        wanted = preset()
        kinds = [key for key, value in wanted.items() if isinstance(value, (str, bool))]
        if len(kinds) > options and all(getattr(config, key) == wanted[key] for key in kinds):
            is_exact = all(getattr(config, key) == value for key, value in wanted.items())
            best, options = name if is_exact else f"{name}, with other sizes", len(kinds)
    return best


def sizes(folder: Path) -> dict[str, float]:
    """The sizes of what loading needs, by kinds of files, in megabytes."""
    found = {kind: sum(path.stat().st_size for path in folder.glob(pattern)) for kind, pattern in KINDS.items()}
    return {kind: round(size / 1e6, 3) for kind, size in found.items() if size}


def extras(folder: Path) -> list[str]:
    """What lies beside a model, in words."""
    named = {
        CARD: "model card",
        SHORTLIST: "shortlist",
        "predictions.tsv": "results on the test split",
        "training_args.bin": "arguments of the training",
        "trainer_state.json": "history of the training",
    }
    found = [words for name, words in named.items() if (folder / name).is_file()]
    checkpoints = len(list(folder.glob("checkpoint-*")))
    return [*found, f"{checkpoints} checkpoints"] if checkpoints else found


def results(folder: Path, loaded: Loaded) -> dict[str, Any]:
    """The scores of the test split, where a run left them."""
    if not (folder / RESULTS).is_file():
        return {}
    try:
        found = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        scores = {name: found.get(f"predict_{name}") for name in loaded.task.metrics}
    except (ValueError, AttributeError):
        return {"scores on the test split": f"not to be read from {RESULTS}"}
    numbers = {name: round(score, 4) for name, score in scores.items() if isinstance(score, (int, float))}
    return {"scores on the test split": numbers}


def find_problems(loaded: Loaded, trust_remote_code: bool) -> Iterator[str]:
    """What is missing from a model, or does not load."""
    folder = Path(loaded.name)
    yield from _of_weights(loaded, trust_remote_code)
    checks: list[Callable[[], Any]] = [lambda: _probe(loaded)]
    if (folder / SHORTLIST).is_file():
        checks.append(lambda: Shortlist.from_pretrained(folder))
    for check in checks:
        try:
            check()
        except LOADING_ERRORS as error:
            yield one_line(error)
    if folder.is_dir():
        yield from _of_references(folder)


def _of_weights(loaded: Loaded, trust_remote_code: bool) -> Iterator[str]:
    """Weights that the file lacks, so that they are random, and weights that nobody reads."""
    reads_audio = loaded.listens
    auto: Any = AutoModelForSpeechSeq2Seq if reads_audio else AutoModelForSeq2SeqLM
    _, report = auto.from_pretrained(loaded.name, output_loading_info=True, trust_remote_code=trust_remote_code)
    said = {
        "missing_keys": "is missing from the weights, and is random",
        "unexpected_keys": "is among the weights, and belongs to no part of the model",
        "mismatched_keys": "has another shape among the weights, and is random",
    }
    for kind, words in said.items():
        yield from (f"{key} {words}" for key in sorted(map(str, report[kind])))


def _probe(loaded: Loaded) -> None:
    """Let the model write a few tokens."""
    if loaded.listens:
        rate = loaded.writer.feature_extractor.sampling_rate
        noise = torch.linspace(-1, 1, rate // 2).sin().numpy()
        loaded.writer({"raw": noise, "sampling_rate": rate}, max_new_tokens=2)
    else:
        loaded.writer([PROBE], max_new_tokens=2)


def _of_references(folder: Path) -> Iterator[str]:
    """Files that others in the folder refer to, and that are not there."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    values = config.get("auto_map", {}).values()
    given = itertools.chain.from_iterable(value if isinstance(value, list) else [value] for value in values)
    modules = {reference.split(".")[0] for reference in given if isinstance(reference, str)}
    for module in sorted(modules):
        if not (folder / f"{module}.py").is_file():
            yield f"config.json names code in {module}.py, which is not there"
    if (folder / CARD).is_file():
        text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
        yield from (
            f"{CARD} shows {name}, which is not there"
            for name in PICTURE.findall(text)
            if not (folder / name).is_file()
        )
