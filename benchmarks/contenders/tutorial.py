"""What tutorials teach: attention and output layer inside a Python loop over the target's positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.streams import PAD, START, Streams, padded

from .base import DROPOUT, EMBEDDING, HIDDEN, LEARNING_RATE, SMOOTHING, Contender


class LoopModel(nn.Module):
    """Attention of Bahdanau et al. 2015 from the previous state; the output layer reads state, context and word."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(vocabulary, EMBEDDING, PAD)
        self.target_embedding = nn.Embedding(vocabulary, EMBEDDING, PAD)
        self.encoder = nn.LSTM(EMBEDDING, HIDDEN // 2, bidirectional=True, batch_first=True)
        self.bridge = nn.Linear(HIDDEN, HIDDEN)
        self.attention = nn.Linear(2 * HIDDEN, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1, bias=False)
        self.cell = nn.LSTM(EMBEDDING + HIDDEN, HIDDEN, batch_first=True)
        self.output = nn.Linear(2 * HIDDEN + EMBEDDING, vocabulary)
        self.dropout = nn.Dropout(DROPOUT)

    def encode(self, source: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Memory and first state."""
        lengths = source.ne(PAD).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.source_embedding(source)), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, (hidden, _) = self.encoder(packed)
        memory, _ = nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)
        first = torch.tanh(self.bridge(torch.cat([hidden[0], hidden[1]], dim=1))).unsqueeze(0)
        return memory, (first, torch.zeros_like(first))

    def step(self, token: torch.Tensor, state: Any, memory: torch.Tensor, mask: torch.Tensor) -> tuple[Any, Any]:
        """Logits of the next token and the next state."""
        embedded = self.dropout(self.target_embedding(token)).unsqueeze(1)
        query = state[0].transpose(0, 1).expand(-1, memory.shape[1], -1)
        scores = self.score(torch.tanh(self.attention(torch.cat([query, memory], dim=2)))).squeeze(2)
        weights = scores.masked_fill(~mask, -1e10).softmax(1)
        context = weights.unsqueeze(1) @ memory
        outputs, state = self.cell(torch.cat([embedded, context], dim=2), state)
        return self.output(torch.cat([outputs, context, embedded], dim=2)).squeeze(1), state

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Logits `(target, batch, vocabulary)` of all that follows the first position."""
        memory, state = self.encode(source)
        mask = source.ne(PAD)
        logits = memory.new_zeros(target.shape[1] - 1, len(source), self.output.out_features)
        for position in range(target.shape[1] - 1):
            logits[position], state = self.step(target[:, position], state, memory, mask)
        return logits


class Tutorial(Contender):
    """With plain Adam, as there."""

    model: LoopModel
    has_buckets = False

    def __init__(self, streams: Streams, precision: str) -> None:
        super().__init__(streams, precision)
        self.model = LoopModel(streams.vocabulary)
        self.optimizer = torch.optim.Adam(self.model.parameters(), LEARNING_RATE)

    def batch(self, rows: list[int]) -> Any:
        sources, targets = zip(*(self.streams.pairs[row] for row in rows), strict=True)
        with_start = [[START, *target] for target in targets]
        return torch.tensor(padded(list(sources), PAD)), torch.tensor(padded(with_start, PAD))

    def train_step(self, batch: Any) -> float:
        source, target = batch
        with self._autocast():
            logits = self.model(source, target)
        loss = functional.cross_entropy(
            logits.flatten(0, 1).float(), target[:, 1:].t().flatten(), ignore_index=PAD, label_smoothing=SMOOTHING
        )
        return self._update(loss)


THE_CONTENDER = Tutorial
