"""The decoder one token at a time, with nothing around it: what a search repeats for every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..model.decoder_rnn_s2s import RnnS2SDecoder
from ..model.encoder_rnn_s2s import RnnS2SEncoderOutput
from .guard import is_plain, is_unchanged
from .packing import Module, packed

ONCE = ("bridge", "key_projection")  # what a search calls once per sentence


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
        rows: how many there will be. For a single one, reading its weights takes as long as packing them would.
        look: is shown the logits of the first step, `(rows, vocabulary)`.

    Attributes:
        modules: the decoder and the output layer as they were given.
        vocabulary_size: number of logits in a row.
    """

    def __init__(
        self,
        decoder: RnnS2SDecoder,
        head: nn.Module,
        encoder_outputs: RnnS2SEncoderOutput,
        attention_mask: torch.Tensor | None,
        tokens: torch.Tensor | None = None,
        rows: int = 2,
        look: Callable[[torch.Tensor], None] | None = None,
    ) -> None:
        self.modules = (decoder, head)
        self._tokens, self._rows, self._look = tokens, rows, look
        self._decoder = self._for_steps(decoder)
        self._head = self._for_steps(head if tokens is None else _head_for(head, tokens))
        self._sources = decoder.prepare(encoder_outputs, attention_mask)
        self._state = decoder.first_state(encoder_outputs)
        self._beginning = self._sources, self._state
        self.vocabulary_size = decoder.config.target_vocab_size if tokens is None else len(tokens)

    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """
        Reads tokens `(rows, time)` and returns the logits `(rows, vocabulary)` of what follows the last one. Nobody
        else needs them: they may be changed.
        """
        embedded = self._decoder.embed_tokens(token_ids)
        reading, self._state = self._decoder.read(embedded, self._state, self._sources)
        logits = self._head(reading.last_hidden_state[:, -1])
        if self._look is not None:
            self._look(logits)
            self._look = None
        return logits

    def begin_again(self) -> None:
        """Back to where the first step began."""
        self._sources, self._state = self._beginning

    def _for_steps(self, module: Module) -> Module:
        """The module as it will be called."""
        return packed(module, keep=ONCE) if self._rows > 1 else module

    def ids(self, columns: torch.Tensor) -> torch.Tensor:
        """The token ids of columns of the logits."""
        return columns if self._tokens is None else self._tokens[columns]

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


def _head_for(head: nn.Module, tokens: torch.Tensor) -> nn.Module:
    """An output layer for these tokens only."""
    # What else is derived from a linear layer may compute anything.
    is_linear = isinstance(head, nn.Linear) and (type(head) is nn.Linear or hasattr(head, "selects_rows"))
    if not (isinstance(head, nn.Linear) and is_linear and is_unchanged(head, type(head)) and is_plain(head.weight)):
        return _Columns(head, tokens)
    selected = nn.Linear(head.in_features, len(tokens), head.bias is not None, device="meta")
    selected.weight = nn.Parameter(head.weight[tokens], requires_grad=False)
    if head.bias is not None:
        selected.bias = nn.Parameter(head.bias[tokens], requires_grad=False)
    return selected


class _Columns(nn.Module):
    """Some of the outputs `(rows, outputs)` of another module."""

    def __init__(self, module: nn.Module, columns: torch.Tensor) -> None:
        super().__init__()
        self._module, self._columns = module, columns

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._module(inputs)[:, self._columns]


__all__ = ["Stepper"]
