"""Graph capture: `torch.export` of the encoder and of a decoder step, `torch.compile` of the forward pass."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_rnn_s2s import RnnS2SCache, RnnS2SForConditionalGeneration
from hf_rnn_s2s.model.encoder_rnn_s2s import RnnS2SEncoderOutput
from hf_rnn_s2s.model.state_rnn_s2s import DecoderState

from .. import random_models


def build(cell_type: str, **values: Any) -> RnnS2SForConditionalGeneration:
    return random_models.build(**{"cell_type": cell_type, "encoder_layers": 2, **values})


class Encoder(nn.Module):
    """The encoder with plain tensors in and out."""

    def __init__(self, model: RnnS2SForConditionalGeneration) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        cells = () if output.final_cell is None else (output.final_cell,)
        return (output.last_hidden_state, output.final_hidden, *cells)


class DecoderStep(nn.Module):
    """One token in, logits and the next state out, with plain tensors."""

    def __init__(self, model: RnnS2SForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        token: torch.Tensor,
        memory: torch.Tensor,
        mask: torch.Tensor,
        keys: torch.Tensor,
        state: list[list[torch.Tensor]],
    ) -> tuple[torch.Tensor, list[list[torch.Tensor]]]:
        cache = RnnS2SCache()
        cache.advance(DecoderState(tuple(tuple(layer) for layer in state)), keys, 1)
        output = self.model(
            encoder_outputs=RnnS2SEncoderOutput(last_hidden_state=memory, attention_mask=mask),
            decoder_input_ids=token,
            past_key_values=cache,
        )
        return output.logits, [list(layer) for layer in output.past_key_values.state.layers]


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
@torch.no_grad()
def test_export_of_the_encoder_takes_any_batch_and_what_fits_its_length(cell_type: str) -> None:
    model = build(cell_type)
    length = 9
    example = (torch.randint(4, 40, (2, length)), torch.ones(2, length, dtype=torch.long))
    shapes = ({0: torch.export.Dim("batch")},) * 2
    exported = torch.export.export(Encoder(model), example, dynamic_shapes=shapes).module()
    for rows, longest in ((2, 9), (3, 5), (4, 1)):
        ids = torch.randint(4, 40, (rows, longest))
        mask = (torch.arange(longest) < torch.randint(1, longest + 1, (rows, 1))).long()
        fitted = [nn.functional.pad(one, (0, length - longest)) for one in (ids, mask)]
        memory, *state = Encoder(model)(ids, mask)
        exported_memory, *exported_state = exported(*fitted)
        torch.testing.assert_close(exported_memory[:, :longest], memory, rtol=0, atol=1e-6)
        assert exported_memory[:, longest:].eq(0).all()
        torch.testing.assert_close(exported_state, state, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
@torch.no_grad()
def test_export_of_a_decoder_step_takes_any_batch_and_length(cell_type: str) -> None:
    model = build(cell_type)
    batch, source = torch.export.Dim("batch"), torch.export.Dim("source")

    def arguments(rows: int, length: int) -> tuple:
        ids = torch.randint(4, 40, (rows, length))
        mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1))
        encoded = model.get_encoder()(ids, attention_mask=mask)
        cache = model(encoder_outputs=encoded, decoder_input_ids=torch.ones(rows, 1).long()).past_key_values
        state = [list(layer) for layer in cache.state.layers]
        return torch.randint(4, 40, (rows, 1)), encoded.last_hidden_state, mask, cache.keys, state

    example = arguments(2, 5)
    rows, positions = {0: batch}, {0: batch, 1: source}
    shapes = (rows, positions, positions, positions, [[rows for _ in layer] for layer in example[-1]])
    exported = torch.export.export(DecoderStep(model), example, dynamic_shapes=shapes).module()
    for inputs in (arguments(2, 5), arguments(3, 9)):
        ours, state = DecoderStep(model)(*inputs)
        theirs, their_state = exported(*inputs)
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)
        torch.testing.assert_close(their_state, state, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_a_whole_graph_is_refused_with_the_reason(cell_type: str) -> None:
    compiled = torch.compile(build(cell_type), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="compiling would write out every time step"):
        compiled(torch.tensor([[5, 2]]), decoder_input_ids=torch.tensor([[1]]))


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_a_compiled_forward_and_backward_gives_the_same_numbers(cell_type: str) -> None:
    plain, compiled = build(cell_type), build(cell_type)
    run = torch.compile(compiled, backend="eager", dynamic=True)
    for rows, length in ((2, 5), (3, 7)):
        ids = torch.randint(4, 40, (rows, length))
        mask = (torch.arange(length) < torch.randint(1, length + 1, (rows, 1))).long()
        labels = torch.randint(4, 40, (rows, 4))
        expected, output = plain(ids, mask, labels=labels), run(ids, mask, labels=labels)
        torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-5)
        plain.zero_grad()
        compiled.zero_grad()
        expected.loss.backward()
        output.loss.backward()
        for name, parameter in plain.named_parameters():
            torch.testing.assert_close(compiled.get_parameter(name).grad, parameter.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
@torch.no_grad()
def test_export_of_the_whole_model_and_of_a_step_with_its_cache(cell_type: str) -> None:
    model = build(cell_type)
    ids = torch.tensor([[5, 9, 2], [7, 2, 0]])
    source = {"input_ids": ids, "attention_mask": ids.ne(0).long()}
    start = {**source, "decoder_input_ids": torch.tensor([[1, 4], [1, 5]])}
    output = torch.export.export(model, (), kwargs=start).module()(**start)
    expected = model(**start)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-6)
    assert repr(output.past_key_values) == repr(expected.past_key_values)

    def step(past: Any, tokens: list[int]) -> dict[str, Any]:
        # An exported graph leaves what goes in as it is; the model changes its cache.
        return {
            **source,
            "decoder_input_ids": torch.tensor(tokens).unsqueeze(1),
            "past_key_values": copy.deepcopy(past),
        }

    example = step(expected.past_key_values, [6, 7])
    exported = torch.export.export(model, (), kwargs=example).module()
    for tokens in ([8, 9], [10, 11], [12, 2]):
        output = exported(**step(output.past_key_values, tokens))
        expected = model(**step(expected.past_key_values, tokens))
        torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-5)
        assert repr(output.past_key_values) == repr(expected.past_key_values)


@torch.no_grad()
def test_an_exported_model_is_saved_and_loaded(tmp_path: Path) -> None:
    model = build("lstm")
    inputs = {"input_ids": torch.tensor([[5, 9, 2]]), "decoder_input_ids": torch.tensor([[1, 4]])}
    torch.export.save(torch.export.export(model, (), kwargs=inputs), tmp_path / "model.pt2")
    output = torch.export.load(tmp_path / "model.pt2").module()(**inputs)
    expected = model(**inputs)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(output.past_key_values.state, expected.past_key_values.state, rtol=0, atol=1e-6)


@torch.no_grad()
def test_export_of_a_forward_with_labels() -> None:
    model = build("lstm")
    ids = torch.tensor([[5, 9, 2], [7, 2, 0]])
    inputs = {"input_ids": ids, "attention_mask": ids.ne(0).long(), "labels": ids.masked_fill(ids == 0, -100)}
    exported, expected = torch.export.export(model, (), kwargs=inputs).module()(**inputs), model(**inputs)
    torch.testing.assert_close(exported.loss, expected.loss)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for the CPU with g++")
@pytest.mark.parametrize(
    ("autocast", "ways"),
    # Each takes seconds to compile, so bfloat16 has what the package's own trainer does.
    [(False, [(True, True), (True, False), (False, True)]), (True, [(True, False)])],
    ids=["float32", "bfloat16"],
)
def test_the_default_compiler_trains_and_evaluates(autocast: bool, ways: list[tuple[bool, bool]]) -> None:
    torch.compiler.reset()
    plain = build("lstm", encoder_layers=1, decoder_layers=1, dropout=0.0, label_smoothing=0.1)
    compiled = copy.deepcopy(plain)
    run = torch.compile(compiled)
    ids = torch.tensor([[5, 9, 2], [7, 2, 0]])
    inputs = {"input_ids": ids, "attention_mask": ids.ne(0).long(), "labels": ids.masked_fill(ids == 0, -100)}
    tolerance = {"rtol": 0, "atol": 5e-2 if autocast else 1e-5}
    for training, with_logits in ways:
        plain.train(training)
        compiled.train(training)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.set_grad_enabled(training):
            expected, output = (one(**inputs, return_logits=with_logits) for one in (plain, run))
        torch.testing.assert_close(output.loss, expected.loss, **tolerance)
        if with_logits:
            torch.testing.assert_close(output.logits, expected.logits, **tolerance)
        if training:
            for loss, model in ((expected.loss, plain), (output.loss, compiled)):
                model.zero_grad()
                loss.backward()
            for name, parameter in plain.named_parameters():
                torch.testing.assert_close(compiled.get_parameter(name).grad, parameter.grad, **tolerance)


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
@torch.no_grad()
def test_export_of_a_forward_with_padded_targets(cell_type: str) -> None:
    model = build(cell_type)
    ids = torch.tensor([[5, 9, 2], [7, 2, 0]])
    inputs = {
        "input_ids": ids,
        "attention_mask": ids.ne(0).long(),
        "decoder_input_ids": torch.tensor([[1, 8, 9], [1, 8, 0]]),
        "decoder_attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "use_cache": False,
    }
    exported = torch.export.export(model, (), kwargs=inputs, strict=False).module()
    other = {**inputs, "decoder_attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]])}
    for arguments in (inputs, other):
        expected, ours = model(**arguments).logits, exported(**arguments).logits
        kept = arguments["decoder_attention_mask"].bool()
        torch.testing.assert_close(ours[kept], expected[kept], rtol=0, atol=1e-6)
