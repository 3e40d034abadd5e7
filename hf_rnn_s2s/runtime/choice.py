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

    The scores of a row stand in groups. The best continuations of a sentence lie in as many groups, those with the
    highest scores; no others are looked at. Sizes are read from shapes: `len()` would make a number of them that
    stays what it was in the export.

    Args:
        logits: `(sentences * beams, vocabulary)`.
        offsets: `(sentences, beams)`, added to the log-probabilities of a beam.
        count: how many are wanted.
        group: scores in a group, which divides the vocabulary; there are at least `count` groups, or the size is 1.

    Returns:
        Their log-probabilities with the offsets, the best first, their rows of the logits and their tokens, each
        `(sentences, count)`.
    """
    sentences, of_rows = offsets.shape[0], offsets.reshape(-1, 1)
    groups = torch.log_softmax(logits, dim=1).unflatten(1, (-1, group))
    highest = groups.amax(2)
    in_row = highest.shape[1]
    best = (highest + of_rows).view(sentences, -1).topk(count).indices
    best = best + torch.arange(sentences).unsqueeze(1) * (offsets.shape[1] * in_row)  # counted through all rows
    # Whole groups move in one copy each; torch.gather would move single numbers.
    found = gathered(groups.flatten(0, 1), best) + gathered(of_rows, quotient(best, in_row))
    values, places = found.view(sentences, -1).topk(count)
    # Counted through the vocabularies of all rows
    numbers = best.gather(1, quotient(places, group)) * group + remainder(places, group)
    return values, quotient(numbers, logits.shape[1]), remainder(numbers, logits.shape[1])


def gathered(values: Tensor, indices: Tensor) -> Tensor:
    """`values[indices]` with whole rows of the values: one operator, where torch's own become several."""
    shape = (*indices.shape, *values.shape[1:])
    return torch.onnx.ops.symbolic("Gather", (values, indices), dtype=values.dtype, shape=shape, version=OPSET)


def quotient(numbers: Tensor, divisor: int) -> Tensor:
    """Of whole numbers that are not below 0; torch's own division takes care of others, with six operators."""
    return _of_whole_numbers("Div", numbers, divisor)


def remainder(numbers: Tensor, divisor: int) -> Tensor:
    """What `quotient` leaves."""
    return _of_whole_numbers("Mod", numbers, divisor)


def _of_whole_numbers(operator: str, numbers: Tensor, divisor: int) -> Tensor:
    return torch.onnx.ops.symbolic(
        operator,
        (numbers, torch.full((), divisor, dtype=numbers.dtype)),
        dtype=numbers.dtype,
        shape=numbers.shape,
        version=OPSET,
    )
