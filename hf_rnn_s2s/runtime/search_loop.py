"""Many steps of a search as one graph: the step that chooses the best tokens becomes the body of a loop.

So greedy search of a sentence takes two calls of the runtime, one for the encoder and one for all tokens. Beam search
comes back where sentences may be finished. What Python does between two steps is left out.
"""

from __future__ import annotations

from typing import Any, cast

LIMIT = "limit"  # the input that says how many steps may be taken
CARRIED = ("tokens", "finished", "parents", "offsets", "state_")  # how the names of inputs begin that a step changes


def put_in_loop(program: Any) -> None:
    """Make a loop of an exported step.

    The step returns whether the loop goes on; those of its inputs whose names begin as in `CARRIED`, for the next step
    and in their order; and what is kept of each step. The inputs of the loop are those of the first step, and `limit`.
    It returns what was kept, each with a new first dimension, and the tensors of the state. What is the same in all
    steps is computed once, before the loop.

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
    same = _taken_out(step)
    begins = onnx_ir.node("Constant", [], attributes={"value": onnx_ir.tensor(True)}, num_outputs=1)
    begins.outputs[0].name = "begins"
    results = step.outputs[1:]
    loop = onnx_ir.node(
        "Loop",
        [limit, begins.outputs[0], *carried],
        attributes={"body": cast(Any, step)},
        num_outputs=len(results),
    )
    for output, inner in zip(loop.outputs, results, strict=True):
        output.name, output.type = f"{inner.name}_of_loop", inner.type
    of_state = [str(one.name).startswith("state_") for one in carried]
    states = [output for output, is_state in zip(loop.outputs, of_state, strict=False) if is_state]
    outputs = [*loop.outputs[len(carried) :], *states]
    program.model.graph = onnx_ir.Graph(
        [limit, *inputs],
        outputs,
        nodes=[*same, begins, loop],
        initializers=weights,
        opset_imports=dict(step.opset_imports),
        name="search",
    )


def _taken_out(step: Any) -> list[Any]:
    """Take the operators out of a step that compute the same in all steps, and return them in their order.

    But not those that only lay numbers out in another order, since a product reads them as they lie; and not those
    with a graph of their own, which may read anything.
    """
    import onnx_ir

    changing = {id(one) for one in step.inputs}
    results = {id(one) for one in step.outputs}
    same = []
    for node in list(step):
        stays = node.op_type == "Transpose" or any(id(output) in results for output in node.outputs)
        has_graph = any(attribute.type == onnx_ir.AttributeType.GRAPH for attribute in node.attributes.values())
        if stays or has_graph or any(id(one) in changing for one in node.inputs):
            changing.update(id(output) for output in node.outputs)
        else:
            same.append(node)
    step.remove(same)
    return same
