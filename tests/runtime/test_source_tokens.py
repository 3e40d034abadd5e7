"""What is looked up for each token is what the layers of an encoder make of it where it stands."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hf_rnn_s2s.runtime import graphs
from hf_rnn_s2s.runtime.export import write_graphs
from hf_rnn_s2s.runtime.format import ENCODER, WEIGHTS
from hf_rnn_s2s.runtime.layers import with_graph_layers
from hf_rnn_s2s.runtime.runtime import Runtime
from hf_rnn_s2s.runtime.sessions import Graphs
from hf_rnn_s2s.runtime.source_tokens import can_look_up, distinct

from ..presets.small import build
from ..random_models import model_that_ends
from .test_token_table import storage


def random_sources(draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids, of which some come more than once, and a mask, with padding on the left, on the right, or in between."""
    rows, length = draw.randrange(1, 6), draw.randrange(1, 10)
    ids = torch.tensor([[draw.randrange(3, 14) for _ in range(length)] for _ in range(rows)])
    mask = torch.tensor([[draw.random() < 0.7 for _ in range(length)] for _ in range(rows)])
    mask[0] = True
    return ids, mask


@pytest.mark.parametrize(
    ("values", "has_any"),
    [
        ({}, True),
        ({"encoder_type": "unidirectional", "reverse_source": True, "cell_type": "gru", "encoder_layers": 2}, True),
        ({"encoder_type": "bidirectional_stack", "encoder_layers": 2}, True),
        ({"cell_type": "layer_norm_lstm"}, False),
    ],
)
@torch.no_grad()
def test_sources_are_encoded_as_without_looking_up(
    values: dict[str, Any], has_any: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_that_ends(**values).requires_grad_(False)
    runtimes, found = [], []
    look = graphs.can_look_up
    for name in ("looks", "does not"):
        if runtimes:
            monkeypatch.setattr(graphs, "can_look_up", lambda encoder: found.append(look(encoder)) or False)
        folder = tmp_path / name
        folder.mkdir()
        layout = write_graphs(model, folder, "int8", (ENCODER,))
        runtimes.append(Runtime(Graphs(folder, folder / WEIGHTS, layout.graphs), layout, model))
    assert found == [has_any]
    draw = random.Random(0)
    for _ in range(30):
        ids, mask = random_sources(draw)
        one, other = (runtime.encode(ids, mask, model.config).of_runtime for runtime in runtimes)
        assert one is not None
        assert other is not None
        for name, numbers in one.items():
            np.testing.assert_allclose(numbers, other[name], rtol=0, atol=1e-6)
        alone = runtimes[0].encode(ids[-1:], mask[-1:], model.config).of_runtime  # whose tokens are not compared
        assert alone is not None
        for name, numbers in alone.items():
            np.testing.assert_allclose(numbers, one[name][-1:], rtol=0, atol=1e-6)


def test_no_embedding_is_looked_up_of_an_encoder_without_recurrent_layers() -> None:
    assert not can_look_up(with_graph_layers(build("hybrid").get_encoder(), storage))


def test_tokens_and_places_say_what_the_ids_were() -> None:
    draw = np.random.default_rng(0)
    for rows in (1, 2, 7):
        ids = draw.integers(0, 9, (rows, 12))
        tokens, places = distinct(ids)
        np.testing.assert_array_equal(tokens[places], ids)
        assert rows == 1 or len(tokens) == len(set(ids.flatten().tolist()))
