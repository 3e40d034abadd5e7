"""The values that settings of `generate()` and of the pipeline may have, so that a wrong one is named at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from torch import Tensor
from transformers.utils import cached_file

# Numbers that must be whole, with the least and the largest value. A million tokens are several books, which no model
# of this kind writes in one go; beams stop helping long before there are a hundred. What is larger would take all
# memory, or hours.
OF_PIPELINE = {"batch_size": (1, 10**6), "batch_tokens": (1, 10**9), "processes": (1, 1024)}
OF_GENERATION = {
    "num_beams": (1, 10_000),
    "num_beam_groups": (1, 10_000),
    "num_return_sequences": (1, 10_000),
    "max_length": (1, 10**6),
    "max_new_tokens": (1, 10**6),
    "min_length": (0, 10**6),
    "min_new_tokens": (0, 10**6),
    "no_repeat_ngram_size": (0, 10**6),
    "encoder_no_repeat_ngram_size": (0, 10**6),
    "top_k": (0, 10**7),
    "prompt_lookup_num_tokens": (1, 10**6),
    "max_matching_ngram_size": (1, 10**6),
    "num_assistant_tokens": (1, 10**6),
}
LIMITS = {**OF_PIPELINE, **OF_GENERATION}
# Other numbers, with the largest distance from 0. A length is raised to the power of its penalty.
NUMBERS = {
    "length_penalty": 40,
    **dict.fromkeys(
        (
            "max_time",
            "diversity_penalty",
            "temperature",
            "top_p",
            "min_p",
            "top_h",
            "typical_p",
            "epsilon_cutoff",
            "eta_cutoff",
            "repetition_penalty",
            "encoder_repetition_penalty",
            "assistant_confidence_threshold",
        ),
        10**9,
    ),
}
# Settings for which None stands for "as the model has it", since a search cannot do without them.
NEEDED = ("num_beams", "num_return_sequences", "max_length", "length_penalty")
# Settings that are a token id, or several.
TOKEN_IDS = (
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
)


def require_whole_number(name: str, value: object, way_out: str = "") -> None:
    """Check one whole number.

    Args:
        name: one of `LIMITS`.
        value: None where nobody set it.
        way_out: a sentence that says where the value can be changed.

    Raises:
        ValueError: for a value that is no whole number, or beyond its limits.
    """
    least, largest = LIMITS[name]
    is_whole = isinstance(value, Integral) and not isinstance(value, bool)
    if value is not None and not (is_whole and least <= value <= largest):  # type: ignore[operator]
        message = f"{name}={value!r} must be a whole number from {least} to {largest:,}. {way_out}"
        raise ValueError(message.rstrip())


def require_whole_numbers(arguments: Mapping[str, Any], *names: str) -> None:
    """Check several whole numbers.

    Args:
        arguments: of the pipeline or of `generate()`. None means not set.
        names: those to check; without any, all that have limits.

    Raises:
        ValueError: as `require_whole_number`.
    """
    for name in names or LIMITS:
        require_whole_number(name, arguments.get(name))


def check_generation_settings(setting: Callable[[str], Any], way_out: str) -> None:
    """Check for settings that would fail deep inside a search, or make it endless.

    Args:
        setting: gives the value of a setting of `generate()` by its name; None where nobody set it.
        way_out: where the value can be changed, for the error.

    Raises:
        ValueError: naming a setting that has a value of another kind, or one that is too small or too large.
    """
    for name in OF_GENERATION:
        require_whole_number(name, setting(name), way_out)
    for name, largest in NUMBERS.items():
        value = setting(name)
        if value is not None and not (_is_number(value) and abs(value) <= largest):
            raise ValueError(f"{name}={value!r} must be a number from {-largest:,} to {largest:,}. {way_out}")
    decay = setting("exponential_decay_length_penalty")
    if decay is not None and not (
        isinstance(decay, (tuple, list)) and len(decay) == 2 and all(map(_is_number, decay))
    ):
        raise ValueError(
            f"exponential_decay_length_penalty={decay!r} must be two numbers: the length from which on it counts, and "
            f"the factor. {way_out}"
        )
    for name in TOKEN_IDS:
        value = setting(name)
        ids = value if isinstance(value, (list, tuple)) else [value]
        if value is not None and not all(isinstance(one, (Integral, Tensor)) for one in ids):
            raise ValueError(f"{name}={value!r} must be a token id or a list of them. {way_out}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_generation_file(name: str, **where: Any) -> None:
    """Check the settings in the `generation_config.json` of a checkpoint.

    Args:
        name: a folder, or a name on the Hub.
        where: how `from_pretrained` was told to find it.

    Raises:
        ValueError: as `check_generation_settings`, or if the file holds no settings at all.
    """
    path = cached_file(name, "generation_config.json", **where)
    if path is not None:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
        if not isinstance(settings, dict):
            raise ValueError(
                f'{path} must hold settings by their names, such as {{"num_beams": 5}}, and not {settings!r:.100}. '
                "Correct it, or take it away."
            )
        check_generation_settings(settings.get, f"Correct {path}.")
