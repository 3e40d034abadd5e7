"""Where a model looks while it writes a given translation, by layer and head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def read_cross_attentions(model: Any, decoder_input_ids: Tensor, **inputs: Any) -> tuple[Tensor, ...]:
    """The attention weights of all layers and heads, found by reading targets: one pass, and no search.

    Args:
        model: in evaluation mode, or its dropout changes the weights.
        decoder_input_ids: the targets `(batch, target)`, the start token first; padding stands at their end.
        inputs: the sources, as for `forward`.

    Returns:
        For each layer that attends to the source `(batch, heads, target, source)`, in float32 or float64. Row `t` is
        where the model looks when it has read target token `t` and writes the next one.

    Raises:
        ValueError: if the model returns no cross-attentions.
    """
    outputs = model(**inputs, decoder_input_ids=decoder_input_ids, use_cache=False, output_attentions=True)
    layers = outputs.cross_attentions
    if not layers or any(weights is None for weights in layers):
        raise ValueError(
            "The model returned no cross-attentions. One with attention_type='none' has none, and a Transformer "
            'returns them only if it was loaded with attn_implementation="eager".'
        )
    return tuple(weights.to(torch.promote_types(weights.dtype, torch.float32)) for weights in layers)


def mean_of_heads(layers: tuple[Tensor, ...]) -> Tensor:
    """What the pipeline calls `attention`: the last layer's weights `(..., heads, target, source)` without the heads.

    Returns `(..., target, source)`, the mean of the heads.
    """
    return layers[-1].mean(dim=-3)


def without_padding(layers: tuple[Tensor, ...], row: int, targets: int, is_source: Tensor) -> tuple[Tensor, ...]:
    """The weights of one row, `(heads, target, source)` for each layer.

    Args:
        layers: of all rows, `(batch, heads, target, source)`.
        row: the number of the row.
        targets: how many of its target tokens are no padding.
        is_source: `(source,)`, True at the source tokens that are no padding.
    """
    return tuple(weights[row, :, :targets][:, :, is_source] for weights in layers)
