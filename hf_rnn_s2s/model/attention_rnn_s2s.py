"""Attention over the memory: how a query is scored against the keys, and what becomes of the scores.

All scores have one contract, `AttentionScore`, and all attentions have one, `Attention`. The decoder does not know
which one it holds.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization

from .configuration_rnn_s2s import RnnS2SConfig
from .state_rnn_s2s import AttentionOutput, Sources


class AttentionScore(nn.Module):
    """Compares queries with keys. This class is the contract of all scores.

    Args:
        query_size: width of the queries, which are decoder states.
        memory_size: width of the memory, which holds the encoder's outputs.

    Attributes:
        once: names of the layers that `prepare` calls, once per sentence. Others are called at every step, so that it
            pays to pack their weights or to quantize them.
    """

    once: tuple[str, ...] = ()

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.query_size = query_size
        self.memory_size = memory_size

    def prepare(self, memory: Tensor) -> Tensor:
        """Keys `(batch, source, key)` of the memory `(batch, source, memory)`."""
        return memory

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Scores `(batch, target, source)` of the queries `(batch, target, query)`."""
        raise NotImplementedError


class DotScore(AttentionScore):
    """`q · m` (Luong et al. 2015, equation 8, dot)."""

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """As in `AttentionScore`."""
        return query @ keys.transpose(1, 2)


class ScaledDotScore(DotScore):
    """`q · m / sqrt(size)` (Vaswani et al. 2017, equation 1)."""

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """As in `AttentionScore`."""
        return super().score(query, keys) / math.sqrt(self.query_size)


class GeneralScore(DotScore):
    """`q · W m` (Luong et al. 2015, equation 8, general)."""

    once = ("key_projection",)

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        self.key_projection = nn.Linear(memory_size, query_size, bias=False)

    def prepare(self, memory: Tensor) -> Tensor:
        """As in `AttentionScore`."""
        return self.key_projection(memory)


class AdditiveScore(AttentionScore):
    """`v · tanh(W q + U m)` (Bahdanau et al. 2015, appendix A.1.2).

    Scoring a whole target at once holds `batch * target * source * query_size` numbers.
    """

    once = ("key_projection",)

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        self.query_projection = nn.Linear(query_size, query_size)
        self.key_projection = nn.Linear(memory_size, query_size, bias=False)
        self.score_projection = nn.Linear(query_size, 1, bias=False)

    def prepare(self, memory: Tensor) -> Tensor:
        """As in `AttentionScore`."""
        return self.key_projection(memory)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """As in `AttentionScore`."""
        hidden = torch.tanh(self.query_projection(query).unsqueeze(2) + keys.unsqueeze(1))
        return self.score_projection(hidden).squeeze(-1)


class CosineScore(GeneralScore):
    """`g cos(q, W m)`: the cosine of the angle between the query and a linear map of the memory.

    A softmax of numbers between -1 and 1 cannot be sharp. The learned scale `g`, 1 at first, lets it become so.
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        self.scale = nn.Parameter(torch.empty(1))

    def initialize(self) -> None:
        """Set the scale to 1, unless it was loaded from a checkpoint."""
        initialization.ones_(self.scale)

    def prepare(self, memory: Tensor) -> Tensor:
        """As in `AttentionScore`."""
        return _unit_length(super().prepare(memory))

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """As in `AttentionScore`."""
        return self.scale * super().score(_unit_length(query), keys)


def _unit_length(vectors: Tensor) -> Tensor:
    """Scale vectors `(..., size)` to length 1; zeros stay zeros."""
    # The default eps, 1e-12, is 0 in float16, where the zeros at padding would become NaN.
    return functional.normalize(vectors, dim=-1, eps=max(1e-12, torch.finfo(vectors.dtype).tiny))


class Attention(nn.Module):
    """Turns queries into contexts. This class is the contract; `ScoredAttention` is the ordinary attention.

    The arguments are the configuration of the model and those of `AttentionScore`.

    Attributes:
        needs_steps: whether a query can be answered only after the one before it, since something is remembered. The
            decoder then reads the target one token at a time.
    """

    needs_steps = False

    def __init__(self, config: RnnS2SConfig, query_size: int, memory_size: int) -> None:
        super().__init__()

    def prepare(self, memory: Tensor) -> Tensor:
        """Compute the keys `(sources, source, key)` of the memory `(sources, source, memory)`, once per sentence."""
        return memory

    def first_state(self, memory: Tensor, rows: int) -> Any:
        """What is remembered before the first query: None, or tensors `(rows, ...)`, nested in any way.

        Args:
            memory: `(sources, source, memory)`.
            rows: the number of target rows, a multiple of the number of sources.
        """
        return None

    def forward(self, query: Tensor, sources: Sources, state: Any = None) -> AttentionOutput:
        """Answer queries.

        Args:
            query: `(sources, queries, query)`: the positions of all target rows of a source, row by row.
            sources: memory, keys and mask.
            state: what is remembered of earlier queries.

        Returns:
            The contexts `(sources, queries, memory)`; the weights `(sources, queries, source)`, or, with several
            heads, `(sources, heads, queries, source)`; and what is remembered from now on.
        """
        raise NotImplementedError


class ScoredAttention(Attention):
    """The sum of the memory, weighted by the softmax of scores (Bahdanau et al. 2015, equations 5 and 6).

    `dropout` is the probability of a weight to be dropped in training.
    """

    def __init__(self, score: AttentionScore, dropout: float) -> None:
        nn.Module.__init__(self)
        self.score = score
        self.dropout = nn.Dropout(dropout)

    def prepare(self, memory: Tensor) -> Tensor:
        """As in `Attention`."""
        return self.score.prepare(memory)

    def forward(self, query: Tensor, sources: Sources, state: Any = None) -> AttentionOutput:
        """As in `Attention`.

        The weights are zero at padding and sum to one. A row of only padding has equal weights over a memory of zeros,
        so its context is zero.
        """
        scores = self.score.score(query, sources.keys)  # type: ignore[arg-type]
        if sources.mask is not None:
            scores = scores.masked_fill(~sources.mask.unsqueeze(1), torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        return self.dropout(weights) @ sources.memory, weights, state


# `attention_type` of the configuration: a score for the ordinary attention, an attention, or none at all.
ATTENTIONS: dict[str, type[AttentionScore] | type[Attention] | None] = {
    "none": None,
    "dot": DotScore,
    "scaled_dot": ScaledDotScore,
    "general": GeneralScore,
    "additive": AdditiveScore,
    "cosine": CosineScore,
}


def build_attention(config: RnnS2SConfig, query_size: int, memory_size: int) -> Attention | None:
    """The attention that a configuration names; None for `attention_type="none"`."""
    kind = ATTENTIONS[config.attention_type]
    if kind is None:
        return None
    if issubclass(kind, AttentionScore):
        return ScoredAttention(kind(query_size, memory_size), config.attention_dropout)
    return kind(config, query_size, memory_size)


class ConcatFusion:
    """Concatenates a layer's input and the context."""

    @staticmethod
    def width(input_size: int, context_size: int) -> int:
        """Width of what `join` returns."""
        return input_size + context_size

    @staticmethod
    def join(inputs: Tensor, context: Tensor) -> Tensor:
        """Concatenate `(batch, target, input)` and `(batch, target, context)`."""
        return torch.cat([inputs, context], dim=-1)


class AddFusion:
    """Adds the context to a layer's input."""

    @staticmethod
    def width(input_size: int, context_size: int) -> int:
        """As in `ConcatFusion`."""
        return input_size

    @staticmethod
    def join(inputs: Tensor, context: Tensor) -> Tensor:
        """Add `(batch, target, input)` and `(batch, target, context)`, which must be equally wide."""
        return inputs + context


# `context_fusion` of the configuration, and the class it names.
CONTEXT_FUSIONS: dict[str, type[ConcatFusion] | type[AddFusion]] = {"concat": ConcatFusion, "add": AddFusion}
