"""The few best of very many scores: what a search needs of the logits of a step.

A search looks for a handful of tokens among beams times vocabulary, and a `topk` over all of them costs as much as
the matrix products that made them. Here the scores of a row are cut into groups. Only the groups with the highest
maxima can hold the best tokens, so only their scores are compared one by one. The result is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Scores in a group: enough for a fast pass over all scores, and so few that the best groups hold few scores.
GROUP = 128
# Of fewer scores than this the best are found without groups.
FEW = 2**16
# Scores that a CPU works on at a time, in float32: 2 MB, which stay in its cache from one pass to the next.
BLOCK = 2**19


def best_tokens(logits: Tensor) -> Tensor:
    """The token with the highest logit in each row, `(rows,)`, of logits `(rows, vocabulary)`.

    Of several equal ones it is the first, as with `argmax`.
    """
    if logits.numel() < FEW:
        return logits.argmax(dim=1)
    first = _group_maxima(logits).argmax(1, keepdim=True) * GROUP
    tokens = (first + torch.arange(GROUP, device=logits.device)).clamp(max=logits.shape[1] - 1)
    return tokens.gather(1, logits.gather(1, tokens).argmax(1, keepdim=True)).squeeze(1)


def best_continuations(scores: Tensor, offsets: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each sentence, over all of its beams.

    Args:
        scores: of each token within its beam, `(sentences, beams, vocabulary)`.
        offsets: `(sentences, beams)`, added to all scores of a beam.
        count: how many are wanted, at most beams times vocabulary.

    Returns:
        Their scores with the offsets, the best first, their beams and their tokens, each `(sentences, count)`.
    """
    if scores.numel() < FEW or count > scores.shape[2] // GROUP:
        return best_of_all(scores, offsets, count)
    maxima = _group_maxima(scores.flatten(0, 1)).view(*offsets.shape, -1)
    return _best_of_groups(scores, offsets, maxima, count)


def best_of_all(scores: Tensor, offsets: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `best_continuations`, by one `topk` over all scores, which decides the order of equal ones."""
    values, indices = (scores + offsets.unsqueeze(2)).flatten(1).topk(count)
    return values, indices // scores.shape[2], indices % scores.shape[2]


def best_log_probabilities(logits: Tensor, offsets: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `best_continuations`, for the log-softmax of logits, which is computed of the best few only.

    Args:
        logits: `(sentences, beams, vocabulary)`, of any floating point type.
        offsets: `(sentences, beams)`, added to all log-probabilities of a beam.
        count: how many are wanted, at most beams times vocabulary.

    Returns:
        Their log-probabilities with the offsets, the best first, their beams and their tokens, each
        `(sentences, count)`.
    """
    rows = logits.flatten(0, 1)
    if logits.numel() < FEW or count > logits.shape[2] // GROUP:
        return best_continuations(rows.float().log_softmax(1).view_as(logits), offsets, count)
    maxima, highest = _maxima_and_highest_probabilities(rows)
    # The highest logit is subtracted first, as in a softmax, since large numbers have few digits behind the point.
    shifts = maxima.amax(1).view_as(offsets)
    maxima = maxima.view(*offsets.shape, -1) - shifts.unsqueeze(2)
    return _best_of_groups(logits, offsets + highest.log().view_as(offsets), maxima, count, shifts)


def _best_of_groups(
    scores: Tensor,
    offsets: Tensor,
    maxima: Tensor,
    count: int,
    shifts: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `best_continuations`, from the maxima of groups.

    Args:
        scores: `(sentences, beams, vocabulary)`.
        offsets: `(sentences, beams)`, added to all scores of a beam.
        maxima: of the scores in each group, minus the shifts, `(sentences, beams, groups)`.
        count: how many are wanted.
        shifts: `(sentences, beams)`, subtracted from all scores of a beam; None for none.
    """
    vocabulary, groups = scores.shape[2], maxima.shape[2]
    best = (maxima + offsets.unsqueeze(2)).flatten(1).topk(count).indices
    beams = best // groups
    tokens = (best % groups).unsqueeze(2) * GROUP + torch.arange(GROUP, device=scores.device)
    clamped = tokens.clamp(max=vocabulary - 1)
    indices = (clamped + beams.unsqueeze(2) * vocabulary).flatten(1)
    candidates = scores.flatten(1).gather(1, indices).float()
    if shifts is not None:
        candidates -= shifts.gather(1, beams).repeat_interleave(GROUP, dim=1)
    candidates += offsets.gather(1, beams).repeat_interleave(GROUP, dim=1)
    if vocabulary % GROUP:
        candidates.masked_fill_(tokens.flatten(1) >= vocabulary, -torch.inf)
    values, chosen = candidates.topk(count)
    # With too few scores above -inf, a position behind the vocabulary may be chosen; `clamped` keeps its id inside.
    return values, beams.gather(1, chosen // GROUP), clamped.flatten(1).gather(1, chosen)


def _maxima_and_highest_probabilities(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima of groups of logits `(rows, vocabulary)`, and the highest probability of each row, `(rows,)`."""
    count, vocabulary = rows.shape
    size = min(count, max(1, BLOCK // vocabulary)) if rows.device.type == "cpu" else count
    buffer = rows.new_empty(size, vocabulary, dtype=torch.float32)
    maxima, highest = [], []
    for block in rows.split(size):
        scratch = buffer[: len(block)]
        in_float32 = block if block.dtype == torch.float32 else scratch.copy_(block)
        maxima.append(_group_maxima(in_float32))
        # The fused softmax takes half the time of a log-sum-exp, and the sum follows from the highest probability.
        highest.append(torch.softmax(in_float32, dim=1, out=scratch).amax(1))
    return torch.cat(maxima), torch.cat(highest)


def _group_maxima(rows: Tensor) -> Tensor:
    """The highest score in each group of `(rows, vocabulary)`; the last group may have less than `GROUP` scores."""
    whole = rows.shape[1] // GROUP
    maxima = rows[:, : whole * GROUP].unflatten(1, (whole, GROUP)).amax(2)
    if whole * GROUP == rows.shape[1]:
        return maxima
    return torch.cat([maxima, rows[:, whole * GROUP :].amax(1, keepdim=True)], dim=1)
