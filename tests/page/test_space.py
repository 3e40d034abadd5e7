"""A Space: what is in its folder, that it runs by itself, and that nothing is overwritten by mistake."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from gradio_client import Client
from huggingface_hub import SpaceCard

import hf_rnn_s2s
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.page.models import load_model
from hf_rnn_s2s.page.space import write_space
from hf_rnn_s2s.page.writing import write

from ..hub_server import Commit, HubServer, Repository
from .saved import EXAMPLES, save_listener, save_model

PACKAGE = Path(hf_rnn_s2s.__file__).parent
TEXT = "one red cat sleeps"


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_all_that_is_needed_and_no_more(tmp_path: Path) -> None:
    model = save_model(tmp_path / "my-model")
    (model / "checkpoint-10").mkdir()
    for name in ("checkpoint-10/model.safetensors", "training_args.bin", "predictions.tsv", "attention.png"):
        (model / name).write_text("no part of a Space", encoding="utf-8")
    write_space(tmp_path / "deep" / "space", model)
    space = tmp_path / "deep" / "space"
    beside_the_package = {name for name in files_in(space) if not name.startswith("hf_rnn_s2s/")}
    names = ("README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json")
    code_and_settings = ("tokenizer_config.json", "tokenization_rnn_s2s.py")  # a tokenizer of words has code
    assert beside_the_package == {
        "app.py", "README.md", "requirements.txt", *(f"model/my-model/{name}" for name in (*names, *code_and_settings))
    }  # fmt: skip
    package = {name for name in files_in(PACKAGE) if "__pycache__" not in name}
    assert files_in(space / "hf_rnn_s2s") == {*package, "LICENSE"}
    assert "Apache License" in (space / "hf_rnn_s2s" / "LICENSE").read_text(encoding="utf-8")
    for path in ("app.py", "README.md", "requirements.txt", "model/my-model/config.json"):
        assert str(tmp_path) not in (space / path).read_text(encoding="utf-8")


def test_the_hub_is_told_how_to_run_it(tmp_path: Path) -> None:
    write_space(tmp_path / "space", save_model(tmp_path / "my-model"))
    card = SpaceCard.load(tmp_path / "space" / "README.md")
    assert card.data.to_dict() == {
        "title": "my-model",
        "sdk": "gradio",
        "sdk_version": version("gradio"),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "app_file": "app.py",
    }
    assert "Translates English to German." in card.text
    lines = (tmp_path / "space" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == [f"{name}=={version(name)}" for name in ("transformers", "tokenizers", "gradio")]
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", lines[0])  # without the name of a build that no registry has


def test_a_model_that_listens_needs_more(tmp_path: Path) -> None:
    write_space(tmp_path / "space", save_listener(tmp_path / "listener"))
    requirements = (tmp_path / "space" / "requirements.txt").read_text(encoding="utf-8")
    assert f"soundfile=={version('soundfile')}\nsoxr=={version('soxr')}\n" in requirements
    assert load_model(tmp_path / "space" / "model" / "listener").listens


def test_a_model_of_the_hub_stays_there(tmp_path: Path, hub: HubServer) -> None:
    files = {path.name: path.read_bytes() for path in save_model(tmp_path / "a").iterdir()}
    hub.repositories["org/name"] = Repository("org/name", [Commit({}), Commit(files)])
    write_space(tmp_path / "space", "org/name")
    assert "MODEL = 'org/name'\n" in (tmp_path / "space" / "app.py").read_text(encoding="utf-8")
    assert not (tmp_path / "space" / "model").exists()
    assert SpaceCard.load(tmp_path / "space" / "README.md").data.to_dict()["models"] == ["org/name"]


def test_it_runs_by_itself_and_asks_no_other_machine(tmp_path: Path) -> None:
    """In a process that has neither the repository on its path nor what only training needs."""
    model = save_model(tmp_path / "my-model", num_attention_heads=2)
    expected = write(load_model(model), TEXT, 3, 1.0)
    write_space(tmp_path / "space", model)
    model.rename(tmp_path / "elsewhere")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON", "GRADIO"))}
    script = Path(__file__).with_name("watched_process.py")
    process = subprocess.Popen(
        [sys.executable, script, tmp_path / "space" / "app.py", tmp_path / "told"],
        cwd=tmp_path,
        env={
            **inherited,
            "OMP_NUM_THREADS": "1",
            "HF_HOME": str(tmp_path / "hf"),
            "GRADIO_TEMP_DIR": str(tmp_path / "gradio"),
            "GRADIO_SERVER_PORT": "0",
        },
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "errors").open("w"),
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    errors = tmp_path / "errors"
    found = re.fullmatch(r"The page is at (http://127\.0\.0\.1:\d+/) \(Ctrl\+C ends it\)\.\n", line)
    assert found, line + errors.read_text(encoding="utf-8")
    client = Client(found[1], verbose=False, analytics_enabled=False)
    assert client.predict(TEXT, 3, 1.0, api_name="/translate")[0] == expected.candidates[0].text
    examples = [part["props"]["samples"] for part in client.config["components"] if part["type"] == "dataset"]
    assert examples == [[[example] for example in EXAMPLES]]
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == "\n"
    assert process.wait() == 0
    assert "Traceback" not in errors.read_text(encoding="utf-8")
    assert (tmp_path / "told").read_text(encoding="utf-8").splitlines() == [str(tmp_path / "space" / "hf_rnn_s2s")]


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path: Path) -> None:
    model = save_model(tmp_path / "my-model")
    space = tmp_path / "space"
    space.mkdir()
    (space / "app.py").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=rf"The folder {space} is not empty; name another one"):
        write_space(space, model)
    assert files_in(space) == {"app.py"}
    (space / "notes").touch()
    for name in ("model/former", "hf_rnn_s2s"):
        (space / name).mkdir(parents=True)
        (space / name / "old.json").touch()
    write_space(space, model, overwrite=True)
    assert (space / "app.py").read_text(encoding="utf-8") != "mine"
    assert (space / "notes").exists()
    assert not any("old.json" in name for name in files_in(space))


def test_nothing_is_lost(tmp_path: Path) -> None:
    model = save_model(tmp_path / "space" / "model" / "mine")
    before = files_in(tmp_path)
    (tmp_path / "file").touch()
    for folder, message in [
        (tmp_path / "space", "The model .* is where the Space has its copy; name another folder"),
        (model, "is that of the model, or within it; name another one"),
        (model / "space", "is that of the model, or within it; name another one"),
        (PACKAGE.parent, "has the package hf_rnn_s2s itself"),
        (PACKAGE / "space", "has the package hf_rnn_s2s itself"),
        (tmp_path / "file", "is a file; name a folder for the Space"),
    ]:
        with pytest.raises(UsageError, match=message) as refusal:
            write_space(folder, model, overwrite=True)
        assert "\n" not in str(refusal.value)
    assert files_in(tmp_path) == {*before, "file"}
    assert PACKAGE.exists()


def test_what_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_model(tmp_path / "my-model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"The folder \S+ holds no model"):
        write_space(tmp_path / "space", tmp_path / "empty")
    assert not (tmp_path / "space").exists()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(UsageError, match=r"The folder \S+ cannot be written: \[Errno 28\] No space left on device"):
        write_space(tmp_path / "space", model)
