"""What `push_to_hub` uploads beside the weights. `test_hub.py` loads such repositories in fresh processes."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForSeq2SeqLM, MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline, Shortlist
from hf_rnn_s2s.decoding.sharing import DRAFT
from hf_rnn_s2s.model.remote_code_rnn_s2s import model_to_share

from ..hub_server import HubServer

OWN_CARD = """---
license: apache-2.0
tags:
- attention
---
# Our model

![Curves](curves.png) and <img src="heat-map.svg"> beside ![elsewhere](https://example.org/missing.png).
"""
CODE = {"modeling_rnn_s2s.py", "pipeline_rnn_s2s.py", "configuration_rnn_s2s.py"}


@pytest.fixture
def folder(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> Path:
    """A model with a card, two pictures that the card shows and one that it does not, and a shortlist."""
    folder = tmp_path / "model"
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(OWN_CARD, encoding="utf-8")
    for name in ("curves.png", "heat-map.svg", "other.png"):
        (folder / name).write_bytes(name.encode())
    Shortlist([[5]] * len(tiny_tokenizer)).save_pretrained(folder)
    return folder


@pytest.fixture
def loaded(folder: Path) -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(folder)


def files_of(hub: HubServer, name: str) -> dict[str, bytes]:
    return hub.repositories[name].head.files


def put(hub: HubServer, name: str, card: str) -> None:
    """A repository with a card."""
    hub.create({"name": name})
    hub.repositories[name].head.files["README.md"] = card.encode()


def memory_of(model: Any) -> dict[str, Any]:
    """What saving may change in a model."""
    return {**model.config.to_dict(), "tags": model.model_tags, "mode": model.training, "names": sorted(vars(model))}


def test_a_pipeline_goes_up_with_code_card_pictures_and_shortlist(
    loaded: Any, tiny_tokenizer: PreTrainedTokenizerFast, folder: Path, hub: HubServer
) -> None:
    translator = RnnTranslationPipeline(model=loaded, tokenizer=tiny_tokenizer, task="translation", device="cpu")
    before = memory_of(loaded)
    translator.push_to_hub("lab/model", tags="small")
    files = files_of(hub, "lab/model")
    assert set(files) >= CODE | {"model.safetensors", "tokenizer.json"}
    for name in ("curves.png", "heat-map.svg", "shortlist.json"):
        assert files[name] == (folder / name).read_bytes()
    assert "other.png" not in files
    card = ModelCard(files["README.md"].decode())
    assert card.text.strip() == ModelCard(OWN_CARD).text.strip()
    assert card.data.license == "apache-2.0"
    assert set(card.data.tags) == {"attention", "small", "translation"}
    assert "translation" in json.loads(files["config.json"])["custom_pipelines"]
    assert len(hub.repositories["lab/model"].commits) == 2  # that of its creation, and one for everything
    assert translator.model is loaded
    assert memory_of(loaded) == before


def test_a_model_goes_up_with_code_and_card_and_stays_as_it_is(loaded: Any, hub: HubServer, tmp_path: Path) -> None:
    before = memory_of(loaded)
    loaded.push_to_hub("lab/model", tags=["small"])
    assert set(files_of(hub, "lab/model")) >= CODE | {"curves.png", "shortlist.json"}
    assert set(ModelCard(files_of(hub, "lab/model")["README.md"].decode()).data.tags) == {"attention", "small"}
    assert memory_of(loaded) == before
    loaded.save_pretrained(tmp_path / "again")
    assert not list((tmp_path / "again").glob("*.py"))


def test_saving_with_push_to_hub_uploads_the_same_and_leaves_the_folder_alone(
    loaded: Any, hub: HubServer, folder: Path
) -> None:
    before = {path.name for path in folder.iterdir()}
    loaded.save_pretrained(folder, push_to_hub=True, repo_id="lab/saved", commit_message="Try", max_shard_size="1GB")
    loaded.push_to_hub("lab/pushed")
    assert files_of(hub, "lab/saved") == files_of(hub, "lab/pushed")
    assert {path.name for path in folder.iterdir()} == before
    assert (folder / "README.md").read_text(encoding="utf-8") == OWN_CARD


@pytest.mark.parametrize("by_configuration", [False, True])
def test_code_stays_at_home_if_it_is_told_to(
    loaded: Any, tiny_tokenizer: PreTrainedTokenizerFast, hub: HubServer, tmp_path: Path, by_configuration: bool
) -> None:
    translator = RnnTranslationPipeline(model=loaded, tokenizer=tiny_tokenizer, device="cpu")
    told = {} if by_configuration else {"carry_code": False}
    if by_configuration:
        loaded.config.carry_code()
        loaded.config.drop_code()
    loaded.push_to_hub("lab/model", **told)
    translator.push_to_hub("lab/pipeline", **told)
    translator.save_pretrained(tmp_path / "saved", **told)
    saved = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    for files in (files_of(hub, "lab/model"), files_of(hub, "lab/pipeline"), saved):
        assert not [name for name in files if name.endswith(".py")]
        assert not json.loads(files["config.json"]).keys() & {"auto_map", "custom_pipelines", "drops_code"}
    translator.push_to_hub("lab/told", carry_code=True)
    assert set(files_of(hub, "lab/told")) >= CODE


def test_a_card_on_the_hub_is_never_replaced_by_an_empty_one(
    tiny_model: RnnS2SForConditionalGeneration, hub: HubServer, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.chdir(folder)  # whose card does not belong to a model that comes from nowhere
    put(hub, "lab/model", "---\nlicense: mit\n---\nWritten by hand.\n")
    tiny_model.push_to_hub("lab/model")
    assert "Written by hand." in files_of(hub, "lab/model")["README.md"].decode()
    tiny_model.push_to_hub("lab/new")
    assert DRAFT in files_of(hub, "lab/new")["README.md"].decode()


def test_the_card_of_the_model_replaces_another_one_with_a_warning(
    loaded: Any, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    for name, former, warns in [
        ("lab/drafted", f"---\ntags:\n- kept\n---\n{DRAFT}\n", False),
        ("lab/same", OWN_CARD.replace("mit", "apache-2.0"), False),
        ("lab/other", "---\ntags:\n- kept\n---\nWritten by hand.\n", True),
    ]:
        put(hub, name, former)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hf_rnn_s2s"):
            loaded.push_to_hub(name)
        card = ModelCard(files_of(hub, name)["README.md"].decode())
        assert card.text.strip() == ModelCard(OWN_CARD).text.strip()
        assert ("kept" in card.data.tags) == ("kept" in former)
        said = [record.getMessage() for record in caplog.records if "card of the repository" in record.getMessage()]
        assert bool(said) == warns


def test_a_shortlist_in_use_is_saved(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    shortlist = Shortlist([[7]] * len(tiny_tokenizer))
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", shortlist=shortlist)
    translator.save_pretrained(tmp_path)
    assert Shortlist.from_pretrained(tmp_path).candidates == shortlist.candidates


def test_a_pipeline_saves_the_shortlist_that_it_uploads(
    loaded: Any,
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    hub: HubServer,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beside = (folder / "shortlist.json").read_bytes()
    other = Shortlist([[7]] * len(tiny_tokenizer))
    for number, (options, is_beside) in enumerate(
        [({}, True), ({"shortlist": True}, True), ({"shortlist": other}, False)]
    ):
        translator = RnnTranslationPipeline(model=loaded, tokenizer=tiny_tokenizer, device="cpu", **options)
        target = tmp_path / str(number)
        other.save_pretrained(target)  # of what was there before
        translator.save_pretrained(target)
        translator.push_to_hub(f"lab/{number}")
        saved = (target / "shortlist.json").read_bytes()
        assert saved == files_of(hub, f"lab/{number}")["shortlist.json"]
        assert (json.loads(saved) == json.loads(beside)) == is_beside
    RnnTranslationPipeline(model=loaded, tokenizer=tiny_tokenizer, device="cpu").save_pretrained(folder)
    assert (folder / "shortlist.json").read_bytes() == beside
    monkeypatch.chdir(folder)  # whose shortlist does not belong to a model that comes from nowhere
    RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu").save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new" / "shortlist.json").exists()


def test_models_of_other_kinds_are_shared_without_code(
    tiny_marian: MarianMTModel, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    before = memory_of(tiny_marian)
    translator = RnnTranslationPipeline(model=tiny_marian, tokenizer=tiny_tokenizer, device="cpu")
    translator.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.py"))
    assert memory_of(tiny_marian) == before
    assert model_to_share(tiny_marian).get_input_embeddings().weight is tiny_marian.get_input_embeddings().weight
