"""What the encoder, the decoder and the models share: initial and tied weights, and the checked embedding of ids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, initialization

from .attention_rnn_s2s import CosineScore
from .configuration_rnn_s2s import RnnS2SConfig
from .recurrent_rnn_s2s import RecurrentLayer, is_loaded
from .sharing_rnn_s2s import CardPushingMixin, model_to_share

# Arguments of push_to_hub, which save_pretrained takes beside push_to_hub=True; some mean something to itself, too
FOR_HUB_ONLY = ("repo_id", "commit_message", "commit_description", "private", "revision", "create_pr", "tags")
FOR_HUB_TOO = ("token", "max_shard_size")


class RnnS2SPreTrainedModel(CardPushingMixin, PreTrainedModel):
    """Weight initialisation, tied weights, loading and sharing for all models of this package."""

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

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        """Two short rows, the second one padded, for source and target."""
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        ids = torch.tensor([[start, start, start], [start, start, pad]], device=self.device)
        return {"input_ids": ids, "attention_mask": ids.ne(pad), "decoder_input_ids": ids}

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Which parameters are one tensor. The two switches of the configuration act independently of each other."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys)

    def _resize_token_embeddings(self, new_num_tokens: int | None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Both sides where they share their embeddings, else the source; the configuration follows."""
        config = self.config
        if config.share_encoder_decoder_embeddings:
            embeddings = super()._resize_token_embeddings(new_num_tokens, *args, **kwargs)
            if config.decoder_vocab_size is not None:
                config.decoder_vocab_size = embeddings.num_embeddings
        else:
            # Not the output layer, which belongs to the target
            source = cast(nn.Embedding, self.get_input_embeddings())
            embeddings = self._get_resized_embeddings(source, new_num_tokens, *args, **kwargs)
            self.set_input_embeddings(embeddings)
            if embeddings.num_embeddings != config.vocab_size:
                config.decoder_vocab_size = config.target_vocab_size
        config.vocab_size = embeddings.num_embeddings
        return embeddings

    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """As `PreTrainedModel.save_pretrained`; with `push_to_hub`, what goes to the Hub is what `push_to_hub` of this
        class uploads, and the folder is left as it is without."""
        for_hub = {name: kwargs.pop(name) for name in FOR_HUB_ONLY if name in kwargs}
        super().save_pretrained(save_directory, *args, **kwargs)
        if push_to_hub and kwargs.get("is_main_process", True):
            of_both = {name: kwargs[name] for name in FOR_HUB_TOO if name in kwargs}
            repo_id = for_hub.pop("repo_id", None) or Path(save_directory).name
            self.push_to_hub(repo_id, **for_hub, **of_both)

    def push_to_hub(self, repo_id: str, *, carry_code: bool | None = None, **kwargs: Any) -> str:  # type: ignore[override]
        """
        As `PreTrainedModel.push_to_hub`, with the code that loads the model where this package is not installed. If
        the model was loaded from a folder with a card (`README.md`), that card goes up with the pictures it shows, and
        so does the shortlist. The model and its configuration stay as they are.

        Args:
            repo_id: the repository, such as `"your-name/your-model"`.
            carry_code: whether the code goes along. None means yes, unless `config.drop_code()` was called.
            kwargs: everything else that `push_to_hub` of transformers takes.

        Returns:
            What `push_to_hub` of transformers returns, about the commit.
        """
        shared: Any = super(RnnS2SPreTrainedModel, model_to_share(self, carry_code))
        return shared.push_to_hub(repo_id, **kwargs)

    def _card_folder(self) -> str | None:
        return self.name_or_path

    @property
    def _tied_weights_keys(self) -> dict[str, str]:  # type: ignore[override]
        # A plain attribute in transformers; here it follows the switches of the configuration.
        return {}


class RnnS2SPart(RnnS2SPreTrainedModel):
    """Encoder or decoder. Its embeddings may be shared with the other one, so only the whole model resizes them."""

    def _resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        raise TypeError("Resize the vocabulary of the whole model; its parts may share their embeddings.")


def embed(
    embedding: nn.Module,
    ids: torch.Tensor | None,
    embeds: torch.Tensor | None,
    ids_name: str,
    embeds_name: str,
) -> torch.Tensor:
    """
    Looks up ids `(batch, length)`, or takes `(batch, length, embedding)` as it is. The embedding is one of torch, or
    what somebody put around it, such as an adapter.

    Raises:
        TypeError: for ids that are no integers, or embeddings of another dtype than the model.
        ValueError: if both or neither are given, if the shape is wrong, or for an id outside the vocabulary.
    """
    if (ids is None) == (embeds is None):
        raise ValueError(f"Pass either {ids_name} or {embeds_name}, and not both.")
    weight = cast(torch.Tensor, embedding.weight)
    vocabulary_size, width = weight.shape  # what an adapter around the embedding has, too
    if isinstance(embedding, nn.Embedding):
        vocabulary_size, width = embedding.num_embeddings, embedding.embedding_dim
    if ids is not None:
        _check_shape(ids, "(batch, length)", ids_name)
        check_ids(ids, vocabulary_size, ids_name)
        return embedding(ids)
    assert embeds is not None  # the first check says so
    _check_shape(embeds, "(batch, length, embedding)", embeds_name)
    if embeds.shape[-1] != width:
        raise ValueError(
            f"{embeds_name} has embeddings of {embeds.shape[-1]} numbers; those of this model have {width}, its "
            "embedding_size."
        )
    dtype = weight.dtype
    if embeds.dtype != dtype and not torch.is_autocast_enabled(embeds.device.type):
        raise TypeError(
            f"{embeds_name} is of {embeds.dtype} and the model of {dtype}: pass {embeds_name}.to({dtype})."
        )
    return embeds


def _check_shape(inputs: torch.Tensor, expected: str, name: str) -> None:
    if inputs.dim() != len(expected.split(",")):
        raise ValueError(f"{name} has the shape {tuple(inputs.shape)}; it must be {expected}.")
    if inputs.shape[0] == 0:
        raise ValueError(f"{name} has the shape {tuple(inputs.shape)}: the batch is empty. Give it a row or more.")
    if inputs.shape[1] == 0:
        raise ValueError(f"{name} has no tokens: its length is 0. Give every row at least one, such as the end token.")


def check_ids(ids: torch.Tensor, vocabulary_size: int, name: str) -> None:
    """
    Raises:
        TypeError: if the ids are no integers.
        ValueError: for an id below 0 or outside the vocabulary. Only for tensors on the CPU: on other devices every
            look at the numbers would wait for the device, which reports a wrong id itself.
    """
    if ids.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name} is of {ids.dtype}; token ids are integers: pass {name}.long().")
    if ids.device.type != "cpu" or torch.compiler.is_compiling() or not ids.numel():
        return
    least, most = (int(one) for one in ids.aminmax())
    if least >= 0 and most < vocabulary_size:
        return
    outside = f"outside the vocabulary of {vocabulary_size} tokens. Use the tokenizer that belongs to the model"
    if least < 0:
        raise ValueError(f"{name} has the id {least}, {outside}.")
    raise ValueError(
        f"{name} has the id {most}, {outside}, or, after adding tokens to it, call "
        "model.resize_token_embeddings(len(tokenizer)); where the target has a vocabulary of its own, "
        "model.resize_decoder_token_embeddings(len(tokenizer.target_tokenizer)) for that side."
    )


def boolean_mask(mask: torch.Tensor, shape: torch.Size, name: str, side: str) -> torch.Tensor:
    """
    A mask of 1 at tokens and 0 at padding, as True and False.

    Args:
        mask: `(batch, source)` or `(batch, target)`.
        shape: what its shape must be.
        name: of the mask, for errors.
        side: "source" or "target".

    Raises:
        ValueError: if it has another shape, or for a mask of numbers to add to scores, 0 at tokens and very low at
            padding. The latter only on the CPU.
    """
    if mask.shape != shape:
        raise ValueError(
            f"{name} has the shape {tuple(mask.shape)}, but the {side} is {tuple(shape)}: (batch, {side})."
        )
    if (
        mask.is_floating_point()
        and mask.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and (mask < 0).any()
    ):
        raise ValueError(
            f"{name} has numbers below 0; it is 1 at tokens and 0 at padding, not a number to add to scores."
        )
    return mask.bool()


__all__ = ["RnnS2SPart", "RnnS2SPreTrainedModel", "boolean_mask", "check_ids", "embed"]
