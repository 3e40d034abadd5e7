"""Scores: how a query is compared with the keys. All have one contract, `AttentionScore`."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization


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
        return query @ keys.transpose(1, 2)


class ScaledDotScore(DotScore):
    """`q · m / sqrt(size)` (Vaswani et al. 2017, equation 1)."""

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return super().score(query, keys) / math.sqrt(self.query_size)


class GeneralScore(DotScore):
    """`q · W m` (Luong et al. 2015, equation 8, general)."""

    once = ("key_projection",)

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        self.key_projection = nn.Linear(memory_size, query_size, bias=False)

    def prepare(self, memory: Tensor) -> Tensor:
        return self.key_projection(memory)


class AdditiveScore(AttentionScore):
    """`v · tanh(W q + U m)` (Bahdanau et al. 2015, appendix A.1.2).

    Scoring a whole target at once holds `batch * target * source * hidden` numbers.

    Args:
        query_size, memory_size: as in `AttentionScore`.
        hidden_size: width of what goes through tanh; None means `query_size`.
    """

    once = ("key_projection",)

    def __init__(self, query_size: int, memory_size: int, hidden_size: int | None = None) -> None:
        super().__init__(query_size, memory_size)
        self.hidden_size = query_size if hidden_size is None else hidden_size
        self.query_projection = nn.Linear(query_size, self.hidden_size)
        self.key_projection = nn.Linear(memory_size, self.hidden_size, bias=False)
        self.score_projection: nn.Module = nn.Linear(self.hidden_size, 1, bias=False)

    def prepare(self, memory: Tensor) -> Tensor:
        return self.key_projection(memory)

    def score(self, query: Tensor, keys: Tensor, feature: Tensor | None = None) -> Tensor:
        """As in `AttentionScore`; `feature` `(batch, target, source, hidden)` is added inside the tanh."""
        met = self.query_projection(query).unsqueeze(2) + keys.unsqueeze(1)
        return self.score_projection(torch.tanh(met if feature is None else met + feature)).squeeze(-1)


class NormedAdditiveScore(AdditiveScore):
    """`g v / |v| · tanh(W q + U m + b)`: additive, with a vector `v` whose length `g` is learned by itself.

    That is weight normalisation (Salimans & Kingma 2016, equation 2). The length is `1 / sqrt(hidden_size)` at first.
    """

    def __init__(self, query_size: int, memory_size: int, hidden_size: int | None = None) -> None:
        super().__init__(query_size, memory_size, hidden_size)
        self.score_projection = NormedVector(self.hidden_size)


class NormedVector(nn.Module):
    """The dot product of inputs `(..., size)` with `g v / |v|`, `(..., 1)`."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.direction, self.length = nn.Parameter(torch.empty(size, 1)), nn.Parameter(torch.empty(1))

    def initialize(self) -> None:
        """Draw the direction and set the length, unless they were loaded from a checkpoint."""
        initialization.xavier_uniform_(self.direction)
        initialization.constant_(self.length, 1 / math.sqrt(len(self.direction)))

    def forward(self, inputs: Tensor) -> Tensor:
        """As the class says."""
        return self.length * (inputs @ (self.direction / self.direction.norm()))


class PlainCosineScore(GeneralScore):
    """`cos(q, W m)`: the cosine of the angle between the query and a linear map of the memory.

    A softmax of numbers between -1 and 1 cannot be sharp.
    """

    def prepare(self, memory: Tensor) -> Tensor:
        return _unit_length(super().prepare(memory))

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return super().score(_unit_length(query), keys)


class CosineScore(PlainCosineScore):
    """`g cos(q, W m)`: the learned scale `g`, 1 at first, lets the softmax become sharp."""

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__(query_size, memory_size)
        self.scale = nn.Parameter(torch.empty(1))

    def initialize(self) -> None:
        """Set the scale to 1, unless it was loaded from a checkpoint."""
        initialization.ones_(self.scale)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return self.scale * super().score(query, keys)


def _unit_length(vectors: Tensor) -> Tensor:
    """Scale vectors `(..., size)` to length 1; zeros stay zeros."""
    # The default eps, 1e-12, is 0 in float16, where the zeros at padding would become NaN.
    return functional.normalize(vectors, dim=-1, eps=max(1e-12, torch.finfo(vectors.dtype).tiny))
