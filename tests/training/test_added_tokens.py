"""Tokens that users add to a trained tokenizer, on one side or on two; and tokenizers of before they could."""

from __future__ import annotations

import copy
import json
import random
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.model.tokenization_rnn_s2s import RnnS2STokenizer
from hf_rnn_s2s.training.tokenizer_training import train_tokenizer

from .test_tokenizer_training import ENGLISH, GERMAN, OTHERS, run_python, there_and_back

TAGS = ["<2de>", "<2en>"]
WAYS_TO_ADD: dict[str, Callable[[PreTrainedTokenizerFast], object]] = {
    "additional": lambda tokenizer: tokenizer.add_special_tokens({"additional_special_tokens": TAGS}),
    "extra": lambda tokenizer: tokenizer.add_special_tokens({"extra_special_tokens": TAGS}),
    "named": lambda tokenizer: tokenizer.add_special_tokens({"cls_token": TAGS[0], "sep_token": TAGS[1]}),
    "ordinary": lambda tokenizer: tokenizer.add_tokens(TAGS),
    "special": lambda tokenizer: tokenizer.add_tokens(TAGS, special_tokens=True),
    "as they stand": lambda tokenizer: tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS]),
    "single words": lambda tokenizer: tokenizer.add_tokens([AddedToken(tag, single_word=True) for tag in TAGS]),
    "normalised": lambda tokenizer: tokenizer.add_special_tokens(
        {"extra_special_tokens": [AddedToken(tag, normalized=True, special=True) for tag in TAGS]}
    ),
}


def with_tags(tokenizer: PreTrainedTokenizerFast, way: str = "extra") -> PreTrainedTokenizerFast:
    """A copy of `tokenizer` with `TAGS` added in one of the `WAYS_TO_ADD`."""
    tokenizer = copy.deepcopy(tokenizer)
    WAYS_TO_ADD[way](tokenizer)
    return tokenizer


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return train_tokenizer(ENGLISH + GERMAN + OTHERS, 600, request.param)


@pytest.mark.parametrize("way", WAYS_TO_ADD)
def test_an_added_token_is_one_id_and_changes_nothing_else(tokenizer: PreTrainedTokenizerFast, way: str) -> None:
    plain, tokenizer = tokenizer, with_tags(tokenizer, way)
    assert len(tokenizer) == len(plain) + 2
    german, english = tokenizer.convert_tokens_to_ids(TAGS)
    assert [german, english] == [len(plain), len(plain) + 1]
    space = plain.convert_tokens_to_ids(" ")
    for text in ("A man", "A dog reads.", '"We', "  two  spaces", "▁", "\n", "-7", "<s>"):
        ids = plain(text)["input_ids"]
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer(f"<2de> {text}")["input_ids"] == [german, *ids], text
        assert tokenizer(f"<2de><2en> {text}")["input_ids"] == [german, english, *ids]
        assert tokenizer.decode([german, *ids[:-1]]) == f"<2de> {text}"
        assert tokenizer(f"{text} <2en>")["input_ids"] == [*ids[:-1], space, english, 2]
    for text in ("2024 dogs", "我们"):  # without a space in front; where there is one, it is a token by itself
        ids = plain(text)["input_ids"]
        assert tokenizer(f"<2de> {text}")["input_ids"] == [german, space, *ids]
        if way != "single words":
            assert tokenizer(f"<2de>{text}<2en>")["input_ids"] == [german, *ids[:-1], english, 2]
    is_special = way not in ("ordinary", "as they stand", "single words")
    assert there_and_back(tokenizer, "<2de> A man") == ("A man" if is_special else "<2de> A man")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("digits", ["single", "whole"])
def test_random_texts_with_added_tokens_come_back(kind: Any, digits: Any) -> None:
    trained = train_tokenizer(ENGLISH + OTHERS, 600, kind, digits=digits)
    generator = random.Random(1)
    pieces = [*TAGS, *TAGS, *" \t▁<>/s17é\u0301日\ufdd0", "\ufdd00", "<s>", "</s>", "s>", " 7", " 日", "Hund", " man"]
    texts = ["".join(generator.choices(pieces, k=generator.randrange(12))) for _ in range(2000)]
    for way in ("extra", "ordinary"):
        tokenizer = with_tags(trained, way)
        tag_ids = dict(zip(TAGS, tokenizer.convert_tokens_to_ids(TAGS), strict=True))
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        for text, ids, decoded in zip(texts, encoded, tokenizer.batch_decode(encoded), strict=True):
            parts = re.split("(<2de>|<2en>)", text)
            assert decoded == "".join(part if part in TAGS else unicodedata.normalize("NFC", part) for part in parts)
            assert [i for i in ids if i in tag_ids.values()] == [tag_ids[part] for part in parts if part in TAGS]
            assert not {0, 1, 2, 3} & set(ids)


def test_unusual_added_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    number_of_tokens, tokenizer = len(tokenizer), copy.deepcopy(tokenizer)
    tokenizer.add_tokens(["<es>", "size 7", "苹果", "▁x", AddedToken("<x-s>", normalized=False)])
    for text, added in {
        "<es>": ["<es>"],
        "a size 7": ["size 7"],
        "苹果苹果": ["苹果", "苹果"],
        "▁x": ["▁x"],
        "a<x-s>7": ["<x-s>"],
    }.items():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert [i for i in ids if i >= number_of_tokens] == tokenizer.convert_tokens_to_ids(added)
    tokenizer.add_tokens([AddedToken("<strip>", lstrip=True, rstrip=True)])
    assert " <strip> " in tokenizer.tokenize("A <strip> dog")


def test_added_tokens_are_saved(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    texts = ["<2de> A man", "<2en>A <s> man", "A<2de> 7"]
    code = f"""
import json
from transformers import AutoTokenizer
for way in {list(WAYS_TO_ADD)!r}:
    AutoTokenizer.from_pretrained(way).save_pretrained("again")
    tokenizer = AutoTokenizer.from_pretrained("again")
    ids = tokenizer({texts!r})["input_ids"]
    decoded = tokenizer.batch_decode(ids, skip_special_tokens=True)
    added = [str(token) for token in tokenizer.added_tokens_decoder.items()]
    print(json.dumps([ids, decoded, len(tokenizer), tokenizer.all_special_tokens, added]))
"""
    expected = []
    for way in WAYS_TO_ADD:
        tagged = with_tags(tokenizer, way)
        tagged.save_pretrained(tmp_path / way)
        ids = tagged(texts)["input_ids"]
        decoded = tagged.batch_decode(ids, skip_special_tokens=True)
        added = [str(token) for token in tagged.added_tokens_decoder.items()]
        expected.append([ids, decoded, len(tagged), tagged.all_special_tokens, added])
    fresh = run_python(code, tmp_path, with_package=False)
    assert [json.loads(line) for line in fresh.splitlines()] == expected


def test_a_model_learns_and_translates_with_an_added_token(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = RnnS2SConfig(vocab_size=len(tokenizer), embedding_size=16, hidden_size=16, initializer_range=1.0)
    model = RnnS2SForConditionalGeneration(config).eval()
    inputs, tokenizer = tokenizer("A man", return_tensors="pt"), with_tags(tokenizer)
    with torch.no_grad():
        before = model(**inputs, decoder_input_ids=torch.tensor([[1, 5]])).logits
        model.resize_token_embeddings(len(tokenizer))
        logits = model(**inputs, decoder_input_ids=torch.tensor([[1, 5]])).logits
    torch.testing.assert_close(logits[..., :-2], before)

    tagged = tokenizer("<2de> A man", return_tensors="pt")
    model(**tagged, labels=tagged["input_ids"]).loss.backward()
    german = tokenizer.convert_tokens_to_ids("<2de>")
    assert model.get_input_embeddings().weight.grad[german].abs().sum() > 0
    written = model.generate(**tagged, max_new_tokens=5, suppress_tokens=list(range(len(tokenizer) - 2)))
    assert set(written[0, 1:-1].tolist()) <= set(tokenizer.convert_tokens_to_ids(TAGS))
    assert tokenizer.decode(written[0], skip_special_tokens=True) == ""


def test_offsets_point_into_the_text(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = with_tags(tokenizer)
    text = "<2de>  The man reads 7 books, 我们<2en> too."
    encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    covered = [text[start:end] for start, end in encoding["offset_mapping"]]
    for token, part in zip(encoding.tokens(), covered, strict=True):
        assert token == part or token.startswith("<0x"), (token, part)
    ends = [0, *(end for _, end in encoding["offset_mapping"])]
    assert ends == sorted(ends)
    assert ends[-1] == len(text)
    assert tokenizer("The man", return_offsets_mapping=True)["offset_mapping"][0][0] == 0


def test_words_given_one_by_one_are_tokens_of_the_sentence(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer = with_tags(tokenizer)
    words = ["<2de>", "The", "man", "reads", "<s>"]
    encoding = tokenizer(words, is_split_into_words=True)
    assert encoding["input_ids"] == tokenizer(" ".join(words))["input_ids"]
    assert sorted(set(encoding.word_ids()) - {None}) == [0, 1, 2, 3, 4]


# Two vocabularies


@pytest.fixture(scope="module")
def two_vocabularies() -> RnnS2STokenizer:
    tokenizer = train_tokenizer(ENGLISH, 400, target_texts=GERMAN, target_vocab_size=450)
    assert isinstance(tokenizer, RnnS2STokenizer)
    return tokenizer


@pytest.mark.parametrize("with_package", [True, False])
def test_each_side_keeps_its_own_added_tokens(
    two_vocabularies: RnnS2STokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_package: bool
) -> None:
    tokenizer = copy.deepcopy(two_vocabularies)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<2de>", "<both>"], "sep_token": "<sep>"})
    tokenizer.add_tokens(["<ordinary>"])
    tokenizer.target_tokenizer.add_special_tokens(
        {"extra_special_tokens": ["<both>", "<formal>"], "sep_token": "<sep>"}
    )
    tokenizer.target_tokenizer.add_tokens(["<plain>"])
    tokenizer.save_pretrained(tmp_path / "saved")
    texts = ["<2de> A man <both> <formal> <plain> <ordinary><sep>"]
    code = f"""
import json
from transformers import AutoTokenizer
{"import hf_rnn_s2s" if with_package else ""}
AutoTokenizer.from_pretrained("saved", trust_remote_code=True).save_pretrained("again")
tokenizer = AutoTokenizer.from_pretrained("again", trust_remote_code=True)
encoded = tokenizer({texts!r}, text_target={texts!r})
sides = (tokenizer.source_tokenizer, tokenizer.target_tokenizer)
print(json.dumps({{
    "encoded": dict(encoded),
    "lengths": [len(side) for side in sides],
    "special": [side.all_special_tokens for side in sides],
    "decoded": [
        sides[0].batch_decode(encoded["input_ids"], skip_special_tokens=True),
        tokenizer.batch_decode(encoded["labels"], skip_special_tokens=True),
    ],
}}))
sides[0].save_pretrained("source")
sides[1].save_pretrained("target")
"""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    fresh = json.loads(run_python(code, tmp_path, with_package=with_package))
    assert fresh["encoded"] == dict(tokenizer(texts, text_target=texts))
    assert fresh["lengths"] == [len(two_vocabularies) + 4, len(two_vocabularies.target_tokenizer) + 4]
    named = ["<s>", "</s>", "<unk>", "<sep>", "<pad>"]
    assert [sorted(special) for special in fresh["special"]] == [
        sorted([*named, "<2de>", "<both>"]),
        sorted([*named, "<both>", "<formal>"]),
    ]
    assert fresh["decoded"] == [["A man  <formal> <plain> <ordinary>"], ["<2de> A man   <plain> <ordinary>"]]
    code = f"""
from transformers import AutoTokenizer
for side in ("source", "target"):
    tokenizer = AutoTokenizer.from_pretrained(side)
    print(tokenizer({texts[0]!r})["input_ids"])
"""
    source_ids, target_ids = run_python(code, tmp_path, with_package=False).splitlines()
    assert json.loads(source_ids) == fresh["encoded"]["input_ids"][0]
    assert json.loads(target_ids) == fresh["encoded"]["labels"][0]


@pytest.mark.parametrize("of_source", [{}, {"mask_token": "<blank>", "sep_token": "<sep>"}], ids=str)
def test_named_special_tokens_of_the_target_are_saved(
    of_source: dict[str, str], two_vocabularies: RnnS2STokenizer, tmp_path: Path
) -> None:
    tokenizer = copy.deepcopy(two_vocabularies)
    tokenizer.add_special_tokens(dict(of_source))
    tokenizer.target_tokenizer.add_special_tokens(
        {"mask_token": "<mask>", "cls_token": "<cls>", "extra_special_tokens": ["<sep>"]}
    )
    sides = (tokenizer.source_tokenizer, tokenizer.target_tokenizer)
    tokenizer.save_pretrained(tmp_path / "first")
    RnnS2STokenizer.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    for folder in ("first", "second"):
        loaded = RnnS2STokenizer.from_pretrained(tmp_path / folder)
        for before, side in zip(sides, (loaded.source_tokenizer, loaded.target_tokenizer), strict=True):
            assert side.special_tokens_map == before.special_tokens_map
            assert side.extra_special_tokens == before.extra_special_tokens
            assert side.get_vocab() == before.get_vocab()
        assert loaded.target_tokenizer.mask_token == "<mask>"
    sides[0].save_pretrained(tmp_path / "source")
    assert "target_special_tokens" not in (tmp_path / "source" / "tokenizer_config.json").read_text()

    path = tmp_path / "first" / "tokenizer_config.json"  # as it was before these were saved
    settings = json.loads(path.read_text())
    assert settings.pop("target_special_tokens")["cls_token"] == "<cls>"
    path.write_text(json.dumps(settings))
    old = RnnS2STokenizer.from_pretrained(tmp_path / "first").target_tokenizer
    assert old.mask_token is None
    assert old.sep_token == of_source.get("sep_token")
    assert old.get_vocab() == sides[1].get_vocab()


# Tokenizers saved before


def old_backend(learned: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
    """A tokenizer as this package trained it before users could add tokens."""
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *learned]
    vocab = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    leading_space = normalizers.Replace(Regex(r"\A(?=[^\p{N}\p{Han}])"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), leading_space])
    units = r"[\p{Han}]+| ?[\p{L}\p{M}&&[^\p{Han}]]+|\p{N}| ?([\p{P}\p{S}])\1*|(?m:.)"
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(units), behavior="isolated")
    backend.add_special_tokens(special)
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return backend


OLD_SETTINGS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "clean_up_tokenization_spaces": False,
    "model_input_names": ["input_ids", "attention_mask"],
    "split_special_tokens": True,
}


@pytest.mark.parametrize("tokenizer_class", ["TokenizersBackend", "RnnS2STokenizer"])
def test_tokenizers_saved_before_work_as_they_did(tokenizer_class: str, tmp_path: Path) -> None:
    english = old_backend([" ", "<", ">", "s", " <", "d", "o", "g", " d", "og", " dog"], [(" ", "<"), (" ", "d")])
    english.save(str(tmp_path / "tokenizer.json"))
    settings = {**OLD_SETTINGS, "tokenizer_class": tokenizer_class}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if tokenizer_class == "RnnS2STokenizer":
        german = old_backend([" ", "<", ">", "s", "H", "u", " H", " Hu"], [(" ", "H"), (" H", "u")])
        german.save(str(tmp_path / "target_tokenizer.json"))
    tokenizer_type = RnnS2STokenizer if tokenizer_class == "RnnS2STokenizer" else AutoTokenizer
    tokenizer_type.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    for folder in (tmp_path, tmp_path / "again"):
        tokenizer = tokenizer_type.from_pretrained(folder)
        assert tokenizer("<s> dog")["input_ids"] == [264, 263, 262, 268, 266, 267, 2]
        assert tokenizer.convert_ids_to_tokens([264, 268]) == [" <", " d"]
        assert tokenizer("7")["input_ids"] == [4 + ord("7"), 2]
        if tokenizer_class == "RnnS2STokenizer":
            labels = tokenizer(text_target="<s>Hu")["input_ids"]
            assert labels == [260, 261, 263, 262, 264, 265, 2]
            assert tokenizer.decode(labels, skip_special_tokens=True) == "<s>Hu"
        else:
            assert there_and_back(tokenizer, "<s> dog ▁ 7") == "<s> dog ▁ 7"
