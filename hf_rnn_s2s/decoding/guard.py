"""
Whether a model still computes what its classes say, so that its weights may be used without calling its layers.

Users hang hooks on layers, put adapters around them or other forward passes over them, and quantize weights. All of
that takes effect when a layer is called. What goes around the calls to be faster asks here first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..model.decoder_rnn_s2s import RnnS2SDecoder
from ..model.modeling_rnn_s2s import RnnS2SForConditionalGeneration, RnnS2SModel


def changes_forward(model: RnnS2SForConditionalGeneration) -> bool:
    """Whether calling the model does anything but what the model class says."""
    called: Any = (
        (model, RnnS2SForConditionalGeneration),
        (model.model, RnnS2SModel),
        (model.model.decoder, RnnS2SDecoder),
    )
    return has_hooks_for_all() or any(
        type(module).forward is not kind.forward
        or bool(module._forward_hooks or module._forward_pre_hooks)
        or ("forward" in vars(module) and not _is_for_precision(module))
        for module, kind in called
    )


def _is_for_precision(module: nn.Module) -> bool:
    """
    Whether the forward pass put over a module is the one with which accelerate trains in mixed precision. A search may
    go around it: it computes in the type of the weights then, as it will with the model that is saved.
    """
    original = getattr(getattr(module, "_original_forward", None), "__func__", None)
    made_by = getattr(vars(module)["forward"], "__module__", None)
    return original is type(module).forward and made_by == "accelerate.utils.operations"


def is_unchanged(module: nn.Module, kind: type[nn.Module]) -> bool:
    """
    Whether calling a module does what its class says and nothing else: no hooks, neither its own nor those for all
    modules, and no other forward pass put over it. Where that is so, its weights may be used without calling it.
    """
    return type(module) is kind and not has_own_hooks(module) and not has_hooks_for_all()


def has_own_hooks(module: nn.Module) -> bool:
    """Whether somebody has hung something on this module, or put another forward pass over it."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks) or "forward" in vars(module)


def has_hooks_for_all() -> bool:
    """
    Whether there are hooks for all modules, such as `torch.nn.modules.module.register_module_forward_hook` registers.
    torch has a private name for the question. Where that is missing, there may be some.
    """
    ask = getattr(nn.modules.module, "_has_any_global_hook", None)
    return ask is None or bool(ask())


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether its numbers are what they seem to be, and where they seem to be: no quantized or distributed tensor."""
    return type(tensor) in (torch.Tensor, nn.Parameter)


__all__ = ["changes_forward", "has_hooks_for_all", "has_own_hooks", "is_plain", "is_unchanged"]
