"""The n-best list as a table in HTML: what a model writes, the likeliest first, and how likely it finds each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

STYLE = Path(__file__).with_name("n_best.css").read_text(encoding="utf-8")
LEAST_SHOWN = 0.001  # a smaller probability is only said to be smaller


class Candidate(NamedTuple):
    """One text of an n-best list.

    Attributes:
        text: what was written.
        score: the natural logarithm of its probability.
    """

    text: str
    score: float


def n_best_table(candidates: Sequence[Candidate], result: str, note: str = "") -> str:
    """Write an n-best list as HTML.

    Args:
        candidates: in the order of the search, which ranks by the score and the length.
        result: what a text is called, such as "translation".
        note: a sentence below the table.
    """
    rows = "".join(
        f'<tr><td>{rank}</td><td class="text">{escape(candidate.text)}</td><td>{log_probability(candidate.score)}</td>'
        f'<td class="share">{probability(candidate.score)}</td></tr>'
        for rank, candidate in enumerate(candidates, start=1)
    )
    header = f'<th scope="col">#</th><th scope="col" class="text">{escape(result.capitalize())}</th>'
    scores = '<th scope="col">Log-probability</th><th scope="col" class="share">Probability</th>'
    below = f"<p>{escape(note)}</p>" if note else ""
    table = f"<table><thead><tr>{header}{scores}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="n-best">{table}{below}</div>'


def log_probability(score: float) -> str:
    """A score with three decimals, and no sign where they are all 0."""
    return f"{round(score, 3) + 0.0:.3f}"


def probability(score: float) -> str:
    """A probability in percent, from its natural logarithm."""
    share = math.exp(score)
    return f"{share:.1%}" if share >= LEAST_SHOWN else f"< {LEAST_SHOWN:.1%}"
