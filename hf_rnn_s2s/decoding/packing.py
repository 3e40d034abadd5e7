"""
Weights in the order in which the kernels of the CPU read them.

Left to themselves, these kernels bring the weights into that order at every call. For a whole batch of targets that is
little; for one step of a search it takes as long as the product. So a search has it done once, with what torch has for
its compiler: the results are those of the same kernels.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
from torch import nn
from transformers.utils import logging

from ..model.cells_rnn_s2s import LSTMLayer
from ..model.state_rnn_s2s import LayerState
from .guard import has_own_hooks, is_plain, is_unchanged

logger = logging.get_logger(__name__)

Module = TypeVar("Module", bound=nn.Module)

# The types that the kernels know, and how far a small result may be from the exact one
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}
LSTM_MODE = 2  # among the kinds of recurrent layers, as the kernel counts them


def packed(module: Module) -> Module:
    """
    A module that computes the same with packed weights, where that can be done: linear layers and LSTM layers on x86
    processors, without gradients and without autocast. It shares everything else with the one that is given, which is
    left as it is, and is given back if there is nothing to pack.

    Layers that a module calls once per sentence only, as its attribute `once` says, are left as they are.

    Args:
        module: a layer, or something with layers inside it.
    """
    return _replaced(module, _packed_one)


def _replaced(module: Module, replace: Callable[[nn.Module], nn.Module]) -> Module:
    """A module like this one, with what `replace` returns in place of the modules inside it."""
    replacement = replace(module)
    if replacement is not module:
        return replacement  # type: ignore[return-value]
    if not _is_ours(module) or has_own_hooks(module):  # which are called with the module that they were hung on
        return module
    once = getattr(module, "once", ())
    children = {name: child if name in once else _replaced(child, replace) for name, child in module.named_children()}
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    other = copy.copy(module)
    other._modules = {**module._modules, **children}
    return other


class PackedLinear(nn.Module):
    """
    As `nn.Linear`.

    Args:
        linear: whose weights are packed.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return linear(inputs, self._weight, self._bias)


class PackedLSTMLayer(nn.Module):
    """
    As `LSTMLayer`, without padding.

    Args:
        layer: whose weights are packed.
    """

    def __init__(self, layer: LSTMLayer) -> None:
        super().__init__()
        self.hidden_size = layer.hidden_size
        weights = layer.weight_ih.detach(), layer.weight_hh.detach()
        # Direction, whether there are biases, order of dimensions, and a shape of inputs, of which any will do.
        layout = self.hidden_size, False, True, True, [1, 1, layer.weight_ih.shape[1]]
        self._weights = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(*weights, *layout)
        self._biases = layer.bias_ih.detach(), layer.bias_hh.detach()

    def forward(self, inputs: torch.Tensor, state: LayerState) -> tuple[torch.Tensor, LayerState]:
        """Inputs `(batch, time, input)` and a state, as for `RecurrentLayer`."""
        # The kernel takes every tensor for a contiguous one.
        inputs = inputs.transpose(0, 1).contiguous()
        first = (part.contiguous() for part in state)
        outputs, hidden, cell, _ = torch.ops.aten.mkldnn_rnn_layer(
            *(inputs, *self._weights, *self._biases, *first),
            *(False, [], LSTM_MODE, self.hidden_size, 1, True, False, False, False),
        )
        return outputs.transpose(0, 1), (hidden.flatten(0, -2), cell.flatten(0, -2))


def _packed_one(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Linear) and is_unchanged(module, nn.Linear) and _can_pack(module):
        return PackedLinear(module)
    if isinstance(module, LSTMLayer) and is_unchanged(module, LSTMLayer) and _can_pack(module):
        return PackedLSTMLayer(module)
    return module


def _is_ours(module: nn.Module) -> bool:
    """Whether it is of this package's model, or a plain container. Others may look into what is inside them."""
    package, own = (kind.__module__.rpartition(".")[0] for kind in (type(module), LSTMLayer))
    return package == own or type(module) in (nn.ModuleList, nn.ModuleDict, nn.Sequential)


def _can_pack(module: nn.Module) -> bool:
    return (
        not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and all(is_plain(weight) and has_kernels(weight) for weight in module.parameters(recurse=False))
    )


@torch.compiler.disable(reason="it looks at the machine, not at numbers")
def has_kernels(tensor: torch.Tensor) -> bool:
    """Whether the kernels, those of oneDNN on x86 processors, are there for products of this tensor."""
    return bool(
        tensor.device.type == "cpu"
        and tensor.dtype in TOLERANCE
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and _kernels_work(tensor.dtype)
    )


@cache
def _kernels_work(dtype: torch.dtype) -> bool:
    """
    Whether the kernels compute what they should in this process. Their names are not public, so a version of torch may
    have others, or have them take something else; a search then does without.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False):
            return _agree_with_others(dtype)
    except (AttributeError, RuntimeError, TypeError) as error:
        logger.info(f"There are no packed weights with this version of torch, {torch.__version__}: {error}")
        return False


def _agree_with_others(dtype: torch.dtype) -> bool:
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


def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """As `torch.nn.functional.linear`, without gradients; the weight may be packed."""
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")


__all__ = ["PackedLSTMLayer", "PackedLinear", "has_kernels", "linear", "packed"]
