"""The head: how decoder outputs become scores of target tokens, and the loss."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .attention_rnn_s2s import ATTENTIONS
from .configuration_rnn_s2s import RnnS2SConfig
from .state_rnn_s2s import NO_WEIGHT, DecoderOutput, Sources

IGNORED_LABEL = -100  # of target positions that do not count


class VocabularyHead(nn.Module):
    """A score for each token of the target vocabulary, from the output layer `lm_head` of the model alone.

    Other heads are derived from this one; they may have parameters of their own.

    Attributes:
        needs_attention: whether it reads the weights of the attention.
        needs_states: whether it reads the outputs of the decoder's layers and the embedded tokens.
        needs_source_ids: whether it reads the target ids of the source.
        reads_first: whether `read` must be called before the others, with what the decoder computed of all positions.
    """

    needs_attention = False
    needs_states = False
    needs_source_ids = False
    reads_first = False

    def __init__(self, config: RnnS2SConfig, memory_size: int) -> None:
        super().__init__()

    def forward(self, lm_head: nn.Module, output: DecoderOutput, sources: Sources) -> Tensor:
        """Compute logits `(rows, time, vocabulary)`.

        Args:
            lm_head: the output layer.
            output: what the decoder computed of `(rows, time)` positions.
            sources: what it attended to; the rows of a source are adjacent.
        """
        return lm_head(output.last_hidden_state)

    def read(
        self, lm_head: nn.Module, output: DecoderOutput, ids: Tensor | None, remembered: Any, mask: Tensor | None
    ) -> tuple[DecoderOutput, list[Any]]:
        """Read what the decoder computed of some tokens, and return what `forward` and `loss` are given in its place.

        Args:
            lm_head: the output layer.
            output: of `(rows, time)` tokens.
            ids: of these tokens, `(rows, time)`; None where only their embeddings are known.
            remembered: of the tokens before; None at the start.
            mask: `(rows, time)`, False where a token is padding; None if none is.

        Returns:
            Beside the output what is remembered after each token: None, or tensors `(rows, ...)`, nested in any way.
        """
        return output, [None] * output.last_hidden_state.shape[1]

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
        if output.log_probabilities is not None:
            logits = output.log_probabilities  # before they were rounded
        logits = self(lm_head, output, sources) if logits is None else logits
        return summed_cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing)


class CopyingHead(VocabularyHead):
    """Writes a token of the vocabulary, or copies one of the source (See et al. 2017, equations 8 and 9).

    `P(w) = p P_vocabulary(w) + (1 - p) sum_i a_i [w_i = w]`, where `a` are the weights of the attention, averaged over
    its heads, and `p = sigmoid(W [c; s; x] + b)` with the context `c = sum_i a_i m_i`, the state `s` and the token
    `x`. Words that the vocabulary lacks have ids behind its own, `copy_slots` of them. What is returned are logarithms
    of probabilities.
    """

    needs_attention = needs_states = needs_source_ids = True

    def __init__(self, config: RnnS2SConfig, memory_size: int) -> None:
        super().__init__(config, memory_size)
        self.slots = config.copy_slots
        self.gate = nn.Linear(memory_size + config.decoder_size + config.embedding_size, 1)

    def forward(self, lm_head: nn.Module, output: DecoderOutput, sources: Sources) -> Tensor:
        """As in `VocabularyHead`: `(rows, time, vocabulary + copy_slots)`."""
        assert output.weights is not None and output.embedded is not None and sources.ids is not None  # noqa: PT018
        weights = output.weights.mean(1)
        # The rows of a source, such as its beams, share one copy of its memory and of its ids.
        of_sources = weights.view(sources.memory.shape[0], -1, weights.shape[2])
        context = (of_sources @ sources.memory).view(*weights.shape[:2], -1)
        ids = sources.ids.unsqueeze(1).expand_as(of_sources).reshape(weights.shape)
        read = torch.cat([context, output.layer_outputs[-1], output.embedded], dim=-1)
        share = torch.sigmoid(self.gate(read)).to(torch.promote_types(read.dtype, torch.float32))
        written = functional.pad(
            share * lm_head(output.last_hidden_state).to(share.dtype).softmax(-1), (0, self.slots)
        )
        copied = ((1 - share) * weights).to(share.dtype)
        probabilities = written.scatter_add(2, ids, copied)
        return probabilities.clamp(min=torch.finfo(share.dtype).tiny).log().to(read.dtype)


class MarginalHead(VocabularyHead):
    """Sums over all source positions that a hard attention may look at, exactly (Wu et al. 2018; Wu & Cotterell 2019).

    `P(y_t) = sum_a P(a_t = a) P(y_t | a)`, all of them given `y_<t`, with the softmax of the output layer for
    `P(y_t | a)`. If a position depends on the one before, `P(a_t = a) = sum_a' P(a_t-1 = a') p(a | a')`, where
    `P(a_t-1 = a')` takes account of `y_t-1`: of the step before `P(a_t-1, y_t-1)` is remembered for all tokens, and
    of the token that was written the shares of the positions are taken. That is the forward algorithm, normalised at
    every step, so that the product of all `P(y_t)` is the sum over all alignments.

    What is returned are logarithms of probabilities, and as weights of the attention `P(a_t = a)`.
    """

    needs_attention = reads_first = True

    def __init__(self, config: RnnS2SConfig, memory_size: int) -> None:
        super().__init__(config, memory_size)
        self.is_chain = getattr(ATTENTIONS[config.attention_type], "is_chain", False)

    def read(
        self, lm_head: nn.Module, output: DecoderOutput, ids: Tensor | None, remembered: Any, mask: Tensor | None
    ) -> tuple[DecoderOutput, list[Any]]:
        """As in `VocabularyHead`; what is remembered is `(rows, source + 1, vocabulary)`.

        Raises:
            ValueError: if ids are needed and there are none.
        """
        assert output.weights is not None  # as HardAttention gives them
        moves, scores = output.weights, lm_head(output.last_hidden_state)
        written = scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(-1)
        steps: list[Any] = [None] * written.shape[1]
        if self.is_chain:
            if ids is None:
                raise ValueError(
                    "decoder_inputs_embeds: where a hard attention looks depends on the tokens that were written, so "
                    "the head needs their ids: pass decoder_input_ids."
                )
            looked, steps = _follow(moves, written, ids.long(), remembered, mask)
        else:
            looked = moves[:, 0]
        known = (looked.unsqueeze(-1) + written).logsumexp(2)
        return output._replace(weights=looked.exp().unsqueeze(1), log_probabilities=known), steps

    def forward(self, lm_head: nn.Module, output: DecoderOutput, sources: Sources) -> Tensor:
        """As in `VocabularyHead`, of what `read` returned."""
        assert output.log_probabilities is not None
        return output.log_probabilities.to(output.last_hidden_state.dtype)


def _follow(
    moves: Tensor, written: Tensor, ids: Tensor, remembered: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, list[Tensor]]:
    """The forward algorithm: where each step looks, `(rows, time, source)`, and what is remembered after it.

    `moves` are the logarithms of `p(a | a')`, `(rows, source + 1, time, source)`, and `written` those of `P(y_t | a)`,
    `(rows, time, source, vocabulary)`. The rest is as in `VocabularyHead.read`.
    """
    rows, before, time, _ = moves.shape
    if remembered is None:  # the last place is that of the first step
        remembered = functional.pad(
            written.new_zeros(rows, 1, written.shape[-1]), (0, 0, before - 1, 0), value=NO_WEIGHT
        )
    looked, steps = [], []
    for step in range(time):
        of_token = ids[:, step].view(-1, 1, 1).expand(-1, before, 1)
        place = remembered.gather(2, of_token).log_softmax(1)
        looked.append((place + moves[:, :, step]).logsumexp(1))
        joint = functional.pad(looked[-1].unsqueeze(2) + written[:, step], (0, 0, 0, 1), value=NO_WEIGHT)
        remembered = joint if mask is None else torch.where(mask[:, step].view(-1, 1, 1), joint, remembered)
        steps.append(remembered)
    return torch.stack(looked, dim=1), steps


def coverage_loss(weights: Tensor, labels: Tensor) -> Tensor:
    """What the attention to positions looked at before costs (See et al. 2017, equation 12), summed over all labels.

    Args:
        weights: of the attention, `(rows, heads, time, source)`.
        labels: `(rows, time)`; those of -100 do not count.
    """
    weights = weights.mean(1)
    covered = weights.cumsum(1) - weights
    return (torch.minimum(weights, covered).sum(-1) * labels.ne(IGNORED_LABEL)).sum()


def summed_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """As `VocabularyHead.loss`, from logits `(rows, vocabulary)` and labels `(rows,)`."""
    precise: Any = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(
        precise, labels, ignore_index=IGNORED_LABEL, reduction="sum", label_smoothing=label_smoothing
    )


# `head_type` of the configuration, and the class it names.
HEADS: dict[str, type[VocabularyHead]] = {
    "vocabulary": VocabularyHead,
    "copying": CopyingHead,
    "marginal": MarginalHead,
}
