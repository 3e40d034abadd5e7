"""Weights packed in the memory layout that the kernels of the CPU read.

By default these kernels reorder the weights into that layout at every call. For a whole batch of targets that costs
little; for one step of a search it takes as long as the product. So a search packs them once, with operators that
torch has for its compiler: the results are those of the same kernels.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable
from functools import cache
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from transformers.utils import logging

from ..model.cells_rnn_s2s import LSTMLayer
from ..model.state_rnn_s2s import LayerState
from .guard import may_look_inside, may_use_weights

logger = logging.get_logger(__name__)

Module = TypeVar("Module", bound=nn.Module)

# The types that the kernels compute in, and how far the results of a small example may be from the exact ones
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
# The kernel's number for LSTM layers, among its kinds of recurrent layers
LSTM_MODE = 2


def packed(module: Module) -> Module:
    """A module that computes the same with packed weights, where they can be packed.

    That is in linear layers and LSTM layers on x86 processors, without gradients and without autocast. Layers that a
    module calls once per sentence only, as its attribute `once` says, are left as they are.

    Args:
        module: a layer, or a module with layers inside it. It is not changed.

    Returns:
        A module that shares everything but packed weights with the one that is given; that one itself if there is
        nothing to pack.
    """
    return rebuilt(module, _pack_layer)


def rebuilt(module: Module, replace: Callable[[nn.Module], nn.Module], leaves_out_once: bool = True) -> Module:
    """A module like this one, with what `replace` returns in place of the modules inside it.

    `leaves_out_once` says whether those stay that a module calls once per sentence only.
    """
    replacement = replace(module)
    if replacement is not module:
        return replacement  # type: ignore[return-value]
    if not may_look_inside(module):
        return module
    once = getattr(module, "once", ()) if leaves_out_once else ()
    children = {
        name: child if name in once else rebuilt(child, replace, leaves_out_once)
        for name, child in module.named_children()
    }
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    other = copy.copy(module)
    other._modules = {**module._modules, **children}
    return other


class PackedLinear(nn.Module):
    """As `nn.Linear`.

    Args:
        linear: whose weights are packed.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs `(..., in_features)` to outputs `(..., out_features)`."""
        return linear(inputs, self._weight, self._bias)


class PackedLSTMLayer(nn.Module):
    """As `LSTMLayer`, without padding.

    Args:
        layer: whose weights are packed.
    """

    def __init__(self, layer: LSTMLayer) -> None:
        super().__init__()
        self.hidden_size = layer.hidden_size
        weights = layer.weight_ih.detach(), layer.weight_hh.detach()
        # Hidden size, whether reversed, with biases and batch first, and a shape of inputs, of which any will do.
        layout = self.hidden_size, False, True, True, [1, 1, layer.weight_ih.shape[1]]
        self._weights = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(*weights, *layout)
        self._biases = layer.bias_ih.detach(), layer.bias_hh.detach()

    def forward(self, inputs: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Read inputs `(batch, time, input)` from a state on; arguments and results are those of `RecurrentLayer`."""
        # The kernel assumes that every tensor is contiguous.
        inputs = inputs.transpose(0, 1).contiguous()
        first = (part.contiguous() for part in state)
        outputs, hidden, cell, _ = torch.ops.aten.mkldnn_rnn_layer(
            *(inputs, *self._weights, *self._biases, *first),
            *(False, [], LSTM_MODE, self.hidden_size, 1, True, False, False, False),
        )
        return outputs.transpose(0, 1), (hidden.flatten(0, -2), cell.flatten(0, -2))


def _pack_layer(module: nn.Module) -> nn.Module:
    if not (may_use_weights(module, nn.Linear, LSTMLayer) and _can_pack(module)):
        return module
    return PackedLSTMLayer(module) if isinstance(module, LSTMLayer) else PackedLinear(cast(nn.Linear, module))


def _can_pack(module: nn.Module) -> bool:
    return (
        not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and all(map(has_kernels, module.parameters(recurse=False)))
    )


@torch.compiler.disable(reason="it looks at the machine, not at numbers")
def has_kernels(tensor: Tensor) -> bool:
    """Whether there are kernels, those of oneDNN on x86 processors, for products of this tensor."""
    return bool(
        tensor.device.type == "cpu"
        and tensor.dtype in TOLERANCE
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and _kernels_work(tensor.dtype)
    )


@cache
def _kernels_work(dtype: torch.dtype) -> bool:
    """Whether the kernels compute what they should in this process.

    They are not public, so a version of torch may have other names or other arguments for them; a search then runs
    without packed weights.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            return _match_reference(dtype)
    except (AttributeError, RuntimeError, TypeError) as error:
        logger.info(f"There are no packed weights with this version of torch, {torch.__version__}: {error}")
        return False


def _match_reference(dtype: torch.dtype) -> bool:
    """Whether the kernels agree with torch's ordinary ones in float64, on a small example."""
    numbers = torch.linspace(-1, 1, 3 * 8, dtype=torch.float64).view(3, 8)
    layer = LSTMLayer(8, 8).double()
    for parameter in layer.parameters():
        parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view_as(parameter))
    outputs = torch.nn.functional.linear(numbers, layer.weight_ih, layer.bias_ih)
    expected, _ = layer(numbers.unsqueeze(1), (numbers, numbers))
    low, numbers = copy.deepcopy(layer).to(dtype), numbers.to(dtype)
    ours = linear(numbers, low.weight_ih, low.bias_ih)
    reordered = linear(numbers, torch.ops.mkldnn._reorder_linear_weight(low.weight_ih.detach()), low.bias_ih)
    stepped, _ = PackedLSTMLayer(low)(numbers.unsqueeze(1), (numbers, numbers))
    pairs = (ours, outputs), (reordered, outputs), (stepped, expected)
    return all(torch.allclose(one.double(), other, rtol=0, atol=TOLERANCE[dtype]) for one, other in pairs)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`, without gradients; the weight may be packed."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
