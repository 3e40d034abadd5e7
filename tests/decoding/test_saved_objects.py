"""Objects that processes share: what they keep, and when they are as they were."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hf_rnn_s2s.decoding.saved_objects import SavedObject, load_saved

from .test_workers import Tied


def test_a_saved_object_keeps_what_pickle_keeps() -> None:
    model = Tied().to(torch.bfloat16).train()
    model.one.weight.requires_grad = False
    saved = SavedObject({"model": model, "rest": [1, "two", {3}]})
    copied = load_saved(saved.path)
    assert copied["rest"] == [1, "two", {3}]
    assert copied["model"].training
    assert copied["model"].one.weight is copied["model"].other.weight
    assert not copied["model"].one.weight.requires_grad
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, copied["model"].get_parameter(name))


NUMBERS = torch.arange(1.0, 13.0)


@pytest.mark.parametrize(
    "tensor",
    [
        NUMBERS,
        NUMBERS[:3],
        NUMBERS[1:5],
        NUMBERS.view(3, 4).t(),
        NUMBERS[::2],
        NUMBERS[0],
        NUMBERS.to(torch.bfloat16)[:5],
        NUMBERS.to(torch.int8)[3:],
        NUMBERS > 4,
        NUMBERS.to(torch.complex64),
        NUMBERS.where(NUMBERS < 4, torch.nan),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_one_changed_number_is_noticed_and_equal_ones_are_not(tensor: Tensor) -> None:
    saved = SavedObject(tensor)
    assert saved.is_like(tensor)
    assert saved.is_like(tensor.clone())
    for place in range(tensor.numel()):
        changed = tensor.clone(memory_format=torch.contiguous_format)
        changed.view(-1)[place] = not changed.view(-1)[place] if tensor.dtype is torch.bool else 100
        assert not saved.is_like(changed)


@pytest.mark.parametrize("other", [NUMBERS.int(), NUMBERS.view(3, 4), NUMBERS.clone().requires_grad_(), NUMBERS[:0]])
def test_tensors_of_another_kind_are_not_like_each_other(other: Tensor) -> None:
    assert not SavedObject(NUMBERS).is_like(other)


def test_a_tensor_without_numbers_is_like_itself() -> None:
    assert SavedObject(NUMBERS[:0]).is_like(torch.ones(0))


def test_a_sparse_tensor_is_saved_and_counts_as_changed() -> None:
    sparse = torch.eye(3).to_sparse()
    saved = SavedObject(sparse)
    assert torch.equal(load_saved(saved.path).to_dense(), torch.eye(3))
    assert not saved.is_like(sparse)
