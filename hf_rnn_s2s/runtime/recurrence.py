"""Recurrent layers over a sequence of any length, as a loop inside a graph.

ONNX has operators for LSTMs and GRUs, which take float32 weights. A cell of 8 bit integers becomes a `Scan`: while the
graph is exported, an operator of our own stands for it, and afterwards a graph of one step, exported by itself,
becomes the body of the loop.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from ..model.state_rnn_s2s import LayerState

OPERATOR = "hf_rnn_s2s::Recurrence"
BODY = "body"  # the attribute that says which body belongs to a recurrence, and that of the loop


class Body(nn.Module):
    """One step of a cell, from what it has computed of the inputs already."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, state: list[Tensor], projected: Tensor) -> Any:
        """Take a state and the part of the gates that depends on the inputs, `(batch, gates)`.

        Returns the state after the step, and its first tensor, which is the output, once more.
        """
        after = self.layer.transition(projected, tuple(state))
        return *after, after[0].clone()


def recurrence(number: int, projected: Tensor, parts: int, size: int) -> tuple[Tensor, LayerState]:
    """A loop over `(time, batch, gates)` from a state of zeros, whose body is that of the layer with this number.

    Returns the outputs `(batch, time, size)` and the state after the last step.
    """
    time, batch, _ = projected.shape
    zeros = projected.new_zeros(batch, size)
    *state, outputs = torch.onnx.ops.symbolic_multi_out(
        OPERATOR,
        (*(zeros for _ in range(parts)), projected),
        {BODY: number},
        dtypes=(torch.float32,) * (parts + 1),
        shapes=(*((batch, size) for _ in range(parts)), (time, batch, size)),
        version=1,
    )
    return outputs.transpose(0, 1), tuple(state)


def is_recurrence(node: Any) -> bool:
    """Whether an operator of a graph stands for a loop."""
    return f"{node.domain}::{node.op_type}" == OPERATOR


def put_in_loops(program: Any, bodies: dict[int, Any]) -> None:
    """Make loops of the recurrences in a graph.

    Args:
        program: what `torch.onnx.export` returned.
        bodies: the exported body of each layer, by its number.
    """
    import onnx_ir

    graph = program.model.graph
    for node in list(graph):
        if not is_recurrence(node):
            continue
        number = node.attributes[BODY].as_int()
        body = bodies[number].model.graph
        for name, value in list(body.initializers.items()):  # all weights belong to the outer graph
            body.initializers.pop(name)
            value.name = f"{name}_of_body_{number}"
            graph.register_initializer(value)
        for inner in (*body.inputs, *(output for one in body for output in one.outputs)):
            inner.name = f"{inner.name}_in_body_{number}"  # a name may stand for one thing only
        loop = onnx_ir.node(
            "Scan",
            list(node.inputs),
            attributes={"num_scan_inputs": 1, BODY: cast(Any, body)},
            num_outputs=len(node.outputs),
        )
        graph.insert_before(node, loop)
        for old, new in zip(node.outputs, loop.outputs, strict=True):
            new.name = f"{old.name}_of_loop"
            old.replace_all_uses_with(new)
        graph.remove(node)
