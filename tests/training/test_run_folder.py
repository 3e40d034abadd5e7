"""One run at a time in a folder, and full disks by their name."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from hf_rnn_s2s.errors import RunError, UsageError
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.run_folder import LOCK_FILE, naming_a_full_disk, own_folder

HOLDER = """
import os, sys, time
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.run_folder import own_folder

with own_folder(RnnS2STrainingArguments(output_dir=sys.argv[1])):
    if os.fork() == 0:  # a worker that loads data, and may outlive the run for some seconds
        time.sleep(600)
    print("mine", os.getpid(), flush=True)
    time.sleep(600)
"""


def arguments(folder: Path) -> RnnS2STrainingArguments:
    return RnnS2STrainingArguments(output_dir=str(folder))


def test_a_folder_without_anything_in_it_is_taken_away_again(tmp_path: Path) -> None:
    with own_folder(arguments(tmp_path / "a" / "new")):
        assert [path.name for path in (tmp_path / "a" / "new").iterdir()] == [LOCK_FILE]
    assert not (tmp_path / "a" / "new").exists()
    with own_folder(arguments(tmp_path / "kept")):
        (tmp_path / "kept" / "file").touch()
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]
    with (
        pytest.raises(UsageError, match=r"output_dir .*file cannot be written to"),
        own_folder(arguments(tmp_path / "kept" / "file")),
    ):
        pass


def test_what_really_went_wrong_is_told_although_the_folder_is_gone(tmp_path: Path) -> None:
    def fail() -> None:
        shutil.rmtree(tmp_path / "new")
        raise RuntimeError("what really went wrong")

    with pytest.raises(RuntimeError, match="what really went wrong"), own_folder(arguments(tmp_path / "new")):
        fail()
    with own_folder(arguments(tmp_path / "new")):
        pass


def test_a_second_run_is_refused_until_the_first_has_ended_or_was_killed(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("mine")
        with (
            pytest.raises(UsageError, match=r"Another run is writing into output_dir .* at this moment"),
            own_folder(arguments(tmp_path)),
        ):
            pass
        process.kill()  # and not its child
        process.wait()
        with own_folder(arguments(tmp_path)):
            pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_called_that(tmp_path: Path) -> None:
    def plain() -> None:
        with open("/dev/full", "w") as file:
            file.write("text")

    def zipped() -> None:
        torch.save({"weight": torch.zeros(10)}, "/dev/full")

    def tensors() -> None:  # as its library tells it, which writes to a file beside first
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    for write in (plain, zipped, tensors):
        with (
            pytest.raises(RunError, match=r"new could not be written: the disk is full.* MB are free.*resume_from"),
            naming_a_full_disk(tmp_path / "new"),
        ):
            write()


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), naming_a_full_disk(tmp_path):
        raise PermissionError("not yours")
