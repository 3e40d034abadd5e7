"""What can be typed: every command has help, in no time, and its names are those of the tasks."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

import hf_rnn_s2s_command
from hf_rnn_s2s.training.tasks import TASKS
from hf_rnn_s2s_command.importing import quickly
from hf_rnn_s2s_command.main import main
from hf_rnn_s2s_command.writing import COMMANDS

COUNT = """
import sys
from hf_rnn_s2s_command.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print([name for name in ("torch", "transformers", "hf_rnn_s2s", "numpy") if name in sys.modules])
"""


@pytest.mark.parametrize("arguments", [["--help"], ["translate", "--help"], ["no-such-command"], []])
def test_help_waits_for_nothing(arguments: list[str]) -> None:
    outcome = subprocess.run([sys.executable, "-c", COUNT, *arguments], capture_output=True, text=True, check=True)
    assert outcome.stdout.endswith("[]\n")


def test_every_task_has_its_command() -> None:
    assert {task.words.verb for task in TASKS.values()} | {"run"} == set(COMMANDS)


def test_every_command_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in (*COMMANDS, "train", "score", "evaluate", "info", "demo"):
        assert f"\n  {name} " in text
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert "Usage" in capsys.readouterr().out.replace("usage", "Usage")


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["transalte"], "No such command 'transalte'"),
        (["translate"], "Missing option '--model'"),
        (["info", "--model", "x", "--jason"], "No such option"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("hf-rnn-s2s: ")
        assert said in error
        assert error.count("\n") == 1


def test_the_package_of_the_command_imports_nothing_heavy() -> None:
    """Outside functions, only the standard library and typer."""
    folder = Path(hf_rnn_s2s_command.__file__).parent
    for path in folder.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(("import ", "from ")) and not line.startswith("from ."):
                module = line.split()[1].split(".")[0]
                assert module == "typer" or module in sys.stdlib_module_names, (path.name, line)


def test_garbage_is_collected_again_after_the_imports() -> None:
    assert gc.isenabled()
    with quickly():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), quickly():
        raise ImportError
    assert gc.isenabled()
