"""A call of `generate()` like an earlier one leaves out the preparation, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GenerationMixin, LogitsProcessorList, MinLengthLogitsProcessor

from hf_rnn_s2s import RnnS2SForConditionalGeneration, Shortlist
from hf_rnn_s2s.model import modeling_rnn_s2s as plain

from ..random_models import END, model_that_ends, sources

Model = RnnS2SForConditionalGeneration


@pytest.fixture
def model() -> Model:
    return model_that_ends(attention_type="additive")


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often transformers prepared a call, as the length of a list."""
    calls: list[int] = []
    generate = GenerationMixin.generate
    monkeypatch.setattr(
        GenerationMixin, "generate", lambda *args, **given: calls.append(1) or generate(*args, **given)
    )
    return calls


def expected(model: Model, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
    """What transformers' own loops return."""
    return plain.RnnS2SForConditionalGeneration.generate(model, ids, **arguments)


@pytest.mark.parametrize(
    "arguments", [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {"max_length": 4}]
)
def test_the_second_call_is_not_prepared_and_returns_the_same(
    arguments: dict[str, Any], model: Model, prepared: list[int]
) -> None:
    for ids in (sources(), sources()[:5, :4], sources()[2:3]):
        for mask in (None, torch.ones_like(ids), (torch.arange(ids.shape[1]) < 3).long().expand_as(ids)):
            found = model.generate(ids, attention_mask=mask, **arguments)
            assert torch.equal(found, model.generate(input_ids=ids, attention_mask=mask, **arguments))
            assert len(prepared) == 1
    prepared.clear()
    for ids in (sources(), sources()[:5, :4]):
        assert torch.equal(model.generate(ids, **arguments), expected(model, ids, **arguments))
    assert len(prepared) == 2  # of transformers' own


def test_a_shortlist_is_that_of_the_new_sources(model: Model, prepared: list[int]) -> None:
    shortlist = Shortlist([[token, END] for token in range(40)])
    fresh = [
        model_that_ends(attention_type="additive").generate(one, shortlist=shortlist) for one in sources().split(4)
    ]
    prepared.clear()
    found = [model.generate(one, shortlist=shortlist) for one in sources().split(4)]
    assert len(prepared) == 1
    assert all(map(torch.equal, found, fresh))


def change_settings(model: Model) -> None:
    model.generation_config.max_new_tokens = 2


def change_a_list(model: Model) -> None:
    model.generation_config.suppress_tokens = [5]


def train(model: Model) -> None:
    model.train()


def hook(model: Model) -> None:
    model.model.decoder.register_forward_hook(lambda *args: None)


@pytest.mark.parametrize("change", [change_settings, change_a_list, train, hook])
def test_what_may_change_the_result_is_prepared_again(
    change: Callable[[Model], None], model: Model, prepared: list[int]
) -> None:
    for _ in range(2):
        model.generate(sources(), num_beams=2)
    assert len(prepared) == 1
    change(model)
    torch.manual_seed(0)
    found = model.generate(sources(), num_beams=2)
    assert len(prepared) == 2
    torch.manual_seed(0)
    assert torch.equal(found, expected(model, sources(), num_beams=2))


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_beams": 2, "max_new_tokens": 3},
        {"num_beams": 1, "max_new_tokens": 5, "do_sample": True},
        {"num_beams": 1, "max_new_tokens": 5, "min_new_tokens": 4},
        {"num_beams": 1, "max_new_tokens": 5, "max_time": 100.0},
        {"num_beams": 1, "max_new_tokens": 5, "decoder_input_ids": torch.full((16, 2), 1)},
        {
            "num_beams": 1,
            "max_new_tokens": 5,
            "logits_processor": LogitsProcessorList([MinLengthLogitsProcessor(4, END)]),
        },
        {"num_beams": 1, "max_new_tokens": 5, "eos_token_id": [2, 7]},
    ],
)
def test_other_arguments_are_another_call(arguments: dict[str, Any], model: Model, prepared: list[int]) -> None:
    for _ in range(2):
        model.generate(sources(), num_beams=1, max_new_tokens=5)
    assert len(prepared) == 1
    torch.manual_seed(0)
    found = model.generate(sources(), **arguments)
    torch.manual_seed(0)
    assert torch.equal(found, expected(model, sources(), **arguments))
    assert len(prepared) == 3


def test_bad_sources_are_refused_as_the_first_time(model: Model) -> None:
    bad = (torch.tensor([[3, 99]]), torch.empty(0, 3, dtype=torch.long), torch.tensor([[0.5]]))
    first = []
    for ids in bad:
        with pytest.raises((TypeError, ValueError)) as caught:
            model.generate(ids)
        first.append(str(caught.value))
    model.generate(sources())
    for ids, message in zip(bad, first, strict=True):
        with pytest.raises((TypeError, ValueError)) as caught:
            model.generate(ids)
        assert str(caught.value) == message
