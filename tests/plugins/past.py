"""An attention whose memory of the target grows with every step."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hf_rnn_s2s import RnnS2SConfig, register
from hf_rnn_s2s.model.attention_rnn_s2s import Attention
from hf_rnn_s2s.model.state_rnn_s2s import Sources


class PastAttention(Attention):
    """
    The decoder attends to its own past: a query is added up with all queries so far, weighted by the softmax of their
    dot products with it (as in Miculicich Werlen et al. 2018), and the sum asks the source, `(q + s) · W m`.

    The past is `(rows, steps, query)`, with the number of steps of each row beside it: a row that stays as it is while
    others move on has padding at the end.
    """

    needs_steps = True
    once = ("key_projection",)

    def __init__(self, config: RnnS2SConfig, query_size: int, memory_size: int) -> None:
        super().__init__(config, query_size, memory_size)
        self.query_size = query_size
        self.key_projection = nn.Linear(memory_size, query_size, bias=False)

    def prepare(self, memory: torch.Tensor) -> torch.Tensor:
        return self.key_projection(memory)

    def first_state(self, memory: torch.Tensor, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.zeros(rows, dtype=torch.long, device=memory.device)
        return memory.new_zeros(rows, 0, self.query_size), lengths

    def forward(
        self, query: torch.Tensor, sources: Sources, state: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, Any]:
        past, lengths = state
        now = query.reshape(len(past), 1, -1)
        past = functional.pad(past, (0, 0, 0, 1))
        positions = torch.arange(past.shape[1], device=past.device)
        past = torch.where((positions == lengths.unsqueeze(1)).unsqueeze(2), now, past)
        unread = positions > lengths.unsqueeze(1)
        weights = (now @ past.mT).masked_fill(unread.unsqueeze(1), -torch.inf).softmax(dim=-1)
        asked = (now + weights @ past).view_as(query)
        scores = asked @ sources.keys.mT
        if sources.mask is not None:
            scores = scores.masked_fill(~sources.mask.unsqueeze(1), torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-1)
        return weights @ sources.memory, weights, (past, lengths + 1)


register("attention_type", "past", PastAttention)
