"""Spans: which part of the source a query may look at, around a position (Luong et al. 2015, section 3.2)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .configuration_rnn_s2s import RnnS2SConfig
from .state_rnn_s2s import Sources


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
    """Local attention that moves on by one position at each step, `p_t = t` (local-m).

    Its window is `[p_t - D, p_t + D]` with `D = attention_window`. Behind the last token it stays there.

    The arguments are the configuration of the model, and the width of the queries. This class is the contract of all
    spans; it also remembers how many queries there were in each row.
    """

    def __init__(self, config: RnnS2SConfig, query_size: int) -> None:
        super().__init__()
        self.window = config.attention_window

    def first_state(self, memory: Tensor, rows: int) -> Tensor | None:
        """As in `Attention`."""
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
    """Local attention around a predicted position, `p_t = S sigmoid(v · tanh(W q))` (local-p, equation 9).

    `S` is the number of tokens of the source, padding excluded. The weights inside the window are multiplied by a
    Gaussian around the position with a standard deviation of `D / 2` (equation 10) and, as in the paper, not
    normalised again, so that they do not sum to one.
    """

    def __init__(self, config: RnnS2SConfig, query_size: int) -> None:
        super().__init__(config, query_size)
        self.query_projection = nn.Linear(query_size, query_size, bias=False)
        self.position_projection = nn.Linear(query_size, 1, bias=False)

    def first_state(self, memory: Tensor, rows: int) -> Tensor | None:
        """As in `Attention`: nothing."""
        return None

    def forward(self, query: Tensor, sources: Sources, state: Tensor | None) -> Span:
        """As in `MonotonicSpan`."""
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
