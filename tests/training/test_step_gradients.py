"""Gradients that are made once for all steps are those that autograd adds up."""

from typing import Any

import pytest
import torch
from torch import nn

from hf_rnn_s2s.model import modeling_rnn_s2s as plain
from hf_rnn_s2s.training import step_gradients

from ..random_models import build

SOURCE = torch.tensor([[5, 9, 11, 30, 2], [7, 3, 2, 0, 0]])
LABELS = torch.tensor([[8, 21, 13, 2], [9, 2, -100, -100]])
SHAPES: list[dict[str, Any]] = [
    {"input_feeding": True, "attention_layer": "top"},
    {"input_feeding": True, "attention_type": "additive", "readout": "maxout", "attention_layer": "top"},
    {"attention_query": "previous", "context_layers": "all", "num_attention_heads": 2, "context_fusion": "gated"},
    {"decoder_type": "conditional", "cell_type": "gru", "readout": "self_attentive"},
    {"attention_type": "coverage", "cell_type": "layer_norm_lstm"},
]


def gradients(model: Any, **arguments: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(1)
    model(SOURCE, labels=LABELS, **arguments).loss.backward()
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def plainly(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model.model), "forward", plain.RnnS2SModel.forward)


@pytest.mark.parametrize("values", SHAPES, ids=str)
def test_gradients_are_those_of_autograd(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(**values, dropout=0.2, initializer_range=1.0).double().train()
    ours = gradients(model)
    plainly(model, monkeypatch)
    theirs = gradients(model)
    assert ours.keys() == theirs.keys() == dict(model.named_parameters()).keys()
    for name, one in ours.items():
        torch.testing.assert_close(
            one, theirs[name], rtol=0, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_they_are_used_and_the_model_stays_as_it_is() -> None:
    model = build(input_feeding=True).train()
    before = dict(model.named_modules())
    replaced = step_gradients.with_step_gradients(model.model.decoder)
    assert {type(one) for one in replaced.layers} == {step_gradients.SteppedLSTM}
    assert type(replaced.output_projection) is step_gradients.SteppedLinear
    assert type(replaced.bridge.projections["hidden"]) is nn.Linear  # once per sentence
    assert dict(model.named_modules()) == before
    with torch.no_grad():
        assert step_gradients.with_step_gradients(model.model.decoder) is model.model.decoder
    assert step_gradients.with_step_gradients(build().model.decoder) is not replaced
    assert build().model.decoder.needs_steps is False


def test_layers_with_hooks_are_called() -> None:
    model = build(input_feeding=True, decoder_layers=2).train()
    calls: list[Any] = []
    model.model.decoder.layers[1].register_forward_hook(lambda *_: calls.append(1))
    model.model.decoder.output_projection.weight.requires_grad_(False)
    found = gradients(model)
    assert len(calls) == LABELS.shape[1]
    assert "model.decoder.output_projection.weight" not in found
    assert "model.decoder.output_projection.bias" in found


def test_gradients_in_bfloat16_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(input_feeding=True, hidden_size=32, embedding_size=32).train()
    model.config.dropout = 0.0
    exact = gradients(model.eval())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = gradients(model)
        plainly(model, monkeypatch)
        theirs = gradients(model)
    for name, one in exact.items():
        allowed = 0.05 * one.abs().max() + 2 * (theirs[name] - one).abs().max()
        assert (ours[name] - one).abs().max() <= allowed, name


def test_gradients_add_up_over_batches_and_passes() -> None:
    model = build(input_feeding=True).double().eval()
    once = gradients(model)
    model(SOURCE, labels=LABELS).loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * once[name])
    model.zero_grad()
    loss = model(SOURCE, labels=LABELS).loss + model(SOURCE, labels=LABELS).loss
    loss.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 2 * once[name])


def test_a_backward_pass_for_other_tensors_leaves_nothing_behind() -> None:
    for values in ({"input_feeding": True}, {"cell_type": "layer_norm_lstm"}, {"cell_type": "reset_first_gru"}):
        model = build(**values).double().eval()
        once = gradients(model)
        model.zero_grad()
        loss = model(SOURCE, labels=LABELS).loss
        torch.autograd.grad(loss, [model.model.encoder.embed_tokens.weight], retain_graph=True)
        loss.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, once[name])
