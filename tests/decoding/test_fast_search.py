"""When `generate()` is given the package's own search, and when it is left alone, with the same result."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast
from transformers.generation.streamers import BaseStreamer

from hf_rnn_s2s import RnnS2SCache, RnnS2SForConditionalGeneration, Shortlist
from hf_rnn_s2s.decoding import fast_search
from hf_rnn_s2s.model import modeling_rnn_s2s as plain

from ..random_models import model_that_ends, sources


class Streamer(BaseStreamer):
    def __init__(self) -> None:
        self.received: list[torch.Tensor] = []

    def put(self, value: torch.Tensor) -> None:
        self.received.append(value)

    def end(self) -> None:
        self.received.append(torch.empty(0))


def own_way(model: Any, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """A search of the caller's own."""
    return torch.cat([input_ids, torch.full_like(input_ids, 7)], dim=1)


EXCLUDED: dict[str, Callable[[RnnS2SForConditionalGeneration], dict[str, Any]]] = {
    "custom_generate": lambda model: {"custom_generate": own_way},
    "assistant_model": lambda model: {"assistant_model": model_that_ends()},
    "prompt_lookup": lambda model: {"prompt_lookup_num_tokens": 2},
    "a cache": lambda model: {"past_key_values": RnnS2SCache()},
    "sampling": lambda model: {"do_sample": True, "top_k": 1},
    "sampling with beams": lambda model: {"do_sample": True, "top_k": 1, "num_beams": 2},
    "everything returned": lambda model: {"return_dict_in_generate": True},
    "attention": lambda model: {"output_attentions": True},
    "low memory": lambda model: {"low_memory": True, "num_beams": 1},
    "no cache": lambda model: {"use_cache": False},
    "a configuration": lambda model: {"generation_config": GenerationConfig(do_sample=True, top_k=1)},
}


def ids_of(generated: Any) -> torch.Tensor:
    return generated if isinstance(generated, torch.Tensor) else generated.sequences


@pytest.mark.parametrize("case", EXCLUDED)
def test_other_calls_are_left_to_transformers(
    case: str, rows_per_step: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_that_ends()
    ids = sources(1 if case in ("assistant_model", "prompt_lookup") else 4)
    torch.manual_seed(0)
    found = ids_of(model.generate(ids, max_new_tokens=6, **EXCLUDED[case](model)))
    assert not rows_per_step
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    torch.manual_seed(0)
    assert torch.equal(found, ids_of(model.generate(ids, max_new_tokens=6, **EXCLUDED[case](model))))


def test_processes_that_wait_for_each_other_are_left_to_transformers() -> None:
    """Which asks all of them after each step whether they go on; that takes a group of processes."""
    model = model_that_ends()

    def setting(name: str) -> Any:
        return getattr(model.generation_config, name, None)

    for synced_gpus, is_fast in ((True, False), (False, True), (None, True)):
        arguments = fast_search.with_fast_search(model, sources(), setting, {"synced_gpus": synced_gpus})
        assert ("custom_generate" in arguments) == is_fast


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("where", ["is_fsdp_managed_module", "is_deepspeed_zero3_enabled"])
def test_weights_that_are_spread_over_processes_are_left_to_transformers(
    where: str, num_beams: int, rows_per_step: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_that_ends()
    expected = model.generate(sources(), max_new_tokens=6, num_beams=num_beams)
    rows_per_step.clear()
    monkeypatch.setattr(fast_search, where, lambda *args: True)
    assert torch.equal(model.generate(sources(), max_new_tokens=6, num_beams=num_beams), expected)
    assert not rows_per_step


def test_a_streamer_is_given_every_token(rows_per_step: list[int]) -> None:
    model, streamer = model_that_ends(), Streamer()
    found = model.generate(sources(1), max_new_tokens=6, streamer=streamer)
    assert not rows_per_step
    assert torch.cat([one.flatten() for one in streamer.received]).tolist() == found[0].tolist()


@pytest.mark.parametrize("num_beams", [1, 3])
def test_stop_strings_stop(
    num_beams: int,
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    rows_per_step: list[int],
) -> None:
    ids = tiny_tokenizer(["a small dog"], return_tensors="pt")["input_ids"]
    free = tiny_model.generate(ids, max_new_tokens=8, num_beams=num_beams)
    rows_per_step.clear()
    text = tiny_tokenizer.decode(free[0, 3:4])
    stopped = tiny_model.generate(
        ids, max_new_tokens=8, num_beams=num_beams, stop_strings=[text], tokenizer=tiny_tokenizer
    )
    assert not rows_per_step
    assert text in tiny_tokenizer.decode(stopped[0])
    assert stopped.shape[1] <= free.shape[1]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_arguments_by_their_places_are_those_by_their_names(num_beams: int, rows_per_step: list[int]) -> None:
    model, config = model_that_ends(), GenerationConfig(num_beams=num_beams, max_new_tokens=6)
    expected = model.generate(sources(), generation_config=config)
    assert rows_per_step
    rows_per_step.clear()
    assert torch.equal(model.generate(sources(), config), expected)
    assert rows_per_step
    with pytest.raises(TypeError, match="multiple values for keyword argument 'generation_config'"):
        model.generate(sources(), config, generation_config=config)


def test_without_the_package_its_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_that_ends()
    monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    with pytest.raises(ValueError, match="shortlist and step_graphs need the package hf_rnn_s2s: import it"):
        model.generate(sources(), shortlist=Shortlist([[7]] * 40))


def test_what_falls_back_warns_of_options_that_are_not_used(
    rows_per_step: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    fast_search.logger.warning_once.cache_clear()  # type: ignore[attr-defined]
    model = model_that_ends()
    model.generate(sources(), shortlist=Shortlist([[7]] * 40), do_sample=True, top_k=1, max_new_tokens=2)
    assert not rows_per_step
    assert "shortlist: this call looks at the whole vocabulary" in caplog.text
