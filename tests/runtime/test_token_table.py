"""With a table of tokens and without one, the steps of a decoder are the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_rnn_s2s.decoding.saved_objects import SavedObject, load_saved
from hf_rnn_s2s.runtime import token_table
from hf_rnn_s2s.runtime.export import write_graphs
from hf_rnn_s2s.runtime.format import ENCODER, SCORES, TABLE_ROWS, WEIGHTS
from hf_rnn_s2s.runtime.graphs import StepGraph, tensors_of
from hf_rnn_s2s.runtime.runtime import Runtime
from hf_rnn_s2s.runtime.sessions import Graphs
from hf_rnn_s2s.runtime.token_table import TABLE, TableGraph, has_table

from ..presets.small import TOKENS, build

WIRINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "feeding": {"input_feeding": True},
    "all": {"input_feeding": True, "context_layers": "all", "attention_query": "previous"},
    "gru": {"cell_type": "gru"},
}


def storage(parameter: torch.Tensor) -> token_table.Stored:
    """A parameter as it is."""
    return token_table.Stored({"weight": parameter}, "weight")


@torch.no_grad()
@pytest.mark.parametrize("wiring", WIRINGS)
def test_float32(wiring: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a runtime: graphs of float32 are made of operators that torch computes, too."""
    model = build("luong2015", **{"input_feeding": False, **WIRINGS[wiring]})
    encoded = model.get_encoder()(TOKENS)
    prepared = model.model.decoder.prepare(encoded)
    sources = [part for part in prepared[:3] if part is not None]
    state = model.model.decoder.first_state(encoded, prepared)
    rows, tokens = torch.tensor([1, 0, 0, 1, 2, 2]), torch.tensor([3, 4, 5, 6, 2, 0])
    before = [torch.rand(len(rows), *part.shape[1:]) for part in tensors_of(state)]

    found = []
    for limit in (2**20, 0):
        monkeypatch.setattr(token_table, "LARGEST_TABLE", limit)
        assert has_table(model, storage) == bool(limit)
        table = TableGraph(model, storage)(torch.arange(model.config.target_vocab_size)) if limit else None
        found.append(StepGraph(model, storage, state)(tokens, rows, before, sources, table))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_int8_and_the_size_at_which_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("luong2015", encoder_layers=1, decoder_layers=1).requires_grad_(False)
    size = model.config.target_vocab_size * model.model.decoder.layers[0].weight_ih.shape[0] * 2
    scores = []
    for limit in (size, size - 1):
        monkeypatch.setattr(token_table, "LARGEST_TABLE", limit)
        folder = tmp_path / str(limit)
        folder.mkdir()
        layout = write_graphs(model, folder, "int8", (ENCODER, SCORES))
        assert (TABLE_ROWS in layout.graphs) == (limit == size)
        runtime = Runtime(Graphs(folder, folder / WEIGHTS, layout.graphs), layout, model)
        stepper = runtime.stepper(runtime.encode(TOKENS, None, model.config))
        runtime.table()
        saved = SavedObject(runtime)
        with monkeypatch.context() as patch:
            patch.setattr(Graphs, "table", None)  # another process maps the table, and does not compute it
            there = load_saved(saved.path).table()
        assert there.keys() == runtime.table().keys() == ({TABLE} if limit == size else set())
        assert all(np.array_equal(one, runtime.table()[name]) for name, one in there.items())
        tokens = torch.arange(1, 1 + len(TOKENS)).unsqueeze(1)
        scores.append(torch.stack([stepper.step(one) for one in (tokens, tokens + 2, tokens + 1)]))
    torch.testing.assert_close(*scores, rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("luong2015", True),
        ("gnmt2016", True),
        ("bahdanau2015", False),  # its readout reads the token
        ("nematus-conditional-gru", False),
        ("rnmt-plus2018", False),  # its cells normalise
        ("pointer-generator2017", False),  # its head reads the token
    ],
)
def test_which_models_have_one(name: str, expected: bool) -> None:
    assert has_table(build(name), storage) == expected


@pytest.mark.parametrize("part", ["decoder.layers.0", "decoder.embed_tokens"])
def test_none_where_a_layer_has_a_hook(part: str) -> None:
    model = build("luong2015")
    assert has_table(model, storage)
    model.model.get_submodule(part).register_forward_hook(lambda *given: None)
    assert not has_table(model, storage)


def test_none_of_a_decoder_that_somebody_registered() -> None:
    model = build("luong2015")
    model.model.decoder.__class__ = type("OwnDecoder", (type(model.model.decoder),), {"__module__": __name__})
    assert not has_table(model, storage)
