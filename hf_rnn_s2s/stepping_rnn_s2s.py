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
        tokens: `(shortlist,)`, the only ids that may be written, in ascending order; None for the whole vocabulary.

    Attributes:
        vocabulary_size: number of logits in a row.
        bias: `(vocabulary,)`, what `step` leaves for others to add to its products; None for nothing.
    """

    def __init__(
        self,
        decoder: RnnS2SDecoder,
        head: nn.Module,
        encoder_outputs: RnnS2SEncoderOutput,
        attention_mask: torch.Tensor | None,
        tokens: torch.Tensor | None = None,
    ) -> None:
        self._decoder, self._head, self._tokens = decoder, head, tokens
        self._sources = self._decoder.prepare(encoder_outputs, attention_mask)
        self._state = self._decoder.first_state(encoder_outputs)
        self._weight: torch.Tensor | None = None
        self.bias: torch.Tensor | None = None
        if type(head) is nn.Linear and not torch.is_autocast_enabled(self._sources.memory.device.type):
            self._weight, self.bias = head.weight, head.bias
            if tokens is not None:
                self._weight = self._weight[tokens]
                self.bias = None if self.bias is None else self.bias[tokens]
        self.vocabulary_size = decoder.config.target_vocab_size if tokens is None else len(tokens)
        self._buffer = torch.empty(0)

    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """
        Reads tokens `(rows, time)` and returns the logits `(rows, vocabulary)` of what follows the last one, without
        the bias. They stand in memory that the next step writes to.
        """
        embedded = self._decoder.embed_tokens(token_ids)
        reading, self._state = self._decoder.read(embedded, self._state, self._sources)
        hidden = reading.last_hidden_state[:, -1]
        if self._weight is None:
            logits = self._head(hidden)
            return logits if self._tokens is None else logits[:, self._tokens]
        # The largest tensor of a step. New memory for it would cost as much as the product does.
        if len(self._buffer) < len(hidden):
            self._buffer = hidden.new_empty(len(hidden), len(self._weight))
        return torch.mm(hidden, self._weight.t(), out=self._buffer[: len(hidden)])

    def ids(self, columns: torch.Tensor) -> torch.Tensor:
        """The token ids of columns of the logits."""
        return columns if self._tokens is None else self._tokens[columns]

    def with_bias(self, products: torch.Tensor) -> torch.Tensor:
        """The float32 logits of what `step` returned, which may change."""
        logits = products.float()
        return logits if self.bias is None else logits.add_(self.bias)

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


__all__ = ["Stepper"]
