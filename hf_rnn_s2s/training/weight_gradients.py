"""The gradient of a weight that is used at every step, made once for all steps.

A product has the gradient `g^T x` for its weight. Where the same weight is used at every step, autograd makes such a
product for each of them, of few rows each, and adds them up. Here the steps put their `g` and `x` aside, and one
product of all of them makes the gradient when the last one is there. What is computed is the same.

A weight passes a gate before the steps use it. Autograd calls the backward pass of the gate after those of all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..decoding.packing import has_kernels, linear

# Both are private: the number of the backward pass that is running, and whether `torch.func` transforms what is run.
_current_pass = getattr(torch._C, "_current_graph_task_id", None)
_are_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", None)


def can_collect() -> bool:
    """Whether gradients can be put aside: not for a compiler or `torch.func`, nor without what it takes of torch."""
    if _current_pass is None or _are_transforms_active is None or torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() and not _are_transforms_active()


class Collected:
    """What the steps of one backward pass have put aside."""

    def __init__(self) -> None:
        self._pass: int | None = None
        self._parts: list[tuple[Tensor, ...]] = []

    def put(self, *parts: Tensor) -> None:
        """Put aside the gradients `(rows, out)` of a step, and what it has read, `(rows, in)`."""
        self._start()
        self._parts.append(parts)

    def take(self) -> list[Tensor]:
        """Everything of this backward pass, the rows of all steps in one tensor; empty if there was no step."""
        self._start()
        parts, self._parts = self._parts, []
        return [one[0] if len(one) == 1 else torch.cat(one) for one in zip(*parts, strict=True)]

    def _start(self) -> None:
        # A backward pass for other tensors only, as of `torch.autograd.grad`, calls the steps, but not the gate.
        assert _current_pass is not None  # can_collect says so
        number = _current_pass()
        if number != self._pass:
            self._pass, self._parts = number, []


class SharedWeight:
    """A weight of many products, and their bias.

    Args:
        weight: `(out, in)`.
        bias: `(out,)`; None for none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.collected = Collected()
        self.weight, self.bias = _Gate.apply(weight, bias, self.collected)

    def product(self, inputs: Tensor) -> Tensor:
        """Map `(..., in)` to `(..., out)`."""
        (rows,) = for_autocast([inputs.flatten(0, -2)])
        with torch.autocast(inputs.device.type, enabled=False):
            outputs = _Product.apply(rows, self.weight, self.bias, self.collected)
        return outputs.view(*inputs.shape[:-1], -1)


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
        parts = ctx.collected.take()
        if not parts:
            return None, None, None
        gradients, inputs = parts
        of_bias = gradients.sum(0) if ctx.has_bias and ctx.needs_input_grad[1] else None
        return _of_weight(gradients, inputs) if ctx.needs_input_grad[0] else None, of_bias, None


def _of_weight(gradients: Tensor, inputs: Tensor) -> Tensor:
    """`g^T x`, of `(rows, out)` and `(rows, in)`."""
    # In bfloat16 torch takes the same kernels by itself, and they read transposed matrices as they are.
    use_kernels = gradients.dtype == torch.float32 and has_kernels(gradients)
    return linear(gradients.T, inputs.T) if use_kernels else gradients.T @ inputs


class _Product(Function):
    """`x W^T + b`, of which `W` and `b` have passed a gate."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, collected: Collected) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.collected = collected
        return product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        ctx.collected.put(gradient, inputs)
        return product(gradient, weight.T) if ctx.needs_input_grad[0] else None, None, None, None


def product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + b` without gradients, on a CPU by the kernels that are the fastest on all processors."""
    use = linear if inputs.dtype == weight.dtype and has_kernels(inputs) else nn.functional.linear
    return use(inputs, weight, bias)


def repeated_product(weight: Tensor, times: int) -> Callable[[Tensor], Tensor]:
    """`x -> x W^T` without gradients, in the type of the weight, for so many products of few rows."""
    packed = None
    if times > 1 and has_kernels(weight):
        # Else the kernels reorder it each time, which takes as long as the product.
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())

    def apply(inputs: Tensor) -> Tensor:
        inputs = inputs.to(weight.dtype)
        return product(inputs, weight) if packed is None else linear(inputs, packed)

    return apply


def for_autocast(tensors: list[Any]) -> list[Any]:
    """The tensors in the type that autocast computes in, where it is on."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return [None if one is None else one.to(dtype) for one in tensors]
