"""The head: how decoder outputs become scores of target tokens, and the loss."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configuration_rnn_s2s import RnnS2SConfig
from .state_rnn_s2s import DecoderOutput, Sources

IGNORED_LABEL = -100  # of target positions that do not count


class VocabularyHead(nn.Module):
    """A score for each token of the target vocabulary, from the output layer `lm_head` of the model alone.

    Other heads are derived from this one; they may have parameters of their own.

    Attributes:
        needs_attention: whether it reads the weights of the attention.
        needs_source_ids: whether it reads the token ids of the source.
    """

    needs_attention = False
    needs_source_ids = False

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__()

    def forward(self, lm_head: nn.Module, output: DecoderOutput, sources: Sources) -> Tensor:
        """Compute logits `(rows, time, vocabulary)`.

        Args:
            lm_head: the output layer.
            output: what the decoder computed of `(rows, time)` positions.
            sources: what it attended to; the rows of a source are adjacent.
        """
        return lm_head(output.last_hidden_state)

    def loss(
        self,
        lm_head: nn.Module,
        output: DecoderOutput,
        sources: Sources,
        labels: Tensor,
        label_smoothing: float = 0.0,
        logits: Tensor | None = None,
    ) -> Tensor:
        """Sum of the cross-entropies between the softmax of the logits and the labels, in nats.

        `labels` `(rows, time)` are token ids; those of -100 do not count. `label_smoothing` is the share of the target
        probability that is spread over the whole vocabulary (Szegedy et al. 2016, section 7). `logits` is what
        `forward` returned for the other arguments, if it was called.

        Returns:
            A float32 number, or a float64 one for float64 inputs.
        """
        logits = self(lm_head, output, sources) if logits is None else logits
        return summed_cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing)


def summed_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """As `VocabularyHead.loss`, from logits `(rows, vocabulary)` and labels `(rows,)`."""
    precise: Any = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(
        precise, labels, ignore_index=IGNORED_LABEL, reduction="sum", label_smoothing=label_smoothing
    )


# `head_type` of the configuration, and the class it names.
HEADS: dict[str, type[VocabularyHead]] = {"vocabulary": VocabularyHead}
