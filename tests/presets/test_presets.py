"""Every preset computes what its paper says, has the paper's size, and keeps the contracts of all models."""

import inspect
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from transformers import BertConfig

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.model import modeling_rnn_s2s as plain
from hf_rnn_s2s.model.configuration_rnn_s2s import PRESETS

from ..random_models import logits_in_chunks
from . import parameters, references
from .small import ALL, END, LENGTH, OF_PRESETS, START, TARGETS, TOKENS, VARIANTS, build, inputs, source_of

every_preset = pytest.mark.parametrize("name", ALL)


def function_of(module: Any, name: str) -> Any:
    return getattr(module, name.replace("-", "_"))


def test_every_preset_is_here() -> None:
    assert list(PRESETS) == list(OF_PRESETS)
    assert all(inspect.getdoc(preset) for preset in PRESETS.values())


@every_preset
def test_logits_and_gradients_are_those_of_the_equations(name: str) -> None:
    """The first to 1e-10, the second, of every parameter, to 1e-8: in a padded batch, and in one row by itself."""
    model, reference = build(name).double(), function_of(references, name)
    logits = model(**inputs(name), decoder_input_ids=TARGETS).logits
    chosen = torch.randn_like(logits) * (logits > -100)  # for one number; what cannot be written has no gradient
    # In the reference the same tensors, under all of their names
    weights = dict(model.state_dict(keep_vars=True))
    expected = torch.stack([reference(weights, source_of(row), TARGETS[row].tolist()) for row in range(3)])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    own, parameters_ = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad((logits * chosen).sum(), parameters_, allow_unused=True)
    theirs = torch.autograd.grad((expected * chosen).sum(), parameters_, allow_unused=True)
    for key, ours, other in zip(own, gradients, theirs, strict=True):
        assert ours is not None, key
        torch.testing.assert_close(ours, other, rtol=0, atol=1e-8, msg=lambda text, key=key: f"{key}: {text}")


@every_preset
def test_parameters_are_those_of_the_paper(name: str) -> None:
    named = {"encoder_config": BertConfig(), "decoder_vocab_size": 8000} if name == "pretrained-encoder" else {}
    with torch.device("meta"):
        preset, different = VARIANTS.get(name, (name, {}))
        model = RnnS2SForConditionalGeneration(RnnS2SConfig.from_preset(preset, **named, **different))
    assert sum(parameter.numel() for parameter in model.parameters()) == function_of(parameters, name)()


@every_preset
@torch.no_grad()
def test_a_row_does_not_depend_on_padding_or_on_the_batch(name: str) -> None:
    model = build(name).double()
    given = inputs(name)
    rows = [{key: one[row : row + 1, : len(source_of(row))] for key, one in given.items()} for row in range(3)]
    alone = torch.cat([model(**rows[row], decoder_input_ids=TARGETS[row : row + 1]).logits for row in range(3)])
    for layout in ("right", "left", "inside"):
        padded = {key: torch.zeros(3, 8, dtype=torch.long) for key in given}
        for row in range(3):
            length = len(source_of(row))
            places = list(range(length))
            if layout == "left":
                places = [8 - length + place for place in places]
            elif layout == "inside":
                places[-1] = 7
            for key, one in given.items():
                padded[key][row, places] = one[row, :length]
        for order in (slice(None), torch.tensor([2, 0, 1])):
            found = model(**{key: one[order] for key, one in padded.items()}, decoder_input_ids=TARGETS[order]).logits
            torch.testing.assert_close(found, alone[order], rtol=0, atol=1e-10)


@every_preset
@torch.no_grad()
def test_chunks_with_a_cache_are_a_full_pass(name: str) -> None:
    model = build(name).double()
    target = torch.tensor([[START, 4, 6, 3, 5]] * 3)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])  # prompts are padded on the left
    whole = model(**inputs(name), decoder_input_ids=target, decoder_attention_mask=mask).logits
    for sizes in ([1, 1, 1, 1, 1], [2, 3], [4, 1]):
        joined = logits_in_chunks(model, inputs(name), target, mask, sizes)
        torch.testing.assert_close(joined[mask.bool()], whole[mask.bool()], rtol=0, atol=1e-10)


@every_preset
@pytest.mark.parametrize("how", ["fast search", "transformers", "without a cache"])
def test_searches_are_those_of_brute_force(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    if how == "transformers":
        monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    arguments: dict[str, Any] = {**inputs(name), "max_new_tokens": LENGTH, "use_cache": how != "without a cache"}
    greedy = model.generate(**arguments)
    beams = model.generate(
        **arguments, num_beams=3 * written(model) ** 2, num_return_sequences=4, early_stopping="never"
    )
    for row in range(3):
        best, first = by_brute_force(name, row)
        assert stripped(greedy[row]) == best
        assert [stripped(one) for one in beams.view(3, 4, -1)[row]] == first


@every_preset
@pytest.mark.parametrize("beams", [1, 3])
def test_both_searches_go_on_from_a_prompt(name: str, beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(name)
    prompt = torch.tensor([[START, 4, 6]] * 3)
    arguments: dict[str, Any] = {**inputs(name), "decoder_input_ids": prompt, "max_new_tokens": 5, "num_beams": beams}
    found = model.generate(**arguments)
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    assert torch.equal(found, model.generate(**arguments))


def written(model: RnnS2SForConditionalGeneration) -> int:
    """Number of ids that a model can write."""
    return model.config.written_vocab_size


def stripped(sequence: torch.Tensor) -> list[int]:
    target = sequence.tolist()[1:]
    return target[: target.index(END) + 1] if END in target else target


@cache
def by_brute_force(name: str, row: int) -> tuple[list[int], list[list[int]]]:
    """The outcome of greedy search, and the best four of all complete targets, by the reference alone."""
    weights = {key: one.detach().double() for key, one in build(name).state_dict().items()}
    reference: Callable[..., torch.Tensor] = function_of(references, name)

    @cache
    def log_probabilities(*target: int) -> torch.Tensor:
        return reference(weights, source_of(row), [START, *target])[-1].log_softmax(-1)

    best: list[int] = []
    while len(best) < LENGTH and END not in best:
        best.append(int(log_probabilities(*best).argmax()))
    others, scored = [token for token in range(written(build(name))) if token != END], []
    for inner in range(LENGTH + 1):
        for tokens in product(others, repeat=inner):
            target = [*tokens, *([] if inner == LENGTH else [END])]
            total = sum(float(log_probabilities(*target[:place])[token]) for place, token in enumerate(target))
            scored.append((total / len(target), target))
    return best, [target for _, target in sorted(scored, reverse=True)[:4]]


@every_preset
@torch.no_grad()
def test_bfloat16_is_near(name: str) -> None:
    """As near as numbers of 8 bits are, and the searches run."""
    model = build(name)
    expected = model(**inputs(name), decoder_input_ids=TARGETS).logits
    model = model.bfloat16()
    logits = model(**inputs(name), decoder_input_ids=TARGETS).logits
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - expected).abs().max() < 0.05 * expected.abs().max()
    for beams in (1, 3):
        assert model.generate(**inputs(name), num_beams=beams, max_new_tokens=4).shape[0] == 3


@every_preset
def test_it_learns(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, dropout=0.1, state_dropout=0.1, recurrent_dropout=0.1).train()
    labels = torch.tensor([[5, 4, 2], [3, 2, -100], [6, 6, 2]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        loss = model(**inputs(name), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = model.eval().generate(**inputs(name), num_beams=2, max_new_tokens=5)
    assert [stripped(one) for one in found] == [[5, 4, 2], [3, 2], [6, 6, 2]]


def test_unknown_presets_are_listed() -> None:
    with pytest.raises(
        ValueError, match="There is no preset 'bahdanau'; known are sutskever2014, bahdanau2015, luong"
    ):
        RnnS2SConfig.from_preset("bahdanau")
    with pytest.raises(ValueError, match="num_attention_heads=3 does not divide 1000"):
        RnnS2SConfig.from_preset("luong2015", num_attention_heads=3)
    assert TOKENS.shape == (3, 5)
