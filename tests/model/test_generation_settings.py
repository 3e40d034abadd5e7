"""Settings of `generate()` that make no sense end at once, with their name; a limit of the model's own gives way."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedTokenizerFast, pipelines

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.model import modeling_rnn_s2s

pipeline: Any = pipelines.pipeline  # its type hints know the tasks of transformers only

SOURCE = torch.tensor([[5, 9, 11, 2]])
WRONG: list[tuple[str, Any, str]] = [
    ("num_beams", "5", "num_beams='5' must be a whole number from 1 to 10,000"),
    ("num_beams", 0, "num_beams=0 must be"),
    ("num_beams", -1, "num_beams=-1 must be"),
    ("num_beams", 2.5, "num_beams=2.5 must be"),
    ("num_beams", True, "num_beams=True must be"),
    ("num_beams", [5], r"num_beams=\[5\] must be"),
    ("num_beams", 10**9, "num_beams=1000000000 must be"),
    ("max_length", "20", "max_length='20' must be a whole number from 1 to 1,000,000"),
    ("max_length", -5, "max_length=-5 must be"),
    ("max_length", 10**12, "max_length=1000000000000 must be"),
    ("max_length", float("nan"), "max_length=nan must be"),
    ("max_new_tokens", 10**12, "max_new_tokens=1000000000000 must be a whole number from 1 to 1,000,000"),
    ("min_length", "3", "min_length='3' must be a whole number from 0"),
    ("min_new_tokens", "3", "min_new_tokens='3' must be"),
    ("no_repeat_ngram_size", "3", "no_repeat_ngram_size='3' must be"),
    ("length_penalty", "1", "length_penalty='1' must be a number"),
    ("length_penalty", float("nan"), "length_penalty=nan must be a number from -40 to 40"),
    ("length_penalty", float("inf"), "length_penalty=inf must be a number"),
    ("length_penalty", 10**20, "length_penalty=100000000000000000000 must be a number"),
    ("max_time", "soon", "max_time='soon' must be a number"),
    ("top_k", "x", "top_k='x' must be a whole number from 0 to 10,000,000"),
    ("top_k", 1.5, "top_k=1.5 must be a whole number"),
    ("top_p", "0.5", "top_p='0.5' must be a number"),
    ("min_p", True, "min_p=True must be a number"),
    ("typical_p", [0.5], r"typical_p=\[0.5\] must be a number"),
    ("temperature", "1", "temperature='1' must be a number"),
    ("temperature", float("nan"), "temperature=nan must be a number"),
    ("repetition_penalty", "2", "repetition_penalty='2' must be a number"),
    ("prompt_lookup_num_tokens", "2", "prompt_lookup_num_tokens='2' must be a whole number from 1 to"),
    ("exponential_decay_length_penalty", "a", "exponential_decay_length_penalty='a' must be two numbers"),
    ("exponential_decay_length_penalty", [5, "a"], r"exponential_decay_length_penalty=\[5, 'a'\] must be two numbers"),
    ("eos_token_id", "2", "eos_token_id='2' must be a token id or a list of them"),
    ("forced_bos_token_id", [1, "2"], r"forced_bos_token_id=\[1, '2'\] must be"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_setting_that_makes_no_sense_is_named(
    name: str,
    value: Any,
    message: str,
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    """Whoever made it: the checkpoint, the caller, or a configuration that the caller passes."""
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(ValueError, match=message):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path).generate(SOURCE)
    with pytest.raises(ValueError, match=message):
        pipeline("translation", model=str(tmp_path))("a dog")
    with pytest.raises(ValueError, match=message):
        tiny_model.generate(SOURCE, **{name: value})
    config = GenerationConfig()
    setattr(config, name, value)
    for arguments in ((SOURCE, config), (SOURCE,)):
        with pytest.raises(ValueError, match=message):
            tiny_model.generate(*arguments, **({} if len(arguments) == 2 else {"generation_config": config}))


@pytest.mark.parametrize("name", ["max_new_tokens", "num_return_sequences"])
def test_a_file_that_transformers_cannot_read_is_named_with_its_setting(
    name: str, tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path
) -> None:
    tiny_model.save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: "5"}))
    with pytest.raises(ValueError, match=f"{name}='5' must be a whole number .*generation_config.json"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", ["[]", "5", '"num_beams"', "null"])
def test_a_file_that_holds_no_settings_is_named(
    content: str, tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path
) -> None:
    tiny_model.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(ValueError, match="generation_config.json must hold settings by their names"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["num_beams", "num_return_sequences", "max_length", "length_penalty"])
def test_none_leaves_to_the_model_what_a_search_needs(name: str, tiny_model: RnnS2SForConditionalGeneration) -> None:
    tiny_model.generation_config.update(num_beams=3, num_return_sequences=2, max_length=7, length_penalty=0.3)
    expected = tiny_model.generate(SOURCE)
    assert len(expected) == 2
    assert tiny_model.generate(SOURCE, **{name: None}).equal(expected)
    assert tiny_model.generate(SOURCE, GenerationConfig(), **{name: None}).equal(expected)


def test_none_still_takes_back_what_a_search_does_without(tiny_model: RnnS2SForConditionalGeneration) -> None:
    expected = tiny_model.generate(SOURCE, max_length=9)
    tiny_model.generation_config.update(max_new_tokens=2, no_repeat_ngram_size=1)
    generated = tiny_model.generate(SOURCE, max_length=9, max_new_tokens=None, no_repeat_ngram_size=None)
    assert generated.equal(expected)


def test_what_the_caller_says_stands_in_the_place_of_a_wrong_value(tiny_model: RnnS2SForConditionalGeneration) -> None:
    expected = tiny_model.generate(SOURCE, max_new_tokens=5, num_beams=2)
    tiny_model.generation_config.num_beams = "5"
    assert tiny_model.generate(SOURCE, max_new_tokens=5, num_beams=2).equal(expected)


def test_whole_numbers_of_other_kinds_are_taken(tiny_model: RnnS2SForConditionalGeneration) -> None:
    expected = tiny_model.generate(SOURCE, max_new_tokens=5, num_beams=2)
    assert tiny_model.generate(SOURCE, max_new_tokens=np.int64(5), num_beams=np.int32(2)).equal(expected)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What transformers warns of."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return caplog


@pytest.mark.parametrize("kind", [AutoModelForSeq2SeqLM, modeling_rnn_s2s.RnnS2SForConditionalGeneration])
def test_a_limit_of_the_model_gives_way_without_a_word(
    kind: Any, tiny_model: RnnS2SForConditionalGeneration, tmp_path: Path, warnings: pytest.LogCaptureFixture
) -> None:
    """With the model of the package, and with the one that travels with checkpoints."""
    tiny_model.generation_config.max_length = 9
    tiny_model.save_pretrained(tmp_path)
    model = kind.from_pretrained(tmp_path)
    never = {"eos_token_id": None, "pad_token_id": 0}
    assert model.generate(SOURCE, **never).shape[1] == 9
    for beams in (1, 2):
        for length in (4, 12):
            assert model.generate(SOURCE, max_new_tokens=length, num_beams=beams, **never).shape[1] == 1 + length
            assert model.generate(SOURCE, max_length=length, num_beams=beams, **never).shape[1] == length
    assert model.generate(SOURCE, GenerationConfig(max_new_tokens=4, eos_token_id=[270])).shape[1] == 5
    assert not [record for record in warnings.records if "max_new_tokens" in record.getMessage()]


def test_two_limits_of_the_caller_are_warned_of(
    tiny_model: RnnS2SForConditionalGeneration, warnings: pytest.LogCaptureFixture
) -> None:
    tiny_model.generate(SOURCE, max_new_tokens=4, max_length=9)
    assert "Both `max_new_tokens` (=4) and `max_length`(=9)" in warnings.text
