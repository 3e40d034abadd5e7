"""Inputs that graphs are exported with, and which of their sizes may differ from call to call.

Which ones those are is not written down for every attention and readout: inputs are made twice, with other sizes the
second time, and what differs is free.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..model.state_rnn_s2s import DecoderState
from .graphs import tensors_of
from .token_table import TABLE


class Sizes(NamedTuple):
    """Sizes of an example: sources, rows of each before and in this step, length of the source, and so on."""

    sources: int
    rows_before: int
    rows: int
    length: int
    steps: int
    beams: int
    candidates: int
    tokens: int
    shortlist: int


OUTPUT = ("output_numbers", "output_scale", "output_bias", "output_ids")  # inputs of a graph with a shortlist
# No two dimensions of an example are the same, so that none is taken for another; the second has other ones.
FIRST, SECOND = Sizes(2, 4, 3, 5, 2, 6, 7, 9, 104), Sizes(3, 7, 5, 11, 4, 8, 9, 13, 136)


class Example(NamedTuple):
    """What a graph is exported with.

    Attributes:
        inputs: of the graph's `forward`, by name.
        dynamic_shapes: as `torch.export` takes them.
        input_names: of the tensors, in order.
        output_names: of what is returned.
    """

    inputs: dict[str, Any]
    dynamic_shapes: dict[str, Any]
    input_names: list[str]
    output_names: list[str]


def encoder_example(model: Any) -> Example:
    """For an `EncoderGraph`."""
    inputs, other = (_encoder_inputs(sizes) for sizes in (FIRST, SECOND))
    return Example(inputs, _free(inputs, other), list(inputs), names_of_encoded(model))


def _encoder_inputs(sizes: Sizes) -> dict[str, Tensor]:
    tokens, places = (torch.zeros(*shape, dtype=torch.long) for shape in ((sizes.tokens,), _mask(sizes).shape))
    return {"tokens": tokens, "places": places, "mask": _mask(sizes)}


def sources_of(model: Any, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """Ids and a mask `(sources, source)` of these sizes."""
    return _ids(model, sizes), _mask(sizes)


def names_of_encoded(model: Any) -> list[str]:
    """What an `EncoderGraph` returns."""
    return [*_source_names(model)[:-1], *_names("state", tensors_of(_state(model, FIRST)))]


def table_example(model: Any) -> Example:
    """For a `TableGraph`."""
    inputs, other = ({"ids": torch.zeros(sizes.rows, dtype=torch.long)} for sizes in (FIRST, SECOND))
    return Example(inputs, _free(inputs, other), ["ids"], [TABLE])


def body_example(layer: Any) -> Example:
    """For the `Body` of a recurrent layer."""
    inputs, other = (_body_inputs(layer, sizes.sources) for sizes in (FIRST, SECOND))
    states = _names("state", inputs["state"])
    names = [*states, "projected"], [*(f"next_{one}" for one in states), "output"]
    return Example(inputs, _free(inputs, other), *names)


def _body_inputs(layer: Any, rows: int) -> dict[str, Any]:
    state = [torch.zeros(rows, layer.hidden_size) for _ in layer.state_names]
    return {"state": state, "projected": torch.zeros(rows, layer.gates)}


class Beside(NamedTuple):
    """What a graph of a step reads beside tokens, state and sources.

    Attributes:
        numbers: the type of the output layer's numbers, of a graph with a shortlist; None: of another one.
        table: `(vocabulary, gates)`, of a graph that looks up tokens; None: of another one.
    """

    numbers: torch.dtype | None = None
    table: Tensor | None = None

    def inputs(self, model: Any, sizes: Sizes) -> dict[str, Any]:
        """What is there, by its name in `forward`."""
        output = None if self.numbers is None else _output(model, sizes, self.numbers)
        return {name: one for name, one in (("output", output), ("table", self.table)) if one is not None}

    def names(self) -> list[str]:
        """The names of its tensors."""
        return [*(() if self.numbers is None else OUTPUT), *(() if self.table is None else (TABLE,))]


def greedy_example(model: Any, beside: Beside) -> tuple[DecoderState, Example]:
    """For a `GreedyGraph`; with a state that says what belongs where."""
    one, other = (sizes._replace(rows_before=1, rows=1) for sizes in (FIRST, SECOND))
    examples = [{**_greedy_inputs(model, sizes), **beside.inputs(model, sizes)} for sizes in (one, other)]
    inputs = examples[0]
    states = _names("state", inputs["state"])
    input_names = [*_single(inputs), *states, *_source_names(model), *beside.names()]
    output_names = ["goes_on", "next_tokens", "next_finished", *(f"next_{name}" for name in states), "written"]
    return _state(model, one), Example(inputs, _free(*examples), input_names, output_names)


def _greedy_inputs(model: Any, sizes: Sizes) -> dict[str, Any]:
    of_step = _step_inputs(model, sizes, with_beams=False)
    return {
        "tokens": of_step["tokens"],
        "finished": torch.zeros(sizes.sources, dtype=torch.bool),
        "ends": torch.zeros(model.config.target_vocab_size, dtype=torch.bool),
        "padding": torch.tensor(0),
        "most_finished": torch.tensor(0),
        "state": of_step["state"],
        "sources": of_step["sources"],
    }


def step_example(model: Any, with_beams: bool, beside: Beside) -> tuple[DecoderState, Example]:
    """For a `StepGraph`, or a `BeamGraph`; with a state that says what belongs where."""
    inputs, other = (
        {**_step_inputs(model, sizes, with_beams), **beside.inputs(model, sizes)} for sizes in (FIRST, SECOND)
    )
    states = _names("state", inputs["state"])
    input_names = [*_single(inputs), *states, *_source_names(model), *beside.names()]
    after = [f"next_{name}" for name in states]
    output_names = ["scores", *after]
    if with_beams:
        following = [f"next_{name}" for name in ("tokens", "parents", "offsets", "finished")]
        output_names = ["goes_on", *following, *after, "values", "beams", "best"]
    return _state(model, FIRST), Example(inputs, _free(inputs, other), input_names, output_names)


def _step_inputs(model: Any, sizes: Sizes, with_beams: bool) -> dict[str, Any]:
    rows = sizes.sources * sizes.rows
    prepared = model.model.decoder.prepare(_encoded(model, sizes), _mask(sizes))
    beams = {
        "offsets": torch.zeros(sizes.sources, sizes.rows),
        "finished": torch.zeros(sizes.sources, dtype=torch.long),
        "candidates": torch.arange(sizes.candidates),
        "kept": torch.zeros(sizes.beams),
        "ends": torch.zeros(model.config.target_vocab_size, dtype=torch.bool),
        "most_full": torch.tensor(0),
    }
    return {
        "tokens": torch.ones(rows, dtype=torch.long),
        "parents": torch.zeros(rows, dtype=torch.long),
        **(beams if with_beams else {}),
        "state": tensors_of(_state(model, sizes)),
        "sources": [part for part in prepared[:2] if part is not None] + [_mask(sizes)],
    }


def _output(model: Any, sizes: Sizes, dtype: torch.dtype) -> list[Tensor]:
    numbers = torch.ones(model.lm_head.in_features, sizes.shortlist, dtype=dtype)
    ids = torch.zeros(sizes.shortlist, dtype=torch.long)
    return [numbers, torch.ones(sizes.shortlist), torch.zeros(sizes.shortlist), ids]


def _state(model: Any, sizes: Sizes) -> DecoderState:
    """The decoder's state after some steps."""
    decoder, encoded = model.model.decoder, _encoded(model, sizes)
    prepared = decoder.prepare(encoded, _mask(sizes))
    encoded.rows_per_source = sizes.rows_before
    state = decoder.first_state(encoded, prepared)
    embedded = decoder.embed_tokens(torch.ones(state.rows, 1, dtype=torch.long))
    for _ in range(sizes.steps):
        _, state = decoder.read_at_once(embedded, state, prepared)
    return state


def _encoded(model: Any, sizes: Sizes) -> Any:
    return model.get_encoder()(_ids(model, sizes), attention_mask=_mask(sizes))


def _ids(model: Any, sizes: Sizes) -> Tensor:
    return (torch.arange(sizes.sources * sizes.length) % model.config.vocab_size).view(sizes.sources, sizes.length)


def _mask(sizes: Sizes) -> Tensor:
    """One row has padding, so that the graph is made for it."""
    mask = torch.ones(sizes.sources, sizes.length, dtype=torch.bool)
    mask[0, -1] = False
    return mask


def _source_names(model: Any) -> list[str]:
    return ["memory", *([] if model.model.decoder.attention is None else ["keys"]), "mask"]


def _single(inputs: dict[str, Any]) -> list[str]:
    """The names of inputs that are one tensor, and have no name beside it."""
    return [name for name, one in inputs.items() if isinstance(one, Tensor) and name != "table"]


def _names(kind: str, tensors: list[Tensor]) -> list[str]:
    return [f"{kind}_{number}" for number in range(len(tensors))]


def _free(inputs: Any, other: Any) -> Any:
    """The dimensions in which two examples differ, as `torch.export` takes them."""
    if isinstance(inputs, dict):
        return {name: _free(value, other[name]) for name, value in inputs.items()}
    if isinstance(inputs, list):
        return [_free(value, another) for value, another in zip(inputs, other, strict=True)]
    differs = [one != another for one, another in zip(inputs.shape, other.shape, strict=True)]
    return {axis: torch.export.Dim.AUTO for axis, is_free in enumerate(differs) if is_free}
