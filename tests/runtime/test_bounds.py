"""What is said to be bounded is, whatever the weights and the inputs are."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hf_rnn_s2s.runtime import bounds
from hf_rnn_s2s.runtime.layers import LAYERS

from ..presets.small import ALL, build, inputs


def _claims(model: Any) -> list[tuple[torch.nn.Module, bool]]:
    """The modules of a decoder, and whether what each of them reads is said to be bounded."""
    decoder = model.model.decoder
    layers = [(layer, bounds.is_layer_bounded(model, index)) for index, layer in enumerate(decoder.layers)]
    return [
        *layers,
        (decoder.output_projection, bounds.is_projection_bounded(model)),
        (model.lm_head, bounds.is_readout_bounded(model)),
    ]


@torch.no_grad()
@pytest.mark.parametrize("name", ALL)
def test_presets_with_large_weights(name: str) -> None:
    model = build(name).eval()
    for parameter in model.parameters():
        parameter.mul_(20)
    largest: dict[torch.nn.Module, float] = {}

    def note(module: torch.nn.Module, read: tuple[Tensor, ...]) -> None:
        largest[module] = max(largest.get(module, 0.0), float(read[0].abs().max()))

    claims = _claims(model)
    for module, _ in claims:
        module.register_forward_pre_hook(note)
    given = inputs(name)
    model(**given, decoder_input_ids=torch.arange(3, 7).repeat(len(given["attention_mask"]), 1))
    assert all(largest[module] <= 1 for module, is_bounded in claims if is_bounded and module in largest)


def test_most_decoders_have_bounded_inputs() -> None:
    """Or the test above would say nothing."""
    models = [build(name) for name in ALL]
    exported = [model for model in models if all(type(layer) in LAYERS for layer in model.model.decoder.layers)]
    assert sum(bounds.is_projection_bounded(model) for model in exported) >= len(exported) // 3
    assert any(bounds.is_layer_bounded(model, 1) for model in exported if len(model.model.decoder.layers) > 1)
