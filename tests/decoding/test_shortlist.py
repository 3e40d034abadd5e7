"""Which target tokens a shortlist names, and what a search does with them."""

import copy
import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, pipelines

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnTranslationPipeline, Shortlist
from hf_rnn_s2s.decoding import shortlist as shortlist_module

from ..hub_server import Commit, HubServer, Repository
from ..page.saved import save_listener
from ..random_models import END, model_that_ends, sources

pipeline: Any = pipelines.pipeline  # its type hints know the tasks of transformers only


def corpus(pairs: int = 300) -> tuple[list[list[int]], list[list[int]]]:
    """Source token `n` is translated by `n + 10`, in another order, and by nothing else; 30 is in every target."""
    draw = random.Random(0)
    source = [draw.sample(range(3, 13), draw.randint(2, 6)) for _ in range(pairs)]
    target = [[30, *draw.sample([token + 10 for token in one], len(one))] for one in source]
    return source, target


def test_the_translation_of_each_token_is_found() -> None:
    shortlist = Shortlist.from_pairs(*corpus(), source_vocab_size=15, size=1, frequent=1)
    assert shortlist.always == [30]
    assert shortlist.candidates[3:13] == [[token + 10] for token in range(3, 13)]
    assert shortlist.candidates[:3] == [[], [], []]  # never seen
    assert len(shortlist.candidates) == 15


def test_probabilities_are_those_of_model_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against expectation maximisation written out over dictionaries, with a word for nothing in every source."""
    source, target = corpus(12)
    nothing = 15
    table = {(s, t): 1.0 for one, other in zip(source, target, strict=True) for s in [*one, nothing] for t in other}
    for _ in range(shortlist_module.ROUNDS):
        counts = dict.fromkeys(table, 0.0)
        for one, other in zip(source, target, strict=True):
            for t in other:
                total = sum(table[s, t] for s in [*one, nothing])
                for s in [*one, nothing]:
                    counts[s, t] += table[s, t] / total
        totals = {s: sum(count for (other, _), count in counts.items() if other == s) for s, _ in table}
        table = {(s, t): count / totals[s] for (s, t), count in counts.items()}
    sources_, targets, probabilities = shortlist_module._translation_table(source, target, nothing)
    found = dict(zip(zip(sources_.tolist(), targets.tolist(), strict=True), probabilities.tolist(), strict=True))
    assert found == pytest.approx(table, abs=1e-6)
    monkeypatch.setattr(shortlist_module, "MOST_TOKEN_PAIRS", 100)  # of a larger corpus, some sentences
    fewer, _, _ = shortlist_module._translation_table(source, target, nothing)
    assert 0 < len(fewer) < len(sources_)


def test_tokens_for_a_batch() -> None:
    shortlist = Shortlist([[], [7, 9], [], [9, 4, 11]], always=[2, 20])
    batch = torch.tensor([[1, 3], [3, 0]])
    assert shortlist.tokens_for(batch).tolist() == [2, 4, 7, 9, 11, 20]
    assert shortlist.tokens_for(batch[1:], needed=[1]).tolist() == [1, 2, 4, 9, 11, 20]
    with pytest.raises(ValueError, match="made for 4 source tokens, but the source has the id 4"):
        shortlist.tokens_for(torch.tensor([[4]]))


def test_what_makes_no_shortlist_is_refused() -> None:
    with pytest.raises(ValueError, match="without any token"):
        Shortlist([[], []])
    with pytest.raises(ValueError, match="There are 1 sources and 2 targets"):
        Shortlist.from_pairs([[3]], [[4], [5]], 10)
    with pytest.raises(ValueError, match="There are 0 sources and 0 targets"):
        Shortlist.from_pairs([], [], 10)
    with pytest.raises(ValueError, match="without any token"):
        Shortlist([], always=[1, 2])
    with pytest.raises(ValueError, match="ids, which are 0 or above"):
        Shortlist([[3], [-1]])
    with pytest.raises(ValueError, match="all empty"):
        Shortlist.from_pairs([[3], [4]], [[], []], 10)
    with pytest.raises(ValueError, match="ids from 3 to 10, but source_vocab_size is 10"):
        Shortlist.from_pairs([[3], [10]], [[4], [5]], 10)
    with pytest.raises(ValueError, match="target_ids has the id -100; leave padding out"):
        Shortlist.from_pairs([[3], [4]], [[4, -100], [5]], 10)


def test_a_shortlist_too_short_for_the_beams_is_refused() -> None:
    model, only_the_end = model_that_ends(), Shortlist([[END]] * 40)
    with pytest.raises(ValueError, match="num_beams=4 compares 8 continuations .* only 1 tokens .* larger shortlist"):
        model.generate(sources(), shortlist=only_the_end, num_beams=4, max_new_tokens=3)
    assert model.generate(sources(), shortlist=only_the_end, max_new_tokens=3)[:, 1:].eq(END).all()


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_hook_on_the_output_layer_counts_with_a_shortlist_too(num_beams: int) -> None:
    model = model_that_ends()

    def prefer_20(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits + 1e4 * torch.nn.functional.one_hot(torch.tensor(20), 40)

    model.lm_head.register_forward_hook(prefer_20)
    shortlist = Shortlist([[8, 9, 20]] * 40)
    found = model.generate(sources(), shortlist=shortlist, num_beams=num_beams, max_new_tokens=3)
    assert found[:, 1:].eq(20).all()


def test_saved_and_loaded(tmp_path: Path) -> None:
    shortlist = Shortlist.from_pairs(*corpus(), source_vocab_size=15)
    shortlist.save_pretrained(tmp_path / "new")
    assert set(json.loads((tmp_path / "new" / "shortlist.json").read_text())) == {"always", "candidates"}
    loaded = Shortlist.from_pretrained(tmp_path / "new")
    assert (loaded.candidates, loaded.always) == (shortlist.candidates, shortlist.always)


def all_tokens(vocabulary: int = 40) -> Shortlist:
    return Shortlist([list(range(vocabulary))] * vocabulary)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_a_list_of_all_tokens_changes_nothing(num_beams: int) -> None:
    model = model_that_ends()
    arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 20}
    expected = model.generate(sources(), **arguments)
    assert torch.equal(model.generate(sources(), shortlist=all_tokens(), **arguments), expected)


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_search_is_that_of_a_smaller_vocabulary(num_beams: int, autocast: bool) -> None:
    model = model_that_ends()
    allowed = [5, 6, 11, 17, 23, 31]
    arguments: dict[str, Any] = {"num_beams": num_beams, "max_new_tokens": 20}
    smaller = model_that_ends()
    with torch.no_grad():  # a token without probability
        smaller.lm_head.bias[[token for token in range(40) if token not in [END, *allowed]]] = -1e9
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        generated = model.generate(sources(), shortlist=Shortlist([allowed] * 40), **arguments)
        expected = smaller.generate(sources(), **arguments)
    assert set(generated.flatten().tolist()) <= {0, 1, END, *allowed}
    assert torch.equal(generated, expected)


def test_the_end_token_is_always_on_it() -> None:
    generated = model_that_ends().generate(sources(), shortlist=Shortlist([[7]] * 40), max_new_tokens=30)
    assert generated.eq(END).any(1).float().mean() > 0.5


@pytest.mark.parametrize(
    "arguments",
    [
        {"return_dict_in_generate": True},
        {"do_sample": True, "top_k": 0},
        {"num_beams": 2, "return_dict_in_generate": True},
        {"forced_bos_token_id": 9},
        {"prefix_allowed_tokens_fn": lambda row, target: [9]},
        {"num_beams": 2, "bad_words_ids": [[7]]},
    ],
    ids=lambda arguments: ", ".join(arguments),
)
def test_what_needs_the_whole_vocabulary_gets_it(arguments: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """A token that is forced may be missing on the list."""
    model = model_that_ends()
    results = []
    with caplog.at_level(logging.WARNING, "hf_rnn_s2s"):
        for extra in ({}, {"shortlist": Shortlist([[7]] * 40)}):
            torch.manual_seed(0)
            generated = model.generate(sources(), max_new_tokens=5, **arguments, **extra)
            results.append(generated if isinstance(generated, torch.Tensor) else generated.sequences)
    assert torch.equal(*results)


def test_a_shortlist_goes_by_source_ids() -> None:
    model = model_that_ends()
    encoded = model.get_encoder()(sources())
    with pytest.raises(ValueError, match="pass input_ids"):
        model.generate(encoder_outputs=encoded, shortlist=all_tokens())
    with pytest.raises(ValueError, match="shortlist has the id 41, outside the vocabulary of 40"):
        model.generate(sources(), shortlist=Shortlist([[41]] * 40))


def test_rows_leave_with_a_shortlist_too(rows_per_step: list[int]) -> None:
    model_that_ends().generate(sources(), shortlist=all_tokens(), num_beams=3, max_new_tokens=30)
    assert rows_per_step[-1] < rows_per_step[1]


def test_in_the_pipeline(tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: Any) -> None:
    size = len(tiny_tokenizer)
    whole, one = (Shortlist([tokens] * size) for tokens in (list(range(size)), [77]))
    plain = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    short = RnnTranslationPipeline(
        model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6, shortlist=whole
    )
    texts = ["the dog", "", "one red cat"]
    assert short(texts) == plain(texts)
    ids = short(texts, shortlist=one, return_tensors=True)[0]["translation_token_ids"]
    assert set(ids.tolist()) <= {1, 2, 77}


def test_separate_vocabularies() -> None:
    torch.manual_seed(0)
    config = RnnS2SConfig(vocab_size=30, decoder_vocab_size=20, embedding_size=6, hidden_size=8)
    model = RnnS2SForConditionalGeneration(config).eval()
    generated = model.generate(torch.tensor([[25, 29, 2]]), shortlist=Shortlist([[19]] * 30), max_new_tokens=4)
    assert set(generated[0].tolist()) <= {1, 2, 19}


@pytest.fixture
def folder(tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    """A model with a shortlist beside it that allows one token."""
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    Shortlist([[77]] * len(tiny_tokenizer)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_pipeline_loads_a_shortlist_by_name(folder: Path, tmp_path: Path) -> None:
    (folder / "shortlist.json").rename(tmp_path / "other.json")
    Shortlist([[78]] * 300).save_pretrained(folder)
    Shortlist([[79]] * 300).save_pretrained(tmp_path / "elsewhere")
    options: dict[str, Any] = {"max_new_tokens": 3, "return_tensors": True, "device": "cpu"}

    def written(call: dict[str, Any] | None = None, **built: Any) -> set[int]:
        translator = pipeline("translation", model=str(folder), **options, **built)
        return set(translator("the dog", **(call or {}))[0]["translation_token_ids"].tolist()) - {1, 2}

    assert written(shortlist=None) - {78} == written(shortlist=False) - {78} != set()
    assert written() == written(shortlist=True) <= {78}
    assert written(shortlist=str(tmp_path / "elsewhere")) <= {79}
    assert written(shortlist=tmp_path / "other.json") <= {77}
    assert written({"shortlist": tmp_path / "elsewhere"}, shortlist=True) <= {79}
    assert written({"shortlist": False}) == written({"shortlist": False}, shortlist=True) == written(shortlist=False)
    (folder / "shortlist.json").unlink()
    assert written() == written(shortlist=False)


@pytest.mark.parametrize(
    "call",
    [
        {"do_sample": True, "top_k": 1},
        {"num_beams": 2, "repetition_penalty": 1.2},
        {"return_attentions": True},
        {"num_beams": 4, "force_phrases": ["cat"]},
        {"num_beams": 2},  # compares four continuations: three tokens are too few
        {"ensemble": []},
    ],
    ids=str,
)
def test_the_one_beside_the_model_is_left_out_without_a_word_where_it_cannot_be_used(
    call: dict[str, Any], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    translator = pipeline("translation", model=str(folder), device="cpu", max_new_tokens=4, return_text=True)
    if "ensemble" in call:
        call = {"ensemble": [RnnS2SForConditionalGeneration.from_pretrained(folder)]}
    with caplog.at_level(logging.WARNING, "hf_rnn_s2s"):
        found = translator("the dog", **call)
    assert "shortlist" not in caplog.text
    expected = translator("the dog", shortlist=False, **call)
    assert [one["translation_text"] for one in found] == [one["translation_text"] for one in expected]


def test_one_of_another_vocabulary_is_left_out_with_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = len(Shortlist.from_pretrained(folder).candidates)
    for candidates in ([[77]] * (size - 1), [[900]] * size):
        Shortlist(candidates).save_pretrained(folder)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "hf_rnn_s2s"):
            translator = pipeline("translation", model=str(folder), device="cpu", max_new_tokens=4)
        assert "shortlist.json is not used: it was made for another vocabulary" in caplog.text
        assert translator("the dog") == translator("the dog", shortlist=False)


@pytest.mark.parametrize("name", [None, "", "my model", "a--b/x", "./m", "lab/model"])
def test_a_model_whose_folder_is_gone_has_none(
    name: str | None, tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: Any, hub: HubServer
) -> None:
    """Nobody is asked for a file of that name: it was a folder of this machine."""
    requests = len(hub.log)
    model = copy.copy(tiny_model)
    model.name_or_path = name
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=4)
    assert "shortlist" not in translator._forward_params
    assert len(hub.log) == requests


def test_a_model_that_listens_asks_for_none(tmp_path: Path, hub: HubServer) -> None:
    files = {path.name: path.read_bytes() for path in save_listener(tmp_path / "listener").iterdir()}
    hub.repositories["lab/listener"] = Repository("lab/listener", [Commit({}), Commit(files)])
    RnnS2SForConditionalGeneration.from_pretrained("lab/listener")
    assert any("config.json" in line for line in hub.log)
    assert not any("shortlist" in line for line in hub.log)


def test_what_lies_beside_the_model_and_is_no_shortlist_is_said(folder: Path) -> None:
    (folder / "shortlist.json").write_text("[]")
    with pytest.raises(ValueError, match="shortlist.json is not a shortlist as Shortlist.save_pretrained writes"):
        pipeline("translation", model=str(folder))


def test_the_pipeline_loads_a_shortlist_for_a_model_with_an_adapter(folder: Path, tmp_path: Path) -> None:
    model = get_peft_model(
        RnnS2SForConditionalGeneration.from_pretrained(folder), LoraConfig(target_modules=["lm_head"])
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(OSError, match="missing"):
        pipeline("translation", model=model, tokenizer=tokenizer, shortlist=tmp_path / "missing")
    translator = pipeline("translation", model=model, tokenizer=tokenizer, shortlist=folder)
    (folder / "shortlist.json").unlink()  # it was read when the pipeline was built
    assert set(translator("the dog", return_tensors=True)[0]["translation_token_ids"].tolist()) <= {1, 2, 77}


def test_generate_takes_the_same(folder: Path) -> None:
    model = RnnS2SForConditionalGeneration.from_pretrained(folder)
    expected = model.generate(sources(), shortlist=Shortlist.from_pretrained(folder), max_new_tokens=4)
    for name in (True, str(folder), folder / "shortlist.json"):
        assert torch.equal(model.generate(sources(), shortlist=name, max_new_tokens=4), expected)
    assert set(expected.flatten().tolist()) <= {0, 1, 2, 77}


def test_a_shortlist_that_is_not_there_is_answered_with_a_way_out(
    folder: Path, tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="shortlist=True .* was not loaded from anywhere. Pass a Shortlist"):
        RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", shortlist=True)
    with pytest.raises(TypeError, match="shortlist=3 is of type int; pass a Shortlist"):
        RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", shortlist=3)
    (folder / "shortlist.json").unlink()
    with pytest.raises(FileNotFoundError, match="no shortlist.json in the folder .* Shortlist.from_pairs"):
        pipeline("translation", model=str(folder), shortlist=True)
    for missing in (tmp_path / "missing", "outputs/my/model", "../no/model"):
        with pytest.raises(FileNotFoundError, match="There is no folder .* to read a shortlist from"):
            Shortlist.from_pretrained(missing)
    for content in (
        "{}",
        "[]",
        "not JSON",
        '{"candidates": [["a"]], "always": []}',
        '{"candidates": 3, "always": []}',
    ):
        (tmp_path / "shortlist.json").write_text(content)
        with pytest.raises(ValueError, match="shortlist.json is not a shortlist as Shortlist.save_pretrained writes"):
            Shortlist.from_pretrained(tmp_path)


def test_a_shortlist_comes_from_the_hub(folder: Path, hub: HubServer) -> None:
    pipeline("translation", model=str(folder), device="cpu").push_to_hub("lab/model")
    assert Shortlist.from_pretrained("lab/model").candidates == Shortlist.from_pretrained(folder).candidates
    for given in ({"shortlist": True}, {}):
        translator = pipeline("translation", model="lab/model", max_new_tokens=3, device="cpu", **given)
        ids = translator("the dog", return_tensors=True)[0]["translation_token_ids"]
        assert set(ids.tolist()) <= {1, 2, 77}
    (folder / "shortlist.json").unlink()
    pipeline("translation", model=str(folder), device="cpu").push_to_hub("lab/without")
    assert "shortlist" not in pipeline("translation", model="lab/without", device="cpu")._forward_params
    hub.create({"name": "lab/empty"})
    with pytest.raises(OSError, match="no folder lab/empty .* on the Hub there is no shortlist.json"):
        Shortlist.from_pretrained("lab/empty")
