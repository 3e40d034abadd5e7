"""Greedy search as one graph: the step that chooses the best token becomes the body of a loop.

So a sentence takes two calls of the runtime, one for the encoder and one for all of its tokens, and what Python does
between two steps is left out.
"""

from __future__ import annotations

from typing import Any, cast

LIMIT = "limit"  # the input that says how many tokens may be written
CARRIED = ("tokens", "finished", "state_")  # how the names of inputs begin that a step changes


def put_in_loop(program: Any) -> None:
    """Make a loop of an exported `GreedyGraph`.

    The inputs of the loop are those of a step, and `limit`. It returns the tokens `(steps, rows)`, which rows are
    finished, and the tensors of the state.

    Args:
        program: what `torch.onnx.export` returned.
    """
    import onnx_ir

    step = program.model.graph
    inputs = [onnx_ir.Value(name=one.name, shape=one.shape, type=one.type) for one in step.inputs]
    limit = onnx_ir.Value(name=LIMIT, shape=onnx_ir.Shape([]), type=onnx_ir.TensorType(onnx_ir.DataType.INT64))
    weights = list(step.initializers.values())
    step.initializers.clear()
    for node in step:
        for output in node.outputs:
            output.name = f"{output.name}_of_step"  # a name may stand for one thing only
    body_inputs = [
        onnx_ir.Value(name="number", shape=onnx_ir.Shape([]), type=onnx_ir.TensorType(onnx_ir.DataType.INT64)),
        onnx_ir.Value(name="condition", shape=onnx_ir.Shape([]), type=onnx_ir.TensorType(onnx_ir.DataType.BOOL)),
    ]
    carried = []
    for outer, inner in zip(inputs, list(step.inputs), strict=True):
        if str(outer.name).startswith(CARRIED):
            inner.name = f"{inner.name}_in_step"
            body_inputs.append(inner)
            carried.append(outer)
        else:  # the same in all steps
            inner.replace_all_uses_with(outer)
    step.inputs.clear()
    step.inputs.extend(body_inputs)
    begins = onnx_ir.node("Constant", [], attributes={"value": onnx_ir.tensor(True)}, num_outputs=1)
    begins.outputs[0].name = "begins"
    loop = onnx_ir.node(
        "Loop",
        [limit, begins.outputs[0], *carried],
        attributes={"body": cast(Any, step)},
        num_outputs=len(carried) + 1,
    )
    names = ["last_tokens", "now_finished", *(f"next_{one.name}" for one in carried[2:]), "written"]
    for output, name, inner in zip(loop.outputs, names, step.outputs[1:], strict=True):
        output.name, output.type = name, inner.type
    outputs = [loop.outputs[-1], *loop.outputs[1:-1]]
    program.model.graph = onnx_ir.Graph(
        [limit, *inputs],
        outputs,
        nodes=[begins, loop],
        initializers=weights,
        opset_imports=dict(step.opset_imports),
        name="greedy_search",
    )
