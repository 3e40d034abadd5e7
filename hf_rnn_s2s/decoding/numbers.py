"""What a model with weights that are no numbers is answered with, instead of a translation of nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import InfNanRemoveLogitsProcessor, LogitsProcessor

NAMED = 3  # parameters, in an error
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # narrower ones are of quantized weights


def names_of_nonfinite_weights(model: nn.Module) -> str:
    """
    Looks at every weight, which takes about as long as one step of a search. Returns the names of the first parameters
    and buffers with a number that is infinite or none, and how many others there are; nothing if there are none.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    readable = [(name, tensor) for name, tensor in named if tensor.dtype in DTYPES and not tensor.is_meta]
    wrong = [name for name, tensor in readable if not tensor.isfinite().all()]
    others = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return ", ".join(wrong[:NAMED]) + others


def require_usable_weights(model: nn.Module) -> None:
    """
    Raises:
        ValueError: if there is a weight that is not a finite number, of a model that is to write something.
    """
    names = names_of_nonfinite_weights(model)
    if names:
        raise ValueError(
            f"The weights of this model are not finite numbers, in {names}: what it writes means nothing. Training "
            "has gone wrong, or the file is damaged: load an earlier checkpoint, and train on with a lower learning "
            "rate, or with max_grad_norm."
        )


def require_numbers(logits: torch.Tensor, model: nn.Module) -> None:
    """
    Args:
        logits: `(rows, vocabulary)`.
        model: which computed them.

    Raises:
        ValueError: if there is a logit that is not a number (NaN). It names the weights that are to blame.
    """
    # The sum takes less time. It is no number, either, if both infinities are among the logits.
    if not (logits.sum().isnan() and logits.isnan().any()):
        return
    require_usable_weights(model)
    raise ValueError(
        "The logits of this model are not numbers (NaN), although all its weights are. Look at what is put around its "
        "layers and what is passed to it; and float16 may be too narrow for it: load it with dtype=torch.bfloat16 or "
        "torch.float32."
    )


class FirstLogits(LogitsProcessor):
    """
    Looks at the logits of the first step of a search, and lets all pass as they are.

    Args:
        model: which computes them.

    Raises:
        ValueError: as `require_numbers`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model: nn.Module | None = model  # until it has looked

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The scores `(rows, vocabulary)` as they are."""
        if self._model is not None:
            require_numbers(scores, self._model)
            self._model = None
        return scores


def removes_invalid_values(processors: Iterable[Any]) -> bool:
    """Whether what is no number is taken out of the logits: whoever has it done knows of it."""
    return any(isinstance(one, InfNanRemoveLogitsProcessor) for one in processors)


__all__ = [
    "FirstLogits",
    "names_of_nonfinite_weights",
    "removes_invalid_values",
    "require_numbers",
    "require_usable_weights",
]
