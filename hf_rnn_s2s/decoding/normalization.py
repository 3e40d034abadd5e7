"""How the score of a finished hypothesis is made of its log-probability: by its length, and by what it covers."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

Scores = TypeVar("Scores", Tensor, np.ndarray)
# The least that a position counts as covered: an attention may give exact zeros.
LEAST_COVERAGE = 1e-10


class LengthPenalty:
    """`log P / n ** penalty` for `n` tokens, as in transformers. This class is the contract.

    Args:
        penalty: above 0 it favours longer hypotheses, since log-probabilities are negative.

    Attributes:
        needs_coverage: whether it reads what the attention has covered.
    """

    needs_coverage = False

    def __init__(self, penalty: float) -> None:
        self.penalty = penalty

    def normalized(self, scores: Scores, length: int) -> Scores:
        """The scores `(sentences, candidates)` of hypotheses of so many tokens, without what they cover."""
        return scores / (length**self.penalty)

    def grows_with_length(self) -> bool:
        """Whether the same log-probability counts for more in a longer hypothesis."""
        return self.penalty > 0

    def uncovered(self, covered: Tensor) -> Tensor | float:
        """What is added for the sums of the attention to each source position, `(..., source)`."""
        return 0.0


class GnmtPenalties(LengthPenalty):
    """`log P / ((5 + n) / 6) ** alpha + beta * sum_i log(min(1, sum_j a_ij))` (Wu et al. 2016, equation 14).

    `a_ij` is the attention to source token `i` when target token `j` was written, the end tokens included, the mean of
    all heads.

    Args:
        alpha: of the length; 0 leaves the log-probability as it is.
        beta: of the coverage; 0 leaves it out.
    """

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__(alpha)
        self.beta = beta
        self.needs_coverage = beta != 0

    def normalized(self, scores: Scores, length: int) -> Scores:
        """As in `LengthPenalty`."""
        return scores / ((5 + length) / 6) ** self.penalty

    def uncovered(self, covered: Tensor) -> Tensor | float:
        """As in `LengthPenalty`; padding has to be covered, with a sum of 1."""
        return self.beta * covered.clamp(LEAST_COVERAGE, 1).log().sum(-1)
