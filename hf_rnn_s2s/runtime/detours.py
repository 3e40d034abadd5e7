"""Operators of a graph that undo each other.

Between the layers of a step stands a dimension of time, of size 1. Every layer takes it out and puts it in again.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def remove_detours(graph: Any) -> None:
    """Remove dimensions that are put in and taken out again.

    Args:
        graph: of an exported program.
    """
    for node in list(graph):
        before = node.inputs[0].producer() if node.op_type == "Squeeze" else None
        if before is None or before.op_type != "Unsqueeze" or not _have_same_axes(before, node):
            continue
        if node.outputs[0].is_graph_output():  # which has to keep its name
            continue
        node.outputs[0].replace_all_uses_with(before.inputs[0])
        graph.remove(node, safe=True)
        if not before.outputs[0].uses() and not before.outputs[0].is_graph_output():
            graph.remove(before, safe=True)


def _have_same_axes(*nodes: Any) -> bool:
    axes = [node.inputs[1].const_value for node in nodes if len(node.inputs) > 1]
    values = [one.numpy() for one in axes if one is not None]
    return len(values) == len(nodes) and np.array_equal(*values)
