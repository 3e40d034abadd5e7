"""What a step chooses, inside the graph: of the scores of a vocabulary only the best few come back."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .layers import OPSET

GROUP = 8  # scores in a group of a shortlist, which has few


def group_size(vocabulary: int) -> int:
    """Scores in a group: a number that divides a vocabulary, near the one with the fewest scores to look at in all."""
    most = max(1, math.isqrt(vocabulary // 5))  # where ten candidates are wanted or so
    return next(size for size in range(most, 0, -1) if vocabulary % size == 0)


def best_continuations(logits: Tensor, offsets: Tensor, count: int, group: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each sentence, over all of its beams; exact.

    Sizes are read from shapes: `len()` would make a number of them that stays what it was in the export.

    Args:
        logits: `(sentences * beams, vocabulary)`.
        offsets: `(sentences, beams)`, added to the log-probabilities of a beam.
        count: how many are wanted.
        group: scores in a group, which divides the vocabulary; there are at least `count` groups, or the size is 1.

    Returns:
        Their log-probabilities with the offsets, the best first, their beams and their tokens, each
        `(sentences, count)`.
    """
    groups = logits.unflatten(1, (-1, group))
    highest = groups.amax(2)
    # The highest probability tells the sum of all: its fused operator costs less than a log-sum-exp.
    total = torch.softmax(logits, dim=1).amax(1).log() - highest.amax(1)
    shifts = offsets + total.view_as(offsets)
    # No other group of a row can hold one of the best
    best = highest.topk(count).indices
    # Whole groups move in one copy each; torch.gather would move single numbers.
    rows = torch.arange(logits.shape[0]).unsqueeze(1) * highest.shape[1]
    found = groups.flatten(0, 1).index_select(0, (best + rows).flatten())
    values, places = found.view(logits.shape[0], -1).topk(count)
    chosen = _quotient(places, group)
    tokens = best.gather(1, chosen) * group + places - chosen * group
    of_beams = values.view(*offsets.shape, count) + shifts.unsqueeze(2)
    values, places = of_beams.flatten(1).topk(count)
    return values, _quotient(places, count), tokens.view(offsets.shape[0], -1).gather(1, places)


def _quotient(numbers: Tensor, divisor: int) -> Tensor:
    """Of whole numbers that are not below 0; torch's own division takes care of others, with six operators."""
    return torch.onnx.ops.symbolic(
        "Div",
        (numbers, torch.full((), divisor, dtype=numbers.dtype)),
        dtype=numbers.dtype,
        shape=numbers.shape,
        version=OPSET,
    )
