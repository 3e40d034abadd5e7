"""Whether a model still computes what its classes say, so that its weights may be used without calling its layers.

Users register hooks on layers, wrap them in adapters, replace their `forward`, and quantize weights. All of that takes
effect when a layer is called. Faster code that uses weights without calling their layers asks here first, and nowhere
else.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..model.cells_rnn_s2s import RecurrentLayer
from ..model.decoder_rnn_s2s import RnnS2SDecoder
from ..model.modeling_rnn_s2s import RnnS2SForConditionalGeneration, RnnS2SModel


def changes_forward(model: RnnS2SForConditionalGeneration) -> bool:
    """Whether calling the model does anything else than the forward passes of its classes."""
    called: Any = (
        (model, RnnS2SForConditionalGeneration),
        (model.model, RnnS2SModel),
        (model.model.decoder, RnnS2SDecoder),
    )
    return has_hooks_for_all() or any(
        not (type(module).forward is kind.forward or getattr(type(module).forward, "computes_the_same", False))
        or bool(module._forward_hooks or module._forward_pre_hooks)
        or ("forward" in vars(module) and not is_mixed_precision(module))
        for module, kind in called
    )


def is_mixed_precision(module: nn.Module) -> bool:
    """Whether a module's `forward` was replaced by accelerate, for training in mixed precision.

    A search may do without that one: it computes in the type of the weights then, as it will with the saved model.
    """
    original = getattr(getattr(module, "_original_forward", None), "__func__", None)
    made_by = getattr(vars(module)["forward"], "__module__", None)
    return original is type(module).forward and made_by == "accelerate.utils.operations"


def may_use_weights(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether the weights of a module may be used without calling it.

    Calling it must do what its class says and nothing else: there are no hooks, neither its own nor those for all
    modules, its `forward` was not replaced, and its parameters hold their numbers themselves, as no quantized or
    distributed ones do.

    Args:
        module: the module.
        kinds: the classes that it may be of; their subclasses do not count.
    """
    return (
        type(module) in kinds
        and not has_own_hooks(module)
        and not has_hooks_for_all()
        and all(type(parameter) in (Tensor, nn.Parameter) for parameter in module.parameters(recurse=False))
    )


def may_look_inside(module: nn.Module) -> bool:
    """Whether the modules inside this one may be replaced in a copy of it.

    It must be part of this package's model, or a plain container: other modules may read those inside them. And it may
    have no hooks, which are called with the module that has them.
    """
    package, own_package = (kind.__module__.rpartition(".")[0] for kind in (type(module), RecurrentLayer))
    is_known = package == own_package or type(module) in (nn.ModuleList, nn.ModuleDict, nn.Sequential)
    return is_known and not has_own_hooks(module)


def has_own_hooks(module: nn.Module) -> bool:
    """Whether this module has hooks of its own, or its `forward` was replaced."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
    )


def has_hooks_for_all() -> bool:
    """Whether there are hooks for all modules, as `torch.nn.modules.module.register_module_forward_hook` makes them.

    The function of torch that tells is private. In a version of torch without it the answer is True, to be safe.
    """
    has_any = getattr(nn.modules.module, "_has_any_global_hook", None)
    return has_any is None or bool(has_any())
