"""What the first layers of an encoder make of a token, computed once for each token that a batch has.

A batch repeats its tokens: 64 English sentences of some 15 words have about 300 different ones. What a layer makes of
a token by itself does not depend on where it stands, so it is looked up there, and padding is one more of them.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from torch import Tensor, cat, nn
from torch.nn import functional

from ..model.encoder_rnn_s2s import (
    BidirectionalStackEncoder,
    RnnS2SEncoder,
    SelfAttentiveEncoder,
    UnidirectionalEncoder,
)
from ..model.state_rnn_s2s import LayerState
from .layers import GraphEmbedding, GraphGRU, GraphLSTM, GraphRecurrentLayer

# Encoders whose embeddings are read by these layers, and by nothing else
KNOWN = (RnnS2SEncoder, UnidirectionalEncoder, BidirectionalStackEncoder, SelfAttentiveEncoder)
BOTTOM = ("forward_layer", "backward_layer")


def distinct(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of sources `(sources, source)`, `(tokens,)`, and the place of each position's token among them.

    Those of one sentence are not compared, which would take longer than the products.
    """
    if len(ids) == 1:
        return ids[0], np.arange(ids.shape[1]).reshape(ids.shape)
    tokens, places = np.unique(ids, return_inverse=True)
    return tokens, places.reshape(ids.shape)


def can_look_up(encoder: Any) -> bool:
    """Whether the first layers of an encoder, in its form for a graph, can look up what they make of tokens."""
    layers = [getattr(encoder, name) for name in BOTTOM if hasattr(encoder, name)]
    return (
        type(encoder) in KNOWN
        and isinstance(encoder.embed_tokens, GraphEmbedding)
        and all(isinstance(layer, (GraphLSTM, GraphGRU)) and layer.weight_ih.is_int8 for layer in layers)
    )


def reader_of_places(encoder_class: type[nn.Module], encoder: Any, tokens: Tensor) -> Any:
    """An encoder that reads places among these tokens `(tokens,)`, `(batch, time, 1)`, and no embeddings.

    Args:
        encoder_class: what the encoder is.
        encoder: in its form for a graph.
        tokens: what may be read.
    """
    embedded = encoder.embed_tokens(tokens)
    parts = {name: getattr(encoder, name) for name in encoder._modules}
    reader: Any = object.__new__(encoder_class)
    vars(reader).update(vars(encoder))
    reader._modules = parts | {name: _LookingUp(parts[name], embedded) for name in BOTTOM if name in parts}
    return reader


class _LookingUp(nn.Module):
    """A recurrent layer that looks up what it makes of a token.

    Args:
        layer: in its form for a graph.
        embedded: the tokens, `(tokens, embedding)`.
    """

    def __init__(self, layer: Any, embedded: Tensor) -> None:
        super().__init__()
        self._layer: GraphRecurrentLayer = layer
        # The gates of padding, and then those of each token
        self._rows = cat([cast(Tensor, layer.padding_column).t(), layer.project(embedded)])

    def forward(self, places: Tensor, padding: Tensor | None = None) -> tuple[Tensor, LayerState]:
        """Read `(batch, time, 1)`, as the layer does from a state of zeros."""
        rows = places.squeeze(-1) + 1
        if padding is not None:
            rows = rows * ~padding
        projected = functional.embedding(rows.t(), self._rows)
        return self._layer.loop(projected)
