"""How texts are cleaned and cut on their way into a model."""

import logging
import random
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnTranslationPipeline
from hf_rnn_s2s.decoding.text import encode
from hf_rnn_s2s.model.pipeline_rnn_s2s import squeezed as squeeze_whitespace

WHITE_SPACE = [character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace()]


@pytest.mark.parametrize(
    ("text", "squeezed"),
    [
        ("A  man   is sleeping.", "A man is sleeping."),
        ("A man\nis\r\nsleeping.\n", "A man is sleeping."),
        ("\t A man\tis \t sleeping. \v\f", "A man is sleeping."),
        ("10\u00a0km à 5\u202f% : «\u2009oui\u2009»", "10\u00a0km à 5\u202f% : «\u2009oui\u2009»"),
        ("東京\u3000大阪", "東京\u3000大阪"),
        ("\u3000東京\u3000\u3000大阪\u3000", "東京 大阪"),
        ("a \u00a0b", "a b"),
        ("zero\u200bwidth", "zero\u200bwidth"),
        ("line\u2028paragraph\u2029next\x85unit\x1fend", "line paragraph next unit end"),
        ("", ""),
        (" \n\u00a0", ""),
    ],
)
def test_white_space_is_squeezed(text: str, squeezed: str) -> None:
    assert squeeze_whitespace(text) == squeezed


def test_squeezing_against_a_slow_reference() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(draw.choice([*WHITE_SPACE, *"  \n\tab語"]) for _ in range(draw.randint(0, 12)))
        words, space = [""], ""
        for character in text:
            if character.isspace():
                space += character
            else:
                if space:
                    is_one_space = len(space) == 1 and unicodedata.category(space) == "Zs"
                    words += [space if is_one_space else " "] if words != [""] else []
                words.append(character)
                space = ""
        assert squeeze_whitespace(text) == "".join(words)
        assert squeeze_whitespace("".join(words)) == "".join(words)


def test_cutting_is_what_the_tokenizer_does(tiny_tokenizer: PreTrainedTokenizerFast, tiny_texts: list[str]) -> None:
    ids = tiny_tokenizer(tiny_texts)["input_ids"]
    for side in ("right", "left"):
        tiny_tokenizer.truncation_side = side
        for start in ("", "<s> "):  # with a special token before the text, too
            tiny_tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single=f"{start}$A </s>", pair="$A $B", special_tokens=[("<s>", 1), ("</s>", 2)]
            )
            for limit in (2, 3, 7, max(map(len, ids)), 1000):
                tiny_tokenizer.model_max_length = limit
                expected = tiny_tokenizer(tiny_texts, truncation=True, max_length=limit)["input_ids"]
                assert encode(tiny_tokenizer, tiny_texts) == expected
                tiny_tokenizer(tiny_texts, truncation=False)
    tiny_tokenizer.model_max_length = 3
    assert encode(tiny_tokenizer, tiny_texts, False) == encode(tiny_tokenizer, tiny_texts, "do_not_truncate")
    assert max(map(len, encode(tiny_tokenizer, tiny_texts, "longest_first"))) == 3


def test_special_tokens_in_a_text_are_cut_with_it(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    tiny_tokenizer.add_tokens([AddedToken("<2de>", special=True)])
    tiny_tokenizer.split_special_tokens = False
    texts = ["<2de> one two three four <2de> <2de>"]
    tiny_tokenizer.model_max_length = 6
    assert encode(tiny_tokenizer, texts) == tiny_tokenizer(texts, truncation=True, max_length=6)["input_ids"]


def test_each_text_that_is_cut_has_one_warning(
    tiny_tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    texts = ["one", "the big cat sleeps on a red mat", "two", "one two three four five six seven"]
    lengths = [len(ids) for ids in tiny_tokenizer(texts)["input_ids"]]
    tiny_tokenizer.model_max_length = 6
    with caplog.at_level(logging.WARNING):
        encode(tiny_tokenizer, texts, first=10)
    for record, row in zip(caplog.records, (1, 3), strict=True):
        assert f"Input {10 + row}: a text of {lengths[row]} tokens is cut to 6" in record.getMessage()
        assert texts[row] in record.getMessage()
        assert "truncation=False" in record.getMessage()


def test_threads_do_not_cut_what_others_encode(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """truncation=True of a fast tokenizer is a switch inside it."""
    text = "the big cat sleeps on a red mat " * 30
    whole = len(tiny_tokenizer(text)["input_ids"])
    tiny_tokenizer.model_max_length = 8

    def lengths(number: int) -> Any:
        return {len(ids) for ids in encode(tiny_tokenizer, [text] * 20, truncation=bool(number % 2))}

    with ThreadPoolExecutor(8) as threads:
        for number, found in enumerate(threads.map(lengths, range(200))):
            assert found == ({8} if number % 2 else {whole})


def test_the_pipeline_squeezes_white_space_unless_told_not_to(
    tiny_model: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=9)
    clean, dirty = "the dog runs fast", " the  dog\nruns\t\tfast\n"
    [expected] = translator(clean, return_attentions=True, return_text=True)
    for result in (translator(dirty, return_attentions=True), translator([dirty], return_attentions=True)):
        assert result[0]["source_tokens"] == expected["source_tokens"]
        assert result[0]["translation_text"] == expected["translation_text"]
    assert next(iter(translator(text for text in [dirty]))) == translator(clean)
    [as_it_is] = translator(dirty, return_attentions=True, squeeze_whitespace=False)
    assert as_it_is["source_tokens"] == tiny_tokenizer(dirty).tokens() != expected["source_tokens"]
    lossless = RnnTranslationPipeline(
        model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=9, squeeze_whitespace=False
    )
    assert lossless(dirty)[0]["translation_text"] == as_it_is["translation_text"]
    assert lossless(dirty, squeeze_whitespace=True) == translator(clean)
    assert tiny_tokenizer.decode(tiny_tokenizer(dirty)["input_ids"], skip_special_tokens=True) == dirty
