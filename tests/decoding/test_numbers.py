"""A model whose weights are no numbers says so, instead of translating into nothing."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MarianMTModel, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline, Shortlist
from hf_rnn_s2s.decoding.numbers import names_of_nonfinite_weights, require_numbers, require_usable_weights
from hf_rnn_s2s.training.finite import NotFiniteError, require_finite_weights

IDS = torch.tensor([[5, 6, 7, 2], [8, 9, 10, 2]])


def spoil(model: Any, name: str, value: float = math.nan) -> Any:
    with torch.no_grad():
        model.get_parameter(name).fill_(value)
    return model


@pytest.mark.parametrize(
    "name", ["model.encoder.forward_layer.weight_hh", "model.decoder.layers.1.bias_ih", "lm_head.bias"]
)
@pytest.mark.parametrize("search", [{}, {"num_beams": 3}, {"num_beams": 2, "repetition_penalty": 1.2}])
def test_both_searches_name_the_weights(
    tiny_model: RnnS2SForConditionalGeneration, name: str, search: dict[str, Any]
) -> None:
    spoil(tiny_model, name)
    with pytest.raises(ValueError, match=rf"not finite numbers, in {name}: .* earlier checkpoint"):
        tiny_model.generate(IDS, max_new_tokens=4, **search)


def test_with_a_shortlist_too(tiny_model: RnnS2SForConditionalGeneration) -> None:
    everything = Shortlist([list(range(tiny_model.config.vocab_size))] * tiny_model.config.vocab_size)
    with pytest.raises(ValueError, match="not finite numbers, in model.decoder.output_projection.bias"):
        spoil(tiny_model, "model.decoder.output_projection.bias").generate(IDS, shortlist=everything)


def test_whoever_has_such_values_removed_gets_what_is_left(tiny_model: RnnS2SForConditionalGeneration) -> None:
    spoil(tiny_model, "lm_head.bias")
    assert tiny_model.generate(IDS, remove_invalid_values=True, max_new_tokens=4).shape == (2, 5)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(
    "way",
    [{"return_dict_in_generate": True}, {"use_cache": False}, {"do_sample": True}, {"output_attentions": True}, {}],
)
def test_the_search_of_transformers_does_so_too(
    tiny_model: RnnS2SForConditionalGeneration, way: dict[str, Any], num_beams: int
) -> None:
    if not way:
        tiny_model.model.register_forward_hook(lambda *_: None)
    tiny_model.generate(IDS, max_new_tokens=4, num_beams=num_beams, **way)
    with torch.no_grad():
        tiny_model.lm_head.bias[3] = math.nan
    with pytest.raises(ValueError, match="not finite numbers, in lm_head.bias: .* earlier checkpoint"):
        tiny_model.generate(IDS, max_new_tokens=4, num_beams=num_beams, **way)
    removed = tiny_model.generate(IDS, max_new_tokens=4, num_beams=num_beams, remove_invalid_values=True, **way)
    assert getattr(removed, "sequences", removed).shape == (2, 5)


@pytest.mark.parametrize("way", ["prompt lookup", "assistant"])
def test_assisted_decoding_does_so_too(tiny_model: RnnS2SForConditionalGeneration, way: str) -> None:
    sound = copy.deepcopy(tiny_model)
    arguments: dict[str, Any] = {"assistant_model": sound} if way == "assistant" else {"prompt_lookup_num_tokens": 2}
    expected = sound.generate(IDS[:1], max_new_tokens=4)
    assert torch.equal(tiny_model.generate(IDS[:1], max_new_tokens=4, **arguments), expected)
    with torch.no_grad():
        tiny_model.lm_head.bias[3] = math.nan
    with pytest.raises(ValueError, match="not finite numbers, in lm_head.bias"):
        tiny_model.generate(IDS[:1], max_new_tokens=4, **arguments)


def test_the_pipeline_says_so_of_a_single_logit(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        tiny_model.lm_head.bias[3] = math.nan
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=5)
    for options in ({}, {"return_attentions": True}, {"prompt_lookup_num_tokens": 2}):
        with pytest.raises(ValueError, match="not finite numbers, in lm_head.bias"):
            translator("the dog", **options)
    tiny_model.model.register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="not finite numbers, in lm_head.bias"):
        translator("the dog")


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"return_attentions": True}, {"return_tensors": True}])
@pytest.mark.parametrize("inputs", ["the dog", ["the dog", "", "one red cat"]])
@pytest.mark.parametrize("kind", ["ours", "Marian"])
def test_the_pipeline_says_so(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_marian: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    kind: str,
    inputs: Any,
    options: dict[str, Any],
) -> None:
    model: Any = {"ours": tiny_model, "Marian": tiny_marian}[kind]
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=5)
    with pytest.raises(ValueError, match=r"not finite numbers, in \S+, \S+, \S+ and \d+ more"):
        translator(inputs, **options)
    assert translator("") == [{"translation_text": ""}]


@pytest.mark.parametrize("kind", ["ours", "Marian"])
def test_sampling_says_so_too(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_marian: MarianMTModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
    kind: str,
) -> None:
    model: Any = {"ours": tiny_model, "Marian": tiny_marian}[kind]
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    translator = RnnTranslationPipeline(model=model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=5)
    with pytest.raises(ValueError, match="not finite numbers"):
        translator("the dog", do_sample=True)


def test_an_empty_translation_of_sound_weights_is_one(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    with torch.no_grad():
        tiny_model.lm_head.bias[2] = 1e6
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu")
    assert translator(["the dog", "one"]) == [{"translation_text": ""}] * 2


def test_what_is_looked_at(tiny_model: RnnS2SForConditionalGeneration) -> None:
    require_usable_weights(tiny_model)
    infinite = torch.tensor([[1.0, -math.inf], [math.inf, 2.0]])
    require_numbers(infinite, tiny_model)  # somebody may forbid tokens, or force one
    with pytest.raises(ValueError, match=r"logits .* not numbers \(NaN\), although all its weights are"):
        require_numbers(torch.tensor([[1.0, math.nan]]), tiny_model)
    spoil(tiny_model, "lm_head.bias", math.inf)
    with pytest.raises(ValueError, match="not finite numbers, in lm_head.bias"):
        require_usable_weights(tiny_model)


def test_saving_and_translating_name_the_same_weights(
    tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path
) -> None:
    assert names_of_nonfinite_weights(tiny_model) == ""
    names = [name for name, _ in tiny_model.named_parameters()]
    for count, expected in [(1, names[0]), (3, ", ".join(names[:3])), (5, ", ".join(names[:3]) + " and 2 more")]:
        for name in names[:count]:
            spoil(tiny_model, name, math.inf)
        assert names_of_nonfinite_weights(tiny_model) == expected
        with pytest.raises(ValueError, match=f"finite numbers, in {expected}: what it writes"):
            require_usable_weights(tiny_model)
        with pytest.raises(NotFiniteError, match=rf"not numbers \({expected}\), so it is not saved"):
            require_finite_weights(tiny_model, tmp_path)
