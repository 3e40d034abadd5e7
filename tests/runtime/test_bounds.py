"""What is said to be bounded is, whatever the weights and the inputs are."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hf_rnn_s2s.model.cells_rnn_s2s import LSTMLayer
from hf_rnn_s2s.model.decoder_rnn_s2s import RnnS2SDecoder
from hf_rnn_s2s.runtime import bounds
from hf_rnn_s2s.runtime.layers import LAYERS

from ..presets.small import ALL, build, inputs

GATED = [
    "luong2015",
    "gnmt2016",
    "bahdanau2015",
    "nematus-conditional-gru",
]  # with gates over states and contexts, too
ROUNDING = 1e-6  # a mean of numbers that are all 1


def claims(model: Any) -> list[tuple[nn.Module, int, bool]]:
    """Modules of a decoder, from which of its inputs on something is said, and whether they are said to be bounded."""
    decoder = model.model.decoder
    first, *others = decoder.layers
    return [
        (first, decoder.config.embedding_size, bounds.is_beside_token_bounded(model)),
        *((layer, 0, bounds.is_layer_bounded(model, index)) for index, layer in enumerate(others, start=1)),
        (decoder.output_projection, 0, bounds.is_projection_bounded(model)),
        (model.lm_head, 0, bounds.is_readout_bounded(model)),
    ]


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {}) for name in ALL), *((name, {"context_fusion": "gated"}) for name in GATED)]
)
def test_presets_with_large_weights(name: str, changes: dict[str, Any]) -> None:
    model = build(name, **changes)
    for parameter in model.parameters():
        parameter.mul_(20)
    read: dict[nn.Module, list[Tensor]] = {}
    said = claims(model)
    for module, _, _ in said:
        module.register_forward_pre_hook(lambda module, given: read.setdefault(module, []).append(given[0]))
    given = inputs(name)
    model(**given, decoder_input_ids=torch.arange(3, 7).repeat(len(given["attention_mask"]), 1))
    for module, first, is_bounded in said:
        parts = [one[..., first:] for one in read.get(module, []) if is_bounded]
        assert all(float(part.abs().max()) <= 1 + ROUNDING for part in parts if part.numel())


def test_most_decoders_have_bounded_inputs() -> None:
    """Or the test above would say nothing."""
    models = [build(name) for name in ALL]
    exported = [model for model in models if all(type(layer) in LAYERS for layer in model.model.decoder.layers)]
    assert sum(bounds.is_projection_bounded(model) for model in exported) >= len(exported) // 3
    assert any(bounds.is_layer_bounded(model, 1) for model in exported if len(model.model.decoder.layers) > 1)
    assert any(bounds.is_beside_token_bounded(model) for model in exported if model.config.input_feeding)


class OwnDecoder(RnnS2SDecoder):
    """Somebody's."""


class OwnLayer(LSTMLayer):
    """Somebody's."""


@pytest.mark.parametrize("own", [OwnDecoder, OwnLayer])
def test_nothing_is_certain_of_parts_that_somebody_registered(own: type[nn.Module]) -> None:
    model = build("luong2015")
    assert all(is_bounded for _, _, is_bounded in claims(model))
    part = model.model.decoder if own is OwnDecoder else model.get_encoder().upper_layers[0]
    part.__class__ = own
    assert not any(is_bounded for _, _, is_bounded in claims(model))
