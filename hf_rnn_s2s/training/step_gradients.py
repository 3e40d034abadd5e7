"""Training of a decoder that reads step by step: the gradient of a weight is made once, not once for each step.

A product has the gradient `g^T x` for its weight. Where the same weight is used at every step, autograd makes such a
product for each of them, of few rows each, and adds them up. Here the steps put their `g` and `x` aside, and one
product of all of them makes the gradient when the last one is there. What is computed is the same.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..decoding.guard import may_use_weights
from ..decoding.packing import has_kernels, linear, rebuilt
from ..model.cells_rnn_s2s import LSTMLayer
from ..model.decoder_rnn_s2s import RnnS2SDecoder
from ..model.state_rnn_s2s import LayerState

Module = TypeVar("Module", bound=nn.Module)
Collected = list[tuple[Tensor, Tensor]]  # for each step the gradients `(rows, out)` and the inputs `(rows, in)`


def with_step_gradients(decoder: RnnS2SDecoder) -> RnnS2SDecoder:
    """A decoder that computes the same, for one forward pass and its backward pass; itself where that is of no use."""
    wanted = torch.is_grad_enabled() and decoder.needs_steps and not torch.compiler.is_compiling()
    return rebuilt(decoder, _replace) if wanted else decoder


def _replace(module: nn.Module) -> nn.Module:
    if not may_use_weights(module, nn.Linear, LSTMLayer):
        return module
    if isinstance(module, nn.Linear):
        return SteppedLinear(module)
    assert isinstance(module, LSTMLayer)
    drops = module.training and (module.state_dropout or module.candidate_dropout)
    return module if drops else SteppedLSTM(module)


class SteppedLinear(nn.Module):
    """As the linear layer it is made of, for one pass."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._collected: Collected = []
        weight, bias = _for_autocast([linear.weight, linear.bias])
        self._weights = _Gate.apply(weight, bias, self._collected)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`."""
        (rows,) = _for_autocast([inputs.flatten(0, -2)])
        with torch.autocast(inputs.device.type, enabled=False):
            outputs = _Product.apply(rows, *self._weights, self._collected)
        return outputs.view(*inputs.shape[:-1], -1)


class SteppedLSTM(nn.Module):
    """As the LSTM layer it is made of, for one pass, a step at a time."""

    def __init__(self, layer: LSTMLayer) -> None:
        super().__init__()
        self._layer = [layer]  # in a list, so that its parameters are not listed twice
        self._collected: Collected = []
        parts = [layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh]
        weight_ih, weight_hh, bias_ih, bias_hh = _for_autocast(parts)
        weight = torch.cat([weight_ih, weight_hh], dim=1)
        self._weights = _Gate.apply(weight, bias_ih + bias_hh, self._collected)

    def draw_dropout(self, like: Tensor) -> Any:
        """As in `RecurrentLayer`."""
        return self._layer[0].draw_dropout(like)

    def forward(self, inputs: Tensor, state: LayerState, dropout: Any = None) -> tuple[Tensor, LayerState]:
        """Read one step `(batch, 1, input)`, or more of them, as in `RecurrentLayer`."""
        if inputs.shape[1] != 1:
            return self._layer[0](inputs, state, dropout=dropout)
        step, hidden, cell = _for_autocast([inputs.squeeze(1), *state])
        with torch.autocast(inputs.device.type, enabled=False):
            joined = torch.cat([step, hidden], dim=1)
            hidden, cell = _LSTMStep.apply(joined, cell, *self._weights, self._collected)
        return hidden.unsqueeze(1), (hidden, cell)


def _for_autocast(tensors: list[Any]) -> list[Any]:
    """The tensors in the type that autocast computes in, where it is on."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return [None if one is None else one.to(dtype) for one in tensors]


class _Gate(Function):
    """Passes on a weight and a bias, and makes their gradients of what the steps have put aside."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, collected: Collected) -> Any:
        ctx.set_materialize_grads(False)
        ctx.collected, ctx.has_bias = collected, bias is not None
        return weight.view_as(weight), None if bias is None else bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Any) -> Any:
        if not ctx.collected:
            return None, None, None
        gradients, inputs = (torch.cat(parts) for parts in zip(*ctx.collected, strict=True))
        ctx.collected.clear()
        of_bias = gradients.sum(0) if ctx.has_bias and ctx.needs_input_grad[1] else None
        return gradients.T @ inputs if ctx.needs_input_grad[0] else None, of_bias, None


class _Product(Function):
    """`x W^T + b`, of which `W` and `b` have passed a gate."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, collected: Collected) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.collected = collected
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        ctx.collected.append((gradient, inputs))
        return _product(gradient, weight.T) if ctx.needs_input_grad[0] else None, None, None, None


class _LSTMStep(Function):
    """One step of an LSTM layer, as in `LSTMLayer`, of inputs and hidden state side by side."""

    @staticmethod
    def forward(
        ctx: Any, joined: Tensor, cell: Tensor, weight: Tensor, bias: Tensor, collected: Collected
    ) -> tuple[Tensor, Tensor]:
        gates = _product(joined, weight, bias)
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
        ctx.collected.append((of_gates, joined))
        return _product(of_gates, weight.T), of_cell * kept, None, None, None


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + b`, on a CPU by the kernels that are the fastest on all processors."""
    use = linear if has_kernels(inputs) else nn.functional.linear
    return use(inputs, weight, bias)


def _activated(gates: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Forget gate, input gate, candidate and output gate, of torch's order: input, forget, candidate, output."""
    added, kept, candidate, shown = gates.chunk(4, dim=1)
    return kept.sigmoid(), added.sigmoid(), candidate.tanh(), shown.sigmoid()
