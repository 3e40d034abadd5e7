"""A view of a model in evaluation mode: what it computes, what it leaves alone, and how long it lasts."""

import contextlib
import copy
import functools
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline, StepGraphs
from hf_rnn_s2s.decoding.evaluation import EvaluationView

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
    assert torch.equal(generate(EvaluationView().of(model)), expected)
    originals = set(map(id, model.modules()))
    assert seen
    assert not [module for module, training in seen if training or id(module) in originals]
    assert all(module.training for module in model.modules())


def test_a_model_compiled_in_place_is_compiled_in_the_view_too(tiny_model: RnnS2SForConditionalGeneration) -> None:
    compiled = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    expected = generate(tiny_model)
    tiny_model.compile(backend=backend)
    tiny_model.train()
    view = EvaluationView().of(tiny_model)
    assert torch.equal(generate(view), expected)
    logits = view(input_ids=IDS, decoder_input_ids=IDS).logits
    assert compiled
    assert torch.equal(logits, view(input_ids=IDS, decoder_input_ids=IDS).logits)
    assert tiny_model.training


@pytest.mark.parametrize("change", [copy.copy, hooked_and_in_mixed_precision, patched], ids=lambda one: one.__name__)
def test_the_view_is_the_same_in_every_mode(model: Any, change: Callable[[Any], Any]) -> None:
    model, views = change(model), EvaluationView()
    view = views.of(model)
    assert view is not model
    assert type(view) is type(model)
    model.get_encoder().train()
    assert views.of(model) is view
    assert not any(module.training for module in view.modules())
    assert model.get_encoder().training
    generate(view)
    view(input_ids=IDS, decoder_input_ids=IDS, output_attentions=True)
    assert views.of(model.train()) is view
    assert all(module.training for module in model.modules())


def test_a_change_of_the_model_is_one_of_the_view() -> None:
    outer = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 2)).train()
    seen: list[Any] = []
    original, called = outer.forward, [outer.forward]
    scale = 1.0

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        return called[0](inputs) if scale is None else original(inputs) * scale

    def set_scale(value: float) -> None:
        nonlocal scale
        scale = value

    def set_original(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        nonlocal original
        original = function

    def put(name: str, value: Any) -> Callable[[], None]:
        return lambda: setattr(outer, name, value)

    def renamed() -> None:
        del outer.first  # in the same place with the same value
        outer.second = 1

    hooks: list[Any] = []
    changes: list[Callable[[], Any]] = [
        lambda: setattr(outer[0], "weight", nn.Parameter(torch.zeros(2, 2))),
        lambda: outer[2].register_buffer("mean", torch.ones(2)),
        lambda: outer[2].register_buffer("mean", torch.zeros(2)),
        lambda: outer.append(nn.Linear(2, 3)),
        lambda: outer.__delitem__(3),
        lambda: outer.__setitem__(1, nn.Identity()),
        lambda: hooks.append(outer[2].register_forward_hook(lambda *_: seen.append(1))),
        lambda: hooks[0].remove(),
        put("first", 1),
        renamed,
        put("listed", []),
        lambda: outer.listed.append(outer[0]),
        put("forward", forward),
        lambda: set_original(lambda inputs: outer[0](inputs)),
    ]
    views, inputs = EvaluationView(), torch.randn(3, 2)
    for number, change in enumerate(changes):
        former = views.of(outer)
        assert views.of(outer) is former, number
        change()
        view = views.of(outer)
        assert view is not former, number
        assert dict(view.named_parameters()).items() == dict(outer.named_parameters()).items(), number
        assert dict(view.named_buffers()).items() == dict(outer.named_buffers()).items(), number
        assert torch.equal(view(inputs), copy.deepcopy(outer).eval()(inputs)), number
        assert vars(view).keys() == vars(outer).keys(), number
    assert view.listed == [view[0]]
    set_scale(2.0)  # a number is the same one for both
    assert views.of(outer) is view
    assert torch.equal(view(inputs), view[0](inputs) * 2)


def test_another_model_has_another_view(model: Any) -> None:
    views, other = EvaluationView(), copy.deepcopy(model)
    view = views.of(model)
    assert views.of(other) is not view
    assert views.of(other).get_output_embeddings().weight is other.get_output_embeddings().weight
    assert copy.deepcopy(views).of(other) is not views.of(other)


def test_parameters_and_shared_modules_stay_shared(model: Any) -> None:
    model.train()
    view = EvaluationView().of(model)
    assert dict(view.named_parameters()).keys() == dict(model.named_parameters()).keys()
    for (name, parameter), (_, other) in zip(
        view.named_parameters(remove_duplicate=False), model.named_parameters(remove_duplicate=False), strict=True
    ):
        assert parameter is other, name
    for (name, buffer), (_, other) in zip(view.named_buffers(), model.named_buffers(), strict=True):
        assert buffer is other, name
    assert len(list(view.modules())) == len(list(model.modules()))
    shared = nn.Linear(2, 2)
    pair = EvaluationView().of(nn.ModuleDict({"one": shared, "other": shared}))
    assert pair["one"] is pair["other"]
    assert pair["one"] is not shared


def test_what_is_added_to_the_view_is_not_in_the_model(model: Any) -> None:
    model.train()
    view = EvaluationView().of(model)
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
    view = EvaluationView().of(module)
    assert view is not module
    for owner in (view, module):
        found = [owner.method(), owner.partial(), owner.keyword(), owner.listed[0]()]
        assert all(one is owner for one in found)
    assert view.function(0) is view
    assert module.function() is module
    assert counter == [4]
    assert view.kind is Module
    assert view.wrapper is module.wrapper  # an object of somebody's own


def test_functions_that_cannot_be_made_anew_stay(model: Any) -> None:
    expected = generate(model)
    model.remembered = functools.lru_cache(model.get_encoder)
    model.remembered.owner = model

    def innermost(*_: Any) -> None:
        model.train(model.training)

    def around(inner: Callable[..., None]) -> Callable[..., None]:
        return lambda *arguments: inner(*arguments)

    deep: Callable[..., None] = innermost
    for _ in range(600):
        deep = around(deep)
    model.deep = deep
    view = EvaluationView().of(model.train())
    assert view.remembered is model.remembered
    assert view.remembered() is model.get_encoder()
    assert torch.equal(generate(view), expected)


def test_objects_among_the_hooks_keep_their_state(model: Any) -> None:
    class Counter:
        def __init__(self, owner: Any) -> None:
            self.owner, self.calls = owner, 0

        def __call__(self, *_: Any) -> None:
            self.calls += 1

    counter = Counter(model)
    model.get_encoder().register_forward_hook(counter)
    views = EvaluationView()
    for number, mode in enumerate([False, True, True], start=1):
        generate(views.of(model.train(mode)))
        assert counter.calls == number
    assert counter.owner is model


@contextlib.contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Has another thread do something again and again. What goes wrong there is raised in the end."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            action()

    with ThreadPoolExecutor(1) as thread:
        repeated = thread.submit(repeat)
        try:
            yield
        finally:
            stop.set()
    repeated.result()


def test_threads_translate_a_model_in_training_as_in_evaluation(
    model: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """While another thread trains it: that one always finds dropout on, and the others never do."""
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    expected = translator(TEXTS)
    model.train()
    modules, wrong = list(model.modules()), []
    labels = IDS[:, :3].contiguous()

    def train() -> None:
        model(input_ids=IDS, labels=labels).loss.backward()
        if not all(module.training for module in modules):
            wrong.append("not in training mode")

    with meanwhile(train), ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: translator(TEXTS), range(64)))
    assert wrong == []
    assert all(result == expected for result in results)
    assert all(module.training for module in modules)


def test_the_mode_may_change_during_a_call(model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """As a Trainer turns it around every evaluation."""
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    expected = translator(TEXTS)
    every, turned = list(range(model.config.vocab_size)), []

    def turning(*_: Any) -> list[int]:
        model.train(len(turned) % 2 == 0)
        turned.append(model.training)
        return every

    for mode in (False, True):
        model.train(mode)
        for extra in ({}, {"do_sample": True, "top_k": 1}):
            assert translator(TEXTS, prefix_allowed_tokens_fn=turning, **extra) == expected
    assert len(turned) > 10


def test_threads_translate_while_another_one_turns_the_mode(
    model: Any, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    expected = translator(TEXTS)

    def turn() -> None:
        time.sleep(0.001)
        model.train(not model.training)

    with meanwhile(turn), ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda _: translator(TEXTS), range(48)))
    assert all(result == expected for result in results)


def test_captured_steps_serve_a_model_in_every_mode(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    captured = []

    class Again:
        def __init__(self, run: Callable[[], None]) -> None:
            captured.append(run)
            self.replay = run
            run()

    graphs = StepGraphs(capture=Again)
    translator = RnnTranslationPipeline(
        model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6, step_graphs=graphs
    )
    expected = translator(TEXTS)
    before = len(captured)
    assert before
    for mode in (True, False, True):
        tiny_model.train(mode)
        assert translator(TEXTS) == expected
    assert len(captured) == before


def test_a_pipeline_can_be_copied(model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    expected = translator(TEXTS)
    copied = pickle.loads(pickle.dumps(translator))
    torch.nn.init.zeros_(translator.model.get_output_embeddings().weight)
    assert copied(TEXTS) == copy.deepcopy(copied)(TEXTS) == expected != translator(TEXTS)


def test_attention_of_a_model_in_training(model: Any, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    expected = translator(TEXTS, return_attentions=True)
    model.train()
    for _ in range(2):
        for record, other in zip(translator(TEXTS, return_attentions=True), expected, strict=True):
            assert record["target_tokens"] == other["target_tokens"]
            torch.testing.assert_close(record["attention"], other["attention"])
