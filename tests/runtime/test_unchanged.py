"""Graphs are used while a model has the weights that they have, however these are changed, and again afterwards."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.runtime.unchanged import KnownWeights

from ..random_models import model_that_ends

Model = RnnS2SForConditionalGeneration


@pytest.fixture
def model() -> Model:
    return model_that_ends(attention_type="additive", tie_word_embeddings=False)


def twice_as_large(tensor: torch.Tensor) -> None:
    tensor.mul_(2)


def one_number(tensor: torch.Tensor) -> None:
    tensor.view(-1)[5] += 1


def through_data(tensor: torch.Tensor) -> None:
    tensor.data.mul_(2)


def other_data(tensor: torch.Tensor) -> None:
    tensor.data = 2 * tensor.data


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(
    "name", ["lm_head.weight", "model.decoder.layers.0.weight_hh", "model.encoder.embed_tokens.weight"]
)
@pytest.mark.parametrize("change", [twice_as_large, one_number, through_data, other_data])
def test_weights_that_were_changed_are_noticed(
    change: Callable[[torch.Tensor], None], name: str, inference: bool, model: Model
) -> None:
    """Whether they were looked at before or not, also where torch does not count changes."""
    for is_first_look in (True, False):
        each = copy.deepcopy(model)
        with torch.inference_mode(inference):
            known = KnownWeights(each)
            assert is_first_look or known.changed(each) is None
            with torch.no_grad():
                change(each.get_parameter(name))
            assert known.changed(each) == name


def test_another_parameter_in_its_place_is_noticed(model: Model) -> None:
    known = KnownWeights(model)
    same = model.lm_head.weight.detach().clone()
    model.lm_head.weight = nn.Parameter(same)
    assert known.changed(model) is None  # it is the same, after all
    model.lm_head.weight = nn.Parameter(2 * same)
    assert known.changed(model) == "lm_head.weight"
    model.lm_head.weight = nn.Parameter(same)
    assert known.changed(model) is None


@pytest.mark.parametrize("way", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_is_known_and_a_changed_copy_is_not(way: Callable[[Any], Any], model: Model) -> None:
    known = KnownWeights(model)
    copied, known = way(model), way(known)
    assert known.changed(copied) is None
    with torch.no_grad():
        copied.lm_head.weight.mul_(2)
    assert known.changed(copied) == "lm_head.weight"
    assert known.changed(model) is None


@pytest.mark.parametrize("way", ["half", "bfloat16", "double"])
def test_another_type_is_another_model(way: str, model: Model) -> None:
    known = KnownWeights(model)
    assert known.changed(getattr(model, way)()) is not None


def test_another_vocabulary_and_another_tie_are_noticed() -> None:
    model = model_that_ends()
    known = KnownWeights(model)
    model.resize_token_embeddings(50)
    assert known.changed(model) is not None
    model = model_that_ends()
    known = KnownWeights(model)
    model.untie_embeddings()
    assert known.changed(model) is None  # the same numbers, whichever matrices they are in
    model.lm_head = nn.Sequential(model.lm_head)
    assert known.changed(model) is not None


class Louder(nn.Linear):
    """Another layer with the same parameters."""


def test_another_layer_in_its_place_is_noticed(model: Model) -> None:
    known, former = KnownWeights(model), model.lm_head
    assert known.changed(model) is None
    model.lm_head = Louder(1, 1, device="meta")
    model.lm_head.weight, model.lm_head.bias = former.weight, former.bias
    assert known.changed(model) == "lm_head"
    model.lm_head = former
    assert known.changed(model) is None


def test_what_changes_nothing_is_not_noticed(model: Model) -> None:
    known = KnownWeights(model)
    for each in (model.to("cpu"), model.float(), model.eval(), model.double().float()):
        assert known.changed(each) is None
    model.tie_weights()
    with torch.no_grad():
        model.lm_head.weight.add_(0)
    assert known.changed(model) is None
