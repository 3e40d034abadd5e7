"""Training of a decoder that loops over the steps, with as little in the loop as possible.

A context may depend on the step before, and so do the layers that ask for it. No step waits for the layers above those
or for the readout, unless what the readout returns is fed back. So a first pass reads step by step up to the contexts,
and a second one reads the rest, the whole target in one call of each layer. What is computed is the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..decoding.guard import may_look_inside
from ..model.decoder_rnn_s2s import ConditionalDecoder, RnnS2SDecoder
from ..model.state_rnn_s2s import DecoderOutput, DecoderState, LayerState, Sources


def in_two_passes(decoder: RnnS2SDecoder) -> RnnS2SDecoder:
    """A decoder that computes the same in two passes; itself where that is not possible."""
    can_wait = type(decoder) in (RnnS2SDecoder, ConditionalDecoder) and not decoder.input_feeding
    if not (can_wait and decoder.needs_steps and decoder.attention is not None and may_look_inside(decoder)):
        return decoder
    above = decoder.layers[decoder.query_layer + 1 :]
    if decoder.is_hard or any(getattr(layer, "needs_steps", False) for layer in above):
        return decoder
    return _with_class(decoder, _TwoPasses)


class _TwoPasses(RnnS2SDecoder):
    """Reads up to the contexts step by step, and then all the rest at once."""

    def read_in_chunks(
        self, embedded: Tensor, state: DecoderState, sources: Sources, mask: Tensor | None = None, single: bool = False
    ) -> Iterator[tuple[DecoderOutput, DecoderState]]:
        """As in `RnnS2SDecoder`, but yield all at once, unless there is a mask or single steps are asked for."""
        if mask is not None or single or embedded.shape[1] == 1:
            yield from super().read_in_chunks(embedded, state, sources, mask, single)
            return
        state = state._replace(dropout=self._draw_dropout(embedded, state))
        lower: Any = _with_class(self, _UpToContext)
        lower.layers, lower.read = self.layers[: self.query_layer + 1], []
        chunks = list(RnnS2SDecoder.read_in_chunks(lower, embedded, state, sources))
        top, context, tokens = (torch.cat(parts, dim=1) for parts in zip(*lower.read, strict=True))
        steps = [output for output, _ in chunks]
        outputs = [torch.cat(parts, dim=1) for parts in zip(*(one.layer_outputs for one in steps), strict=True)]
        after = chunks[-1][1]
        states = list(after.layers)
        below = self._read_above(context, state, outputs, states)
        last, summary = self._read_out(top if self.readout.reads_query else below, context, tokens, state)
        weights = torch.cat([one.weights for one in steps if one.weights is not None], dim=2)
        read = DecoderOutput(last, weights, tuple(outputs), embedded)
        yield read, after._replace(layers=tuple(states), readout=summary, dropout=state.dropout)

    def _read_above(
        self, context: Tensor, state: DecoderState, outputs: list[Tensor], states: list[LayerState]
    ) -> Tensor:
        """Read with the layers above the one that asks; append their outputs and last states, and return the top."""
        dropout = state.dropout or {}
        for index in range(self.query_layer + 1, len(self.layers)):
            place, below = str(index), outputs[-1]
            if place in self.fusions:
                below = self.fusions[place](below, context)
            below = self.dropout(below, dropout.get(place))
            masks = dropout["layers"][index] if dropout else {}
            above, after = self.layers[index](below, state.layers[index], **masks)
            if index + 1 >= self.adds_from_layer:
                above = above + outputs[-1]
            outputs.append(above)
            states.append(after)
        return outputs[-1]


class _UpToContext(RnnS2SDecoder):
    """Reads with the layers up to the one that asks, and notes what the readout would have read.

    Attributes:
        read: for each step what it reads of the top, `(rows, 1, hidden)`, the context, and the tokens.
    """

    read: list[tuple[Tensor, Tensor, Tensor]]

    def _read_out(
        self, top: Tensor, context: Tensor | None, tokens: Tensor, state: DecoderState
    ) -> tuple[Tensor, Any]:
        assert context is not None  # in_two_passes has looked for an attention
        self.read.append((top, context, tokens))
        return top, state.readout


def _with_class(decoder: Any, kind: type[nn.Module]) -> Any:
    """A decoder of another class with the same parts."""
    other = copy.copy(decoder)
    other._modules = dict(decoder._modules)
    other.__class__ = kind
    return other
