"""Ensembles through `train.py`: trained in one command, named, resumed, and refused."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.argument_checks import CHECKS
from hf_rnn_s2s.training.command_line import parse_arguments

from ..data_examples import write_table
from .test_train import results, rows, run

NAMES = ["anna", "bob", "otto", "ada", "hannah", "eve", "abba", "noon", "level", "kayak", "civic", "radar"]


def options(folder: Path, **changes: Any) -> list[str]:
    table = [{"source": name, "target": " ".join(sorted(name))} for name in NAMES]
    path = write_table(folder / "rows.jsonl", table)
    settings = {
        "task": "transduction", "decoder_tokenizer_kind": "symbol", "hidden_size": 16, "embedding_size": 16,
        "num_train_epochs": 6, "per_device_train_batch_size": 4, "learning_rate": 0.02, "report_to": "none",
        "disable_tqdm": "true", "num_beams": 2, "max_target_length": 12, "sample_translations": 0, "seed": 5,
        "output_dir": folder / "run", **{f"{split}_file": path for split in ("train", "validation", "test")},
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in {**settings, **changes}.items()]


def test_one_command_trains_several_and_lets_them_write_together(tmp_path: Path) -> None:
    run(*options(tmp_path, ensemble_size=3))
    folder = tmp_path / "run"
    members = [folder / f"seed-{seed}" for seed in (5, 6, 7)]
    assert all((member / "README.md").is_file() for member in members)
    together, apart = results(folder / "ensemble"), [results(member) for member in members]
    for name in ("predict_wer", "predict_ser", "predict_loss"):
        values = [one[name] for one in apart]
        assert together[f"member_{name}_mean"] == pytest.approx(statistics.fmean(values))
        assert together[f"member_{name}_deviation"] == pytest.approx(statistics.stdev(values))
    assert len({one["predict_loss"] for one in apart}) == 3
    # What they wrote is what generate() gives for the three.
    tokenizer = AutoTokenizer.from_pretrained(members[0])
    first, *others = (AutoModelForSeq2SeqLM.from_pretrained(member).eval() for member in members)
    table = rows(folder / "ensemble")[1:]
    for source, _, written in table:
        inputs = tokenizer(source, return_tensors="pt")
        ids = first.generate(**inputs, ensemble=others, num_beams=2)
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == written
    wrong = sum(reference != written for _, reference, written in table)
    assert together["predict_wer"] == pytest.approx(100 * wrong / len(table))

    # Interrupted in the last one, it goes on with that.
    before = {member.name: (member / "model.safetensors").read_bytes() for member in members}
    for path in sorted(members[2].rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    members[2].rmdir()
    run(*options(tmp_path, ensemble_size=3, resume_from_checkpoint="true"))
    assert {member.name: (member / "model.safetensors").read_bytes() for member in members} == before
    again = results(folder / "ensemble")
    assert again["predict_wer"] == together["predict_wer"]


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    run(*options(tmp_path, num_train_epochs=1))
    other = tmp_path / "other"
    table = [{"source": name, "target": " ".join(name + "x")} for name in NAMES]
    path = write_table(other / "other.jsonl", table)
    files = {f"{split}_file": path for split in ("train", "validation", "test")}
    run(*options(other, num_train_epochs=1, **files))
    evaluation = {"do_train": "false", "model_name_or_path": tmp_path / "run", "output_dir": tmp_path / "scores"}
    with pytest.raises(UsageError, match="other/run has another target vocabulary: its ids mean other tokens"):
        run(*options(tmp_path, **evaluation, ensemble_models=other / "run"))
    run(*options(tmp_path, **evaluation, ensemble_models=tmp_path / "run"))
    alone = json.loads((tmp_path / "run" / "predict_results.json").read_text())
    assert results(tmp_path / "scores")["predict_ser"] == pytest.approx(alone["predict_ser"])
    assert torch.isfinite(torch.tensor(results(tmp_path / "scores")["eval_ser"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensemble_size": 0}, "ensemble_size=0 must be at least 1"),
        ({"ensemble_size": 2, "do_predict": "false"}, "ensemble_size=2 trains models and scores them"),
        ({"ensemble_size": 2, "push_to_hub": "true", "hub_model_id": "a/b"}, "push_to_hub pushes one model"),
        ({"ensemble_size": 2, "resume_from_checkpoint": "true"}, "has no models to go on with"),
        ({"ensemble_size": 2, "resume_from_checkpoint": "a/checkpoint-1"}, "an ensemble has several: set it to true"),
        ({"ensemble_models": "a/b"}, "ensemble_models write in an evaluation: set do_train=false"),
        ({"ensemble_models": "no/such/folder"}, "ensemble_models no/such/folder: there is no such folder"),
    ],
)
def test_ensembles_that_make_no_sense(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        parse_arguments(options(tmp_path, **changes), None, CHECKS)
