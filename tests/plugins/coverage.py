"""An attention that remembers where it has looked."""

from typing import Any

import torch
from torch import nn

from hf_rnn_s2s import RnnS2SConfig, register
from hf_rnn_s2s.model.attention_rnn_s2s import Attention
from hf_rnn_s2s.model.state_rnn_s2s import Sources


class CoverageAttention(Attention):
    """`v · tanh(W q + U m + w c)`, where `c` is the sum of all earlier weights (See et al. 2017, equation 11)."""

    needs_steps = True
    once = ("key_projection",)

    def __init__(self, config: RnnS2SConfig, query_size: int, memory_size: int) -> None:
        super().__init__(config, query_size, memory_size)
        self.query_projection = nn.Linear(query_size, query_size)
        self.key_projection = nn.Linear(memory_size, query_size, bias=False)
        self.coverage_projection = nn.Linear(1, query_size, bias=False)
        self.score_projection = nn.Linear(query_size, 1, bias=False)

    def prepare(self, memory: torch.Tensor) -> torch.Tensor:
        return self.key_projection(memory)

    def first_state(self, memory: torch.Tensor, rows: int) -> torch.Tensor:
        return memory.new_zeros(rows, memory.shape[1])

    def forward(
        self, query: torch.Tensor, sources: Sources, state: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        coverage = state.view(*query.shape[:2], -1)
        asked, keys = self.query_projection(query).unsqueeze(2), sources.keys.unsqueeze(1)
        met = torch.tanh(asked + keys + self.coverage_projection(coverage.unsqueeze(-1)))
        scores = self.score_projection(met).squeeze(-1)
        if sources.mask is not None:
            scores = scores.masked_fill(~sources.mask.unsqueeze(1), torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        return weights @ sources.memory, weights, (coverage + weights).view_as(state)


register("attention_type", "own_coverage", CoverageAttention)
