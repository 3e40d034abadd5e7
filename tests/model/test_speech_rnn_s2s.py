"""The encoder of speech against plain loops in float64, wherever padding stands, and spans that training hides."""

from typing import Any

import pytest
import torch

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.model.speech_rnn_s2s import spec_augment

from ..random_models import build, config_of, logits_in_chunks
from ..reference_model import decode, run

BINS = 3
LENGTHS = [11, 4, 1, 8]
FRAMES = torch.randn(4, 11, BINS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MASK = torch.tensor([[place < length for place in range(11)] for length in LENGTHS])
TARGET = torch.tensor([[1, 5, 9, 30], [1, 7, 7, 4], [1, 8, 3, 3], [1, 39, 2, 0]])


def listener(**values: Any) -> RnnS2SForConditionalGeneration:
    sizes = {"num_mel_bins": BINS, "encoder_layers": 3, "stacked_frames": 2, "decoder_layers": 1}
    return build(**{"encoder_type": "pyramidal", "dropout": 0.0, **sizes, **values}).double()


def reference(model: Any, frames: torch.Tensor, target: list[int]) -> torch.Tensor:
    """Logits `(target, vocabulary)` of one recording `(frames, features)`, one step at a time."""
    config = model.config
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    outputs = list(frames)
    for number in range(config.encoder_layers):
        count = 2 if number else config.stacked_frames
        joined = []
        for start in range(0, len(outputs), count):
            some = outputs[start : start + count]
            some += [torch.zeros_like(some[0])] * (count - len(some))
            joined.append(torch.cat(some))
        prefix = f"model.encoder.layers.{number}"
        forward, forward_state = run(config.cell_type, weights, f"{prefix}.forward_layer", joined)
        backward, backward_state = run(config.cell_type, weights, f"{prefix}.backward_layer", joined[::-1])
        outputs = [torch.cat(pair) for pair in zip(forward, backward[::-1], strict=True)]
        state = [torch.cat(pair) for pair in zip(forward_state, backward_state, strict=True)]
    return decode(config, weights, outputs, [state], target)[0]


@pytest.mark.parametrize(
    "values",
    [{}, {"cell_type": "gru"}, {"stacked_frames": 1, "encoder_layers": 1}, {"stacked_frames": 3, "encoder_layers": 2}],
)
def test_logits_are_those_of_plain_loops(values: dict[str, Any]) -> None:
    model = listener(bridge="last", **values)
    logits = model(input_features=FRAMES, attention_mask=MASK, decoder_input_ids=TARGET).logits
    for row, length in enumerate(LENGTHS):
        expected = reference(model, FRAMES[row, :length], TARGET[row].tolist())
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=1e-10)


def test_it_does_not_matter_where_padding_stands_or_what() -> None:
    model = listener(encoder_projection_size=7)
    expected = model(input_features=FRAMES, attention_mask=MASK, decoder_input_ids=TARGET)
    order = torch.stack([torch.randperm(11, generator=torch.Generator().manual_seed(row)) for row in range(4)])
    for row in range(4):  # padding goes anywhere, and the frames stay in their order
        order[row] = torch.where(MASK[row][order[row]], MASK[row][order[row]].cumsum(0) - 1, order[row])
    mask = MASK.gather(1, order)
    moved = FRAMES.gather(1, order.unsqueeze(-1).expand_as(FRAMES))
    assert not torch.equal(mask, MASK)
    moved = moved.masked_fill(~mask.unsqueeze(-1), float("nan"))
    logits = model(input_features=moved, attention_mask=mask, decoder_input_ids=TARGET).logits
    torch.testing.assert_close(logits, expected.logits, rtol=0, atol=1e-12)
    for row, length in enumerate(LENGTHS):
        alone = model(input_features=FRAMES[row : row + 1, :length], decoder_input_ids=TARGET[row : row + 1]).logits
        torch.testing.assert_close(alone[0], expected.logits[row], rtol=0, atol=1e-12)


def test_memory_and_mask_are_shorter_than_the_frames() -> None:
    encoded = listener().get_encoder()(input_features=FRAMES, attention_mask=MASK, output_hidden_states=True)
    assert encoded.last_hidden_state.shape == (4, 2, 12)  # 11 frames make 6 pairs, 3 and 2
    assert encoded.attention_mask.tolist() == [[True, True], [True, False], [True, False], [True, False]]
    assert [one.shape[1] for one in encoded.hidden_states] == [11, 6, 3, 2]
    assert (encoded.last_hidden_state[1, 1] == 0).all()
    assert (encoded.last_hidden_state[3, 0] != 0).all()


def test_gradients_reach_every_parameter_and_no_padding() -> None:
    model = listener().train()
    frames = FRAMES.clone().requires_grad_()
    loss = model(input_features=frames, attention_mask=MASK, labels=TARGET).loss
    loss.backward()
    assert all((parameter.grad != 0).any() for parameter in model.parameters())
    assert (frames.grad[~MASK] == 0).all()
    assert (frames.grad[MASK].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("num_beams", [1, 4])
def test_the_fast_search_finds_what_transformers_finds(num_beams: int, rows_per_step: list[int]) -> None:
    model = listener().float()
    inputs = {"input_features": FRAMES.float(), "attention_mask": MASK.long()}
    arguments = {"max_new_tokens": 6, "num_beams": num_beams, "num_return_sequences": num_beams}
    fast = model.generate(**inputs, **arguments)
    assert rows_per_step  # the package's own search
    slow = super(RnnS2SForConditionalGeneration, model).generate(**inputs, **arguments)
    assert torch.equal(fast, slow)
    for row, length in enumerate(LENGTHS):
        sequences = model.generate(input_features=FRAMES[row : row + 1, :length].float(), **arguments)
        rows = fast[row * num_beams : (row + 1) * num_beams]
        assert torch.equal(rows[:, : sequences.shape[1]], sequences[:, : rows.shape[1]])


def test_an_ensemble_listens_together() -> None:
    model = listener().float()
    inputs = {"input_features": FRAMES.float(), "attention_mask": MASK.long(), "max_new_tokens": 6}
    expected = model.generate(**inputs)
    assert torch.equal(model.generate(**inputs, ensemble=[model]), expected)


def test_a_target_may_be_read_in_chunks() -> None:
    model = listener()
    inputs = {"input_features": FRAMES, "attention_mask": MASK}
    whole = model(**inputs, decoder_input_ids=TARGET).logits
    chunks = logits_in_chunks(model, inputs, TARGET, torch.ones_like(TARGET), [1, 2, 1])
    torch.testing.assert_close(chunks, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({}, ValueError, "Pass input_features"),
        ({"input_features": FRAMES[..., :2]}, ValueError, r"shape \(4, 11, 2\); it must be \(batch, frames, 3\)"),
        ({"input_features": FRAMES[:, :0]}, ValueError, r"shape \(4, 0, 3\)"),
        ({"input_features": FRAMES[0]}, ValueError, r"shape \(11, 3\)"),
        ({"input_features": FRAMES.float()}, TypeError, "pass input_features.to"),
        ({"input_features": FRAMES, "attention_mask": MASK[:, :5]}, ValueError, r"mask has the shape \(4, 5\)"),
        ({"input_ids": TARGET}, ValueError, "the encoder of this model reads input_features"),
    ],
)  # fmt: skip
def test_bad_input(inputs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        listener()(**inputs, decoder_input_ids=TARGET)


def test_spans_are_hidden_in_training_alone() -> None:
    model = listener(apply_spec_augment=True, mask_time_prob=0.5, mask_time_length=2)
    inputs = {"input_features": FRAMES, "attention_mask": MASK, "decoder_input_ids": TARGET}
    assert torch.equal(model(**inputs).logits, model(**inputs).logits)
    model.train()
    torch.manual_seed(0)
    first = model(**inputs).logits
    assert not torch.equal(model(**inputs).logits, first)
    torch.manual_seed(0)
    assert torch.equal(model(**inputs).logits, first)


def test_spans_have_the_length_and_share_that_are_asked_for() -> None:
    """Of 4000 rows: every hidden run is a whole span, or several of them, inside the row; and the mean is right."""
    settings = {"mask_time_prob": 0.15, "mask_time_length": 5, "mask_feature_prob": 0.2, "mask_feature_length": 3}
    config = config_of(**settings, encoder_type="pyramidal")
    torch.manual_seed(0)
    rows, frames, bins, length = 4000, 60, 20, 40
    mask = (torch.arange(frames) < length).expand(rows, frames)
    hidden = spec_augment(torch.ones(rows, frames, bins), mask, config) == 0
    in_time, in_features = hidden.all(2), hidden[:, :length].all(1)
    assert torch.equal(hidden, in_time.unsqueeze(2) | hidden.all(1).unsqueeze(1))
    assert not in_time[:, length:].any()
    for covered, width in ((in_time, 5), (in_features, 3)):
        text = ["".join("x" if one else "." for one in row) for row in covered[:200].tolist()]
        runs = [run for row in text for run in row.split(".") if run]
        assert min(map(len, runs)) == width
    # What overlaps counts once, so that the share is a little lower than if none did.
    assert 0.12 < in_time[:, :length].float().mean() < 0.15
    assert 0.16 < in_features.float().mean() < 0.2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask_time_prob": 1.5}, "mask_time_prob"),
        ({"mask_feature_length": 0}, "mask_feature_length"),
        ({"num_mel_bins": 0}, "num_mel_bins"),
        ({"stacked_frames": 0}, "stacked_frames"),
    ],
)
def test_wrong_settings(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(encoder_type="pyramidal", **values)


def test_a_few_steps_of_training_learn_which_tone_is_heard() -> None:
    torch.manual_seed(0)
    model = listener(hidden_size=24, stacked_frames=1, encoder_layers=2).float().train()
    tones = torch.randint(0, BINS, (64, 4))
    frames = torch.nn.functional.one_hot(tones, BINS).float().repeat_interleave(3, dim=1)
    labels = torch.cat([tones + 4, torch.full((64, 1), 2)], dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(input_features=frames, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    written = model.eval().generate(input_features=frames, max_new_tokens=5)
    assert (written[:, 1:] == labels).all(1).float().mean() > 0.9
