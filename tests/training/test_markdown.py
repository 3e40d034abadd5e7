"""What is escaped, read back by a parser of Markdown."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from hf_rnn_s2s.training.markdown import (
    code,
    code_cell,
    number,
    one_line,
    plain,
    shorten,
)

from ..markdown_reader import blocks, shown, tables

HOSTILE = [
    "a | b || c",
    "back\\slash \\| pipe \\\\",
    "ends in \\",
    "`code` and ``more`` `",
    "*bold* **very** _under_ __score__ ~~gone~~",
    "[link](https://example.org) ![picture](x.png) [^1] [x]",
    "<html><script>alert(1)</script><!-- hidden --> <https://example.org>",
    "&lt;b&gt; &amp; &#35; AT&T",
    "{{ jinja }} {% raw %} {# gone #}",
    "# heading #",
    "## two ##",
    "- item",
    "+ item",
    "* item",
    "1. first",
    "12) twelfth",
    "> quoted",
    "===",
    "---",
    "- - -",
    "***",
    "```python",
    "~~~",
    "    indented",
    "$5 and $6, $$x^2$$",
    "two\nlines\r\nthree\u2028four\tfive",
    "| a | b |\n|---|---|\n| c | d |",
    "-3 degrees, 3.5 kg",
    "我们 · Übung, naïve",
]
ALPHABET = "ab 1.)(-+=#*_`~|\\[]<>&;{}!$\n:"


@pytest.mark.parametrize("text", HOSTILE)
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    """In a paragraph, in a heading, as an item of a list, and in a cell between two others."""
    expected = one_line(text)
    for prefix, kind in (("", "paragraph_open"), ("# ", "heading_open"), ("- ", "paragraph_open")):
        found = blocks(f"{prefix}{plain(text)}\n")
        assert [(where, shown(inline)) for where, inline in found] == [(kind, expected)]
    assert tables(f"| x | y | z |\n|---|---|---|\n| left | {plain(text)} | right |\n") == [
        [["x", "y", "z"], ["left", expected, "right"]]
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_code_is_shown_as_it_is(text: str) -> None:
    expected = one_line(text)
    (_, inline), *others = blocks(f"before {code(text)} after\n")
    assert not others
    assert shown(inline) == f"before {expected} after"
    assert [child.type for child in inline.children or []] == ["text", "code_inline", "text"]
    assert tables(f"| x | y |\n|---|---|\n| {code_cell(text)} | right |\n") == [[["x", "y"], [expected, "right"]]]


def test_any_text_is_shown_as_it_is() -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(ALPHABET, k=draw.randint(1, 9))) for _ in range(1500)]
    texts += map("".join, itertools.product("|\\` ", repeat=4))
    for text in filter(str.strip, texts):
        expected = one_line(text)
        assert [shown(inline) for _, inline in blocks(f"{plain(text)}\n")] == [expected]
        assert [shown(inline) for _, inline in blocks(f"x {code(text)}\n")] == [f"x {expected}"]
        table = f"| x | y |\n|---|---|\n| {plain(text)} | {code_cell(text)} |\n"
        assert tables(table) == [[["x", "y"], [expected, expected]]], text


def test_ordinary_text_stays_readable_in_the_file() -> None:
    for text in ("3,318 meters and 992 liters", "Wie geht's? 5 - 3 = 2!", "3.5 kg at -3 °C", "2026年3月1日 上午8:30"):
        assert plain(text) == text


def test_one_line_has_no_breaks_and_no_control_characters() -> None:
    assert one_line(" a\n\tb\u00a0\u2029c  d\x85 ") == "a b c d"
    assert one_line("bell\x07, escape\x1b, half a pair\ud800") == "bell\ufffd, escape\ufffd, half a pair\ufffd"
    assert one_line("می‌خواهم") == "می‌خواهم"  # with a zero-width non-joiner, which is spelling
    assert (plain(" \n"), code(" \n"), code_cell("")) == ("", "", "")


def test_long_texts_are_cut() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcde…"
    assert shorten("abcd efg", 6) == "abcd…"
    assert len(shorten("word " * 1000)) <= 200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 + 0.2, "0.3"),
        (0.0030000000000000001, "0.003"),
        (100.00000000000004, "100"),
        (3.0, "3"),
        (1e-05, "1e-05"),
        (0.9999999, "0.9999999"),
        (0, "0"),
        (64, "64"),
        (True, "True"),
        ("linear", "linear"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_the_digits_that_mean_something(value: Any, text: str) -> None:
    assert str(number(value)) == text
