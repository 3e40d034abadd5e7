"""The output layer's owner: what it makes of decoder outputs, scores of target tokens and the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .configuration_rnn_s2s import RnnS2SConfig
from .state_rnn_s2s import DecoderOutput, Sources

IGNORED_LABEL = -100  # of target positions that do not count


class VocabularyHead(nn.Module):
    """
    A score for each token of the target vocabulary: the output layer `lm_head` of the model, and nothing else. Other
    heads are derived from this one; they may have parameters of their own.

    Args:
        config: of the model.

    Attributes:
        needs_attention: whether it reads the weights of the attention.
        needs_source_ids: whether it reads the token ids of the source.
    """

    needs_attention = False
    needs_source_ids = False

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__()

    def forward(self, lm_head: nn.Module, output: DecoderOutput, sources: Sources) -> torch.Tensor:
        """
        Args:
            lm_head: the output layer.
            output: what the decoder computed of `(rows, time)` positions.
            sources: what it looked at; the rows of a source stand next to each other.

        Returns:
            Logits `(rows, time, vocabulary)`.
        """
        return lm_head(output.last_hidden_state)

    def loss(
        self,
        lm_head: nn.Module,
        output: DecoderOutput,
        sources: Sources,
        labels: torch.Tensor,
        label_smoothing: float = 0.0,
        logits: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Sum of the cross-entropies between the softmax of the logits and the labels, in nats.

        Args:
            lm_head, output, sources: as in `forward`.
            labels: `(rows, time)`, ids of the vocabulary; positions with -100 do not count.
            label_smoothing: share of the target probability that is spread over the whole vocabulary (Szegedy et al.
                2016, section 7).
            logits: what `forward` makes of the same output, if somebody has called it.

        Returns:
            A float32 number, or a float64 one for float64 inputs.
        """
        logits = self(lm_head, output, sources) if logits is None else logits
        return summed_cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing)


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """As `VocabularyHead.loss`, of logits `(rows, vocabulary)` and labels `(rows,)`."""
    precise: Any = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(
        precise, labels, ignore_index=IGNORED_LABEL, reduction="sum", label_smoothing=label_smoothing
    )


HEADS: dict[str, type[VocabularyHead]] = {"vocabulary": VocabularyHead}
"""`head_type` of the configuration, and the head it means."""


__all__ = ["HEADS", "IGNORED_LABEL", "VocabularyHead", "summed_cross_entropy"]
