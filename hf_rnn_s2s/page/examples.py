"""What a page takes from the card beside a model: a sentence about it, and sources to try it with.

Both are in the cards that `train.py` writes. Of another card, or none, the page shows nothing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError
from transformers.utils import logging

logger = logging.get_logger(__name__)

CARD = "README.md"
SUMMARY = re.compile(r"^# [^\n]*\n+([^\n]+?) Trained with hf-rnn-s2s", re.MULTILINE)
FIRST_COLUMNS = ["Source", "Reference"]  # of the table of samples
CELL_END = re.compile(r"(?<!\\)\|")  # a `|` that is not part of a text
ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")  # Markdown's way to write a character that would mean something
CUT = "…"  # the end of a text that the card does not show whole


def read_card(location: str) -> str:
    """The card of a model; empty if it has none, or none can be fetched.

    Args:
        location: the folder of the model, or its name on the Hub.
    """
    if os.path.isdir(location):
        path = Path(location) / CARD
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    try:
        path = Path(hf_hub_download(location, CARD))
    except (EntryNotFoundError, HfHubHTTPError, OSError) as error:
        logger.warning(f"The page has no examples: the card of {location} cannot be fetched ({type(error).__name__}).")
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def summary_of(card: str) -> str:
    """The card's first sentence, such as "Translates English to Chinese."; empty if it is another kind of card."""
    found = SUMMARY.search(card)
    return _plain(found[1]) if found else ""


def examples_of(card: str) -> list[str]:
    """The sources of the card's samples, without those that it does not show whole."""
    sources: list[str] = []
    is_in_table = False
    for line in card.splitlines():
        cells = _cells(line)
        if cells[:2] == FIRST_COLUMNS:
            is_in_table = True
        elif not cells:
            is_in_table = False
        elif is_in_table and set(cells[0]) - set("-: "):
            sources.append(_plain(cells[0]))
    return list(dict.fromkeys(source for source in sources if not source.endswith(CUT)))


def _cells(line: str) -> list[str]:
    """The cells of a line of a table; none for any other line."""
    text = line.strip()
    if not text.startswith("|"):
        return []
    return [cell.strip() for cell in CELL_END.split(text)[1:-1]]


def _plain(text: str) -> str:
    """A text without the backslashes that Markdown needs."""
    return ESCAPED.sub(r"\1", text)
