"""Which checkpoint is gone on from, and which folders are left alone. `test_resuming.py` runs the script on some."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.checkpoints import (
    FILE_LIST,
    find_checkpoint,
    last_whole_checkpoint,
    list_files,
    problem_with,
)
from hf_rnn_s2s.training.run_folder import LOCK_FILE

TENSORS = {"weight": torch.arange(1000.0)}
NEEDED = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "config.json", "tokenizer_config.json"]


def found(folder: Path, resume: str | None = None) -> str | None:
    return find_checkpoint(RnnS2STrainingArguments(output_dir=str(folder), resume_from_checkpoint=resume))


def checkpoint(folder: Path, step: int, complete: bool = True, lists_files: bool = True) -> Path:
    """As `RnnS2STrainer` writes it with an average of the weights, or up to where it was killed."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("model.safetensors", "last_weights.safetensors"):
        save_file(TENSORS, path / name)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save(TENSORS, path / name)
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        (path / name).write_text(json.dumps({"name": name}))
    (path / "README.md").write_text("A card.")
    if lists_files:
        list_files(path)
    if complete:
        (path / "trainer_state.json").write_text("{}")
    return path


def remove(path: Path) -> None:
    path.unlink()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("resume", [None, "false", "False"])
def test_a_new_run_wants_an_empty_folder(tmp_path: Path, resume: str | None) -> None:
    assert found(tmp_path / "new", resume) is None
    assert found(tmp_path, resume) is None
    (tmp_path / LOCK_FILE).touch()  # of a run that was killed at once
    assert found(tmp_path, resume) is None
    checkpoint(tmp_path, 8)
    with pytest.raises(UsageError, match=r"not empty.*--resume_from_checkpoint true"):
        found(tmp_path, resume)


def test_the_last_checkpoint_that_was_written_to_its_end_is_taken(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 200, complete=False)
    for name in ("checkpoint-notes", "checkpoint-old2", "checkpoint-9-copy-300", "my-checkpoint-300"):
        checkpoint(tmp_path, 0).rename(tmp_path / name)
    assert found(tmp_path, "true") == str(second)
    assert found(tmp_path, str(first)) == str(first)


@pytest.mark.parametrize("lists_files", [True, False])
@pytest.mark.parametrize("damage", [remove, cut_short])
@pytest.mark.parametrize("name", [*NEEDED, "last_weights.safetensors", "tokenizer.json", "trainer_state.json"])
def test_a_checkpoint_that_lacks_anything_is_named_and_passed_over(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    damage: Callable[[Path], None],
    lists_files: bool,
) -> None:
    """One of an earlier version has no list of its files; of these, nobody knows what else was there."""
    whole, broken = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20, lists_files=lists_files)
    assert problem_with(broken) is None
    damage(broken / name)
    if not lists_files and damage is remove and name not in (*NEEDED, "trainer_state.json"):
        assert problem_with(broken) is None
        return
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)
    assert found(tmp_path, "true") == str(whole)
    assert str(last_whole_checkpoint(tmp_path)) == str(whole)
    [warning] = [record.getMessage() for record in caplog.records]
    assert f"{broken} is passed over: " in warning
    assert name in warning
    with pytest.raises(UsageError, match=rf"checkpoint-20 is not a whole checkpoint: .*{name}"):
        found(tmp_path, str(broken))


def test_what_a_resumed_run_does_not_need_may_go(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 10)
    (path / "README.md").unlink()
    assert problem_with(path) is None
    assert "README.md" not in json.loads((path / FILE_LIST).read_text())


def test_a_checkpoint_from_elsewhere_goes_into_an_empty_folder_only(tmp_path: Path) -> None:
    other = checkpoint(tmp_path / "one", 8)
    assert found(tmp_path / "two", str(other)) == str(other)
    checkpoint(tmp_path / "two", 8)
    with pytest.raises(UsageError, match="not empty"):
        found(tmp_path / "two", str(other))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no checkpoint to resume from"):
        found(tmp_path, "true")
    with pytest.raises(UsageError, match=r"is not a whole checkpoint: it has no trainer_state\.json"):
        found(tmp_path / "new", str(tmp_path))
    with pytest.raises(UsageError, match=r"is not a whole checkpoint: there is no such folder"):
        found(tmp_path / "new", str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("text")
    with pytest.raises(UsageError, match="output_dir .*file is a file; name a folder"):
        found(tmp_path / "file")


def test_a_run_killed_before_its_first_checkpoint_was_whole_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two messages named each other's way out."""
    path = checkpoint(tmp_path, 8, complete=False)
    with pytest.raises(UsageError, match=r"killed before its first .*checkpoint-8.* --resume_from_checkpoint true"):
        found(tmp_path)
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)
    assert found(tmp_path, "true") is None
    assert "the run begins anew" in caplog.text
    assert path.is_dir()
    (tmp_path / "model.safetensors").write_bytes(b"of a run that had ended")
    with pytest.raises(UsageError, match="has no whole checkpoint to resume from; to begin anew, leave"):
        found(tmp_path, "true")
    shutil.rmtree(path)
    with pytest.raises(UsageError, match="has no checkpoint to resume from"):
        found(tmp_path, "true")
