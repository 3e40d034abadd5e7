"""A decoder that reads in two passes computes what it does step by step."""

from typing import Any

import pytest
import torch
from torch import nn

from hf_rnn_s2s.model import modeling_rnn_s2s as plain
from hf_rnn_s2s.model.decoder_rnn_s2s import RnnS2SDecoder
from hf_rnn_s2s.training import two_passes

from ..random_models import build

SOURCE = torch.tensor([[5, 9, 11, 30, 2], [7, 3, 2, 0, 0]])
TARGET = torch.tensor([[1, 8, 21, 13], [1, 9, 4, 5]])
PREVIOUS: dict[str, Any] = {"attention_query": "previous", "context_layers": "all"}
SHAPES: list[dict[str, Any]] = [
    {**PREVIOUS, "cell_type": "layer_norm_lstm", "decoder_layers": 4, "readout": "joined", "first_residual_layer": 3},
    {**PREVIOUS, "cell_type": "reset_first_gru", "decoder_layers": 1, "readout": "maxout", "bridge": "backward"},
    {**PREVIOUS, "decoder_layers": 3, "context_fusion": "gated", "attention_layer": "top"},
    {"decoder_type": "conditional", "cell_type": "gru", "decoder_layers": 2, "readout": "self_attentive"},
    {"attention_type": "coverage", "decoder_layers": 3, "attention_dropout": 0.3, "readout": "state"},
    {"attention_type": "location", "decoder_layers": 2, "num_attention_heads": 1, "state_dropout": 0.3},
]


def read(model: Any, **arguments: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(1)
    asked = {"output_hidden_states": True, "output_attentions": True, "use_cache": True}
    output = model(SOURCE, decoder_input_ids=TARGET, **{**asked, **arguments})
    output.logits.square().mean().backward()
    return output, {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("values", SHAPES, ids=str)
def test_results_are_those_of_a_loop(values: dict[str, Any], training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"dropout": 0.2, "initializer_range": 1.0, "tie_word_embeddings": False}
    model = build(**values, **sizes).double().train(training)
    assert type(two_passes.in_two_passes(model.model.decoder)) is two_passes._TwoPasses
    ours, our_gradients = read(model)
    monkeypatch.setattr(type(model.model), "forward", plain.RnnS2SModel.forward)
    theirs, gradients = read(model)
    exact = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(ours.logits, theirs.logits, **exact)
    torch.testing.assert_close(ours.cross_attentions, theirs.cross_attentions, **exact)
    torch.testing.assert_close(ours.decoder_hidden_states, theirs.decoder_hidden_states, **exact)
    torch.testing.assert_close(ours.past_key_values.state, theirs.past_key_values.state, **exact)
    assert our_gradients.keys() == gradients.keys() == dict(model.named_parameters()).keys()
    torch.testing.assert_close(our_gradients, gradients, rtol=1e-10, atol=1e-13)


def test_layers_above_are_called_once() -> None:
    model = build(**PREVIOUS, decoder_layers=3).train()
    calls: list[tuple[int, ...]] = []
    for part in (*model.model.decoder.layers, model.model.decoder.output_projection):
        part.register_forward_hook(lambda _, __, outputs: calls.append(outputs[0].shape))
    read(model)
    bottom, hidden, readout = (2, 1, 12), (2, 4, 12), (4, 10)
    assert calls == [bottom] * 4 + [hidden] * 2 + [readout]


@pytest.mark.parametrize("values", [{}, {"input_feeding": True}, {"attention_type": "none"}], ids=str)
def test_decoders_for_which_it_is_of_no_use(values: dict[str, Any]) -> None:
    decoder = build(**values).model.decoder
    assert two_passes.in_two_passes(decoder) is decoder


def test_changed_decoders_stay_as_they_are() -> None:
    decoder = build(**PREVIOUS).model.decoder
    decoder.register_forward_hook(lambda *_: None)
    assert two_passes.in_two_passes(decoder) is decoder

    class Own(RnnS2SDecoder):
        pass

    own = Own(build(**PREVIOUS).config)
    assert two_passes.in_two_passes(own) is own


def test_gaps_in_the_target_are_read_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(**PREVIOUS, decoder_layers=2).double().train()
    mask = torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]])
    ours, our_gradients = read(model, decoder_attention_mask=mask)
    monkeypatch.setattr(type(model.model), "forward", plain.RnnS2SModel.forward)
    theirs, gradients = read(model, decoder_attention_mask=mask)
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(our_gradients, gradients)


def test_the_model_stays_as_it_is() -> None:
    model = build(**PREVIOUS, decoder_layers=2)
    decoder = model.model.decoder
    before, layers = dict(vars(decoder)), decoder.layers
    read(model)
    assert type(decoder) is RnnS2SDecoder
    assert vars(decoder) == before
    assert decoder.layers is layers
    assert isinstance(layers, nn.ModuleList)
