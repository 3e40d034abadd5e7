"""The tokens that a beam search has written, kept as steps with links to the step before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class History:
    """The token that each beam got at each step, and its parent: the beam of the step before that it continues.

    Args:
        sentences: their number. Some may be dropped; those that remain keep their order.
    """

    def __init__(self, sentences: int) -> None:
        self._runs = [_Run(np.arange(sentences), [], [])]

    def append(self, parents: np.ndarray, tokens: np.ndarray) -> None:
        """Add one step; both arguments are `(remaining sentences, beams)`."""
        self._runs[-1].parents.append(parents)
        self._runs[-1].tokens.append(tokens)

    def keep(self, remaining: np.ndarray) -> None:
        """Drop all sentences but those with the numbers `(remaining sentences,)`."""
        positions = np.full_like(self._runs[0].positions, -1)
        positions[remaining] = np.arange(len(remaining))
        self._runs.append(_Run(positions, [], []))

    def tokens(self, hypotheses: np.ndarray) -> list[list[int]]:
        """Follow the parents of hypotheses back to the first step.

        Args:
            hypotheses: `(hypotheses, 4)`. For each one its sentence, its length in tokens, the beam of all tokens but
                the last one, and the last token.

        Returns:
            The tokens of each hypothesis.
        """
        longest_first = np.argsort(-hypotheses[:, 1], kind="stable")
        written = np.zeros((len(hypotheses), hypotheses[:, 1].max(initial=0)), np.int64)
        written[longest_first] = self._written(*hypotheses[longest_first].T)
        return [row[:length] for row, length in zip(written.tolist(), hypotheses[:, 1].tolist(), strict=True)]

    def _written(self, sentences: np.ndarray, lengths: np.ndarray, beams: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The same of hypotheses in the order of their lengths, the longest first, filled up with zeros."""
        written = np.zeros((len(lengths), lengths.max(initial=0)), np.int64)
        ends = np.flatnonzero(lengths)
        written[ends, lengths[ends] - 1] = last[ends]
        # How many hypotheses have a token behind each place
        counts = np.searchsorted(-lengths, -np.arange(1, written.shape[1])).tolist()
        place = sum(len(run.tokens) for run in self._runs)
        beams = beams.copy()
        for run in reversed(self._runs):
            for parents, tokens in zip(reversed(run.parents), reversed(run.tokens), strict=True):
                place -= 1
                if place >= len(counts):
                    continue
                count = counts[place]
                found = run.positions[sentences[:count]] * tokens.shape[1] + beams[:count]
                written[:count, place] = tokens.take(found)
                beams[:count] = parents.take(found)
        return written


class _Run(NamedTuple):
    """Successive steps with the same sentences.

    Attributes:
        positions: of each sentence among the remaining ones, `(sentences,)`; -1 if it was dropped.
        parents: for each step `(remaining sentences, beams)`.
        tokens: for each step `(remaining sentences, beams)`.
    """

    positions: np.ndarray
    parents: list[np.ndarray]
    tokens: list[np.ndarray]
