"""What a configuration says of how hypotheses end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import EosTokenCriteria, GenerationConfig
from transformers.generation import MaxLengthCriteria


def candidate_count(config: Any) -> int:
    """How many continuations of a sentence a step compares: enough for every beam, however many of them end."""
    end_ids = config._eos_token_tensor
    return max(2, 1 + (0 if end_ids is None else len(end_ids))) * int(config.num_beams)


def is_from_config(criterion: object, config: GenerationConfig) -> bool:
    """Whether a criterion is one that `generate()` makes of the configuration, and not one of the caller's own."""
    if type(criterion) is MaxLengthCriteria:
        return bool(criterion.max_length == config.max_length)
    end_ids = config._eos_token_tensor
    if type(criterion) is EosTokenCriteria and end_ids is not None:
        return torch.equal(criterion.eos_token_id.to(end_ids.device), end_ids)
    return False


def are_from_config(criteria: Iterable[object], config: GenerationConfig) -> bool:
    """Whether all criteria are such, so that it can be looked up there which rows are finished."""
    return all(is_from_config(one, config) for one in criteria)


def end_ids_of(config: GenerationConfig, device: torch.device) -> Tensor | None:
    """The tokens that end a hypothesis, `(ends,)`, each once; None if there are none."""
    end_ids: Any = config._eos_token_tensor
    if end_ids is None or len(end_ids) == 1:  # as a rule there is one, and to look for others takes time
        return None if end_ids is None else end_ids.to(device)
    return end_ids.unique().to(device)


def list_of_end_ids(config: GenerationConfig) -> list[int]:
    """The same as numbers, none where there are none."""
    end_ids = end_ids_of(config, torch.device("cpu"))
    return [] if end_ids is None else end_ids.tolist()


def are_last(tokens: Tensor, length: int, end_ids: Tensor | None, config: GenerationConfig) -> Tensor:
    """Which of these tokens end their sequences, of that length, as far as the configuration says."""
    if length >= config.max_length:
        return torch.ones_like(tokens, dtype=torch.bool)
    return torch.zeros_like(tokens, dtype=torch.bool) if end_ids is None else torch.isin(tokens, end_ids)


def padding_id(config: GenerationConfig) -> int:
    """The id that transformers' beam search pads sequences with; a padding id of 0 counts as none there."""
    pad_id, end_ids = config._pad_token_tensor, config._eos_token_tensor
    if end_ids is None:
        return -1
    return int(pad_id or end_ids[0])
