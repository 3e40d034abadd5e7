"""Tokenizers of characters and of symbols between spaces, one for both sides or one for each."""

import json
import logging
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2STokenizer, RnnS2SWordTokenizer, train_tokenizer
from hf_rnn_s2s.data.unknown import warn_of_unknown_symbols
from hf_rnn_s2s.training.symbol_tokenizers import symbol_splitter

WORDS = ["baba", "aç", "a b", "각"]
PHONES = ["b a b a", "a tʃ", "k a k̚"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


def tokens(tokenizer: Any, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])


def test_characters_are_tokens_the_most_frequent_first() -> None:
    tokenizer = train_tokenizer(WORDS, 100, kind="char")
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == [*SPECIAL, "a", "b", " ", "ç", "각"]
    assert tokens(tokenizer, "ba ç") == ["b", "a", " ", "ç", "</s>"]
    assert tokenizer.decode(tokenizer("ab a각").input_ids, skip_special_tokens=True) == "ab a각"
    assert tokens(tokenizer, "bxa") == ["b", "<unk>", "a", "</s>"]
    assert len(train_tokenizer(WORDS, 6, kind="char")) == 6


def test_a_control_token_in_a_text_is_characters() -> None:
    tokenizer = train_tokenizer([*WORDS, "</s>"], 100, kind="char")
    assert tokens(tokenizer, "a</s>") == ["a", "<", "/", "s", ">", "</s>"]


def test_nfd_takes_letters_apart() -> None:
    whole, apart = (train_tokenizer(WORDS, 100, kind="char", normalization=form) for form in ("NFC", "NFD"))  # type: ignore[arg-type]
    text = unicodedata.normalize("NFD", "aç각")
    assert tokens(whole, text) == ["a", "ç", "각", "</s>"]
    assert tokens(apart, "aç각") == [*text, "</s>"]
    assert len(text) == 6
    assert unicodedata.normalize("NFC", apart.decode(apart("aç각").input_ids, skip_special_tokens=True)) == "aç각"


def test_symbols_stand_between_spaces() -> None:
    tokenizer = train_tokenizer(PHONES, 100, kind="symbol")
    assert type(tokenizer) is PreTrainedTokenizerFast
    assert tokens(tokenizer, " tʃ  a\tk̚ ʔ") == ["tʃ", "a", "k̚", "<unk>", "</s>"]
    assert tokenizer.decode(tokenizer("tʃ a k̚").input_ids, skip_special_tokens=True) == "tʃ a k̚"


@pytest.mark.parametrize("target_kind", ["symbol", "word", "char", "bpe"])
@pytest.mark.parametrize("kind", ["char", "symbol", "word", "bpe"])
def test_the_two_sides_may_differ(kind: Any, target_kind: Any, tmp_path: Path) -> None:
    """Each side is what it would be by itself, and stays so in a process that loads it without this package."""
    pair: Any = train_tokenizer(WORDS, 300, kind, target_texts=PHONES, target_vocab_size=290, target_kind=target_kind)
    assert type(pair) is RnnS2STokenizer
    source = train_tokenizer(WORDS, 300, kind)
    target = train_tokenizer(PHONES, 290, target_kind)
    encoded = pair("baba aç", text_target="a tʃ")
    assert encoded["input_ids"] == source("baba aç")["input_ids"]
    assert encoded["labels"] == target("a tʃ")["input_ids"]
    assert "copy_ids" not in encoded
    assert pair.decode(encoded["labels"], skip_special_tokens=True) == "a tʃ"
    pair.save_pretrained(tmp_path)
    code = (
        "import sys, json; sys.modules['hf_rnn_s2s'] = None; from transformers import AutoTokenizer;"
        f"t = AutoTokenizer.from_pretrained({str(tmp_path)!r}, trust_remote_code=True);"
        "e = t('baba aç', text_target='a tʃ');"
        "print(json.dumps([e['input_ids'], e['labels'], t.decode(e['labels'], skip_special_tokens=True)]))"
    )
    if (kind, target_kind) == ("char", "symbol"):  # one fresh process is enough
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout.splitlines()[-1]) == [encoded["input_ids"], encoded["labels"], "a tʃ"]
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("baba aç", text_target="a tʃ").data == encoded.data


def test_words_of_one_vocabulary_can_still_be_copied() -> None:
    assert type(train_tokenizer(["a b"], 10, kind="word", copy_slots=2)) is RnnS2SWordTokenizer


@pytest.mark.parametrize("kind", ["char", "symbol"])
def test_it_loads_without_this_package(kind: Any, tmp_path: Path) -> None:
    tokenizer = train_tokenizer([*WORDS, *PHONES], 100, kind=kind)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is PreTrainedTokenizerFast
    for text in ["baba", "b a b a", "x</s>", ""]:
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        ids = tokenizer(text)["input_ids"]
        assert loaded.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "char", "vocab_size": 4}, "vocab_size=4 leaves no room for a char beside 4 tokens"),
        ({"kind": "bpe", "normalization": "NFD"}, "normalization='NFD' is for kinds without subwords, not for 'bpe'"),
        ({"normalization": "NFKC"}, "normalization must be one of 'NFC', 'NFD', not 'NFKC'"),
        ({"target_kind": "char"}, "target_kind needs target_texts"),
        ({"target_texts": ["a"], "target_kind": "phone"}, "target_kind must be one of .*not 'phone'"),
        (
            {"target_texts": ["a"], "target_kind": "bpe", "kind": "char", "vocab_size": 20},
            "target_vocab_size=20 is too",
        ),
    ],
)
def test_bad_input(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_tokenizer(**{"texts": WORDS, "vocab_size": 300, **arguments})


def test_symbols_of_a_text() -> None:
    split = symbol_splitter(train_tokenizer(WORDS, 100, kind="char"))
    assert split("a xb") == ["a", " ", "x", "b"]
    assert symbol_splitter(train_tokenizer(PHONES, 100, kind="symbol"))("a tʃ  ʔ") == ["a", "tʃ", "ʔ"]
    assert symbol_splitter(train_tokenizer(WORDS, 300))("ab c") == ["a", "b", " ", "c"]


def test_unknown_symbols_are_named_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer: Any = train_tokenizer(
        WORDS, 100, "char", target_texts=PHONES, target_kind="symbol", normalization="NFD"
    )
    examples = Dataset.from_dict({"source": ["baba", "xéyxx", "é"], "target": ["b a", "a ʔ", "ʔ q a"]})
    encoded = Dataset.from_dict(dict(tokenizer(examples["source"][:], text_target=examples["target"][:])))
    with caplog.at_level(logging.WARNING):
        warn_of_unknown_symbols("test", examples, encoded, tokenizer)
    source, target = (record.getMessage() for record in caplog.records)
    assert source.startswith("test split: 4 symbols of the source texts, in 8 places, are not in the vocabulary")
    assert "'x' (3)" in source
    assert "'y' (1)" in source
    assert target.endswith("unknown to the model: 'ʔ' (2), 'q' (1).")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_unknown_symbols("test", examples.select([0]), encoded.select([0]), tokenizer)
        bpe: Any = train_tokenizer(WORDS, 300)
        encoded = Dataset.from_dict(dict(bpe(examples["source"][:], text_target=examples["target"][:])))
        warn_of_unknown_symbols("test", examples, encoded, bpe)
    assert not caplog.records
