"""What is left out of a graph computes nothing."""

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from hf_rnn_s2s.runtime.detours import remove_detours


def graph_of(nodes: list[onnx.NodeProto], output: str) -> onnx.ModelProto:
    """A graph of `x` `(2, 3)`, with the numbers 0 and 1 as axes."""
    axes = [helper.make_tensor(name, TensorProto.INT64, [1], [axis]) for name, axis in (("zero", 0), ("one", 1))]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "test", inputs, outputs, axes)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("nodes", "left"),
    [
        (["Unsqueeze x one -> a", "Squeeze a one -> b", "Neg b -> y"], ["Neg"]),
        (["Neg x -> n", "Unsqueeze n one -> a", "Squeeze a one -> b", "Neg b -> y"], ["Neg", "Neg"]),
        # Somebody else reads what was put in.
        (
            ["Unsqueeze x one -> a", "Squeeze a one -> b", "ReduceSum a -> s", "Add b s -> y"],
            ["Unsqueeze", "ReduceSum", "Add"],
        ),
        # It is the result.
        (["Unsqueeze x one -> a", "Squeeze a one -> y"], ["Unsqueeze", "Squeeze"]),
        # Another dimension is taken out than was put in.
        (
            ["ReduceSum x zero -> r", "Unsqueeze r one -> a", "Squeeze a zero -> b", "Neg b -> y"],
            ["ReduceSum", "Unsqueeze", "Squeeze", "Neg"],
        ),
        # All of size 1 are taken out.
        (["Unsqueeze x one -> a", "Squeeze a -> b", "Neg b -> y"], ["Unsqueeze", "Squeeze", "Neg"]),
    ],
)
def test_only_what_is_put_in_and_taken_out_is_removed(nodes: list[str], left: list[str]) -> None:
    made = []
    for node in nodes:
        given, output = node.split(" -> ")
        kind, *inputs = given.split()
        made.append(helper.make_node(kind, inputs, [output]))
    proto = graph_of(made, "y")
    model = onnx_ir.from_proto(proto)
    remove_detours(model.graph)
    assert [node.op_type for node in model.graph] == left
    given = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    [expected], [found] = (ReferenceEvaluator(one).run(None, given) for one in (proto, onnx_ir.to_proto(model)))
    np.testing.assert_array_equal(found, expected)
