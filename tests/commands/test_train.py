"""`train`: the script, in a checkout and in the wheel, by recipes with a name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hf_rnn_s2s.commands import train as command

from .conftest import Run

ROOT = Path(__file__).parents[2]
TINY = ["--demo_size", 60, "--hidden_size", 8, "--embedding_size", 8, "--vocab_size", 400, "--max_steps", 2]
QUICK = ["--per_device_train_batch_tokens", 200, "--bf16", "false", "--num_beams", 1]


def test_recipes_have_names(run: Run) -> None:
    outcome = run(["train", "--list-recipes"])
    names = [line.split()[0] for line in outcome.out.splitlines()]
    assert names == sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
    assert "demo                 The embedded corpus: English phrases with dates" in outcome.out


def test_a_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # far from the recipes
    outcome = run(["train", "--recipe", "demo", *TINY, *QUICK, "--output_dir", "out", "--max_predict_samples", 4])
    assert outcome.code == 0, outcome.error
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert "Model card" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert "pipeline(" in outcome.out
    outcome = run(["info", "-m", tmp_path / "out"])
    assert (outcome.code, outcome.error) == (0, "")
    outcome = run(["evaluate", tmp_path / "out" / "predictions.tsv", "-m", tmp_path / "out", "--samples", 5])
    assert outcome.out.startswith("4 records")


def test_mistakes(run: Run) -> None:
    outcome = run(["train", "--recipe", "dmeo"])
    assert (outcome.code, outcome.error) == (2, "hf-rnn-s2s train: There is no recipe dmeo; did you mean demo?\n")
    outcome = run(["train", "--hidden_size", "-1", "--no_such", "3"])
    assert outcome.code == 2
    assert "hidden_size=-1 must be a whole number" in outcome.error
    assert "unknown argument 'no_such'" in outcome.error


def test_help_is_that_of_the_script(run: Run) -> None:
    outcome = run(["train", "--help"])
    assert outcome.code == 0
    assert "--list-recipes" in outcome.out
    assert "--learning_rate" in outcome.out


def test_without_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "NEEDED", ("datasets", "no_such_module"))
    outcome = run(["train", "--recipe", "demo"])
    assert outcome.code == 2
    assert "Training needs no_such_module: install this package with its extra" in outcome.error


def test_the_wheel_has_them_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "hf_rnn_s2s" / "script"
    script.mkdir(parents=True)
    monkeypatch.setattr(command, "PLACES", (tmp_path, script))
    with pytest.raises(ValueError, match=r"has no train\.py"):
        command.script_folder()
    for name in ("train.py", "model_card.md"):
        shutil.copy(ROOT / name, script)
    shutil.copytree(ROOT / "recipes", script / "recipes")
    assert command.resolve_recipe("demo") == script / "recipes" / "demo.yaml"
    assert script / "model_card.md" == command.load_script().CARD_TEMPLATE
