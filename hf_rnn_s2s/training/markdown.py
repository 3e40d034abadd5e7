"""Escapes names, sentences and numbers for the model card, so that Markdown shows them as they are."""

import math
import re
from typing import Any

# Characters that Markdown, HTML, formulas or templates give a meaning to anywhere in a text
SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~&$#]")
# What would begin a list, a rule or a heading at the start of a line
OPENING = re.compile(r"^(\d*)([-+=.)])(?=[-=\s]|$)")
# Control characters and lone surrogates, which U+FFFD replaces
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST_TEXT = 200  # characters of a text in the card
SIGNIFICANT_DIGITS = 8  # of a float in the card


def plain(text: str) -> str:
    """The text on one line, with everything escaped that Markdown would read as markup; it may stand in a table."""
    escaped = SPECIAL.sub(r"\\\g<0>", one_line(text))
    return OPENING.sub(r"\1\\\2", escaped)


def code(text: str) -> str:
    """The text on one line as a code span. Not for tables, where a `|` ends the cell even in a code span."""
    line = one_line(text)
    if not line:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if "`" in (line[0], line[-1]) else ""
    return f"{fence}{room}{line}{room}{fence}"


def code_cell(text: str) -> str:
    """A code span for tables; a text with a backslash is plain, as parsers disagree about a backslash before `|`."""
    return plain(text) if "\\" in text else code(text).replace("|", "\\|")


def one_line(text: str) -> str:
    """The text with each run of white space, line breaks included, as one space, and control characters as U+FFFD."""
    return CONTROL.sub("\ufffd", " ".join(text.split()))


def shorten(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text cut to `longest` characters, the last of which is an ellipsis if it was longer."""
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def number(value: Any) -> Any:
    """A setting as people would write it: a float without the digits of its rounding error."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return f"{value:.{SIGNIFICANT_DIGITS}g}"
