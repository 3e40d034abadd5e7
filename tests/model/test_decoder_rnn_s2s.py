"""What the decoder is given must be made by its own encoder, and its cache by itself."""

from typing import Any

import pytest
import torch

from hf_rnn_s2s.model.encoder_rnn_s2s import RnnS2SEncoderOutput

from ..random_models import build
from .test_base_rnn_s2s import SOURCE, TARGET


@pytest.mark.parametrize("shape", [(2, 4), (1, 5)])
def test_a_mask_of_another_shape_is_refused_beside_encoder_outputs(shape: tuple[int, int]) -> None:
    model = build()
    encoded = model.get_encoder()(SOURCE)
    message = rf"attention_mask has the shape \({shape[0]}, {shape[1]}\), but the source is \(2, 5\)"
    with pytest.raises(ValueError, match=message):
        model(encoder_outputs=encoded, attention_mask=torch.ones(shape), decoder_input_ids=TARGET)
    with pytest.raises(ValueError, match=message if shape[0] == 2 else "attention_mask has the shape"):
        model.generate(encoder_outputs=encoded, attention_mask=torch.ones(shape), max_new_tokens=3)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ({"cell_type": "gru"}, {"cell_type": "lstm"}, "has a final_cell, but cell_type is 'gru'"),
        ({"cell_type": "lstm"}, {"cell_type": "gru"}, "has no final_cell, but cell_type is 'lstm'"),
        ({}, {"hidden_size": 20}, r"last_hidden_state of the shape \(2, 5, 20\); this decoder reads .*12"),
    ],
)
def test_the_output_of_another_encoder_is_refused(ours: dict[str, Any], theirs: dict[str, Any], message: str) -> None:
    encoded = build(**theirs).get_encoder()(SOURCE)
    with pytest.raises(ValueError, match=message):
        build(**ours)(encoder_outputs=encoded, decoder_input_ids=TARGET)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"decoder_layers": 1}, {"decoder_layers": 2}),
        ({"decoder_layers": 3}, {"decoder_layers": 2}),
        ({"cell_type": "gru"}, {"cell_type": "lstm"}),
        ({"cell_type": "lstm"}, {"cell_type": "gru"}),
        ({"attention_type": "none"}, {"attention_type": "general"}),
        ({"attention_type": "general"}, {"attention_type": "none"}),
        ({"hidden_size": 12}, {"hidden_size": 20}),
    ],
)
def test_the_cache_of_another_model_is_refused(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    cache = build(**theirs)(SOURCE, decoder_input_ids=TARGET).past_key_values
    with pytest.raises(ValueError, match="past_key_values was made by another model or for other sources"):
        build(**ours)(SOURCE, decoder_input_ids=TARGET[:, :1], past_key_values=cache)


def test_a_cache_for_other_sources_is_refused() -> None:
    model = build()
    others = torch.tensor([[6, 9, 11, 30, 2], [8, 3, 3, 3, 2]])
    longer = torch.nn.functional.pad(others, (0, 1), value=2)
    cache = model(longer, decoder_input_ids=TARGET).past_key_values
    with pytest.raises(ValueError, match="for other sources"):
        model(SOURCE, decoder_input_ids=TARGET[:, :1], past_key_values=cache)
    for num_beams in (1, 2):  # of the same shape, so that only the numbers tell
        cache = model(others.repeat_interleave(num_beams, 0), decoder_input_ids=TARGET[:, :1].repeat(num_beams, 1))
        with pytest.raises(ValueError, match="other sources than those passed with it"):
            model.generate(
                SOURCE,
                decoder_input_ids=TARGET,
                past_key_values=cache.past_key_values,
                num_beams=num_beams,
                max_new_tokens=3,
            )


def test_no_layer_attends_to_the_target() -> None:
    model = build()
    assert model(SOURCE, decoder_input_ids=TARGET, output_attentions=True).decoder_attentions == ()
    assert model(SOURCE, decoder_input_ids=TARGET).decoder_attentions is None


def test_a_state_is_not_needed_beside_a_cache() -> None:
    model = build()
    encoded = model.get_encoder()(SOURCE)
    cache = model(encoder_outputs=encoded, decoder_input_ids=TARGET[:, :2]).past_key_values
    memory_only = RnnS2SEncoderOutput(
        last_hidden_state=encoded.last_hidden_state, attention_mask=encoded.attention_mask
    )
    output = model(encoder_outputs=memory_only, decoder_input_ids=TARGET[:, 2:], past_key_values=cache)
    expected = model(SOURCE, decoder_input_ids=TARGET).logits[:, 2:]
    torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-6)


def test_what_is_dropped_is_the_same_at_every_step() -> None:
    """In a decoder that reads step by step, as in one that reads at once."""
    model = build(input_feeding=True, dropout=0.5, state_dropout=0.3, attention_type="coverage").train()
    decoder = model.model.decoder
    encoded = model.get_encoder()(SOURCE)
    sources = decoder.prepare(encoded)
    embedded = decoder.embed_tokens(TARGET)
    states = [state for _, state in decoder.read_in_chunks(embedded, decoder.first_state(encoded, sources), sources)]
    assert states[0].dropout is not None
    assert all(one.dropout is states[0].dropout for one in states)
    torch.manual_seed(1)
    first = model(SOURCE, decoder_input_ids=TARGET).logits
    torch.manual_seed(1)
    assert torch.equal(model(SOURCE, decoder_input_ids=TARGET).logits, first)
    assert model.eval()(SOURCE, decoder_input_ids=TARGET, use_cache=True).past_key_values.state.dropout is None


def test_widths_of_both_sides_are_independent() -> None:
    model = build(
        hidden_size=12,
        encoder_layers=2,
        encoder_direction_size=7,
        first_residual_layer=3,
        encoder_projection_size=9,
        decoder_hidden_size=20,
        decoder_layers=3,
        readout_size=5,
        tie_word_embeddings=False,
    )
    output = model(SOURCE, decoder_input_ids=TARGET, output_hidden_states=True)
    assert output.encoder_last_hidden_state.shape[-1] == 9
    assert [one.shape[-1] for one in output.encoder_hidden_states] == [10, 14, 12]
    assert [one.shape[-1] for one in output.decoder_hidden_states] == [10, 20, 20, 20]
    assert model.lm_head.in_features == 5


def test_a_layer_may_be_a_module_of_another_kind() -> None:
    torch.manual_seed(0)
    model = build(input_feeding=True, dropout=0.1).train()
    model.model.decoder.layers[0] = torch.compile(model.model.decoder.layers[0], backend="eager")
    loss = model(input_ids=SOURCE, labels=TARGET).loss
    loss.backward()
    assert model.model.decoder.layers[0].weight_ih.grad.abs().sum() > 0
