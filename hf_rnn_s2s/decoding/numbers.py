"""Errors for weights and logits that are not finite numbers, instead of meaningless translations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import InfNanRemoveLogitsProcessor, LogitsProcessor

NAMED = 3  # the most parameters that an error names
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # narrower types hold quantized weights


def names_of_nonfinite_weights(model: nn.Module) -> str:
    """Name the first parameters and buffers that hold an infinite number or NaN, and count the others.

    The text is empty if there are none. It reads every weight, which takes about as long as one step of a search.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    readable = [(name, tensor) for name, tensor in named if tensor.dtype in DTYPES and not tensor.is_meta]
    wrong = [name for name, tensor in readable if not tensor.isfinite().all()]
    others = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return ", ".join(wrong[:NAMED]) + others


def require_usable_weights(model: nn.Module) -> None:
    """Check the weights of a model that is to write something.

    Raises:
        ValueError: if there is a weight that is not a finite number.
    """
    names = names_of_nonfinite_weights(model)
    if names:
        raise ValueError(
            f"The weights of this model are not finite numbers, in {names}: what it writes means nothing. Training "
            "has gone wrong, or the file is damaged: load an earlier checkpoint, and train on with a lower learning "
            "rate, or with max_grad_norm."
        )


def require_numbers(logits: Tensor, model: nn.Module) -> None:
    """Check logits.

    Args:
        logits: `(rows, vocabulary)`.
        model: the model that computed them.

    Raises:
        ValueError: if there is a logit that is not a number (NaN). It names the weights that are to blame.
    """
    # The sum is cheaper. It is NaN, too, if both infinities are among the logits, so NaN itself is looked for next.
    if not (logits.sum().isnan() and logits.isnan().any()):
        return
    require_usable_weights(model)
    raise ValueError(
        "The logits of this model are not numbers (NaN), although all its weights are. Look at what is put around its "
        "layers and what is passed to it; and float16 may be too narrow for it: load it with dtype=torch.bfloat16 or "
        "torch.float32."
    )


class FirstLogits(LogitsProcessor):
    """Checks the logits of the first step of a search, and returns all logits as they are.

    Args:
        model: the model that computes them.

    Raises:
        ValueError: as `require_numbers`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model: nn.Module | None = model  # None once its logits are checked

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The scores `(rows, vocabulary)` as they are."""
        if self._model is not None:
            require_numbers(scores, self._model)
            self._model = None
        return scores


def removes_invalid_values(processors: Iterable[Any]) -> bool:
    """Whether a processor removes NaN and infinity from the logits: whoever asked for it knows of them."""
    return any(isinstance(one, InfNanRemoveLogitsProcessor) for one in processors)
