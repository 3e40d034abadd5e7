"""`info`: what a model is, and what is wrong with its folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, Shortlist
from hf_rnn_s2s.commands.info import architecture

from .conftest import LONGEST, Run


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def report(run: Run, folder: Path, code: int = 0) -> dict[str, Any]:
    outcome = run(["info", "--model", folder, "--json"])
    assert outcome.code == code
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def test_what_a_model_is(run: Run, folder: Path) -> None:
    model = RnnS2SForConditionalGeneration.from_pretrained(folder)
    (folder / "all_results.json").write_text('{"predict_bleu": 31.41592, "predict_loss": 1}', encoding="utf-8")
    found = report(run, folder)
    assert found["task"] == "translation"
    assert found["languages"] == "en to de"
    assert found["architecture"] == "the default one"
    assert found["parameters"] == sum(one.numel() for one in model.parameters())
    assert found["type of weights"] == ["float32"]
    assert found["longest source"] == f"{LONGEST} tokens"
    assert found["options"]["num_attention_heads"] == 2
    assert found["generation"]["max_new_tokens"] == 12
    assert found["megabytes"]["weights"] == pytest.approx(
        (folder / "model.safetensors").stat().st_size / 1e6, abs=1e-3
    )
    assert found["scores on the test split"] == {"bleu": 31.4159}
    assert found["problems"] == []
    outcome = run(["info", "-m", folder])
    assert f"parameters: {found['parameters']:,}\n" in outcome.out
    assert outcome.out.endswith("state: everything is there and loads\n")


def test_what_is_wrong_with_a_folder(run: Run, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    missing = next(name for name in weights if name.endswith("bias_ih"))
    weights["of_nobody"] = weights.pop(missing)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoConfig": "configuration_rnn_s2s.RnnS2SConfig"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "README.md").write_text("# Card\n![Curves](training_curves.png)", encoding="utf-8")
    (folder / "shortlist.json").write_text("[]", encoding="utf-8")
    problems = "\n".join(report(run, folder, code=2)["problems"])
    assert f"{missing} is missing from the weights, and is random" in problems
    assert "of_nobody is among the weights, and belongs to no part of the model" in problems
    assert "config.json names code in configuration_rnn_s2s.py, which is not there" in problems
    assert "README.md shows training_curves.png, which is not there" in problems
    assert "shortlist" in problems
    assert run(["info", "-m", folder]).out.count("\n- ") == len(problems.splitlines())


def test_a_model_of_another_package_has_no_problem(
    run: Run, tiny_marian: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tiny_marian.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    assert report(run, tmp_path)["problems"] == []


def test_what_lies_beside_a_model(run: Run, folder: Path) -> None:
    Shortlist.from_pairs([[5, 6]], [[7]], source_vocab_size=300).save_pretrained(folder)
    (folder / "checkpoint-10").mkdir()
    found = report(run, folder)
    assert found["also there"] == ["shortlist", "1 checkpoints"]


@pytest.mark.parametrize("name", ["luong2015", "bahdanau2015", "gnmt2016", "wu2019-hard"])
def test_presets_are_recognized(name: str) -> None:
    assert architecture(RnnS2SConfig.from_preset(name)) == name
    assert architecture(RnnS2SConfig.from_preset(name, hidden_size=320)) == f"{name}, with other sizes"


def test_there_is_nothing(run: Run, tmp_path: Path) -> None:
    outcome = run(["info", "-m", tmp_path])
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)


def test_files_that_are_not_what_they_should_be(run: Run, folder: Path) -> None:
    (folder / "all_results.json").write_text("no JSON", encoding="utf-8")
    (folder / "README.md").write_bytes(b"\xff\xfe")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoTokenizer": ["tokens.A", None]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = report(run, folder, code=2)
    assert found["scores on the test split"] == "not to be read from all_results.json"
    assert found["problems"] == ["config.json names code in tokens.py, which is not there"]
    for content in ("null", "[1]", '{"model_type": "rnn_s2s", "task": [1]}'):
        (folder / "config.json").write_text(content, encoding="utf-8")
        outcome = run(["info", "-m", folder])
        assert (outcome.code, outcome.error.count("\n")) == (2, 1), outcome
