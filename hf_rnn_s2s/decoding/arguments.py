"""The arguments of `generate()`: checked, and with the fast search wherever it can serve the call."""

from __future__ import annotations

from typing import Any

from transformers import LogitsProcessorList

from .fast_search import Setting, with_fast_search
from .limits import NEEDED, check_generation_settings
from .numbers import FirstLogits, removes_invalid_values, require_usable_weights


def generate_arguments(model: Any, inputs: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a call of `generate()`, as transformers is to get them.

    Args:
        model: the model that is called.
        inputs: the positional argument, if there is one.
        arguments: all others.

    Raises:
        OSError, TypeError: as `with_fast_search`.
        ValueError: for a setting that is no number where it must be one, or beyond all sense; for weights that are
            no finite numbers, before assisted decoding or at the first step of others; and as `with_fast_search`.
    """
    arguments = {name: value for name, value in arguments.items() if value is not None or name not in NEEDED}
    # What `generate()` uses: the caller's values, else the model's.
    sources = (
        vars(model.generation_config),
        getattr(arguments.get("generation_config"), "__dict__", {}),
        arguments,
    )
    given = {name: value for values in sources for name, value in values.items() if value is not None}
    setting = given.get

    check_generation_settings(setting, "Pass another one to generate(), or set it in model.generation_config.")
    arguments = with_fast_search(model, inputs, setting, arguments)
    if arguments.get("custom_generate") is None and not setting("remove_invalid_values"):
        return _with_check_of_first_logits(model, setting, arguments)
    return arguments


def _with_check_of_first_logits(model: Any, setting: Setting, arguments: dict[str, Any]) -> dict[str, Any]:
    """Add a check of the first logits, so that weights or logits that are not finite numbers raise an error."""
    given = arguments.get("logits_processor") or []
    if arguments.get("assistant_model") is not None or setting("prompt_lookup_num_tokens") is not None:
        # Processors also see the logits of drafts, and cannot tell which logits are those of this model.
        require_usable_weights(model)
        return arguments
    if removes_invalid_values(given):
        return arguments
    return {**arguments, "logits_processor": LogitsProcessorList([FirstLogits(model), *given])}
