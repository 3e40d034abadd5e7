"""Models for the page: what is loaded, and what is refused in one line."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnSpeechRecognitionPipeline, RnnSummarizationPipeline, RnnTranslationPipeline
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.page.models import load_model

from ..hub_server import Commit, HubServer, Repository
from .saved import save_listener, save_model


def test_a_model_that_reads_text(tmp_path: Path) -> None:
    model = load_model(save_model(tmp_path / "my-model"))
    assert (model.name, model.location) == ("my-model", str(tmp_path / "my-model"))
    assert type(model.pipeline) is RnnTranslationPipeline
    assert model.words.verb == "translate"
    assert model.card == (tmp_path / "my-model" / "README.md").read_text(encoding="utf-8")
    assert (model.listens, model.has_attention) == (False, True)


def test_the_pipeline_and_the_words_are_those_of_the_task(tmp_path: Path) -> None:
    model = load_model(save_model(tmp_path / "a", task="summarization", attention_type="none"))
    assert type(model.pipeline) is RnnSummarizationPipeline
    assert (model.words.verb, model.words.source, model.words.result) == ("summarize", "document", "summary")
    assert not model.has_attention
    own = load_model(save_model(tmp_path / "b", task="a task of one's own"))
    assert (own.pipeline.task, own.words.result) == ("text2text-generation", "result")


def test_a_model_that_listens(tmp_path: Path) -> None:
    model = load_model(save_listener(tmp_path / "a"))
    assert type(model.pipeline) is RnnSpeechRecognitionPipeline
    assert (model.listens, model.words.verb) == (True, "transcribe")


def test_a_model_of_the_hub(tmp_path: Path, hub: HubServer) -> None:
    files = {path.name: path.read_bytes() for path in save_model(tmp_path / "a").iterdir()}
    hub.repositories["org/name"] = Repository("org/name", [Commit({}), Commit(files)])
    model = load_model("org/name")
    assert (model.name, model.location) == ("org/name", "org/name")
    assert model.pipeline("the dog") == load_model(tmp_path / "a").pipeline("the dog")


def test_code_beside_a_model_is_not_run(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "a")
    load_model(folder).pipeline.save_pretrained(str(tmp_path / "b"))  # with its code
    for file in (tmp_path / "b").glob("*.py"):
        file.write_text("raise SystemExit('this was run')", encoding="utf-8")
    assert load_model(tmp_path / "b").pipeline("the dog") == load_model(folder).pipeline("the dog")


def broken(folder: Path, name: str, content: str | None) -> Path:
    """A model's folder with one file changed, or without it."""
    save_model(folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def of_another_kind(folder: Path, marian: MarianMTModel) -> Path:
    marian.save_pretrained(folder)
    return folder


def of_other_sizes(folder: Path) -> Path:
    save_model(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 8}), encoding="utf-8")
    return folder


def test_what_is_no_model_is_refused_in_one_line(
    tmp_path: Path, hub: HubServer, tiny_marian: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    refused: list[tuple[Any, str]] = [
        ("org/nothing", "There is no model org/nothing: no folder has this name, and the Hub gave none ("),
        (str(tmp_path / "nothing"), f"There is no model {tmp_path / 'nothing'}: "),
        (tmp_path / "empty", f"The folder {tmp_path / 'empty'} holds no model: it has no config.json."),
        (tmp_path / "file", f"{tmp_path / 'file'} is a file; name the folder of a model"),
        (
            of_another_kind(tmp_path / "a", tiny_marian),
            f"The model {tmp_path / 'a'} is of the kind 'marian', and not 'rnn_s2s'",
        ),
        (broken(tmp_path / "b", "config.json", "{"), f"The model {tmp_path / 'b'} cannot be loaded: "),
        (broken(tmp_path / "c", "config.json", "{}"), f"The model {tmp_path / 'c'} cannot be loaded: "),
        (broken(tmp_path / "d", "model.safetensors", "x"), f"The model {tmp_path / 'd'} cannot be loaded: "),
        (broken(tmp_path / "e", "model.safetensors", None), f"The model {tmp_path / 'e'} cannot be loaded: "),
        (of_other_sizes(tmp_path / "f"), f"The model {tmp_path / 'f'} cannot be loaded: "),
    ]
    for location, message in refused:
        with pytest.raises(UsageError) as refusal:
            load_model(location)
        assert str(refusal.value).startswith(message)
        assert "\n" not in str(refusal.value)


def test_a_model_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "a")
    for file in folder.glob("tokeniz*"):
        file.unlink()
    with pytest.raises(UsageError, match=f"The model {folder} cannot be loaded: [^\n]+$"):
        load_model(folder)


def test_listening_without_what_reads_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_listener(tmp_path / "a")
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "soxr" else find(name))
    with pytest.raises(UsageError, match=r'listens, and recordings are read with soxr: install the extra "speech"'):
        load_model(folder)
    shutil.rmtree(folder)
