"""What the package adds to models where it is imported: speed, and messages for what goes wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessorList

from .decoding.fast_search import Setting, load_options, with_fast_search
from .decoding.limits import NEEDED, check_generation_file, check_generation_settings
from .decoding.numbers import FirstLogits, removes_invalid_values, require_usable_weights
from .decoding.sharing import add_card
from .model.head_rnn_s2s import VocabularyHead
from .model.state_rnn_s2s import DecoderOutput
from .training.blocked_loss import fast_loss

# Arguments of `from_pretrained` that say where a file lies.
PLACES = ("cache_dir", "local_files_only", "token", "revision", "subfolder", "proxies")


class Runtime:
    """The attribute `runtime` of the model class, which `registration` sets.

    A model computes the same with and without it.
    """

    def load_options(self, model: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        """Read the files that are named in arguments of `generate()`."""
        return load_options(model, arguments)

    def generate_arguments(self, model: Any, inputs: Any, arguments: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments of a call of `generate()`, as transformers is to get them.

        Args:
            model: the model that is called.
            inputs: the positional argument, if there is one.
            arguments: all others.

        Raises:
            OSError, TypeError: as `with_fast_search`.
            ValueError: for a setting that is no number where it must be one, or beyond all sense; for weights that are
                no finite numbers, before assisted decoding or at the first step of others; and as `with_fast_search`.
        """
        arguments = {name: value for name, value in arguments.items() if value is not None or name not in NEEDED}
        # What `generate()` uses: the caller's values, else the model's.
        sources = (
            vars(model.generation_config),
            getattr(arguments.get("generation_config"), "__dict__", {}),
            arguments,
        )
        given = {name: value for values in sources for name, value in values.items() if value is not None}
        setting = given.get

        check_generation_settings(setting, "Pass another one to generate(), or set it in model.generation_config.")
        arguments = with_fast_search(model, inputs, setting, arguments)
        if arguments.get("custom_generate") is None and not setting("remove_invalid_values"):
            return _with_check_of_first_logits(model, setting, arguments)
        return arguments

    def check_generation_file(self, *args: Any, **kwargs: Any) -> None:
        """Check the `generation_config.json` of a checkpoint, with the arguments of `adjust_generation_fn`.

        Raises:
            ValueError: for a setting of another kind than it must be, or a file without settings.
        """
        name = kwargs.get("pretrained_model_name_or_path", args[3] if len(args) > 3 else None)
        if name is not None:
            check_generation_file(name, **{place: kwargs[place] for place in PLACES if place in kwargs})

    def add_card(self, folder: str | None, target: str | os.PathLike) -> None:
        """Copy the card, its pictures and the shortlist of a model's folder, if it has them, into another folder."""
        if folder and os.path.isdir(folder):
            add_card(Path(folder), Path(target))

    def loss(
        self,
        head: VocabularyHead,
        lm_head: torch.nn.Module,
        output: DecoderOutput,
        labels: torch.Tensor,
        label_smoothing: float,
        logits: torch.Tensor | None,
    ) -> torch.Tensor | None:
        """As `VocabularyHead.loss`, with less time and memory; None for another head, or a changed output layer."""
        if type(head) is not VocabularyHead:
            return None
        rows = output.last_hidden_state.flatten(0, 1)
        logits = None if logits is None else logits.flatten(0, 1)
        return fast_loss(lm_head, rows, labels.flatten(), label_smoothing, logits)


def _with_check_of_first_logits(model: Any, setting: Setting, arguments: dict[str, Any]) -> dict[str, Any]:
    """Add a check of the first logits, so that weights or logits that are not finite numbers raise an error."""
    given = arguments.get("logits_processor") or []
    if arguments.get("assistant_model") is not None or setting("prompt_lookup_num_tokens") is not None:
        # Processors also see the logits of drafts, and cannot tell which logits are those of this model.
        require_usable_weights(model)
        return arguments
    if removes_invalid_values(given):
        return arguments
    return {**arguments, "logits_processor": LogitsProcessorList([FirstLogits(model), *given])}


__all__ = ["Runtime"]
