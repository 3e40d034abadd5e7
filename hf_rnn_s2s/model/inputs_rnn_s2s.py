"""Checks of what is passed to a model, before any kernel runs: ids, embeddings and masks."""

from typing import cast

import torch
from torch import Tensor, nn


def embed(embedding: nn.Module, ids: Tensor | None, embeds: Tensor | None, ids_name: str, embeds_name: str) -> Tensor:
    """Look up ids `(batch, length)`, or return embeddings `(batch, length, embedding)` as they are.

    `embedding` is one of torch, or what somebody put around it, such as an adapter.

    Raises:
        TypeError: for ids that are no integers, or embeddings of another dtype than the model.
        ValueError: if both or neither are given, if the shape is wrong, or for an id outside the vocabulary.
    """
    if (ids is None) == (embeds is None):
        raise ValueError(f"Pass either {ids_name} or {embeds_name}, and not both.")
    weight = cast(Tensor, embedding.weight)
    vocabulary_size, width = weight.shape  # an adapter around the embedding has these, too
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


def _check_shape(inputs: Tensor, expected: str, name: str) -> None:
    if inputs.dim() != len(expected.split(",")):
        raise ValueError(f"{name} has the shape {tuple(inputs.shape)}; it must be {expected}.")
    if inputs.shape[0] == 0:
        raise ValueError(f"{name} has the shape {tuple(inputs.shape)}: the batch is empty. Give it a row or more.")
    if inputs.shape[1] == 0:
        raise ValueError(f"{name} has no tokens: its length is 0. Give every row at least one, such as the end token.")


def check_ids(ids: Tensor, vocabulary_size: int, name: str) -> None:
    """Check token ids of any shape.

    Raises:
        TypeError: if the ids are no integers.
        ValueError: for an id below 0 or outside the vocabulary. Only for tensors on the CPU: on other devices the
            check would wait for the device, which reports a wrong id itself.
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


def boolean_mask(mask: Tensor, shape: torch.Size, name: str, side: str) -> Tensor:
    """Turn a mask of 1 at tokens and 0 at padding into True and False.

    Args:
        mask: `(batch, source)` or `(batch, target)`.
        shape: the shape it must have.
        name: of the mask, for errors.
        side: "source" or "target".

    Raises:
        ValueError: if it has another shape, or, on the CPU, for a mask of numbers to add to scores, 0 at tokens and
            very low at padding.
    """
    if mask.shape != shape:
        raise ValueError(
            f"{name} has the shape {tuple(mask.shape)}, but the {side} is {tuple(shape)}: (batch, {side})."
        )
    can_look = mask.device.type == "cpu" and not torch.compiler.is_compiling()
    if can_look and mask.is_floating_point() and (mask < 0).any():
        raise ValueError(
            f"{name} has numbers below 0; it is 1 at tokens and 0 at padding, not a number to add to scores."
        )
    return mask.bool()
