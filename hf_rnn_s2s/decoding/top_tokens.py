"""
The best few of very many numbers: what a search needs of the logits of a step.

A search looks for a handful of tokens among beams times vocabulary, and picking them out one by one costs as much as
the products that made them. Here the numbers of a row are cut into groups. Only the groups with the highest maxima can
hold the best tokens, so only their numbers are compared one by one. The result is exact.
"""

from __future__ import annotations

import torch

# Wide enough for one quick pass over all numbers, and so narrow that few groups hold few numbers.
GROUP = 128
# Of fewer numbers than these the best are picked out at once.
FEW = 2**16
# Numbers that a CPU works on at a time, in float32: 2 MB, which stay in its cache from one pass to the next.
BLOCK = 2**19


def best_tokens(logits: torch.Tensor) -> torch.Tensor:
    """
    The token with the highest logit in each row, `(rows,)`, of logits `(rows, vocabulary)`; of several the first, as
    `argmax` does.
    """
    if logits.numel() < FEW:
        return logits.argmax(dim=1)
    first = _group_maxima(logits).argmax(1, keepdim=True) * GROUP
    tokens = (first + torch.arange(GROUP, device=logits.device)).clamp(max=logits.shape[1] - 1)
    return tokens.gather(1, logits.gather(1, tokens).argmax(1, keepdim=True)).squeeze(1)


def best_continuations(
    scores: torch.Tensor, offsets: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    The best continuations of each sentence, over all of its beams.

    Args:
        scores: `(sentences, beams, vocabulary)`, of each token within its beam.
        offsets: `(sentences, beams)`, added to all scores of a beam.
        count: how many are wanted, at most beams times vocabulary.

    Returns:
        Their scores with the offsets, the best first, their beams and their tokens, each `(sentences, count)`.
    """
    if scores.numel() < FEW or count > scores.shape[2] // GROUP:
        return best_of_all(scores, offsets, count)
    maxima = _group_maxima(scores.flatten(0, 1)).view(*offsets.shape, -1)
    return _best_of_groups(scores, offsets, maxima, count)


def best_of_all(
    scores: torch.Tensor, offsets: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same by one look at all of the scores. Which of equal ones come first is up to `topk` then."""
    values, places = (scores + offsets.unsqueeze(2)).flatten(1).topk(count)
    return values, places // scores.shape[2], places % scores.shape[2]


def best_log_probabilities(
    logits: torch.Tensor, offsets: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    As `best_continuations`, for the log-softmax of logits, which is computed of the best few only.

    Args:
        logits: `(sentences, beams, vocabulary)`, of any floating point type.
        offsets: `(sentences, beams)`, added to all log-probabilities of a beam.
        count: how many are wanted.
    """
    rows = logits.flatten(0, 1)
    if logits.numel() < FEW or count > logits.shape[2] // GROUP:
        return best_continuations(rows.float().log_softmax(1).view_as(logits), offsets, count)
    maxima, highest = _maxima_and_highest_probabilities(rows)
    # The highest logit is taken away first, as in a softmax, since large numbers have few digits behind the point.
    origins = maxima.amax(1).view_as(offsets)
    maxima = maxima.view(*offsets.shape, -1) - origins.unsqueeze(2)
    return _best_of_groups(logits, offsets + highest.log().view_as(offsets), maxima, count, origins)


def _best_of_groups(
    scores: torch.Tensor,
    offsets: torch.Tensor,
    maxima: torch.Tensor,
    count: int,
    origins: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    `maxima` `(sentences, beams, groups)` are those of the scores, from which, if there are any, the origins
    `(sentences, beams)` were taken away.
    """
    vocabulary, groups = scores.shape[2], maxima.shape[2]
    best = (maxima + offsets.unsqueeze(2)).flatten(1).topk(count).indices
    beams = best // groups
    tokens = (best % groups).unsqueeze(2) * GROUP + torch.arange(GROUP, device=scores.device)
    inside = tokens.clamp(max=vocabulary - 1)
    places = (inside + beams.unsqueeze(2) * vocabulary).flatten(1)
    numbers = scores.flatten(1).gather(1, places).float()
    if origins is not None:
        numbers -= origins.gather(1, beams).repeat_interleave(GROUP, dim=1)
    numbers += offsets.gather(1, beams).repeat_interleave(GROUP, dim=1)
    if vocabulary % GROUP:
        numbers.masked_fill_(tokens.flatten(1) >= vocabulary, -torch.inf)
    values, chosen = numbers.topk(count)
    # Where there is nothing better than -inf, a place behind the vocabulary may be chosen; its id must not get out.
    return values, beams.gather(1, chosen // GROUP), inside.flatten(1).gather(1, chosen)


def _maxima_and_highest_probabilities(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the logits `(rows, vocabulary)` the maxima of groups, and of their softmax the highest number."""
    count, vocabulary = rows.shape
    size = min(count, max(1, BLOCK // vocabulary)) if rows.device.type == "cpu" else count
    memory = rows.new_empty(size, vocabulary, dtype=torch.float32)
    maxima, highest = [], []
    for block in rows.split(size):
        scratch = memory[: len(block)]
        exact = block if block.dtype == torch.float32 else scratch.copy_(block)
        maxima.append(_group_maxima(exact))
        # The fused softmax takes half the time of a log-sum-exp, and the highest probability tells the sum.
        highest.append(torch.softmax(exact, dim=1, out=scratch).amax(1))
    return torch.cat(maxima), torch.cat(highest)


def _group_maxima(rows: torch.Tensor) -> torch.Tensor:
    """Of `(rows, vocabulary)`, in groups of `GROUP` and what is left over, the highest number each."""
    whole = rows.shape[1] // GROUP
    maxima = rows[:, : whole * GROUP].unflatten(1, (whole, GROUP)).amax(2)
    if whole * GROUP == rows.shape[1]:
        return maxima
    return torch.cat([maxima, rows[:, whole * GROUP :].amax(1, keepdim=True)], dim=1)


__all__ = ["best_continuations", "best_log_probabilities", "best_of_all", "best_tokens"]
