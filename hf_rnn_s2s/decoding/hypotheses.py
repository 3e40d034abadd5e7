"""The finished hypotheses of a beam search, the best of each sentence."""

from __future__ import annotations

import copy

import numpy as np

# What transformers adds to the score of a candidate that must not win.
NEGATIVE_SCORE = np.float32(-1.0e9)


class Hypotheses:
    """The best finished hypotheses of each sentence, the best first; where there is none yet, an empty one.

    Args:
        sentences: their number.
        kept: how many hypotheses of each sentence there are, at most.

    Attributes:
        scores: `(sentences, kept)`.
        described: `(sentences, kept, 4)`. Of each hypothesis, how many tokens it has, the beam of all of them but the
            last one, the last one, and whether it is finished, which an empty one is not.
        improvable: whether a beam may still become a better one, `(sentences,)`.
        any_full: whether any sentence has all of its hypotheses.
    """

    def __init__(self, sentences: int, kept: int) -> None:
        self.scores = np.full((sentences, kept), NEGATIVE_SCORE)
        self.described = np.zeros((sentences, kept, 4), np.int64)
        self.improvable = np.ones(sentences, np.bool_)
        self.any_full = False

    def counts(self) -> np.ndarray:
        """How many hypotheses of each sentence are finished, `(sentences,)`."""
        return np.asarray(self.described[:, :, 3].sum(1))

    def are_full(self) -> np.ndarray:
        """Which sentences have all of their hypotheses, `(sentences,)`."""
        return self.counts() == self.scores.shape[1]

    def worst(self) -> np.ndarray:
        """What a beam has to be better than, to become each of the hypotheses, `(sentences, kept)`."""
        return np.where(self.described[:, :, 3], self.scores.min(1, keepdims=True), NEGATIVE_SCORE)

    def choose(self, sentences: np.ndarray, best: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> None:
        """Keep the best of what there is and of candidates.

        Args:
            sentences: the numbers of those that it is about, `(chosen,)`.
            best: the indices of those to be kept, the best first, `(chosen, kept)`.
            scores: of the hypotheses and then of the candidates, `(chosen, kept + candidates)`.
            candidates: described as hypotheses are, `(chosen, candidates, 4)`.
        """
        both = np.concatenate([self.described[sentences], candidates], axis=1)
        self.scores[sentences], self.described[sentences] = taken(scores, best), taken(both, best)
        self.any_full = bool(self.are_full().any())

    def of(self, chosen: np.ndarray) -> Hypotheses:
        """Those of the sentences at which `chosen` `(sentences,)` is True."""
        part = copy.copy(self)
        part.scores, part.described, part.improvable = (
            one[chosen] for one in (self.scores, self.described, self.improvable)
        )
        part.any_full = bool(part.are_full().any())
        return part


def describe(length: int, parents: np.ndarray, tokens: np.ndarray, finished: np.ndarray) -> np.ndarray:
    """Candidates of that length as `Hypotheses` describes them, `(sentences, candidates, 4)`."""
    numbers = np.empty((*tokens.shape, 4), np.int64)
    for place, values in enumerate((length, parents, tokens, finished)):
        numbers[:, :, place] = values
    return numbers


def taken(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The values `(rows, columns, ...)` that stand in each row at its indices `(rows, taken)`."""
    return values[np.arange(len(values))[:, np.newaxis], indices]
