"""Attention over the memory: what becomes of the scores of a query, and what is remembered of earlier queries.

All attentions have one contract, `Attention`. The decoder does not know which one it holds.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from .cells_rnn_s2s import SequenceDropout
from .configuration_rnn_s2s import RnnS2SConfig
from .scores_rnn_s2s import (
    AdditiveScore,
    AttentionScore,
    CosineScore,
    DotScore,
    GeneralScore,
    NormedAdditiveScore,
    PlainCosineScore,
    ScaledDotScore,
)
from .state_rnn_s2s import NO_WEIGHT, AttentionOutput, Sources


class Attention(nn.Module):
    """Turns queries into contexts. This class is the contract; `ScoredAttention` is the ordinary attention.

    The arguments are the configuration of the model and those of `AttentionScore`.

    Attributes:
        needs_steps: whether a query can be answered only after the one before it, since something is remembered. The
            decoder then reads the target one token at a time.
        is_hard: whether it is a `HardAttention`, which gives no contexts.
    """

    needs_steps = is_hard = False

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


class Span(NamedTuple):
    """What a span says of every query.

    Attributes:
        inside: `(sources, queries, source)`, True at the positions that have a weight.
        factor: `(sources, queries, source)`, what the weights are multiplied by; None for nothing.
        state: what is remembered for the queries to come.
    """

    inside: Tensor
    factor: Tensor | None
    state: Tensor | None


class MonotonicSpan(nn.Module):
    """A window that moves on by one position at each step, `p_t = t` (Luong et al. 2015, local-m).

    Its window is `[p_t - D, p_t + D]` with `D = attention_window`. Behind the last token it stays there.

    The arguments are the configuration of the model, and the width of the queries. This class is the contract of all
    spans; it also remembers how many queries there were in each row.
    """

    def __init__(self, config: RnnS2SConfig, query_size: int) -> None:
        super().__init__()
        self.window = config.attention_window

    def first_state(self, memory: Tensor, rows: int) -> Tensor | None:
        """What is remembered before the first query."""
        return memory.new_zeros(rows, dtype=torch.long)

    def forward(self, query: Tensor, sources: Sources, state: Tensor | None) -> Span:
        """Say where the queries `(sources, queries, query)` may look."""
        assert state is not None  # as the first state
        time = query.shape[0] * query.shape[1] // len(state)
        steps = state.unsqueeze(1) + torch.arange(time, device=state.device)  # (rows, time)
        positions, lengths = _positions(sources)
        center = torch.minimum(steps.view(query.shape[:2]), lengths - 1)
        return Span(self._distance(positions, center).abs() <= self.window, None, state + time)

    @staticmethod
    def _distance(positions: Tensor, center: Tensor) -> Tensor:
        return positions.unsqueeze(1) - center.unsqueeze(2)


class PredictiveSpan(MonotonicSpan):
    """A window around a predicted position, `p_t = S sigmoid(v · tanh(W q))` (Luong et al. 2015, local-p, equation 9).

    `S` is the number of tokens of the source, padding excluded. The weights inside the window are multiplied by a
    Gaussian around the position with a standard deviation of `D / 2` (equation 10) and, as in the paper, not
    normalised again, so that they do not sum to one.
    """

    def __init__(self, config: RnnS2SConfig, query_size: int) -> None:
        super().__init__(config, query_size)
        self.query_projection = nn.Linear(query_size, query_size, bias=False)
        self.position_projection = nn.Linear(query_size, 1, bias=False)

    def first_state(self, memory: Tensor, rows: int) -> Tensor | None:
        return None

    def forward(self, query: Tensor, sources: Sources, state: Tensor | None) -> Span:
        positions, lengths = _positions(sources)
        share = torch.sigmoid(self.position_projection(torch.tanh(self.query_projection(query)))).squeeze(-1)
        distance = self._distance(positions, lengths * share)
        factor = torch.exp(-2 * (distance / self.window).square()).to(query.dtype)
        return Span(distance.abs() <= self.window, factor, state)


def _positions(sources: Sources) -> tuple[Tensor, Tensor]:
    """The number of each source position among the tokens, `(sources, source)`, and that of all, `(sources, 1)`."""
    mask = sources.mask
    if mask is None:
        mask = torch.ones(sources.memory.shape[:2], dtype=torch.bool, device=sources.memory.device)
    return mask.cumsum(1) - 1, mask.sum(1, keepdim=True)


# `attention_span` of the configuration, and the class it names; None is the whole source.
SPANS: dict[str, type[MonotonicSpan] | None] = {
    "global": None,
    "monotonic": MonotonicSpan,
    "predictive": PredictiveSpan,
}


def sparsemax(scores: Tensor, dim: int) -> Tensor:
    """The probabilities that are nearest to the scores (Martins & Astudillo 2016, algorithm 1).

    Takes and returns `(..., source, ...)` with the sources in dimension `dim`. Low scores get a weight of exactly 0.
    """
    scores = scores - scores.amax(dim, keepdim=True)
    ordered = scores.sort(dim=dim, descending=True).values
    sums = ordered.cumsum(dim)
    shape = [-1 if axis == dim % scores.dim() else 1 for axis in range(scores.dim())]
    counts = torch.arange(1, scores.shape[dim] + 1, device=scores.device, dtype=scores.dtype).view(shape)
    support = (1 + counts * ordered > sums).sum(dim, keepdim=True)
    threshold = (sums.gather(dim, support - 1) - 1) / support
    return (scores - threshold).clamp(min=0)


# `attention_normalizer` of the configuration, and what turns scores into weights.
NORMALIZERS: dict[str, Callable[[Tensor, int], Tensor]] = {"softmax": torch.softmax, "sparsemax": sparsemax}


class ScoredAttention(Attention):
    """The sum of the memory, weighted by the softmax of scores (Bahdanau et al. 2015, equations 5 and 6).

    Args:
        score: compares queries with keys.
        dropout: probability of a weight to be dropped in training.
        span: where a query may look; None for the whole source.
        normalize: turns scores into weights.
    """

    def __init__(
        self,
        score: AttentionScore,
        dropout: float,
        span: MonotonicSpan | None = None,
        normalize: Callable[[Tensor, int], Tensor] = torch.softmax,
    ) -> None:
        nn.Module.__init__(self)
        self.score = score
        self.dropout = nn.Dropout(dropout)
        self.span = span
        self.normalize = normalize

    def prepare(self, memory: Tensor) -> Tensor:
        return self.score.prepare(memory)

    def first_state(self, memory: Tensor, rows: int) -> Any:
        """As in `Attention`: what the span remembers."""
        return None if self.span is None else self.span.first_state(memory, rows)

    def forward(self, query: Tensor, sources: Sources, state: Any = None) -> AttentionOutput:
        """As in `Attention`.

        The weights are zero at padding and, in an unlimited span, sum to one. A row of only padding has equal weights
        over a memory of zeros, so its context is zero.
        """
        scores = self.score.score(query, sources.keys)  # type: ignore[arg-type]
        return self._answer(query, scores, sources, state)

    def _answer(self, query: Tensor, scores: Tensor, sources: Sources, state: Any) -> AttentionOutput:
        """What `forward` returns, from the scores `(sources, queries, source)`."""
        mask = None if sources.mask is None else sources.mask.unsqueeze(1)
        factor = None
        if self.span is not None:
            inside, factor, state = self.span(query, sources, state)
            mask = inside if mask is None else inside & mask
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = self.normalize(scores, -1)
        if factor is not None:
            weights = weights * factor
        return self.dropout(weights) @ sources.memory, weights, state


class MultiHeadAttention(Attention):
    """Several attentions side by side, each to a part of linear maps of query and memory (Vaswani et al. 2017, 3.2.2).

    Query, keys and values are mapped, `W q`, `U m` and `V m`, and cut into as many parts as there are heads. All heads
    compare by the same kind of score, with one set of weights, and their contexts stand side by side. The output layer
    of Vaswani et al. is left out: whatever reads the context maps it.

    Args:
        attention: to one part.
        heads: their number, which divides both widths.
        query_size: width of the queries.
        memory_size: width of the memory.

    Raises:
        ValueError: if the heads do not divide the width of the memory.
    """

    once = ("key_projection", "value_projection")

    def __init__(self, attention: ScoredAttention, heads: int, query_size: int, memory_size: int) -> None:
        nn.Module.__init__(self)
        if memory_size % heads:
            raise ValueError(f"num_attention_heads={heads} does not divide {memory_size}, the width of the memory.")
        self.heads, self.value_size = heads, memory_size // heads
        self.query_projection = nn.Linear(query_size, query_size, bias=False)
        self.key_projection = nn.Linear(memory_size, query_size, bias=False)
        self.value_projection = nn.Linear(memory_size, memory_size, bias=False)
        self.attention = attention

    def prepare(self, memory: Tensor) -> Tensor:
        """Keys and values `(sources, heads, source, key + value)`, side by side."""
        keys, values = (self._split(layer(memory)) for layer in (self.key_projection, self.value_projection))
        return torch.cat([self.attention.prepare(keys), values], dim=-1)

    def first_state(self, memory: Tensor, rows: int) -> Any:
        """As in `Attention`: that of one head."""
        return self.attention.first_state(memory, rows)

    def forward(self, query: Tensor, sources: Sources, state: Any = None) -> AttentionOutput:
        count, joined = query.shape[0], cast(Tensor, sources.keys).flatten(0, 1)
        keys, values = joined[..., : -self.value_size], joined[..., -self.value_size :]
        mask = None if sources.mask is None else sources.mask.repeat_interleave(self.heads, dim=0)
        queries = self._split(self.query_projection(query)).flatten(0, 1)
        of_heads = state
        if state is not None:
            of_heads = state.view(count, 1, -1).expand(-1, self.heads, -1).flatten()
        context, weights, after = self.attention(queries, Sources(values, keys, mask), of_heads)
        if state is not None:
            state = after.view(count, self.heads, -1)[:, 0].reshape(state.shape)
        context, weights = (part.unflatten(0, (count, self.heads)) for part in (context, weights))
        return context.transpose(1, 2).flatten(2), weights, state

    def _split(self, vectors: Tensor) -> Tensor:
        """Cut `(sources, time, size)` into heads, `(sources, heads, time, size / heads)`."""
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CoverageAttention(ScoredAttention):
    """`v · tanh(W q + U m + w c)`, where `c` is the sum of all earlier weights (See et al. 2017, equations 10, 11)."""

    needs_steps = True

    def __init__(self, config: RnnS2SConfig, query_size: int, memory_size: int) -> None:
        score = AdditiveScore(query_size, memory_size, config.attention_hidden_size)
        super().__init__(score, config.attention_dropout, normalize=NORMALIZERS[config.attention_normalizer])
        self.coverage_projection = nn.Linear(self.features(config), score.hidden_size, bias=False)

    @staticmethod
    def features(config: RnnS2SConfig) -> int:
        """Number of features of a source position."""
        return 1

    def first_state(self, memory: Tensor, rows: int) -> Tensor:
        """As in `Attention`: `(rows, source)`."""
        return memory.new_zeros(rows, memory.shape[1])

    def forward(self, query: Tensor, sources: Sources, state: Any = None) -> AttentionOutput:
        remembered = state.view(*query.shape[:2], -1)
        feature = self._feature(remembered, sources.mask)
        scores = self.score.score(query, sources.keys, feature)  # type: ignore[arg-type, call-arg]
        context, weights, _ = self._answer(query, scores, sources, None)
        return context, weights, self._after(remembered, weights).view_as(state)

    def _feature(self, remembered: Tensor, mask: Tensor | None) -> Tensor:
        """What is added inside the tanh, `(sources, queries, source, hidden)`."""
        return self.coverage_projection(remembered.unsqueeze(-1))

    def _after(self, remembered: Tensor, weights: Tensor) -> Tensor:
        return remembered + weights


class LocationAttention(CoverageAttention):
    """`v · tanh(W q + U m + w f)`, where `f = F * a` is a convolution of the weights `a` of the step before.

    Chorowski et al. 2015, equations 8 and 9. Before the first step all weights are zero. `location_filters` are the
    rows of `F`, and each is `2 * location_width + 1` positions wide.
    """

    def __init__(self, config: RnnS2SConfig, query_size: int, memory_size: int) -> None:
        super().__init__(config, query_size, memory_size)
        width = config.location_width
        self.filters = nn.Conv1d(1, config.location_filters, 2 * width + 1, padding=width, bias=False)

    @staticmethod
    def features(config: RnnS2SConfig) -> int:
        return config.location_filters

    def _feature(self, remembered: Tensor, mask: Tensor | None) -> Tensor:
        places = None
        if mask is not None:  # padding may stand between tokens, which are neighbours all the same
            places = (mask.cumsum(1) - 1).clamp(min=0).unsqueeze(1).expand_as(remembered)
            remembered = torch.zeros_like(remembered).scatter_add(2, places, remembered)
        features = self.filters(remembered.flatten(0, 1).unsqueeze(1)).mT.unflatten(0, remembered.shape[:2])
        if places is not None:
            features = features.gather(2, places.unsqueeze(3).expand_as(features))
        return self.coverage_projection(features)

    def _after(self, remembered: Tensor, weights: Tensor) -> Tensor:
        return weights


class HardAttention(Attention):
    """Looks at one position `a`, with the probability `softmax_a(q · W m_a)` (Wu et al. 2018, 0-HARD).

    Nobody knows which one, so `head_type="marginal"` sums over all. There is no context. In its place stands the value
    `V m` of each position, `(sources, source, value)`; a readout makes `tanh(W h + V m)` of it, for every position. In
    the place of weights stand logarithms of `p(a | a')`, the probability of a position after a step that looked at
    `a'`: `(sources, source + 1, queries, source)`. The last `a'` is that of the first step, which goes on from the
    first token, as in the authors' code. Where `a'` makes no difference there is one for all: here.

    Attributes:
        is_chain: whether a position depends on the one before.
    """

    once = ("key_projection", "value_projection")
    is_hard, is_chain = True, False

    def __init__(self, config: RnnS2SConfig, query_size: int, memory_size: int, key_size: int | None = None) -> None:
        super().__init__(config, query_size, memory_size)
        self.key_size = key_size or query_size
        self.key_projection = nn.Linear(memory_size, self.key_size, bias=False)
        self.value_projection = nn.Linear(memory_size, config.readout_size or config.embedding_size, bias=False)
        self.dropout = SequenceDropout(config.dropout)

    def prepare(self, memory: Tensor) -> Tensor:
        """Keys and values `(sources, source, key + value)`, side by side."""
        return torch.cat([self.key_projection(memory), self.value_projection(self.dropout(memory))], dim=-1)

    def forward(self, query: Tensor, sources: Sources, state: Any = None) -> AttentionOutput:
        prepared = cast(Tensor, sources.keys)
        keys, values = prepared[..., : self.key_size], prepared[..., self.key_size :]
        scores = self._scores(query, keys, sources)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        allowed = self._allowed(_distances(sources))
        if sources.mask is not None:
            allowed = allowed & sources.mask.unsqueeze(1)
        scores = scores.masked_fill(~allowed.unsqueeze(2), torch.finfo(scores.dtype).min)
        # A number and not infinity, so that sums of it have a gradient
        return values, scores.log_softmax(-1).clamp(min=NO_WEIGHT), state

    def _scores(self, query: Tensor, keys: Tensor, sources: Sources) -> Tensor:
        """What the softmax is taken of, `(sources, source + 1, queries, source)`, or with 1 for all `a'`."""
        return (query @ keys.transpose(1, 2)).unsqueeze(1)

    def _allowed(self, distances: Tensor) -> Tensor:
        """Which moves by `(sources, source + 1, source)` tokens are allowed; 1 for all `a'`."""
        return torch.ones_like(distances[:, :1], dtype=torch.bool)


class HardMonotonicAttention(HardAttention):
    """As `hard`, but it never goes back: the softmax is over `a >= a'` (Wu & Cotterell 2019, 0-MONO).

    At the first step it is over all positions.
    """

    is_chain = True

    def _allowed(self, distances: Tensor) -> Tensor:
        return distances >= 0


class HardFirstOrderAttention(HardAttention):
    """Moves by `d` tokens, with the probability `softmax_d(U [q; m_a'])` (Wu & Cotterell 2019, first order).

    It moves by `attention_window` tokens at most, to either side, and not into padding. In the authors' code `U` reads
    a linear map of `m_a'`; one map does what two do.
    """

    is_chain, goes_back = True, True

    def __init__(self, config: RnnS2SConfig, query_size: int, memory_size: int) -> None:
        self.furthest_back = config.attention_window if self.goes_back else 0
        super().__init__(config, query_size, memory_size, self.furthest_back + 1 + config.attention_window)
        self.query_projection = nn.Linear(query_size, self.key_size)

    def _scores(self, query: Tensor, keys: Tensor, sources: Sources) -> Tensor:
        moves = self.query_projection(query).unsqueeze(1) + _with_first(keys, sources).unsqueeze(2)
        places = (_distances(sources) + self.furthest_back).clamp(0, self.key_size - 1).unsqueeze(2)
        return moves.gather(3, places.expand(-1, -1, query.shape[1], -1))

    def _allowed(self, distances: Tensor) -> Tensor:
        return (distances >= -self.furthest_back) & (distances < self.key_size - self.furthest_back)


class HardFirstOrderMonotonicAttention(HardFirstOrderAttention):
    """As `hard_first_order`, but it never goes back: `d >= 0` (Wu & Cotterell 2019, 1-MONO)."""

    goes_back = False


def _with_first(parts: Tensor, sources: Sources) -> Tensor:
    """Parts of the source positions `(sources, source, ...)`, and behind them that of the first token once more."""
    if sources.mask is None:
        return torch.cat([parts, parts[:, :1]], dim=1)
    rows = torch.arange(len(parts), device=parts.device)
    return torch.cat([parts, parts[rows, sources.mask.int().argmax(1)].unsqueeze(1)], dim=1)


def _distances(sources: Sources) -> Tensor:
    """How many tokens each position is behind each one, and behind the first, `(sources, before, source)`."""
    numbers, _ = _positions(sources)
    return numbers.unsqueeze(1) - _with_first(numbers, sources).unsqueeze(2)


# `attention_type` of the configuration: a score for the ordinary attention, an attention, or none at all.
ATTENTIONS: dict[str, type[AttentionScore] | type[Attention] | None] = {
    "none": None,
    "dot": DotScore,
    "scaled_dot": ScaledDotScore,
    "general": GeneralScore,
    "additive": AdditiveScore,
    "normed_additive": NormedAdditiveScore,
    "cosine": CosineScore,
    "plain_cosine": PlainCosineScore,
    "coverage": CoverageAttention,
    "location": LocationAttention,
    "hard": HardAttention,
    "hard_monotonic": HardMonotonicAttention,
    "hard_first_order": HardFirstOrderAttention,
    "hard_first_order_monotonic": HardFirstOrderMonotonicAttention,
}


def build_attention(config: RnnS2SConfig, query_size: int, memory_size: int) -> Attention | None:
    """The attention that a configuration names; None for `attention_type="none"`."""
    kind, heads = ATTENTIONS[config.attention_type], config.num_attention_heads
    if kind is None:
        return None
    if not issubclass(kind, AttentionScore):
        return kind(config, query_size, memory_size)
    size = query_size // heads
    span, widths = SPANS[config.attention_span], (size, size if heads > 1 else memory_size)
    hidden_size = config.attention_hidden_size
    attention = ScoredAttention(
        kind(*widths, hidden_size) if issubclass(kind, AdditiveScore) else kind(*widths),
        config.attention_dropout,
        None if span is None else span(config, size),
        NORMALIZERS[config.attention_normalizer],
    )
    return attention if heads == 1 else MultiHeadAttention(attention, heads, query_size, memory_size)
