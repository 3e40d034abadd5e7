"""Export: a model becomes a folder with one file of weights, and small graphs that read it.

`torch.onnx.export` makes the graphs. Layers that it would write out step by step, and products of 8 bit integers,
which it does not know, are put in as operators (`layers`).
"""

from __future__ import annotations

import copy
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..decoding.shortlist import FILE_NAME as SHORTLIST
from ..decoding.shortlist import shortlist_beside
from ..model.remote_code_rnn_s2s import ANY_OTHER_PIPELINE, PIPELINES
from ..version import __version__
from .card import write_card
from .detours import remove_detours
from .examples import (
    Beside,
    Example,
    body_example,
    encoder_example,
    greedy_example,
    names_of_encoded,
    step_example,
    table_example,
)
from .format import (
    BEAMS,
    ENCODER,
    FIELD,
    FORMAT,
    GREEDY,
    OF_SHORTLIST,
    SCORES,
    TABLE_ROWS,
    WEIGHTS,
    Layout,
    Place,
    places_in,
)
from .graphs import BeamGraph, EncoderGraph, GreedyGraph, StepGraph
from .layers import OPSET, GraphRecurrentLayer, Storage, Stored, matrices_of
from .recurrence import BODY, Body, is_recurrence, put_in_loops
from .requirements import require_exportable, require_exporter, require_runtime
from .runtime import Runtime
from .search_loop import put_in_loop
from .token_table import TableGraph, empty_table, has_table
from .verification import verify
from .weights import NUMBERS, PRECISIONS, SCALE

# The graphs of a step, by their names
STEPS: dict[str, type[StepGraph]] = {
    SCORES: StepGraph,
    GREEDY: GreedyGraph,
    BEAMS: BeamGraph,
    GREEDY + OF_SHORTLIST: GreedyGraph,
    BEAMS + OF_SHORTLIST: BeamGraph,
}
GRAPHS = (ENCODER, *STEPS)
LARGEST_FOLDED = 2**8  # numbers of a constant that is computed while a graph is made
LARGEST_CONSTANT = 2**16  # bytes; a larger tensor in a graph is a weight that is not in the file of weights


def export_model(
    model: Any, save_directory: str | os.PathLike, precision: str = "int8", tokenizer: Any = None
) -> None:
    """Write a model as graphs for ONNX Runtime, with all that is needed to load it again.

    What is written is loaded as any other model, by `from_pretrained` or `pipeline("translation", model=...)`, and
    goes to the Hub as one. Greedy and beam search on a CPU then run on the graphs; all else, such as sampling, runs on
    the model of torch with the same weights.

    Args:
        model: of this package, in any type; it is not changed.
        save_directory: the folder, which is made if it is not there. An export that it holds is replaced.
        precision: `"int8"`, matrices of 8 bit integers, or `"float32"`.
        tokenizer: saved with it, if there is one.

    Raises:
        FileExistsError: if the folder holds a model that is no export, whose weights would be lost.
        ImportError: without the packages of the extra `export`.
        NotADirectoryError: if `save_directory` is a file.
        TypeError: for a model of another package.
        ValueError: for another precision, and for a model that has something the runtime lacks.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is none of {', '.join(map(repr, PRECISIONS))}.")
    check_export(model)
    folder = Path(save_directory)
    if folder.is_file():
        raise NotADirectoryError(f"save_directory={str(folder)!r} is a file; give the name of a folder.")
    if _holds_another_model(folder):
        raise FileExistsError(f"There is a model in {folder}, which an export would replace; give another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    exported = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    with tempfile.TemporaryDirectory(dir=folder, prefix="_") as work:  # until it is known that they are right
        layout = write_graphs(exported, Path(work), precision)
        verify(exported, Path(work), layout)
        for file in Path(work).iterdir():
            file.replace(folder / file.name)
    save_settings(exported, folder, layout)
    source = Path(model.name_or_path) if model.name_or_path else None
    shortlist = shortlist_beside(model)
    (folder / SHORTLIST).unlink(missing_ok=True)  # of the export before
    if shortlist is not None:
        shortlist.save_pretrained(folder)
    write_card(source, folder, layout, pipeline_of(model.config))
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _holds_another_model(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and FIELD not in json.loads(config.read_text(encoding="utf-8"))


def check_export(model: Any) -> None:
    """Check what can be checked before an export, such as before a training.

    Raises:
        ImportError: without the packages that it takes.
        TypeError, ValueError: for a model that cannot be exported.
    """
    require_exporter()
    require_runtime()
    require_exportable(model)


def copy_export(runtime: Runtime, model: Any, folder: Path) -> None:
    """Write the graphs and the weights of a model that was loaded with them into a folder that it was saved in."""
    names = [f"{name}.onnx" for name in runtime.layout.graphs]
    for file in (runtime.graphs.weights, *(runtime.folder / name for name in names)):
        shutil.copyfile(file, folder / file.name)
    save_settings(model, folder, runtime.layout)


def pipeline_of(config: Any) -> str:
    """The name of the pipeline for what a model does."""
    return PIPELINES.get(config.task, ANY_OTHER_PIPELINE)[0]


def write_graphs(model: Any, folder: Path, precision: str, names: Sequence[str] = GRAPHS) -> Layout:
    """Write the file of weights and the graphs with these names, of a model in float32 on the CPU.

    Raises:
        ValueError: if torch cannot make a graph of it for sources of any length.
    """
    tensors = PRECISIONS[precision]().stored(model, matrices_of(model))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    places = places_in(folder / WEIGHTS)
    if has_table(model, _storage(model, tensors)):  # which all graphs of a step read
        names = [*names, TABLE_ROWS]
    of_tensors = {tensor.data_ptr(): (name, places[name]) for name, tensor in tensors.items()}
    reads = {}
    with torch.no_grad(), _quietly():
        for name in names:
            try:
                program = _with_loops(*_graph(name, model, tensors))
                if name.startswith((GREEDY, BEAMS)):
                    put_in_loop(program)
            except torch.onnx.OnnxExporterError as error:
                raise ValueError(f"torch cannot make a graph of this model ({name}): {error}") from error
            reads[name] = _save_graph(program, folder / f"{name}.onnx", of_tensors)
    output = _output_layer(model, tensors)
    return Layout(FORMAT, precision, __version__, output, names_of_encoded(model), reads)


def _graph(name: str, model: Any, tensors: Mapping[str, Tensor]) -> tuple[nn.Module, Example]:
    """A graph of a model whose tensors are stored, and inputs for it."""
    stored = _storage(model, tensors)
    if name == ENCODER:
        return EncoderGraph(model, stored), encoder_example(model)
    if name == TABLE_ROWS:
        return TableGraph(model, stored), table_example(model)
    numbers = torch.int8 if stored(model.lm_head.weight).is_int8 else torch.float32
    table = empty_table(model, stored) if has_table(model, stored) else None
    beside = Beside(numbers if name.endswith(OF_SHORTLIST) else None, table)
    if name.startswith(GREEDY):
        template, example = greedy_example(model, beside)
    else:
        template, example = step_example(model, name.startswith(BEAMS), beside)
    return STEPS[name](model, stored, template), example


def _storage(model: Any, tensors: Mapping[str, Tensor]) -> Storage:
    """What gives a parameter of a model as it is stored."""
    names = _names_of_tensors(model)
    return lambda parameter: Stored(tensors, names[id(parameter)])


def _names_of_tensors(model: nn.Module) -> dict[int, str]:
    """The name of each tensor by its id; of several names the first one, under which it is stored."""
    return {id(tensor): name for name, tensor in reversed(list(model.state_dict(keep_vars=True).items()))}


def _output_layer(model: Any, tensors: Mapping[str, Tensor]) -> list[str | None]:
    """The names of the tensors of the output layer in the file of weights: numbers, scale and bias."""
    names = _names_of_tensors(model)
    weight, bias = names[id(model.lm_head.weight)], names[id(model.lm_head.bias)]
    numbers = weight + NUMBERS if weight + NUMBERS in tensors else weight
    return [numbers, weight + SCALE if numbers != weight else None, bias]


def _with_loops(graph: nn.Module, example: Example) -> Any:
    """The exported graph; layers that read a sequence step by step are loops in it."""
    layers: dict[int, GraphRecurrentLayer] = {}
    for module in graph.modules():
        if isinstance(module, GraphRecurrentLayer):
            module.number = len(layers)
            layers[module.number] = module
    program = _traced(graph, example)
    numbers = {node.attributes[BODY].as_int() for node in program.model.graph if is_recurrence(node)}
    put_in_loops(program, {number: _traced(Body(layers[number]), body_example(layers[number])) for number in numbers})
    return program


def _traced(graph: nn.Module, example: Example) -> Any:
    from onnxscript.optimizer import optimize_ir

    program: Any = torch.onnx.export(
        graph.eval(),
        (),
        kwargs=example.inputs,
        dynamic_shapes=example.dynamic_shapes,
        input_names=example.input_names,
        output_names=example.output_names,
        opset_version=OPSET,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    # What can be computed of the weights is left to the runtime, or it would be written beside them.
    optimize_ir(program.model, output_size_limit=LARGEST_FOLDED, should_fold=_is_small)
    remove_detours(program.model.graph)
    return program


def _is_small(node: Any) -> bool | None:
    """False for an operator that reads a weight; None leaves it to the optimizer."""
    constants = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
    return False if any(constant.size > LARGEST_FOLDED for constant in constants) else None


def _save_graph(program: Any, file: Path, places: Mapping[int, tuple[str, Place]]) -> list[str]:
    """Write a graph whose weights are those of the file of weights beside it, and have their names.

    `places` has the names and the places of the tensors by their addresses. Returns the names that are used.
    """
    import onnx_ir

    initializers, used = program.model.graph.initializers, []
    for value in list(initializers.values()):
        constant = value.const_value
        tensor = getattr(constant, "raw", None)
        name, place = places.get(tensor.data_ptr(), ("", None)) if isinstance(tensor, Tensor) else ("", None)
        if place is not None and place.length == constant.nbytes:
            value.name = name
            used.append(name)
            value.const_value = onnx_ir.ExternalTensor(
                WEIGHTS,
                place.offset,
                place.length,
                constant.dtype,
                shape=constant.shape,
                name=name,
                base_dir=file.parent,
            )
        elif constant.nbytes > LARGEST_CONSTANT:
            raise AssertionError(f"{value.name} in {file.name} is no tensor of the file of weights.")
    _strip(program.model)
    onnx_ir.save(program.model, file)
    return used


def _strip(model: Any) -> None:
    """Take out where in torch each operator comes from, which is longer than the graph."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():  # of the loops, too
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.type = value.shape = None


def save_settings(model: Any, folder: Path, layout: Layout) -> None:
    """Write the configuration, which says what the folder holds, and the settings of generation."""
    config = copy.deepcopy(model.config)
    config.drop_code()  # where this package is not installed, nothing can read the integers
    config.architectures = [type(model).__name__]
    setattr(config, FIELD, layout.as_dict())
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch says of its own functions while it exports."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
