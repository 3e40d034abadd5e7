"""What a model with weights that are no numbers is answered with, instead of a translation of nothing."""

from __future__ import annotations

import torch
from torch import nn

NAMED = 3  # parameters, in an error
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # narrower ones are of quantized weights


def require_finite_weights(model: nn.Module) -> None:
    """
    Looks at every weight, which takes about as long as one step of a search.

    Raises:
        ValueError: if there is one that is not a finite number; it names the first parameters and buffers with such.
    """
    named = [*model.named_parameters(), *model.named_buffers()]
    readable = [(name, tensor) for name, tensor in named if tensor.dtype in DTYPES and not tensor.is_meta]
    wrong = [name for name, tensor in readable if not tensor.isfinite().all()]
    if wrong:
        others = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(
            f"The weights of this model are not finite numbers, in {', '.join(wrong[:NAMED])}{others}: what it writes "
            "means nothing. Training has gone wrong, or the file is damaged: load an earlier checkpoint, and train on "
            "with a lower learning rate, or with max_grad_norm."
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
    require_finite_weights(model)
    raise ValueError(
        "The logits of this model are not numbers (NaN), although all its weights are. Look at what is put around its "
        "layers and what is passed to it; and float16 may be too narrow for it: load it with dtype=torch.bfloat16 or "
        "torch.float32."
    )


__all__ = ["require_finite_weights", "require_numbers"]
