"""Which checkpoint is gone on from, and which folders are left alone. `test_train.py` runs the script on some."""

from pathlib import Path

import pytest

from hf_rnn_s2s.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.checkpoints import find_checkpoint


def found(folder: Path, resume: str | None = None) -> str | None:
    return find_checkpoint(RnnS2STrainingArguments(output_dir=str(folder), resume_from_checkpoint=resume))


def checkpoint(folder: Path, step: int, complete: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / ("trainer_state.json" if complete else "model.safetensors")).write_text("{}")
    return path


@pytest.mark.parametrize("resume", [None, "false", "False"])
def test_a_new_run_wants_an_empty_folder(tmp_path: Path, resume: str | None) -> None:
    assert found(tmp_path / "new", resume) is None
    assert found(tmp_path, resume) is None
    checkpoint(tmp_path, 8)
    with pytest.raises(ValueError, match=r"not empty.*--resume_from_checkpoint true"):
        found(tmp_path, resume)


def test_the_last_checkpoint_that_was_written_to_its_end_is_taken(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 200, complete=False)
    for name in ("checkpoint-notes", "checkpoint-old2", "checkpoint-9-copy-300", "my-checkpoint-300"):
        checkpoint(tmp_path, 0).rename(tmp_path / name)
    assert found(tmp_path, "true") == str(second)
    assert found(tmp_path, str(first)) == str(first)


def test_a_checkpoint_from_elsewhere_goes_into_an_empty_folder_only(tmp_path: Path) -> None:
    other = checkpoint(tmp_path / "one", 8)
    assert found(tmp_path / "two", str(other)) == str(other)
    checkpoint(tmp_path / "two", 8)
    with pytest.raises(ValueError, match="not empty"):
        found(tmp_path / "two", str(other))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no checkpoint to resume from"):
        found(tmp_path, "true")
    with pytest.raises(ValueError, match=r"is not a checkpoint: it has no trainer_state\.json"):
        found(tmp_path / "new", str(tmp_path))
    (tmp_path / "file").write_text("text")
    with pytest.raises(ValueError, match="output_dir .*file is a file; name a folder"):
        found(tmp_path / "file")
