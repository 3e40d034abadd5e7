"""The output layer's owner: what it makes of decoder outputs, scores of target tokens and the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

IGNORED_LABEL = -100  # of target positions that do not count


class VocabularyHead(nn.Module):
    """
    A score for each token of the target vocabulary: the output layer `lm_head` of the model, and nothing else. The
    head has no parameters of its own.

    Attributes:
        fast_loss: what the package puts in here where it is imported (`training.blocked_loss.fast_loss`): computes
            the same as `loss` with less time and memory, or returns None where it cannot. Checkpoints do not carry it.
    """

    fast_loss: ClassVar[Callable[..., torch.Tensor | None] | None] = None

    def forward(self, lm_head: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """Logits `(batch, target, vocabulary)` of decoder outputs `(batch, target, embedding)`."""
        return lm_head(hidden)

    def loss(
        self,
        lm_head: nn.Module,
        hidden: torch.Tensor,
        labels: torch.Tensor,
        label_smoothing: float = 0.0,
        logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Sum of the cross-entropies between the softmax of the logits and the labels, in nats.

        Args:
            lm_head: the output layer.
            hidden: decoder outputs `(batch, target, embedding)`.
            labels: `(batch, target)`, ids of the vocabulary; positions with -100 do not count.
            label_smoothing: share of the target probability that is spread over the whole vocabulary (Szegedy et al.
                2016, section 7).
            logits: `(batch, target, vocabulary)`, of the same decoder outputs, if somebody has computed them.

        Returns:
            A float32 number, or a float64 one for float64 inputs.
        """
        rows, labels = hidden.flatten(0, 1), labels.flatten()
        of_rows = None if logits is None else logits.flatten(0, 1)
        fast: Any = type(self).fast_loss
        total = None if fast is None else fast(lm_head, rows, labels, label_smoothing, of_rows)
        if total is not None:
            return total
        return summed_cross_entropy(lm_head(rows) if of_rows is None else of_rows, labels, label_smoothing)


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """As `VocabularyHead.loss`, of logits `(rows, vocabulary)` and labels `(rows,)`."""
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(
        precise, labels, ignore_index=IGNORED_LABEL, reduction="sum", label_smoothing=label_smoothing
    )


__all__ = ["IGNORED_LABEL", "VocabularyHead", "summed_cross_entropy"]
