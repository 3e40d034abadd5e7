"""Bounds for the numbers that somebody gives the pipeline, or that a `generation_config.json` says."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

# Whole numbers among the arguments, and what they are from and to. More than that is a mistake, which would take all
# memory, or hours.
LIMITS = {
    "batch_size": (1, 10**6),
    "batch_tokens": (1, 10**9),
    "num_beams": (1, 1000),
    "num_return_sequences": (1, 10**5),
    "max_length": (1, 10**6),
    "max_new_tokens": (1, 10**6),
    "min_length": (0, 10**6),
    "min_new_tokens": (0, 10**6),
}


def require_whole_numbers(arguments: Mapping[str, Any], *names: str) -> None:
    """
    Args:
        arguments: of the pipeline or of `generate()`. What is None was not said.
        names: those to look at; without any, all that have limits.

    Raises:
        ValueError: for a value that is no whole number, or beyond its limits. It names the argument.
    """
    for name in names or LIMITS:
        value, (least, most) = arguments.get(name), LIMITS[name]
        is_number = isinstance(value, Integral) and not isinstance(value, bool)
        if value is not None and not (is_number and least <= value <= most):
            raise ValueError(f"{name}={value!r} must be a whole number of at least {least}, and at most {most:,}.")


__all__ = ["LIMITS", "require_whole_numbers"]
