"""Training of recurrent layers that no kernel computes: a loop over the steps with few operations in each.

Autograd would write down every operation of every step, and go through all of them again. Here one function reads a
whole sequence, and its backward pass is written out: the product of each step is computed with weights that were
reordered once for all of them, numbers go where they belong without a copy, and the gradient of each weight is made
once, see `weight_gradients`. All tensors `(time, ...)` have the time first, so that a step is one piece of memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..model.cells_rnn_s2s import LayerNormLSTMLayer, LayerOutput, Masks, RecurrentLayer, ResetFirstGRULayer
from ..model.state_rnn_s2s import LayerState
from .weight_gradients import Collected, SharedWeight, for_autocast, repeated_product

# The derivatives of activations by their results, each with its product in one operation
_of_sigmoid = torch.ops.aten.sigmoid_backward.grad_input
_of_tanh = torch.ops.aten.tanh_backward.grad_input


class LoopedLayer(nn.Module):
    """As the layer that it is made of, for one pass. A subclass says what a sequence of steps computes.

    Args:
        layer: a layer without a kernel. With dropout inside the recurrence it is called itself.
    """

    _of_inputs: SharedWeight

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        self._layer = [layer]  # in a list, so that its parameters are not listed twice

    def draw_dropout(self, like: Tensor) -> Masks:
        """As in `RecurrentLayer`."""
        return self._layer[0].draw_dropout(like)

    def forward(
        self,
        inputs: Tensor,
        state: LayerState | None = None,
        padding: Tensor | None = None,
        dropout: Masks | None = None,
    ) -> LayerOutput:
        """Run over a sequence, as in `RecurrentLayer`."""
        layer = self._layer[0]
        drops = dropout is not None and any(mask is not None for mask in dropout)
        if drops or inputs.shape[-1] != layer.weight_ih.shape[1]:
            return layer(inputs, state, padding, dropout)
        if state is None:
            zeros = inputs.new_zeros(inputs.shape[0], layer.hidden_size)
            state = (zeros,) * len(layer.state_names)
        steps = None if padding is None else padding.t().unsqueeze(-1)
        projected = self._of_inputs.product(inputs.transpose(0, 1))
        with torch.autocast(inputs.device.type, enabled=False):
            outputs, *others = self._run(projected, state, steps)
        hidden = outputs.squeeze(0) if len(outputs) == 1 else outputs[-1]
        return outputs.transpose(0, 1), (hidden, *others)

    def _run(self, projected: Tensor, state: LayerState, padding: Tensor | None) -> tuple[Tensor, ...]:
        """The outputs `(time, rows, hidden)`, and the other parts of the last state.

        Read are what the inputs add to the gates, `(time, rows, gates * hidden)`, and padding `(time, rows, 1)`.
        """
        raise NotImplementedError


class LoopedLayerNormLSTM(LoopedLayer):
    """As `LayerNormLSTMLayer`."""

    def __init__(self, layer: LayerNormLSTMLayer) -> None:
        super().__init__(layer)
        of_inputs, of_state = for_autocast([layer.weight_ih, layer.weight_hh])
        self._of_inputs, self._of_state = SharedWeight(of_inputs), SharedWeight(of_state)
        self._norm = Collected()
        self._gain, self._bias = _NormGate.apply(layer.gain, layer.bias, self._norm)

    def _run(self, projected: Tensor, state: LayerState, padding: Tensor | None) -> tuple[Tensor, ...]:
        dtype = torch.promote_types(torch.promote_types(projected.dtype, self._gain.dtype), state[1].dtype)
        tensors = [one.to(dtype) for one in (projected, *state, self._gain, self._bias)]
        return _LayerNormLSTM.apply(*tensors, self._of_state.weight, padding, self._of_state.collected, self._norm)


class LoopedResetFirstGRU(LoopedLayer):
    """As `ResetFirstGRULayer`."""

    def __init__(self, layer: ResetFirstGRULayer) -> None:
        super().__init__(layer)
        of_inputs, of_state, bias = for_autocast([layer.weight_ih, layer.weight_hh, layer.bias])
        split = 2 * layer.hidden_size
        self._of_inputs = SharedWeight(of_inputs, bias)
        self._of_state, self._of_reset = SharedWeight(of_state[:split]), SharedWeight(of_state[split:])

    def _run(self, projected: Tensor, state: LayerState, padding: Tensor | None) -> tuple[Tensor, ...]:
        dtype = torch.promote_types(projected.dtype, state[0].dtype)
        shared = self._of_state, self._of_reset
        weights, collected = [one.weight for one in shared], [one.collected for one in shared]
        return (_ResetFirstGRU.apply(projected.to(dtype), state[0].to(dtype), *weights, padding, *collected),)


class _NormGate(Function):
    """Passes on gain and bias of normalised gates, and makes their gradients of what the steps have put aside."""

    @staticmethod
    def forward(ctx: Any, gain: Tensor, bias: Tensor, collected: Collected) -> Any:
        ctx.set_materialize_grads(False)
        ctx.collected = collected
        return gain.view_as(gain), bias.view_as(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Any) -> Any:
        parts = ctx.collected.take()
        if not parts:
            return None, None, None
        gradients, normalised = parts
        return (gradients * normalised).sum(0), gradients.sum(0), None


class _LayerNormLSTM(Function):
    """A sequence of steps of `LayerNormLSTMLayer`, from what its inputs add to the gates."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        hidden: Tensor,
        cell: Tensor,
        gain: Tensor,
        bias: Tensor,
        weight: Tensor,
        padding: Tensor | None,
        collected: Collected,
        norm: Collected,
    ) -> tuple[Tensor, Tensor]:
        sums, gates = torch.empty_like(projected), torch.empty_like(projected)
        outputs, cells, squashed = (hidden.new_empty(len(sums), *hidden.shape) for _ in range(3))
        times_weight = repeated_product(weight, len(sums))
        size, before, cell_before = hidden.shape[1], hidden, cell
        both = gates[..., : 2 * size].unbind()
        added, kept, candidate, shown = (part.unbind() for part in gates.chunk(4, dim=-1))
        for step in range(len(gates)):
            torch.add(projected[step], times_weight(before), out=sums[step])
            torch.addcmul(bias, _normalised(sums[step], size)[0], gain, out=gates[step])
            both[step].sigmoid_()
            candidate[step].tanh_()
            shown[step].sigmoid_()
            cell_before = torch.mul(kept[step], cell_before, out=cells[step]).addcmul_(added[step], candidate[step])
            tanh_of_cell = torch.tanh(cell_before, out=squashed[step])
            before = torch.mul(shown[step], tanh_of_cell, out=outputs[step])
            if padding is not None:
                before.masked_fill_(padding[step], 0)
                cell_before.masked_fill_(padding[step], 0)
        ctx.save_for_backward(sums, gates, outputs, cells, squashed, hidden, cell, gain, weight, padding)
        ctx.collected, ctx.norm = collected, norm
        return outputs, cell_before.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_outputs: Tensor, of_cell: Tensor) -> Any:
        sums, gates, outputs, cells, squashed, hidden, cell, gain, weight, padding = ctx.saved_tensors
        size = hidden.shape[1]
        normalised, mean, inverse = _normalised(sums, size)
        of_gates, of_sums = torch.empty_like(gates), torch.empty_like(gates)
        times_weight = repeated_product(weight.t(), len(gates))
        of_hidden = torch.zeros_like(hidden)
        both, of_both = (one[..., : 2 * size].unbind() for one in (gates, of_gates))
        added, kept, candidate, shown = (part.unbind() for part in gates.chunk(4, dim=-1))
        of_added, of_kept, of_candidate, of_shown = (part.unbind() for part in of_gates.chunk(4, dim=-1))
        for step in reversed(range(len(gates))):
            of_hidden = of_hidden + of_outputs[step]
            if padding is not None:
                of_hidden, of_cell = (one.masked_fill(padding[step], 0) for one in (of_hidden, of_cell))
            through_tanh = of_hidden * shown[step]
            of_cell = of_cell + _of_tanh(through_tanh, squashed[step], grad_input=through_tanh)
            torch.mul(of_cell, candidate[step], out=of_added[step])
            torch.mul(of_cell, cells[step - 1] if step else cell, out=of_kept[step])
            torch.mul(of_cell, added[step], out=of_candidate[step])
            torch.mul(of_hidden, squashed[step], out=of_shown[step])
            _of_sigmoid(of_both[step], both[step], grad_input=of_both[step])
            _of_tanh(of_candidate[step], candidate[step], grad_input=of_candidate[step])
            _of_sigmoid(of_shown[step], shown[step], grad_input=of_shown[step])
            of_sums[step] = _of_normalised(of_gates[step] * gain, sums[step], mean[step], inverse[step])
            of_hidden, of_cell = times_weight(of_sums[step]), of_cell * kept[step]
        before = torch.cat([hidden.unsqueeze(0), outputs[:-1]])
        ctx.collected.put(*(one.flatten(0, 1).to(weight.dtype) for one in (of_sums, before)))
        ctx.norm.put(of_gates.flatten(0, 1), normalised.flatten(0, 1))
        return of_sums, of_hidden.to(hidden.dtype), of_cell, *[None] * 6


def _normalised(sums: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each gate of `(..., 4 * hidden)` normalised by itself, its mean, and one over its standard deviation."""
    normalised, mean, inverse = torch.native_layer_norm(sums.unflatten(-1, (4, size)), (size,), None, None, 1e-5)
    return normalised.flatten(-2), mean, inverse


def _of_normalised(gradient: Tensor, sums: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    """The gradient of what was normalised, `(rows, 4 * hidden)`, from that of the result."""
    gradient, sums = (one.unflatten(-1, (4, -1)) for one in (gradient, sums))
    shape, wanted = [sums.shape[-1]], [True, False, False]
    backward = torch.ops.aten.native_layer_norm_backward
    return backward(gradient, sums, shape, mean, inverse, None, None, wanted)[0].flatten(-2)


class _ResetFirstGRU(Function):
    """A sequence of steps of `ResetFirstGRULayer`, from what its inputs add to the gates."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        hidden: Tensor,
        weight: Tensor,
        weight_of_reset: Tensor,
        padding: Tensor | None,
        collected: Collected,
        collected_of_reset: Collected,
    ) -> Tensor:
        gates = torch.empty_like(projected)
        outputs, resets = (hidden.new_empty(len(gates), *hidden.shape) for _ in range(2))
        times_weight = repeated_product(weight, len(gates))
        times_weight_of_reset = repeated_product(weight_of_reset, len(gates))
        split, before = 2 * hidden.shape[1], hidden
        for step, gate in enumerate(gates):
            both, candidate = gate[:, :split], gate[:, split:]
            torch.add(projected[step, :, :split], times_weight(before), out=both).sigmoid_()
            reset, update = both.chunk(2, dim=1)
            torch.mul(reset, before, out=resets[step])
            of_reset = times_weight_of_reset(resets[step])
            torch.add(projected[step, :, split:], of_reset, out=candidate).tanh_()
            before = torch.lerp(before, candidate, update, out=outputs[step])
            if padding is not None:
                before.masked_fill_(padding[step], 0)
        ctx.save_for_backward(gates, outputs, resets, hidden, weight, weight_of_reset, padding)
        ctx.collected = collected, collected_of_reset
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_outputs: Tensor) -> Any:
        gates, outputs, resets, hidden, weight, weight_of_reset, padding = ctx.saved_tensors
        of_gates, split = torch.empty_like(gates), 2 * hidden.shape[1]
        times_weight = repeated_product(weight.t(), len(gates))
        times_weight_of_reset = repeated_product(weight_of_reset.t(), len(gates))
        of_hidden = torch.zeros_like(hidden)
        for step in reversed(range(len(gates))):
            before = outputs[step - 1] if step else hidden
            of_hidden = of_hidden + of_outputs[step]
            if padding is not None:
                of_hidden = of_hidden.masked_fill(padding[step], 0)
            reset, update, candidate = gates[step].chunk(3, dim=1)
            of_reset, of_update, of_candidate = of_gates[step].chunk(3, dim=1)
            torch.mul(of_hidden, candidate - before, out=of_update)
            torch.mul(of_hidden, update, out=of_candidate)
            of_hidden = of_hidden - of_candidate  # (1 - update) of it, before the derivative of tanh is in
            _of_tanh(of_candidate, candidate, grad_input=of_candidate)
            of_product = times_weight_of_reset(of_candidate)
            torch.mul(of_product, before, out=of_reset)
            both = of_gates[step, :, :split]
            _of_sigmoid(both, gates[step, :, :split], grad_input=both)
            of_hidden = of_hidden.addcmul_(of_product.to(of_hidden.dtype), reset).add_(times_weight(both))
        before = torch.cat([hidden.unsqueeze(0), outputs[:-1]])
        read = (of_gates[..., :split], before), (of_gates[..., split:], resets)
        for collected, pair in zip(ctx.collected, read, strict=True):
            collected.put(*(one.flatten(0, 1).to(weight.dtype) for one in pair))
        return of_gates, of_hidden, *[None] * 5
