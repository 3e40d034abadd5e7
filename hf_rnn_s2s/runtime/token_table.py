"""What the decoder's first layer makes of a token, computed once for the whole vocabulary.

The first layer multiplies a token's embedding by its weights. Where nothing else reads the embedding, the products of
all tokens are a table, and a step looks up a row of it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..decoding.guard import may_use_weights
from ..model.cells_rnn_s2s import GRULayer, LSTMLayer
from ..model.readout_rnn_s2s import ConcatFusion
from ..model.state_rnn_s2s import LayerState
from .bounds import has_own_parts, is_beside_token_bounded
from .layers import GraphRecurrentLayer, Product, Storage, Stored, with_graph_layers

TABLE = "token_table"  # the input of a graph
LARGEST_TABLE = 2**26  # bytes


def type_of_table(layer: Any, stored: Storage) -> torch.dtype:
    """The type of the numbers in the table: half precision beside 8 bit integers; sums with them are in float32."""
    return torch.float16 if stored(layer.weight_ih).is_int8 else torch.float32


def has_table(model: Any, stored: Storage) -> bool:
    """Whether the graphs of a step look up the tokens in a table; if not, they multiply."""
    decoder = model.model.decoder
    layer = decoder.layers[0]
    is_known = may_use_weights(layer, LSTMLayer, GRULayer) and may_use_weights(decoder.embed_tokens, nn.Embedding)
    if not (is_known and has_own_parts(model)):
        return False
    # What stands beside the embedding has its own columns of the weights; what is mixed with it has not.
    is_separate = "0" not in decoder.fusions or type(decoder.fusions["0"]) is ConcatFusion
    is_read_elsewhere = decoder.readout.reads_token or model.output_head.needs_states
    numbers = model.config.target_vocab_size * layer.gate_count * layer.hidden_size
    fits = numbers * type_of_table(layer, stored).itemsize <= LARGEST_TABLE
    return fits and is_separate and not is_read_elsewhere


def empty_table(model: Any, stored: Storage) -> Tensor:
    """A table of zeros, `(vocabulary, gates)`."""
    layer = model.model.decoder.layers[0]
    size = model.config.target_vocab_size, layer.gate_count * layer.hidden_size
    return torch.zeros(size, dtype=type_of_table(layer, stored))


class TableGraph(nn.Module):
    """Rows of the table."""

    def __init__(self, model: Any, stored: Storage) -> None:
        super().__init__()
        decoder = model.model.decoder
        self.embedding = with_graph_layers(decoder.embed_tokens, stored)
        self.layer = cast(GraphRecurrentLayer, with_graph_layers(decoder.layers[0], stored))
        self.columns = Columns(self.layer.weight_ih, slice(0, decoder.config.embedding_size))
        self.dtype = type_of_table(decoder.layers[0], stored)

    def forward(self, ids: Tensor) -> Tensor:
        """Return what the first layer's `project` makes of tokens `(tokens,)`, `(tokens, gates)`."""
        return self.columns(self.embedding(ids), self.layer.input_bias()).to(self.dtype)


class LayerAfterTable(nn.Module):
    """The decoder's first layer, which reads rows of the table in place of embeddings.

    Args:
        model: the model.
        stored: gives a parameter as it is stored.
    """

    def __init__(self, model: Any, stored: Storage) -> None:
        super().__init__()
        decoder = model.model.decoder
        self.layer = cast(GraphRecurrentLayer, with_graph_layers(decoder.layers[0], stored))
        self.others: Columns | None = None
        if decoder.input_sizes()[0] > decoder.config.embedding_size:  # what was fed back, a context
            columns = slice(decoder.config.embedding_size, None)
            self.others = Columns(self.layer.weight_ih, columns, is_beside_token_bounded(model))

    def forward(self, inputs: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Take one step, from `(rows, 1, gates + others)`."""
        gates = inputs.squeeze(1)
        if self.others is not None:
            gates, others = gates[:, : self.layer.gates], gates[:, self.layer.gates :]
            gates = gates + self.others(others)
        after = self.layer.transition(gates, state)
        return after[0].unsqueeze(1), after


class Columns(nn.Module):
    """The product of inputs with some columns of a matrix `(out, in)`."""

    def __init__(self, matrix: Stored, columns: slice, is_bounded: bool = False) -> None:
        super().__init__()
        self.matrix, self.columns = matrix, columns
        self.product = Product(matrix, is_bounded=is_bounded)

    def forward(self, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map `(..., columns)` to `(..., out)`."""
        if not self.matrix.is_int8:
            return functional.linear(inputs, self.matrix.values()[:, self.columns], bias)
        numbers = cast(Tensor, self.matrix.numbers)[:, self.columns].t()
        return self.product.of(inputs, numbers, cast(Tensor, self.matrix.scale), bias)
