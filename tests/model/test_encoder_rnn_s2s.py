"""The encoder's output as it may come back to a model, and what stands at padding."""

from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from ..random_models import build
from .test_base_rnn_s2s import SOURCE, TARGET

MASK = SOURCE.ne(0).long()


@pytest.mark.parametrize("as_type", [tuple, list])
@pytest.mark.parametrize("hidden_states", [False, True])
@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_a_tuple_of_the_encoder_keeps_its_mask(cell_type: str, hidden_states: bool, as_type: Any) -> None:
    model = build(cell_type=cell_type)
    expected = model(SOURCE, decoder_input_ids=TARGET).logits
    outputs = model.get_encoder()(SOURCE, output_hidden_states=hidden_states, return_dict=False)
    assert isinstance(outputs, tuple)
    again = model(encoder_outputs=as_type(outputs), decoder_input_ids=TARGET, output_hidden_states=True)
    assert torch.equal(again.logits, expected)
    assert (again.encoder_hidden_states is not None) == hidden_states


@pytest.mark.parametrize("num_beams", [1, 3])
def test_an_output_of_another_class_is_read_and_left_as_it_is(num_beams: int, rows_per_step: list[int]) -> None:
    model = build(bridge="zero").eval()
    memory = model.get_encoder()(SOURCE, attention_mask=MASK).last_hidden_state
    arguments: dict[str, Any] = {"attention_mask": MASK, "max_new_tokens": 4, "num_beams": num_beams}
    expected = model.generate(SOURCE, **arguments)
    outputs, steps = BaseModelOutput(last_hidden_state=memory), len(rows_per_step)
    for _ in range(2):
        assert torch.equal(model.generate(encoder_outputs=outputs, **arguments), expected)
        assert outputs.last_hidden_state is memory
        assert list(outputs) == ["last_hidden_state"]
    assert len(rows_per_step) == 3 * steps  # the package's own search


def test_an_output_of_another_class_without_a_memory_is_named() -> None:
    with pytest.raises(ValueError, match="encoder_outputs is missing: the decoder needs the memory"):
        build(bridge="zero").eval().generate(encoder_outputs=BaseModelOutput(), decoder_input_ids=TARGET)


@pytest.mark.parametrize("filling", [float("nan"), float("inf"), 1e5])
@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_nothing_that_stands_at_padding_matters(cell_type: str, filling: float) -> None:
    model = build(cell_type=cell_type, encoder_layers=2)
    embeds = model.get_input_embeddings()(SOURCE)
    expected = model(SOURCE, decoder_input_ids=TARGET).logits
    embeds = embeds.masked_fill(MASK.unsqueeze(-1) == 0, filling)
    output = model(inputs_embeds=embeds, attention_mask=MASK, decoder_input_ids=TARGET)
    torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("context_fusion", ["concat", "add"])
def test_cosines_of_padding_have_gradients_in_float16(context_fusion: str) -> None:
    model = build(attention_type="cosine", context_fusion=context_fusion).half().train()
    model(SOURCE, labels=TARGET).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("source", [SOURCE, SOURCE[:1]], ids=["padded", "unpadded"])
def test_a_tuple_of_the_encoder_keeps_what_can_be_copied(source: torch.Tensor) -> None:
    model = build(head_type="copying", copy_slots=2)
    copied = source.masked_fill(source == 9, 40)
    expected = model(source, copy_ids=copied, decoder_input_ids=TARGET[: len(source)]).logits
    outputs = model.get_encoder()(source, copy_ids=copied, return_dict=False)
    assert torch.equal(model(encoder_outputs=outputs, decoder_input_ids=TARGET[: len(source)]).logits, expected)
