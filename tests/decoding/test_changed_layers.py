"""
What others hang on layers or make of their weights has its effect, also where this package would not call the layer:
in the loss, in a search, with a shortlist.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules import module as hooks_for_all
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils._pytree import tree_map

from hf_rnn_s2s import RnnS2SForConditionalGeneration, Shortlist
from hf_rnn_s2s.decoding.guard import has_hooks_for_all, may_use_weights
from hf_rnn_s2s.decoding.packing import packed
from hf_rnn_s2s.model import modeling_rnn_s2s as plain

from ..random_models import model_that_ends, sources


class Doubled(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


class OtherNumbers(torch.Tensor):
    """As quantized weights, it computes with other numbers than those that lie in memory."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(function, types, args, kwargs)
        if function not in (nn.functional.linear, torch.lstm, torch.lstm_cell):
            return result
        return tree_map(lambda output: 2 * output.as_subclass(torch.Tensor), result)


def doubled(layer: nn.Module, name: str) -> None:
    parametrize.register_parametrization(layer, name, Doubled())


def normalised(layer: nn.Module, name: str) -> None:
    parametrizations.weight_norm(layer, name)
    with torch.no_grad():
        layer.parametrizations[name].original0.mul_(2)  # type: ignore[index, union-attr]


def normalised_by_a_hook(layer: nn.Module, name: str) -> None:
    nn.utils.weight_norm(layer, name)
    with torch.no_grad():
        getattr(layer, f"{name}_g").mul_(2)


def pruned(layer: nn.Module, name: str) -> None:
    prune.random_unstructured(layer, name, 0.5)


def of_other_numbers(layer: nn.Module, name: str) -> None:
    setattr(layer, name, nn.Parameter(getattr(layer, name).detach().as_subclass(OtherNumbers)))


def hooked(layer: nn.Module, name: str) -> None:
    def doubling(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        return 2 * output if isinstance(output, torch.Tensor) else (2 * output[0], output[1])

    layer.register_forward_hook(doubling, with_kwargs=True)


LAYERS = {
    "output layer": lambda model: (model.lm_head, "weight"),
    "projection": lambda model: (model.model.decoder.output_projection, "weight"),
    "recurrent layer": lambda model: (model.model.decoder.layers[0], "weight_hh"),
    "queries": lambda model: (model.model.decoder.attention.score.query_projection, "weight"),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("change", [doubled, normalised, normalised_by_a_hook, pruned, of_other_numbers, hooked])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the old weight_norm
def test_a_changed_layer_has_its_effect(
    change: Callable[[nn.Module, str], None], layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = model_that_ends(attention_type="additive", tie_word_embeddings=False)
    change(*LAYERS[layer](model))
    output = model(sources(), labels=sources())
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(output.logits.mT, sources()))
    output.loss.backward()
    searches: list[dict[str, Any]] = [{"num_beams": 1}, {"num_beams": 3}]
    found = [model.generate(sources(), max_new_tokens=8, **search) for search in searches]
    everything = Shortlist([list(range(40))] * 40)
    short = [model.generate(sources(), max_new_tokens=8, shortlist=everything, **search) for search in searches]
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    expected = [model.generate(sources(), max_new_tokens=8, **search) for search in searches]
    assert all(map(torch.equal, found, expected))
    assert all(map(torch.equal, short, expected))


@contextmanager
def registered(name: str, hook: Callable[..., Any]) -> Iterator[None]:
    """A hook for all modules there are."""
    handle = getattr(hooks_for_all, name)(hook)
    try:
        yield
    finally:
        handle.remove()


KINDS = ["register_module_forward_hook", "register_module_forward_pre_hook"]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", KINDS)
def test_hooks_for_all_modules_are_called_in_a_search(name: str, num_beams: int, rows_per_step: list[int]) -> None:
    model, seen = model_that_ends(attention_type="additive"), set()
    with registered(name, lambda module, *args: seen.add(module)):
        found = model.generate(sources(), num_beams=num_beams, max_new_tokens=5)
    decoder = model.model.decoder
    assert {model, decoder, model.lm_head, *decoder.layers, decoder.attention, decoder.output_projection} <= seen
    assert not rows_per_step
    assert torch.equal(found, model.generate(sources(), num_beams=num_beams, max_new_tokens=5))
    assert rows_per_step


def test_hooks_for_all_modules_change_what_a_search_finds() -> None:
    model = model_that_ends()

    def preferring(module: nn.Module, inputs: Any, output: Any) -> Any:
        return output.index_fill(-1, torch.tensor([7]), 1e4) if module is model.lm_head else None

    with registered("register_module_forward_hook", preferring):
        assert model.generate(sources(), num_beams=3, max_new_tokens=4)[:, 1:].eq(7).all()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of hooks that torch calls for some outputs only
@pytest.mark.parametrize("name", [*KINDS, "register_module_full_backward_hook"])
def test_hooks_for_all_modules_are_called_in_training(name: str) -> None:
    model, seen = model_that_ends().train(), []
    with registered(name, lambda module, *args: seen.append(module)):
        model(sources(), labels=sources()).loss.backward()
    assert model.lm_head in seen


@torch.no_grad()
def test_nothing_is_packed_while_there_are_hooks_for_all_modules() -> None:
    layer = nn.Linear(3, 3)
    with registered("register_module_forward_hook", lambda *args: None):
        assert has_hooks_for_all()
        assert packed(layer) is layer
    assert not has_hooks_for_all()


def test_where_torch_cannot_be_asked_there_may_be_hooks(
    rows_per_step: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_that_ends()
    expected = model.generate(sources(), max_new_tokens=5)
    rows_per_step.clear()
    monkeypatch.delattr(hooks_for_all, "_has_any_global_hook")
    assert not may_use_weights(model.lm_head, nn.Linear)
    assert torch.equal(model.generate(sources(), max_new_tokens=5), expected)
    assert not rows_per_step


def test_a_hook_is_called_with_the_module_that_it_hangs_on(rows_per_step: list[int]) -> None:
    """And not with a copy of it in which something is packed."""
    model, seen = model_that_ends(attention_type="additive"), []
    attention = model.model.decoder.attention
    attention.register_forward_hook(lambda module, *args: seen.append(module))
    model.generate(sources(), num_beams=3, max_new_tokens=5)
    assert rows_per_step
    assert seen
    assert all(module is attention for module in seen)
