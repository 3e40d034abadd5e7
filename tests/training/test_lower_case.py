"""Tokenizers that make small letters of capitals."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from hf_rnn_s2s import train_tokenizer


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_lower_case(kind: Any, tmp_path: Path) -> None:
    texts = ["A Dog runs.", "The CAT sits on the Mat.", "the dog sits"] * 3
    train_tokenizer(texts, 330, kind, do_lower_case=True).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("The DOG sits").input_ids
    assert ids == tokenizer("the dog sits").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the dog sits"
    assert not any(token.isupper() for token in tokenizer.get_vocab() if len(token) == 1)


def test_lower_case_makes_no_control_token_of_text() -> None:
    tokenizer = train_tokenizer(["a dog </S> <PAD> pad unk"] * 3, 330, do_lower_case=True)
    text = "a </S> <S> <PAD> <Unk> </s> dog"
    ids = tokenizer(text).input_ids
    assert [number for number in ids if number in tokenizer.all_special_ids] == [tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text.lower()


def test_lower_case_is_that_of_both_vocabularies() -> None:
    tokenizer = train_tokenizer(["Ein Hund"] * 3, 300, target_texts=["A Dog"] * 3, do_lower_case=True)
    assert tokenizer("EIN", text_target="DOG") == tokenizer("ein", text_target="dog")
    assert tokenizer.decode(tokenizer.target_tokenizer("A DOG").input_ids, skip_special_tokens=True) == "a dog"
