"""
Checkpoints travel: each test loads one in a fresh process and compares it with the process that saved it.

The four cases are the package imported or not, and the checkpoint saved with its code or without. The Hub is
`hub_server.py`, on the loopback address.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import (
    RnnS2SConfig,
    RnnS2SForConditionalGeneration,
    RnnSpeechRecognitionPipeline,
    RnnSummarizationPipeline,
    RnnText2TextGenerationPipeline,
    RnnTranslationPipeline,
    train_tokenizer,
)

from .hub_process import generate, translated
from .hub_server import HubServer
from .speech import BINS, TONES, processor, write_tones

REPOSITORY = Path(__file__).parent.parent
TEXTS = ["the dog runs", "", "one red cat sleeps on the big mat", "我们见面"]
CODE = ["configuration_rnn_s2s", "modeling_rnn_s2s", "pipeline_rnn_s2s"]

Saved = tuple[Path, Path, dict[str, Any]]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def saved(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Saved:
    """A checkpoint without code, the same one with code, and what it writes in this process."""
    return save_both(tiny_model, tiny_tokenizer, tmp_path)


def save_both(
    model: RnnS2SForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    directory: Path,
    pipeline_class: Any = RnnTranslationPipeline,
) -> Saved:
    plain, with_code = directory / "plain", directory / "with.code-1"  # a name that is no Python name
    expected = {
        "generated": generate(model, tokenizer, TEXTS),
        "translated": translated(pipeline_class(model=model, tokenizer=tokenizer, device="cpu"), TEXTS),
    }
    # equality below would show little if the model wrote the same for every text
    assert len({tuple(token_ids) for token_ids in expected["generated"][0]}) == len(TEXTS)
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    pipeline_class(model=model, tokenizer=tokenizer, device="cpu").save_pretrained(with_code)
    for file in with_code.glob("*.py"):
        leave_a_trace(file)
    return plain, with_code, expected


def leave_a_trace(file: Path) -> None:
    """Makes a file of code leave its name in the folder TRACES when it is run."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"\nimport os, pathlib\n(pathlib.Path(os.environ['TRACES']) / '{file.stem}').touch()\n")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs functions of `hub_process.py` in a fresh process, in a folder of its own, with empty caches."""

    def run(*calls: tuple[str, dict[str, Any]], with_package: bool, **environment: str) -> dict[str, Any]:
        home = tmp_path / f"process_{len(list(tmp_path.glob('process_*')))}"
        traces = home / "traces"
        traces.mkdir(parents=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
        process = subprocess.run(
            [
                sys.executable,
                REPOSITORY / "tests" / "hub_process.py",
                json.dumps({"calls": calls, "with_package": with_package}),
            ],
            cwd=home,
            env={
                **inherited,
                "HF_HOME": str(home / "hf"),
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "TRACES": str(traces),
                "OMP_NUM_THREADS": "1",
                **({"PYTHONPATH": str(REPOSITORY)} if with_package else {}),
                **(environment or {"HF_HUB_OFFLINE": "1"}),
            },
            stdin=subprocess.DEVNULL,  # a question whether to trust the code finds nobody to answer it
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stdout[-2000:] + process.stderr[-4000:]
        answer = json.loads(process.stdout.splitlines()[-1])
        return {**answer, "traces": sorted(path.name for path in traces.iterdir()), "output": process.stderr}

    return run


def check(result: dict[str, Any], expected: dict[str, Any], module: str) -> None:
    """The same ids and the same texts, greedy and with beams, from classes of the right origin."""
    assert [name.split(".")[0] for name in result["modules"]] == [module] * 4
    assert result["generated"] == expected["generated"]
    assert result["translated"] == expected["translated"]
    assert result.get("translated_without_task", expected["translated"]) == expected["translated"]


def test_case_1_package_imported_checkpoint_without_code(saved: Saved, run: Run) -> None:
    plain, _, expected = saved
    answer = run(("translate", {"model": str(plain), "texts": TEXTS}), with_package=True)
    check(answer["results"][0], expected, "hf_rnn_s2s")


def test_case_2_package_imported_checkpoint_with_code(saved: Saved, run: Run) -> None:
    _, with_code, expected = saved
    calls = [("translate", {"model": str(with_code), "texts": TEXTS, "trust": trust}) for trust in (None, False, True)]
    answer = run(*calls, with_package=True)
    for result in answer["results"]:
        check(result, expected, "hf_rnn_s2s")
    assert answer["traces"] == answer["remote_modules"] == []
    assert "trust" not in answer["output"]


def test_case_3_no_package_checkpoint_with_code(saved: Saved, run: Run, tmp_path: Path) -> None:
    _, with_code, expected = saved
    again = tmp_path / "again"
    trusting = {"texts": TEXTS, "trust": True, "without_task": True}
    answer = run(
        ("translate", {"model": str(with_code), **trusting}),
        ("save_again", {"model": str(with_code), "directory": str(again)}),
        ("translate", {"model": str(again / "model"), **trusting}),
        ("translate", {"model": str(again / "pipeline"), **trusting}),
        with_package=False,
    )
    for result in (answer["results"][0], *answer["results"][2:]):
        check(result, expected, "transformers_modules")
    assert set(CODE) <= set(answer["traces"])
    for copy in ("model", "pipeline"):
        assert (again / copy / "config.json").read_text() == (with_code / "config.json").read_text()
    assert not list((again / "without_code").glob("*.py"))
    assert not json.loads((again / "without_code" / "config.json").read_text()).keys() & {
        "auto_map",
        "custom_pipelines",
    }


def test_case_4_no_package_no_trust(saved: Saved, run: Run) -> None:
    _, with_code, _ = saved
    answer = run(("load_without_trust", {"model": str(with_code)}), with_package=False)
    errors = answer["results"][0]
    assert len(errors) == 10
    for error in errors:
        assert "contains custom code" in error
        assert "trust_remote_code=True" in error
        assert str(with_code) in error
    assert answer["traces"] == answer["remote_modules"] == []


def test_two_vocabularies_travel_too(tiny_texts: list[str], run: Run, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(tiny_texts[:3], 312, target_texts=tiny_texts[3:], target_vocab_size=292)
    config = RnnS2SConfig(
        vocab_size=len(tokenizer),
        decoder_vocab_size=len(tokenizer.target_tokenizer),
        embedding_size=16,
        hidden_size=16,
        initializer_range=1.0,
    )
    torch.manual_seed(0)
    plain, with_code, expected = save_both(RnnS2SForConditionalGeneration(config).eval(), tokenizer, tmp_path)
    inside = run(
        *(("translate", {"model": str(model), "texts": TEXTS}) for model in (plain, with_code)), with_package=True
    )
    for result in inside["results"]:
        check(result, expected, "hf_rnn_s2s")
    assert inside["traces"] == []
    outside = run(("translate", {"model": str(with_code), "texts": TEXTS, "trust": True}), with_package=False)
    check(outside["results"][0], expected, "transformers_modules")


@pytest.mark.parametrize(
    ("task", "pipeline_task", "pipeline_class"),
    [
        ("summarization", "summarization", RnnSummarizationPipeline),
        ("transduction", "text2text-generation", RnnText2TextGenerationPipeline),
    ],
)
def test_other_tasks_travel_in_all_four_cases(
    task: str,
    pipeline_task: str,
    pipeline_class: Any,
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    run: Run,
    tmp_path: Path,
) -> None:
    tiny_model.config.task = task
    plain, with_code, expected = save_both(tiny_model, tiny_tokenizer, tmp_path, pipeline_class)
    key = f"{pipeline_class.return_name}_text"
    assert all(key in record for record in expected["translated"][0])
    common = {"texts": TEXTS, "task": pipeline_task}
    inside = run(*(("translate", {"model": str(one), **common}) for one in (plain, with_code)), with_package=True)
    for result in inside["results"]:
        check(result, expected, "hf_rnn_s2s")
    assert inside["traces"] == []
    outside = run(
        ("load_without_trust", {"model": str(with_code)}),
        ("translate", {"model": str(with_code), "trust": True, "without_task": True, **common}),
        with_package=False,
    )
    errors, result = outside["results"]
    assert all("contains custom code" in error for error in errors if "removed from transformers" not in error)
    check(result, expected, "transformers_modules")


def test_speech_travels_in_all_four_cases_and_by_the_hub(run: Run, hub: HubServer, tmp_path: Path) -> None:
    parts: Any = processor()
    sizes = {"vocab_size": len(parts.tokenizer), "num_mel_bins": BINS, "embedding_size": 16, "hidden_size": 16}
    config = RnnS2SConfig(encoder_type="pyramidal", task="speech-recognition", initializer_range=1.0, **sizes)
    torch.manual_seed(1)
    model: Any = RnnS2SForConditionalGeneration(config).eval()
    files = [str(write_tones(tmp_path / f"{number}.wav", list(TONES)[:number])) for number in (1, 2, 3)]
    pieces = {"tokenizer": parts.tokenizer, "feature_extractor": parts.feature_extractor}
    transcriber = RnnSpeechRecognitionPipeline(model=model, **pieces, device="cpu")
    expected = [transcriber(files, max_new_tokens=9)] * 2
    plain, with_code = tmp_path / "plain", tmp_path / "with.code-1"
    model.save_pretrained(plain)
    parts.save_pretrained(plain)
    transcriber.save_pretrained(with_code)
    assert "speech_pipeline_rnn_s2s.py" in {path.name for path in with_code.iterdir()}

    def check_speech(result: dict[str, Any], module: str) -> None:
        assert [name.split(".")[0] for name in result["modules"]] == [module] * 3
        assert result["transcribed"] == expected
        assert result["processor"][1] == "Speech2TextFeatureExtractor"

    inside = run(
        *(("transcribe", {"model": str(one), "files": files}) for one in (plain, with_code)), with_package=True
    )
    for result in inside["results"]:
        check_speech(result, "hf_rnn_s2s")
    assert inside["remote_modules"] == []
    calls = [{"trust": True, "without_task": without_task} for without_task in (False, True)]
    outside = run(
        ("load_without_trust", {"model": str(with_code)}),
        *(("transcribe", {"model": str(with_code), "files": files, **call}) for call in calls),
        with_package=False,
    )
    errors, *results = outside["results"]
    assert all("contains custom code" in error for error in errors if "removed from transformers" not in error)
    for result in results:
        check_speech(result, "transformers_modules")
    online = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_token"}
    run(("push_speech", {"model": str(plain), "name": "lab/speech"}), with_package=True, **online)
    pushed = run(("transcribe", {"model": "lab/speech", "files": files, "trust": True}), with_package=False, **online)
    check_speech(pushed["results"][0], "transformers_modules")


def test_push_what_came_as_code(saved: Saved, run: Run, hub: HubServer) -> None:
    _, with_code, _ = saved
    names = {"with_code": "lab/with_code", "told": "lab/told", "dropped": "lab/dropped"}
    online = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_token"}
    run(("push_what_came_as_code", {"model": str(with_code), "names": names}), with_package=False, **online)
    for case, name in names.items():
        files = hub.repositories[name].head.files
        code = {file for file in files if file.endswith(".py")}
        assert code == ({path.name for path in with_code.glob("*.py")} if case == "with_code" else set())
        assert ("auto_map" in json.loads(files["config.json"])) == (case == "with_code")


def test_push_and_load_back(saved: Saved, run: Run, hub: HubServer) -> None:
    plain, _, expected = saved
    names = {"plain": "lab/plain", "with_code": "lab/with.code-1", "pipeline": "lab/pipeline"}
    online = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_token"}
    run(("push", {"plain": str(plain), "names": names}), with_package=True, **online)
    assert sorted(hub.repositories) == sorted(names.values())
    for name in names.values():
        files = hub.repositories[name].head.files
        assert files["model.safetensors"] == (plain / "model.safetensors").read_bytes()
        assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"} <= set(files)
        assert (f"{CODE[1]}.py" in files) == (name != names["plain"])
    assert any(line.startswith("PUT /lfs/") for line in hub.log)
    cards = (commit.files.get("README.md") for commit in hub.repositories[names["pipeline"]].commits)
    assert "translation" in ModelCard(next(filter(None, cards)).decode()).data.tags  # before the test's own card

    trusting = {"texts": TEXTS, "trust": True, "without_task": True}
    outside = run(
        ("load_without_trust", {"model": names["with_code"]}),
        ("translate", {"model": names["with_code"], **trusting}),
        ("translate", {"model": names["pipeline"], **trusting}),
        with_package=False,
        **online,
    )
    assert all("contains custom code" in error for error in outside["results"][0])
    for result in outside["results"][1:]:
        check(result, expected, "transformers_modules")

    inside = run(
        ("translate", {"model": names["plain"], "texts": TEXTS}),
        ("translate", {"model": names["with_code"], "texts": TEXTS}),
        ("translate", {"model": names["pipeline"], "texts": TEXTS, "without_task": True}),
        with_package=True,
        **online,
    )
    for result in inside["results"]:
        check(result, expected, "hf_rnn_s2s")
    assert inside["remote_modules"] == []
