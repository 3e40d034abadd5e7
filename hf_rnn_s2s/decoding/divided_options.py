"""The arguments of `generate()` that divide the beams of a search: read, and checked before any work."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor
from transformers import GenerationConfig

from .phrases import (
    Forbidden,
    Ids,
    Phrase,
    PhrasesOfRows,
    read_forbidden,
    read_forced,
    require_agreement,
    require_room,
)

# Settings that may end a translation at any place, with or without its phrases
MAY_END_ANYWHERE = ("stopping_criteria", "max_time")


def ids_of(model: Any, setting: Callable[[str], Any]) -> Ids:
    """What ids mean to a model, with the settings of a call."""
    end, padding = (_as_set(setting(name)) for name in ("eos_token_id", "pad_token_id"))
    return Ids(model.config.written_vocab_size, end, padding)


def read_phrases(model: Any, inputs: Any, options: dict[str, Any], setting: Callable[[str], Any]) -> dict[str, Any]:
    """The phrases among the arguments of `generate()`, as `PhrasesOfRows` by the names of the options; see `search`.

    Args:
        model: the model that is called.
        inputs: the positional argument, if there is one.
        options: those of this package.
        setting: gives any argument or setting.

    Raises:
        TypeError, ValueError: as `with_fast_search`.
    """
    if setting("constraints") is not None:
        raise ValueError(
            "constraints: Constraint objects are of transformers 4. Pass the token ids of what must be written as "
            "force_phrases=[[...], [...]]."
        )
    name, given = "force_phrases", options.get("force_phrases")
    if setting("force_words_ids") is not None:
        if given is not None:
            raise ValueError("force_words_ids and force_phrases say the same; leave one of the two out.")
        name, given = "force_words_ids", setting("force_words_ids")
        _require_plain_form(given)
    forbidden = options.get("forbid_phrases")
    if given is None and forbidden is None:
        return {}
    ids, read = ids_of(model, setting), dict[str, Any]()
    if given is not None:
        read["force_phrases"] = forced = read_forced(name, given, ids)
        check_forced(forced, setting)
    if forbidden is not None:
        read["forbid_phrases"] = read_forbidden("forbid_phrases", forbidden, ids)
    rows = _number_of_rows(inputs, setting)
    for phrases in read.values():
        if rows is not None:
            phrases.require_rows(rows)
    if len(read) == 2 and _have_as_many_lists(read["force_phrases"], read["forbid_phrases"]):
        require_agreement(read["force_phrases"], read["forbid_phrases"])
    return {name: phrases if any(phrases.lists) else None for name, phrases in read.items()}


def check_forced(forced: PhrasesOfRows[Phrase], setting: Callable[[str], Any]) -> None:
    """Check that a call can write these phrases.

    Raises:
        ValueError: for greedy search, for what may end a translation before it has them, and for too little room.
    """
    if not any(forced.lists):
        return
    if (setting("num_beams") or 1) == 1:
        raise ValueError(
            f"{forced.name} takes beam search, which weighs the places where a phrase could stand: set num_beams "
            "above the number of tokens to force."
        )
    for name in MAY_END_ANYWHERE:
        if setting(name):
            raise ValueError(
                f"{name} may end a translation before it has all of {forced.name}; leave one of the two out."
            )
    require_room(forced, _room(setting))


def are_grouped(setting: Callable[[str], Any]) -> bool:
    """Whether beams are to be divided into groups."""
    return (setting("num_beam_groups") or 1) > 1


def check_groups(setting: Callable[[str], Any]) -> None:
    """Check the settings of diverse beam search.

    Raises:
        ValueError: if the beams cannot be divided so, or nothing would make the groups differ.
    """
    if not are_grouped(setting):
        return
    groups, beams, penalty = setting("num_beam_groups"), setting("num_beams") or 1, setting("diversity_penalty")
    if beams % groups:
        raise ValueError(
            f"num_beams={beams} cannot be divided into num_beam_groups={groups} groups of the same size: set "
            "num_beams to a multiple of it."
        )
    if not penalty or penalty < 0 or not math.isfinite(penalty):
        raise ValueError(
            f"diversity_penalty={penalty!r} must be a number above 0, or the num_beam_groups={groups} groups would "
            "all write the same. Common values are from 0.2 to 1."
        )


def _require_plain_form(words: Any) -> None:
    is_list = isinstance(words, (list, tuple))
    if is_list and any(
        isinstance(one, (list, tuple)) and any(isinstance(i, (list, tuple)) for i in one) for one in words
    ):
        raise ValueError(
            "force_words_ids has three levels, which stand for a choice between phrases; that is not supported. Give "
            "a list of phrases, all of which are to be written, or force_phrases with one such list for each row."
        )


def _have_as_many_lists(forced: PhrasesOfRows[Phrase], forbidden: PhrasesOfRows[Forbidden]) -> bool:
    return forced.is_shared or forbidden.is_shared or len(forced.lists) == len(forbidden.lists)


def _number_of_rows(inputs: Any, setting: Callable[[str], Any]) -> int | None:
    """The number of source rows, where a call tells it."""
    given = inputs if inputs is not None else setting("input_ids")
    given = given if given is not None else setting("inputs_embeds")
    return len(given) if isinstance(given, Tensor) else None


def _room(setting: Callable[[str], Any]) -> int:
    """How many tokens may be written, the end token included."""
    if setting("max_new_tokens") is not None:
        return int(setting("max_new_tokens"))
    if setting("max_length") is None:  # the default of `generate()` does not count the prompt
        return int(GenerationConfig._get_default_generation_params()["max_length"])
    prompt = setting("decoder_input_ids")
    return int(setting("max_length")) - (1 if prompt is None else int(prompt.shape[1]))


def _as_set(ids: Any) -> frozenset[int]:
    if ids is None:
        return frozenset()
    if isinstance(ids, Tensor):
        ids = ids.flatten().tolist()
    return frozenset(int(one) for one in ids) if isinstance(ids, (list, tuple)) else frozenset([int(ids)])
