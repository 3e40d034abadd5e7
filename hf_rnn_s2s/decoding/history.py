"""The tokens that a beam search has written, kept as steps with links to the step before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

# Row of each sentence, and for each row the parent and the token of each beam
_Step = tuple[list[int], list[list[int]], list[list[int]]]


class History:
    """The token that each beam got at each step, and its parent: the beam of the step before that it continues.

    Args:
        sentences: their number. Some may be dropped; those that remain keep their order.
        device: where the tensors are.
    """

    def __init__(self, sentences: int, device: torch.device) -> None:
        self._runs = [_Run(torch.arange(sentences, device=device), [], [])]

    def append(self, parents: Tensor, tokens: Tensor) -> None:
        """Add one step; both arguments are `(remaining sentences, beams)`."""
        self._runs[-1].parents.append(parents)
        self._runs[-1].tokens.append(tokens)

    def keep(self, remaining: Tensor) -> None:
        """Drop all sentences but those with the numbers `(remaining sentences,)`."""
        positions = torch.full_like(self._runs[0].positions, -1)
        positions[remaining] = torch.arange(len(remaining), device=remaining.device)
        self._runs.append(_Run(positions, [], []))

    def tokens(self, hypotheses: Iterable[tuple[int, int, int, int]]) -> list[list[int]]:
        """Follow the parents of hypotheses back to the first step.

        Args:
            hypotheses: for each one its sentence, its length in tokens, the beam of all tokens but the last one, and
                the last token.

        Returns:
            The tokens of each hypothesis.
        """
        # Following plain numbers takes less time than many small tensor operations, and needs few copies from a GPU.
        steps = [step for run in self._runs for step in run.steps()]
        return [_follow(steps, *hypothesis) for hypothesis in hypotheses]


class _Run(NamedTuple):
    """Successive steps with the same sentences.

    Attributes:
        positions: of each sentence among the remaining ones, `(sentences,)`; -1 if it was dropped.
        parents: for each step `(remaining sentences, beams)`.
        tokens: for each step `(remaining sentences, beams)`.
    """

    positions: Tensor
    parents: list[Tensor]
    tokens: list[Tensor]

    def steps(self) -> list[_Step]:
        """The same for each step, as numbers."""
        if not self.tokens:
            return []
        positions = self.positions.tolist()
        parents, tokens = (torch.stack(steps).tolist() for steps in (self.parents, self.tokens))
        return [(positions, *step) for step in zip(parents, tokens, strict=True)]


def _follow(steps: list[_Step], sentence: int, length: int, beam: int, last: int) -> list[int]:
    if length == 0:
        return []
    backwards = [last]
    for rows, parents, tokens in reversed(steps[: length - 1]):
        row = rows[sentence]
        backwards.append(tokens[row][beam])
        beam = parents[row][beam]
    return backwards[::-1]
