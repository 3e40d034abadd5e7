"""`demo`: the page, or the folder of a Space, and one line where there can be neither."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from .conftest import Run


def test_a_page_until_it_is_ended(model_folder: Path) -> None:
    command = [sys.executable, "-m", "hf_rnn_s2s", "demo", "--model", str(model_folder), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    address = line.removeprefix("The page is at ").split(" ")[0]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address) as answer:
        assert "tiny" in answer.read().decode()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in error


def test_a_space(run: Run, model_folder: Path, tmp_path: Path) -> None:
    space = tmp_path / "space"
    assert run(["demo", "-m", model_folder, "--space", space]).code == 0
    assert {"app.py", "README.md", "requirements.txt", "hf_rnn_s2s", "model"} <= {one.name for one in space.iterdir()}
    outcome = run(["demo", "-m", model_folder, "--space", space])
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert "is not empty" in outcome.error
    assert run(["demo", "-m", model_folder, "--space", space, "--overwrite"]).code == 0
    outcome = run(["demo", "-m", model_folder, "-m", model_folder, "--space", space])
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert "a Space shows one model" in outcome.error


def test_a_port_in_use_and_no_model(run: Run, model_folder: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        outcome = run(["demo", "-m", model_folder, "--port", port])
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert f"port {port} (Address already in use). Choose another port" in outcome.error
    outcome = run(["demo", "-m", tmp_path, "--port", 0])
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
