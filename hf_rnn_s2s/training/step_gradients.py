"""Training of a decoder that reads step by step: the gradient of each weight is made once, see `weight_gradients`.

Layers that no kernel computes, in an encoder as in a decoder, are replaced by those of `looped_layers`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..decoding.guard import may_use_weights
from ..decoding.packing import rebuilt
from ..model.cells_rnn_s2s import LayerNormLSTMLayer, LSTMLayer, RecurrentLayer, ResetFirstGRULayer
from ..model.decoder_rnn_s2s import RnnS2SDecoder
from ..model.state_rnn_s2s import LayerState
from .looped_layers import LoopedLayerNormLSTM, LoopedResetFirstGRU
from .two_passes import in_two_passes
from .weight_gradients import Collected, SharedWeight, can_collect, for_autocast, product

Module = TypeVar("Module", bound=nn.Module)
LOOPED: dict[type[nn.Module], Any] = {
    LayerNormLSTMLayer: LoopedLayerNormLSTM,
    ResetFirstGRULayer: LoopedResetFirstGRU,
}


def with_step_gradients(decoder: RnnS2SDecoder) -> RnnS2SDecoder:
    """A decoder that computes the same, for one forward pass and its backward pass; itself where that is of no use."""
    if not can_collect():
        return decoder
    return in_two_passes(rebuilt(decoder, _replace if decoder.needs_steps else _replace_looped))


def with_looped_layers(encoder: Module) -> Module:
    """The same for an encoder: without its own loops over the steps."""
    return rebuilt(encoder, _replace_looped) if can_collect() else encoder


def _replace_looped(module: nn.Module) -> nn.Module:
    is_looped = may_use_weights(module, *LOOPED) and not _drops(module)
    return LOOPED[type(module)](module) if is_looped else module


def _replace(module: nn.Module) -> nn.Module:
    if not may_use_weights(module, nn.Linear, LSTMLayer):
        return _replace_looped(module)
    if isinstance(module, nn.Linear):
        return SteppedLinear(module)
    assert isinstance(module, LSTMLayer)
    return module if _drops(module) else SteppedLSTM(module)


def _drops(module: nn.Module) -> bool:
    """Whether a layer drops something inside the recurrence."""
    assert isinstance(module, RecurrentLayer)
    return module.training and bool(module.state_dropout or module.candidate_dropout)


class SteppedLinear(nn.Module):
    """As the linear layer it is made of, for one pass."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._shared = SharedWeight(*for_autocast([linear.weight, linear.bias]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`."""
        return self._shared.product(inputs)


class SteppedLSTM(nn.Module):
    """As the LSTM layer it is made of, for one pass, a step at a time."""

    def __init__(self, layer: LSTMLayer) -> None:
        super().__init__()
        self._layer = [layer]  # in a list, so that its parameters are not listed twice
        parts = [layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh]
        weight_ih, weight_hh, bias_ih, bias_hh = for_autocast(parts)
        weight = torch.cat([weight_ih, weight_hh], dim=1)
        self._shared = SharedWeight(weight, bias_ih + bias_hh)

    def draw_dropout(self, like: Tensor) -> Any:
        """As in `RecurrentLayer`."""
        return self._layer[0].draw_dropout(like)

    def forward(self, inputs: Tensor, state: LayerState, dropout: Any = None) -> tuple[Tensor, LayerState]:
        """Read one step `(batch, 1, input)`, or more of them, as in `RecurrentLayer`."""
        if inputs.shape[1] != 1:
            return self._layer[0](inputs, state, dropout=dropout)
        shared = self._shared
        step, hidden, cell = for_autocast([inputs.squeeze(1), *state])
        with torch.autocast(inputs.device.type, enabled=False):
            joined = torch.cat([step, hidden], dim=1)
            hidden, cell = _LSTMStep.apply(joined, cell, shared.weight, shared.bias, shared.collected)
        return hidden.unsqueeze(1), (hidden, cell)


class _LSTMStep(Function):
    """One step of an LSTM layer, as in `LSTMLayer`, of inputs and hidden state side by side."""

    @staticmethod
    def forward(
        ctx: Any, joined: Tensor, cell: Tensor, weight: Tensor, bias: Tensor, collected: Collected
    ) -> tuple[Tensor, Tensor]:
        gates = product(joined, weight, bias)
        kept, added, candidate, shown = _activated(gates)
        after = kept * cell + added * candidate
        squashed = after.tanh()
        ctx.save_for_backward(joined, cell, weight, gates, squashed)
        ctx.collected = collected
        return shown * squashed, after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_hidden: Tensor, of_cell: Tensor) -> Any:
        joined, cell, weight, gates, squashed = ctx.saved_tensors
        kept, added, candidate, shown = _activated(gates)
        of_cell = of_cell + of_hidden * shown * (1 - squashed * squashed)
        of_gates = torch.cat(
            [
                of_cell * candidate * added * (1 - added),
                of_cell * cell * kept * (1 - kept),
                of_cell * added * (1 - candidate * candidate),
                of_hidden * squashed * shown * (1 - shown),
            ],
            dim=1,
        )
        ctx.collected.put(of_gates, joined)
        return product(of_gates, weight.T), of_cell * kept, None, None, None


def _activated(gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Forget gate, input gate, candidate and output gate, of torch's order: input, forget, candidate, output."""
    added, kept, candidate, shown = gates.chunk(4, dim=1)
    return kept.sigmoid(), added.sigmoid(), candidate.tanh(), shown.sigmoid()
