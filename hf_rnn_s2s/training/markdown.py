"""Text that stays text in Markdown, whatever is in it: names, sentences and numbers for the model card."""

import math
import re
from typing import Any

__all__ = ["code", "code_cell", "number", "one_line", "plain", "shorten"]

# What Markdown, HTML, formulas and templates give a meaning to, wherever it stands
SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~&$#]")
# What begins a list, a rule or a heading at the start of a line
OPENING = re.compile(r"^(\d*)([-+=.)])(?=[-=\s]|$)")
# No visible character and no white space: Unicode's own sign says that there was something.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST_TEXT = 200  # characters
SIGNIFICANT_DIGITS = 8


def plain(text: str) -> str:
    """The text on one line, also as the cell of a table, without anything that Markdown would read as markup."""
    escaped = SPECIAL.sub(r"\\\g<0>", one_line(text))
    return OPENING.sub(r"\1\\\2", escaped)


def code(text: str) -> str:
    """The text on one line as a code span, for anywhere but a table, where a `|` ends the cell even inside of one."""
    line = one_line(text)
    if not line:
        return ""
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    room = " " if "`" in (line[0], line[-1]) else ""
    return f"{fence}{room}{line}{room}{fence}"


def code_cell(text: str) -> str:
    """The same for a table. Before a `|` readers differ in what a backslash means, so a text with both is no code."""
    return plain(text) if "\\" in text else code(text).replace("|", "\\|")


def one_line(text: str) -> str:
    """The text with every run of white space, line breaks included, as one space, and without control characters."""
    return CONTROL.sub("\ufffd", " ".join(text.split()))


def shorten(text: str, longest: int = LONGEST_TEXT) -> str:
    """The first `longest` characters of a text, the last of which then is an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def number(value: Any) -> Any:
    """A setting as people would write it: a float without the digits that only its rounding error has."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return f"{value:.{SIGNIFICANT_DIGITS}g}"
