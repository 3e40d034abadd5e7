"""What the encoder, the decoder and the models share: initial and tied weights, and the checked embedding of ids."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, initialization

from .attention_rnn_s2s import CosineScore
from .configuration_rnn_s2s import RnnS2SConfig
from .recurrent_rnn_s2s import RecurrentLayer, is_loaded


class RnnS2SPreTrainedModel(PreTrainedModel):
    """Weight initialisation, tied weights and loading for all models of this package."""

    config: RnnS2SConfig
    config_class = RnnS2SConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _no_split_modules = ["RnnS2SEncoder", "RnnS2SDecoder"]

    def __init__(self, config: RnnS2SConfig, *args: Any, **kwargs: Any) -> None:
        config.check()
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draws the weights of one module, except those that were loaded from a checkpoint."""
        if isinstance(module, RecurrentLayer):
            module.initialize()
        elif isinstance(module, nn.Linear):
            initialization.xavier_uniform_(module.weight)
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.padding_idx is not None and not is_loaded(module.weight):
                module.weight.data[module.padding_idx].zero_()
        elif isinstance(module, CosineScore):
            initialization.ones_(module.scale)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Which parameters are one tensor. The two switches of the configuration act independently of each other."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys)

    @property
    def _tied_weights_keys(self) -> dict[str, str]:  # type: ignore[override]
        # A plain attribute in transformers; here it follows the switches of the configuration.
        return {}


def embed(
    embedding: nn.Embedding,
    ids: torch.Tensor | None,
    embeds: torch.Tensor | None,
    ids_name: str,
    embeds_name: str,
) -> torch.Tensor:
    """
    Looks up ids `(batch, length)`, or takes `(batch, length, embedding)` as it is.

    Raises:
        ValueError: if both or neither are given, if the shape is wrong, or for an id outside the vocabulary.
    """
    if (ids is None) == (embeds is None):
        raise ValueError(f"Pass either {ids_name} or {embeds_name}, and not both.")
    if ids is not None:
        _check_shape(ids, "(batch, length)", ids_name)
        check_ids(ids, embedding.num_embeddings, ids_name)
        return embedding(ids)
    assert embeds is not None  # the first check says so
    _check_shape(embeds, "(batch, length, embedding)", embeds_name)
    return embeds


def _check_shape(inputs: torch.Tensor, expected: str, name: str) -> None:
    if inputs.dim() != len(expected.split(",")):
        raise ValueError(f"{name} has the shape {tuple(inputs.shape)}; it must be {expected}.")
    if inputs.shape[1] == 0:
        raise ValueError(f"{name} has no tokens: its length is 0. Give every row at least one, such as the end token.")


def check_ids(ids: torch.Tensor, vocabulary_size: int, name: str) -> None:
    """
    Raises:
        ValueError: for an id below 0 or outside the vocabulary. Only for tensors on the CPU: on other devices every
            look at the numbers would wait for the device, which reports a wrong id itself.
    """
    if ids.device.type != "cpu" or torch.compiler.is_compiling() or not ids.numel():
        return
    least, most = (int(one) for one in ids.aminmax())
    if least < 0 or most >= vocabulary_size:
        raise ValueError(
            f"{name} has the id {least if least < 0 else most}, outside the vocabulary of {vocabulary_size} tokens. "
            "Use the tokenizer that belongs to the model."
        )


__all__ = ["RnnS2SPreTrainedModel", "check_ids", "embed"]
