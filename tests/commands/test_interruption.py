"""Commands that end early: by a signal, a reader that wants no more, or a full disk. What is written is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hf_rnn_s2s.commands.interruption import Interrupted, Interruption

from .conftest import Run

COUNT = 1500


def command(model_folder: Path, source: Path, *more: object) -> list[str]:
    arguments = ["translate", "--model", model_folder, source, "--buffer-size", 20, *more]
    return [sys.executable, "-m", "hf_rnn_s2s", *map(str, arguments)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("".join(f"a small dog runs {number}\n" for number in range(COUNT)), encoding="utf-8")
    return path


def test_a_signal_leaves_whole_records_and_the_rest_follows(
    run: Run, model_folder: Path, source: Path, tmp_path: Path
) -> None:
    output, whole = tmp_path / "out.txt", tmp_path / "whole.txt"
    process = subprocess.Popen(command(model_folder, source, "-o", output), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (not output.exists() or output.stat().st_size == 0):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert error == "hf-rnn-s2s translate: ended by SIGTERM; all that was written are whole records.\n"
    assert output.read_bytes().endswith(b"\n")
    assert 0 < len(output.read_bytes().splitlines()) < COUNT
    for path, more in ((output, ["--resume"]), (whole, [])):
        assert run([*command(model_folder, source, "-o", path)[3:], *more]).code == 0
    assert output.read_bytes() == whole.read_bytes()
    assert len(whole.read_bytes().splitlines()) == COUNT


def test_a_closed_pipe_ends_in_silence(model_folder: Path, source: Path) -> None:
    process = subprocess.Popen(
        command(model_folder, source), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert os.read(process.stdout.fileno(), 10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full, which is always full")
def test_a_full_disk(run: Run, model_folder: Path, source: Path) -> None:
    outcome = run(command(model_folder, source, "-o", "/dev/full")[3:])
    assert outcome.code == 2
    assert "/dev/full: the disk is full. 0 records are written; make room, and go on with --resume." in outcome.error
    assert outcome.error.count("\n") == 1


def test_standard_input_is_read_as_it_comes(model_folder: Path) -> None:
    """A line is answered before the next one is there."""
    arguments = command(model_folder, Path("-"))
    arguments[arguments.index("20")] = "1"
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdin is not None
    assert process.stdout is not None
    for text in (b"a dog\n", b"\n", b"a cat\n"):
        process.stdin.write(text)
        answer = process.stdout.readline()
        assert answer.endswith(b"\n")
        assert bool(answer.strip()) == bool(text.strip())
    process.stdin.close()
    assert process.stdout.read() == b""
    assert process.wait() == 0


def test_a_signal_waits_while_something_is_held() -> None:
    done = []
    before = signal.getsignal(signal.SIGTERM)

    def interrupted() -> None:
        with Interruption() as interruption:
            with interruption.held():
                os.kill(os.getpid(), signal.SIGTERM)
                done.append("the rest")
            done.append("nothing more")

    with pytest.raises(Interrupted) as raised:
        interrupted()
    assert done == ["the rest"]
    assert raised.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_counts_at_once_elsewhere() -> None:
    with pytest.raises(Interrupted) as raised, Interruption():
        os.kill(os.getpid(), signal.SIGINT)
    assert raised.value.number == signal.SIGINT


def test_ctrl_c_ends_the_processes_of_a_command(run: Run, model_folder: Path, source: Path, tmp_path: Path) -> None:
    """The signal reaches all of them, as from a terminal. What is left is written later, as one process writes it."""
    output, whole = tmp_path / "out.txt", tmp_path / "whole.txt"
    arguments = command(model_folder, source, "-o", output, "--processes", 2)
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and (not output.exists() or output.stat().st_size == 0):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate()  # which comes to its end when no process is left that holds the pipe
    assert process.returncode == 128 + signal.SIGINT
    assert error == "hf-rnn-s2s translate: ended by SIGINT; all that was written are whole records.\n"
    assert 0 < len(output.read_bytes().splitlines()) < COUNT
    for path, more in ((output, ["--resume", "--processes", 2]), (whole, [])):
        assert run([*command(model_folder, source, "-o", path)[3:], *more]).code == 0
    assert output.read_bytes() == whole.read_bytes()
