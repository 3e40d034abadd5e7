"""A model in evaluation mode while it is in training mode: what the view computes, and what it leaves alone."""

import copy
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline
from hf_rnn_s2s.evaluation_rnn_s2s import in_evaluation_mode

IDS = torch.tensor([[5, 6, 7, 8, 2], [9, 8, 2, 0, 0]])
TEXTS = ["the dog runs", "one red cat sleeps on the big mat", "我们见面"]


@pytest.fixture(params=["ours", "Marian"])
def model(
    request: pytest.FixtureRequest, tiny_model: RnnS2SForConditionalGeneration, tiny_marian: MarianMTModel
) -> Any:
    """In evaluation mode, with so much dropout that it shows."""
    if request.param == "Marian":
        return tiny_marian
    config = copy.deepcopy(tiny_model.config)
    config.dropout = 0.5
    config.embedding_dropout = None
    with_dropout = RnnS2SForConditionalGeneration(config)
    with_dropout.load_state_dict(tiny_model.state_dict())
    return with_dropout.eval()


def generate(model: Any) -> torch.Tensor:
    return model.generate(IDS, attention_mask=IDS.ne(0).long(), max_new_tokens=9, num_beams=2)


def mixed_precision(model: Any) -> Any:
    return Accelerator(mixed_precision="bf16", cpu=True).prepare(model)


def hooked(model: Any) -> Any:
    for module in list(model.modules()):
        add_hook_to_module(module, ModelHook())
    return model


def hooked_and_in_mixed_precision(model: Any) -> Any:
    return mixed_precision(hooked(model))


def patched(model: Any) -> Any:
    """With another forward pass over that of the class, as people write it."""
    original = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    model.forward = forward
    return model


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * 2


def parametrized(model: Any) -> Any:
    nn.utils.parametrize.register_parametrization(model.lm_head, "weight", Doubled())
    return model


@pytest.mark.parametrize(
    "change",
    [copy.copy, mixed_precision, hooked, hooked_and_in_mixed_precision, patched, parametrized],
    ids=lambda change: change.__name__,
)
def test_it_computes_what_the_model_computes_in_evaluation_mode(model: Any, change: Callable[[Any], Any]) -> None:
    model = change(model)
    expected = generate(model)
    model.train()
    seen: list[tuple[nn.Module, bool]] = []
    for module in model.modules():
        module.register_forward_hook(lambda module, inputs, outputs: seen.append((module, module.training)))
    assert torch.equal(generate(in_evaluation_mode(model)), expected)
    originals = set(map(id, model.modules()))
    assert seen
    assert not [module for module, training in seen if training or id(module) in originals]
    assert all(module.training for module in model.modules())


def test_a_model_compiled_in_place_runs_as_it_is_written(tiny_model: RnnS2SForConditionalGeneration) -> None:
    expected = generate(tiny_model)
    tiny_model.compile(backend="eager")
    tiny_model.train()
    view = in_evaluation_mode(tiny_model)
    assert torch.equal(generate(view), expected)
    logits = view(input_ids=IDS, decoder_input_ids=IDS).logits
    assert torch.equal(logits, view(input_ids=IDS, decoder_input_ids=IDS).logits)
    assert tiny_model.training


def test_nothing_is_copied_in_evaluation_mode(model: Any) -> None:
    assert in_evaluation_mode(model) is model
    model.get_encoder().train()
    view = in_evaluation_mode(model)
    assert view is not model
    assert not any(module.training for module in view.modules())
    assert model.get_encoder().training


def test_parameters_and_shared_modules_stay_shared(model: Any) -> None:
    model.train()
    view = in_evaluation_mode(model)
    assert dict(view.named_parameters()).keys() == dict(model.named_parameters()).keys()
    for (name, parameter), (_, other) in zip(
        view.named_parameters(remove_duplicate=False), model.named_parameters(remove_duplicate=False), strict=True
    ):
        assert parameter is other, name
    for (name, buffer), (_, other) in zip(view.named_buffers(), model.named_buffers(), strict=True):
        assert buffer is other, name
    assert len(list(view.modules())) == len(list(model.modules()))
    shared = nn.Linear(2, 2)
    pair = in_evaluation_mode(nn.ModuleDict({"one": shared, "other": shared}))
    assert pair["one"] is pair["other"]
    assert pair["one"] is not shared


def test_what_is_added_to_the_view_is_not_in_the_model(model: Any) -> None:
    model.train()
    view = in_evaluation_mode(model)
    view.register_forward_hook(lambda *_: None)
    view.get_output_embeddings().weight = nn.Parameter(torch.zeros(2, 2))
    view.new = nn.Linear(2, 2)
    assert not model._forward_hooks
    assert model.get_output_embeddings().weight.shape != (2, 2)
    assert not hasattr(model, "new")


def test_functions_around_a_module_go_on_to_the_new_one() -> None:
    class Wrapper:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __call__(self) -> Any:
            return self.inner()

    class Module(nn.Module):
        def itself(self, *_: Any, **__: Any) -> Any:
            return self

    module = Module()
    counter = [0]

    def recursive(depth: int = 2, *, step: int = 1) -> Any:
        counter[0] += 1
        return recursive(depth - step) if depth else module

    module.method = module.itself
    module.partial = functools.partial(lambda owner, key: owner, module, key=1)
    module.keyword = functools.partial(lambda key: key, key=module)
    module.wrapper = Wrapper(module.itself)
    module.listed = [module.itself]
    module.function = recursive
    module.kind = Module
    view = in_evaluation_mode(module)
    assert view is not module
    for owner in (view, module):
        found = [owner.method(), owner.partial(), owner.keyword(), owner.wrapper(), owner.listed[0]()]
        assert all(one is owner for one in found)
    assert view.function(0) is view
    assert module.function() is module
    assert counter == [4]
    assert view.kind is Module


def test_threads_translate_a_model_in_training_as_in_evaluation(
    model: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """While another thread trains it: that one always finds dropout on, and the others never do."""
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    expected = translator(TEXTS)
    model.train()
    modules, stop, wrong = list(model.modules()), threading.Event(), []
    labels = IDS[:, :3].contiguous()

    def watch() -> None:
        while not stop.is_set():
            loss = model(input_ids=IDS, labels=labels).loss
            loss.backward()
            if not all(module.training for module in modules):
                wrong.append("not in training mode")

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(lambda _: translator(TEXTS), range(64)))
    finally:
        stop.set()
        watcher.join()
    assert wrong == []
    assert all(result == expected for result in results)
    assert all(module.training for module in modules)


def test_attention_of_a_model_in_training(model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    expected = translator(TEXTS, return_attentions=True)
    model.train()
    for _ in range(2):
        for record, other in zip(translator(TEXTS, return_attentions=True), expected, strict=True):
            assert record["target_tokens"] == other["target_tokens"]
            torch.testing.assert_close(record["attention"], other["attention"])
