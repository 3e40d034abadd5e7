"""Calls of `generate()` that are like an earlier one, whose preparation need not be done again.

`generate()` of transformers copies, merges and checks its settings at every call, which takes as long as some steps of
a search. All of that depends on the settings alone. So where the own search has run with some settings, it is called
directly the next time with the same ones; the sources may be others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import EosTokenCriteria, MaxLengthCriteria, StoppingCriteriaList

from .shortlist import Shortlist

SOURCES = ("input_ids", "attention_mask")  # arguments that may differ from call to call
UNREAD = ("tokenizer",)  # what the own search does not read
SIMPLE = (bool, int, float, str, type(None))  # what can be compared by how it is written
PLAIN_CRITERIA = (EosTokenCriteria, MaxLengthCriteria)  # which depend on nothing but the sequences
MOST_KNOWN = 16  # settings that are remembered

Key = frozenset[tuple[str, Any]]
Remember = Callable[[Any, StoppingCriteriaList, dict[str, Any]], None]


class Prepared(NamedTuple):
    """What `generate()` made of some settings.

    Attributes:
        settings: those of the model.
        config: those of the call.
        criteria: say when a sequence ends.
        options: of the search.
    """

    settings: dict[str, Any]
    config: Any
    criteria: StoppingCriteriaList
    options: dict[str, Any]


class RepeatedCalls:
    """Remembers what was prepared for the calls of one model."""

    def __init__(self) -> None:
        self._known: dict[Key, Prepared] = {}

    def note(self, model: Any, arguments: dict[str, Any]) -> Remember | None:
        """What a search is to call with what was prepared for it; None for arguments that cannot be compared."""
        key = _key_of(arguments)
        if key is None:
            return None

        def remember(config: Any, criteria: StoppingCriteriaList, options: dict[str, Any]) -> None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = Prepared(copy.deepcopy(vars(model.generation_config)), config, criteria, options)

        return remember

    def find(self, model: Any, arguments: dict[str, Any]) -> Prepared | None:
        """What was prepared for a call like this one; None if there was none, or if the model's settings differ."""
        key = _key_of(arguments)
        prepared = None if key is None else self._known.get(key)
        if prepared is None or prepared.settings != vars(model.generation_config):
            return None
        return prepared

    def __reduce__(self) -> tuple[type[RepeatedCalls], tuple[()]]:
        return type(self), ()  # a copy begins anew


def is_plain_source(model: Any, source: Any, mask: Any) -> bool:
    """Whether sources and their mask are what they should be, so that a call with them raises no error of its own."""
    return (
        isinstance(source, Tensor)
        and source.dim() == 2
        and source.numel() > 0
        and source.device == model.device
        and (mask is None or (isinstance(mask, Tensor) and mask.shape == source.shape))
    )


def can_be_repeated(prompts: Tensor, criteria: StoppingCriteriaList) -> bool:
    """Whether a search begins with the start token alone, and its criteria do not read the clock."""
    return prompts.shape[1] == 1 and all(type(one) in PLAIN_CRITERIA for one in criteria)


def prompts_of(source: Tensor, config: Any) -> Tensor:
    """What `generate()` begins with for sources `(sources, source)`: `(sources * beams, 1)`."""
    rows = source.shape[0] * config.num_beams
    return torch.full((rows, 1), int(config._decoder_start_token_tensor), dtype=torch.long, device=source.device)


def _key_of(arguments: dict[str, Any]) -> Key | None:
    """What a call is recognised by; None for arguments that may change without showing it."""
    found: list[tuple[str, Any]] = []
    for name, value in arguments.items():
        if name in SOURCES or name in UNREAD:
            continue
        if isinstance(value, SIMPLE):
            value = repr(value)  # True is not 1 here
        elif not isinstance(value, Shortlist):
            return None
        found.append((name, value))
    return frozenset(found)
