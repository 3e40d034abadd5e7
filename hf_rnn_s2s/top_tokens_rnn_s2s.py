"""
The best few of very many numbers: what a search needs of the logits of a step.

A search looks for a handful of tokens among beams times vocabulary, and picking them out one by one costs as much as
the products that made them. Here the logits are cut into groups. Only the groups with the highest maxima can hold the
best tokens, so only their numbers are compared one by one. The result is exact.
"""

from __future__ import annotations

import torch

# Wide enough for one quick pass over all numbers, and so narrow that few groups hold few numbers.
GROUP = 128
# Of fewer numbers than these the best are picked out at once.
FEW = 2**16


def best_tokens(logits: torch.Tensor) -> torch.Tensor:
    """
    The token with the highest logit in each row, `(rows,)`, of logits `(rows, vocabulary)`; of several the first, as
    `argmax` does.
    """
    vocabulary = logits.shape[1]
    if logits.numel() < FEW or vocabulary < GROUP:
        return logits.argmax(dim=1)
    groups = vocabulary // GROUP
    maxima = logits[:, : groups * GROUP].unflatten(1, (groups, GROUP)).amax(2)
    if groups * GROUP < vocabulary:
        maxima = torch.cat([maxima, logits[:, groups * GROUP :].amax(1, keepdim=True)], dim=1)
    first = maxima.argmax(1, keepdim=True) * GROUP
    tokens = (first + torch.arange(GROUP, device=logits.device)).clamp(max=vocabulary - 1)
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
    vocabulary = scores.shape[2]
    groups = vocabulary // GROUP
    if count > groups or scores.numel() < FEW:
        values, places = (scores + offsets.unsqueeze(2)).flatten(1).topk(count)
        return values, places // vocabulary, places % vocabulary
    grouped = scores[:, :, : groups * GROUP].unflatten(2, (groups, GROUP))
    best_groups = (grouped.amax(3) + offsets.unsqueeze(2)).flatten(1).topk(count).indices
    beams, group_numbers = best_groups // groups, best_groups % groups
    sentence = torch.arange(len(scores), device=scores.device).unsqueeze(1)
    candidates = grouped[sentence, beams, group_numbers] + offsets.gather(1, beams).unsqueeze(2)
    # What the groups leave over at the end of the vocabulary is compared in any case.
    rest = (scores[:, :, groups * GROUP :] + offsets.unsqueeze(2)).flatten(1)
    values, places = torch.cat([candidates.flatten(1), rest], dim=1).topk(count)
    chosen = (places // GROUP).clamp(max=count - 1)
    tokens = group_numbers.gather(1, chosen) * GROUP + places % GROUP
    beams = beams.gather(1, chosen)
    if rest.shape[1]:
        width = vocabulary - groups * GROUP
        behind = places - count * GROUP
        beams = torch.where(behind < 0, beams, behind // width)
        tokens = torch.where(behind < 0, tokens, groups * GROUP + behind % width)
    return values, beams, tokens


__all__ = ["best_continuations", "best_tokens"]
