"""Several models that write one translation together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .stepper import Stepper

# Fields of the configuration that must be equal for ids to mean the same in two models
OF_VOCABULARIES = (
    "vocab_size",
    "target_vocab_size",
    "copy_slots",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "unk_token_id",
    "decoder_start_token_id",
)


def check_ensemble(model: Any, others: Any) -> None:
    """Check the models that are to write together with a model.

    Raises:
        TypeError: if they are no list of models of this package.
        ValueError: if there are none, or one of them has another vocabulary or is on another device.
    """
    if not isinstance(others, (list, tuple)) or not all(hasattr(one, "output_head") for one in others):
        raise TypeError(
            f"ensemble is a {type(others).__name__}; it must be a list of models of this package, beside the one that "
            "is called."
        )
    if not others:
        raise ValueError("ensemble is empty: give it the models beside the one that is called, or leave it out.")
    for number, other in enumerate(others):
        for name in OF_VOCABULARIES:
            ours, theirs = getattr(model.config, name), getattr(other.config, name)
            if ours != theirs:
                raise ValueError(
                    f"ensemble: model {number} has {name}={theirs}, and the model that is called {ours}. Only models "
                    "with one vocabulary can write together."
                )
        if other.device != model.device:
            raise ValueError(f"ensemble: model {number} is on {other.device}, and the model called on {model.device}.")
        if other.training:
            raise ValueError(f"ensemble: model {number} is in training mode; call eval() on it.")


class EnsembleStepper(Stepper):
    """Steps of several models at once, whose probabilities are averaged.

    Args:
        members: the steppers of the models, for the same sources.
    """

    def __init__(self, members: Sequence[Stepper]) -> None:
        self.members = members
        self.vocabulary_size = members[0].vocabulary_size

    def step(self, token_ids: Tensor) -> Tensor:
        """As in `Stepper`; the logits are logarithms of the mean probabilities, in float32 at least."""
        logits = [member.step(token_ids) for member in self.members]
        precise = [one.to(torch.promote_types(one.dtype, torch.float32)).log_softmax(-1) for one in logits]
        return torch.stack(precise).logsumexp(0) - torch.tensor(len(precise), device=precise[0].device).log()

    @property
    def covered(self) -> Tensor | None:
        """As in `Stepper`, the mean of the models with attention."""
        sums = [member.covered for member in self.members if member.covered is not None]
        return torch.stack(sums).mean(0) if sums else None

    def restart(self) -> None:
        """As in `Stepper`."""
        for member in self.members:
            member.restart()

    def ids(self, columns: Tensor) -> Tensor:
        """As in `Stepper`."""
        return columns

    def reorder(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """As in `Stepper`."""
        for member in self.members:
            member.reorder(rows, sources)
