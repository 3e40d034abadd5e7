"""Stops a run whose loss, gradients or weights become infinite or NaN, before good weights are overwritten."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..decoding.numbers import names_of_nonfinite_weights
from ..errors import RunError
from .checkpoints import last_whole_checkpoint

SHOWN_ROWS = 8  # rows of a batch in a message
LONGEST_TEXT = 80  # characters of a text in a message


class NotFiniteError(RunError):
    """A loss, a gradient or a weight is infinite or NaN."""


def not_finite(
    value: Tensor,
    name: str,
    step: int,
    learning_rate: float,
    batches: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> NotFiniteError:
    """Make the error for a step with a value that is infinite or NaN.

    Args:
        value: the value, a scalar.
        name: what it is, "loss" or "norm of the gradients".
        step: the step it belongs to, counted from 1.
        learning_rate: the learning rate of the step.
        batches: the batches of the step.
        tokenizer: decodes the texts of the batches.
        folder: where the checkpoints of the run are.
    """
    rows = "\n".join(describe_rows(batches, tokenizer))
    return NotFiniteError(
        f"The {name} of step {step} is {value.item()}, at a learning rate of {learning_rate:.3g}. Training stops "
        f"before good weights are written over. {_advice(folder)}\nThe rows of the step:\n{rows}"
    )


def require_finite_weights(model: nn.Module, folder: Path) -> None:
    """Check the weights of a model before it is saved.

    Args:
        model: the model to be saved.
        folder: where the checkpoints of the run are.

    Raises:
        NotFiniteError: if a weight is infinite or NaN.
    """
    names = names_of_nonfinite_weights(model)
    if names:
        raise NotFiniteError(
            f"Weights of the model are infinite or not numbers ({names}), so it is not saved. {_advice(folder)}"
        )


def describe_rows(batches: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The source and target texts of the first few rows, and how many more there are."""
    pairs = [
        pair
        for batch in batches
        for pair in zip(batch["input_ids" if "input_ids" in batch else "input_features"], batch["labels"], strict=True)
    ]
    lines = []
    for source, target in pairs[:SHOWN_ROWS]:
        is_text = source.dim() == 1
        source_text = _source_text(tokenizer, source) if is_text else f"{len(source)} frames"
        target_text = _text(tokenizer, target[target != -100])
        lines.append(f"  {source_text!r:.{LONGEST_TEXT}} -> {target_text!r:.{LONGEST_TEXT}}")
    if len(pairs) > SHOWN_ROWS:
        lines.append(f"  and {len(pairs) - SHOWN_ROWS} more")
    return lines


def _source_text(tokenizer: PreTrainedTokenizerBase, ids: Tensor) -> str:
    return _text(getattr(tokenizer, "source_tokenizer", tokenizer), ids)


def _text(tokenizer: Any, ids: Tensor) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True))


def _advice(folder: Path) -> str:
    checkpoint = last_whole_checkpoint(folder)
    lower = "a lower --learning_rate or --max_grad_norm, more --warmup_steps, or --bf16 false and --fp16 false"
    if checkpoint is None:
        return f"No checkpoint was written before; begin anew with {lower}."
    return (
        f"The last good checkpoint, {checkpoint}, stays the result: go on from it by --resume_from_checkpoint true, "
        f"with {lower}."
    )
