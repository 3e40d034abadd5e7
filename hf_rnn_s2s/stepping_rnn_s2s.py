"""The decoder one token at a time, with nothing around it: what a search repeats for every step."""

from __future__ import annotations

import torch
from torch import nn

from .decoder_rnn_s2s import RnnS2SDecoder
from .encoder_rnn_s2s import RnnS2SEncoderOutput


class Stepper:
    """
    What one search carries from step to step: the decoder's state in every row, and the sources. Beams of one sentence
    are rows that stand next to each other; the sources are there once for all of them.

    Args:
        decoder: reads tokens.
        head: the output layer.
        encoder_outputs: of the sources, for one row each.
        attention_mask: `(sources, source)`, 1 at tokens; None takes the mask of `encoder_outputs`.

    Attributes:
        vocabulary_size: number of logits in a row.
    """

    def __init__(
        self,
        decoder: RnnS2SDecoder,
        head: nn.Module,
        encoder_outputs: RnnS2SEncoderOutput,
        attention_mask: torch.Tensor | None,
    ) -> None:
        self._decoder, self._head = decoder, head
        self.vocabulary_size = decoder.config.target_vocab_size
        self._sources = self._decoder.prepare(encoder_outputs, attention_mask)
        self._state = self._decoder.first_state(encoder_outputs)
        self._products = self._logits = torch.empty(0)

    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """
        Reads tokens `(rows, time)` and returns the float32 logits `(rows, vocabulary)` of what follows the last one.
        They stand in memory that the next step writes to.
        """
        embedded = self._decoder.embed_tokens(token_ids)
        reading, self._state = self._decoder.read(embedded, self._state, self._sources)
        return self._output(reading.last_hidden_state[:, -1])

    def go_on_from(self, rows: torch.Tensor, sources: torch.Tensor | None = None) -> None:
        """
        Row `i` goes on from the state of row `rows[i]`.

        Args:
            rows: as many as there shall be, a whole number for each source.
            sources: indices of the sources that are still needed; None keeps all.
        """
        self._state = tuple(tuple(part.index_select(0, rows) for part in layer) for layer in self._state)
        if sources is not None:
            self._sources = self._sources.select(sources)

    def _output(self, hidden: torch.Tensor) -> torch.Tensor:
        if type(self._head) is not nn.Linear or torch.is_autocast_enabled(hidden.device.type):
            return self._head(hidden).float()
        # The largest tensors of a step. New memory for them would cost as much as the product does.
        rows, weight, bias = len(hidden), self._head.weight, self._head.bias
        if len(self._logits) < rows:
            self._logits = hidden.new_empty(rows, len(weight), dtype=torch.float32)
            is_float32 = hidden.dtype == torch.float32
            self._products = self._logits if is_float32 else torch.empty_like(self._logits, dtype=hidden.dtype)
        logits = self._logits[:rows]
        products = torch.mm(hidden, weight.t(), out=self._products[:rows])
        if self._products is not self._logits:
            logits.copy_(products)
        return logits if bias is None else logits.add_(bias)


__all__ = ["Stepper"]
