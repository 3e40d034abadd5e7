"""Documents: taken apart and put together, and what the segmenter gets wrong."""

from __future__ import annotations

import random

import pytest
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import (
    RnnS2SForConditionalGeneration,
    RnnSummarizationPipeline,
    RnnTranslationPipeline,
)
from hf_rnn_s2s.decoding.documents import read_document, segmenter, split_long, write_document

DOCUMENT = """# A walk

The cat sleeps. The dog runs fast! On Sunday, when all of the shops
in the town are closed and nobody has anything to do, we go to the
river.

Bring:
- a red mat
  and a hat
- two dogs. They are big.

1. First
2) Second

Main Street 5
London

***
> Who says so? The cat.\r
The end"""


def sentences(text: str, language: str = "en") -> list[str]:
    return [one for block in read_document(text, segmenter(language)) for one in block.sentences]


def test_layout_is_kept() -> None:
    """With a copy in place of a translation, all that changes are the lines of a paragraph, which become one."""
    blocks = read_document(DOCUMENT, segmenter("en"))
    text = write_document(blocks, iter(sentences(DOCUMENT)), "en")
    expected = DOCUMENT.replace("shops\nin", "shops in").replace("the\nriver", "the river")
    assert text == expected
    assert [block.mark for block in blocks if block.sentences] == [
        *("# ", "", "", "- ", "  ", "- ", "1. ", "2) ", "", "", "> ", ""),
    ]


def test_sentences_of_a_paragraph() -> None:
    found = sentences(DOCUMENT)
    assert found[:3] == ["A walk", "The cat sleeps.", "The dog runs fast!"]
    assert found[3].startswith("On Sunday, when all of the shops in the town are closed")
    assert found[3].endswith("to do, we go to the river.")
    assert found[-4:] == ["London", "Who says so?", "The cat.", "The end"]
    assert "***" not in found


def test_a_translation_in_each_language_has_its_spaces() -> None:
    blocks = read_document("One. Two.\n\n- Three. Four.", segmenter("en"))
    for language, expected in (
        ("de", "1 2\n\n- 3 4"),
        (None, "1 2\n\n- 3 4"),
        ("zh_CN", "12\n\n- 34"),
        ("ja-JP", "12\n\n- 34"),
        ("ko", "1 2\n\n- 3 4"),
    ):
        assert write_document(blocks, iter("1234"), language) == expected
    assert write_document(blocks, iter(["1", "", " 3 ", "4"]), "de") == "1\n\n- 3 4"


@pytest.mark.parametrize("seed", range(20))
def test_no_letter_is_lost(seed: int) -> None:
    choice = random.Random(seed)
    pieces = [
        "word",
        "Word.",
        "z. B.",
        "3.",
        "…",
        "?!",
        '"',
        "“",
        "”",
        "\n",
        "\n\n",
        "\r\n",
        "- ",
        "* ",
        "  ",
        "\t",
        "。",
    ]
    pieces += ["很好", "»", "1) ", "# ", "\u2028", "\u3000", "a-\n", "x" * 30]
    text = "".join(choice.choices(pieces, k=60))
    blocks = read_document(text, segmenter(choice.choice(["de", "en", "zh"])))
    again = write_document(blocks, iter([one for block in blocks for one in block.sentences]), "en")
    assert [one for one in again if not one.isspace()] == [one for one in text if not one.isspace()]


@pytest.mark.parametrize("text", ["", "\n", " \n\t\n", "***", "\n\n\n---\n", "…"])
def test_documents_without_text_stay_as_they_are(text: str) -> None:
    blocks = read_document(text, segmenter("en"))
    assert not any(block.sentences for block in blocks)
    assert write_document(blocks, iter([]), "de") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A heading\nThe first sentence of a paragraph that is long enough.", 2),  # the word "The" had room
        ("Rose Street 5\nLondon\nEngland", 3),  # narrower than any paragraph
        ("今天天气很好我们一起去公园散步吧然后再去吃饭好\n不好", 1),  # broken between two characters of a word
        ("This is a paragraph whose lines were bro\u00ad\nken by hand at forty columns.", 1),
        ("3. Oktober: ein Feiertag", 1),  # one number is no list
        ("1. eins\n2. zwei", 2),
        ("A. Smith went home.", 1),
        # One paragraph a line, as word processors export it
        ("This is the first paragraph, and it is long and ends here.\nThe second one is short.\nThird one.", 3),
        ("今天天气很好，我们一起去公园散步，然后去吃饭和休息。\n第二段。\n第三段。", 3),
        ("The Department of Applied Computational Linguistics\nUniversity of Somewhere, Street 5, 12345 Town", 2),
        ("A long line of text in front of a table, which is not a part of it\n| a | b |", 2),
        ("x" * 90 + " and more words behind it until the line is longer\nthan anybody breaks lines by hand", 2),
        (
            "> A quoted mail whose lines were broken by the\n> program that somebody used, and they go\n> > on.",
            2,
        ),
        ("・一つ目の項目です。\n・二つ目です。", 2),
        # Lines that are broken in the middle of sentences show that those are, too, which end with one
        (
            "the first line of this paragraph goes on and\nends with the second line at about this place.\n"
            "The third one begins with a capital and is as\nlong as they are, and then it ends.",
            1,
        ),
    ],
)
def test_which_lines_belong_together(text: str, expected: int) -> None:
    assert len([block for block in read_document(text, lambda one: [one]) if block.sentences]) == expected


def test_joined_lines() -> None:
    def joined(text: str) -> str:
        [block] = read_document(text, lambda one: [one])
        return block.sentences[0]

    assert joined("This is a paragraph whose lines were bro\u00ad\nken by hand at forty columns.").count("broken") == 1
    assert "well-known" in joined("This is a paragraph whose author is well-\nknown for lines of forty columns.")
    assert joined("今天天气很好我们一起去公园散步吧然后再去吃饭好\n不好")[-4:] == "饭好不好"
    assert joined("3. Oktober: ein Feiertag") == "3. Oktober: ein Feiertag"


# What `sentencex` gets wrong, with what it does today. A version that does better is welcome: then mend the line.
WRONG = [
    ("de", "Der 2. Weltkrieg endete 1945.", ["Der 2.", "Weltkrieg endete 1945."]),
    ("de", "Die 5. Klasse fährt weg.", ["Die 5.", "Klasse fährt weg."]),
    ("de", "Im 20. und 21. Jahrhundert war es so.", ["Im 20. und 21.", "Jahrhundert war es so."]),
    ("de", "Das 1. Quartal war gut.", ["Das 1.", "Quartal war gut."]),
    ("de", "Die Fa. Müller liegt in Berlin.", ["Die Fa.", "Müller liegt in Berlin."]),
    ("de", "Er ist Dipl.-Ing. Müller.", ["Er ist Dipl.", "-Ing.", "Müller."]),
    ("zh", "“快跑！”他喊道。", ["“快跑！”", "他喊道。"]),
    ("zh", "她问“为什么？”，然后走了。", ["她问“为什么？”", "，然后走了。"]),
    ("zh", "（他笑了。）她也笑了。", ["（他笑了。）她也笑了。"]),
    ("ja", "「元気ですか？」と彼は聞いた。", ["「元気ですか？」", "と彼は聞いた。"]),
    ("en", "Meet me at 5 p.m. Bring cake.", ["Meet me at 5 p.m. Bring cake."]),
    ("en", "(I am fine.) Good.", ["(I am fine.) Good."]),
]
RIGHT = [
    ("de", "Am 3. Oktober kommt Dr. Müller z. B. mit Kuchen. Er singt.", 2),
    ("de", "Das kostet 3 Mio. Euro bzw. mehr. Gut.", 2),
    ("en", "Mr. Smith arrived at 5 p.m. on Monday. He slept.", 2),
    ("zh", "他说：“我来了。我很好。”她笑了！真的吗？", 3),
]


@pytest.mark.parametrize(("language", "text", "expected"), WRONG)
def test_what_the_segmenter_gets_wrong(language: str, text: str, expected: list[str]) -> None:
    assert sentences(text, language) == expected


@pytest.mark.parametrize(("language", "text", "count"), RIGHT)
def test_what_it_gets_right(language: str, text: str, count: int) -> None:
    assert len(sentences(text, language)) == count


def test_long_sentences_are_split_at_clause_marks() -> None:
    text = "when the sun shines, we go out; when it rains, we stay at home, and read 1,000 books"

    def parts(longest: int) -> list[str]:
        return split_long(text, lambda one: len(one) <= longest)

    assert parts(100) == [text]
    assert parts(60) == ["when the sun shines, we go out;", "when it rains, we stay at home, and read 1,000 books"]
    assert parts(35) == [
        *("when the sun shines, we go out;", "when it rains, we stay at home,", "and read 1,000 books"),
    ]
    assert all(len(part) <= 12 for part in parts(12))
    assert " ".join(parts(12)) == text
    assert split_long("x" * 50, lambda one: len(one) < 9) == ["x" * 50]  # no place
    assert (
        split_long("如果下雨，我们就不去；如果天晴，我们就去。", lambda one: len(one) <= 11)[0]
        == "如果下雨，我们就不去；"
    )


# In the pipeline


@pytest.fixture
def translator(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> RnnTranslationPipeline:
    tiny_model.config.source_lang, tiny_model.config.target_lang = "en", "zh"
    tiny_tokenizer.model_max_length = 60
    return RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, max_new_tokens=5)


def by_hand(translator: RnnTranslationPipeline, text: str) -> str:
    """Each sentence by itself."""
    blocks = read_document(text, segmenter("en"))
    written = [translator(one)[0]["translation_text"] for block in blocks for one in block.sentences]
    return write_document(blocks, iter(written), "zh")


@pytest.mark.filterwarnings("error")
def test_documents_in_the_pipeline(translator: RnnTranslationPipeline, caplog: pytest.LogCaptureFixture) -> None:
    other = "One dog.\n\nTwo dogs."
    short = DOCUMENT.replace("when all of the shops\nin the town are closed and nobody has anything to do, ", "")
    expected = [{"translation_text": by_hand(translator, text)} for text in (short, other, "")]
    assert expected[1]["translation_text"].count("\n\n") == 1
    assert translator([short, other, ""], split_sentences=True) == expected
    assert translator(short, split_sentences="en") == expected[:1]
    assert list(translator(iter([short, other]), split_sentences=True)) == [[one] for one in expected[:2]]
    built = RnnTranslationPipeline(
        model=translator.model, tokenizer=translator.tokenizer, max_new_tokens=5, split_sentences=True
    )
    assert built([short, other, ""], num_beams=1) == expected
    assert built(other, split_sentences=False) != expected[1:2]
    assert caplog.records == []


def test_a_sentence_that_is_too_long_is_named(
    translator: RnnTranslationPipeline, caplog: pytest.LogCaptureFixture
) -> None:
    long = "the cat sleeps on a mat, " * 6 + "and so on."
    result = translator(["One.", f"Two. {long}"], split_sentences=True)
    [record] = caplog.records
    assert "Input 1: a sentence of more than 60 tokens" in record.message
    assert repr(long[:60]) in record.message
    caplog.clear()
    told = translator(["One.", f"Two. {long}"], split_sentences=True, return_warnings=True)
    assert [one["warnings"] for one in told] == [[], [record.message.removeprefix("Input 1: ")]]
    assert [one["translation_text"] for one in told] == [one["translation_text"] for one in result]
    translator("x" * 300, split_sentences=True)
    [record] = caplog.records
    assert "Input 0: a text of" in record.message
    assert "is cut to 60" in record.message
    assert "What is left out begins with 'xx" in record.message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"return_attentions": True}, "leave out return_attentions"),
        ({"return_scores": True, "return_tensors": True}, "leave out return_tensors, return_scores"),
        ({"num_return_sequences": 2, "num_beams": 2}, "leave out num_return_sequences"),
        ({"force_phrases": ["dog"], "num_beams": 9}, "leave out force_phrases"),
    ],
)
def test_what_there_is_not_of_a_document(
    arguments: dict[str, object], said: str, translator: RnnTranslationPipeline
) -> None:
    with pytest.raises(ValueError, match=said):
        translator(["One. Two."], split_sentences=True, **arguments)


def test_a_summary_is_of_a_whole_text(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    summarizer = RnnSummarizationPipeline(model=tiny_model, tokenizer=tiny_tokenizer)
    with pytest.raises(ValueError, match="a summary is of a whole text"):
        summarizer(["One. Two."], split_sentences=True)
