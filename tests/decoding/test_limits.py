"""Numbers that make no sense are refused by name, before any work."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline
from hf_rnn_s2s.decoding.limits import LIMITS

NUMBERS: list[Any] = [-1, 2.5, "5", True, float("nan"), [3], 10**12]


@pytest.fixture
def translator(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
) -> RnnTranslationPipeline:
    """Whose model must not be run."""

    def generate(**_: Any) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(tiny_model, "generate", generate)
    return RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu")


@pytest.mark.parametrize("name", LIMITS)
def test_wrong_numbers_are_named(translator: RnnTranslationPipeline, name: str) -> None:
    least, most = LIMITS[name]
    for value in [*NUMBERS, least - 1, most + 1]:
        for inputs in ("the dog", ["the dog"]):
            with pytest.raises(ValueError, match=f"^{name}=.* must be a whole number from {least} to"):
                translator(inputs, **{name: value})
        with pytest.raises(ValueError, match=f"^{name}=.* must be a whole number from {least} to"):
            RnnTranslationPipeline(
                model=translator.model, tokenizer=translator.tokenizer, device="cpu", **{name: value}
            )
    for right in (least, most, np.int64(most), None):
        with pytest.raises(AssertionError, match="work was done"):
            translator("the dog", **{name: right})


@pytest.mark.parametrize("inputs", [["the dog"], (text for text in ["the dog"])])
def test_a_batch_size_below_1_translates_nothing_silently(translator: RnnTranslationPipeline, inputs: Any) -> None:
    for batch_size in (0, -1):
        with pytest.raises(ValueError, match=f"^batch_size={batch_size} must be a whole number from 1 to"):
            translator(inputs, batch_size=batch_size)


def test_wrong_numbers_of_a_configuration_are_named(translator: RnnTranslationPipeline) -> None:
    config = GenerationConfig()
    config.num_beams = "5"
    with pytest.raises(ValueError, match="num_beams='5' must be a whole number"):
        translator("the dog", generation_config=config)
    translator.model.generation_config.max_length = 10**12
    with pytest.raises(ValueError, match="max_length=1000000000000 must be a whole number from 1 to 1,000,000"):
        translator(["the dog"])


def test_wrong_numbers_of_a_checkpoint_are_named(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tiny_model.save_pretrained(tmp_path)
    content = {"num_beams": "5", "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1}
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="num_beams"):  # when it is loaded, or used
        RnnTranslationPipeline(
            model=AutoModelForSeq2SeqLM.from_pretrained(tmp_path), tokenizer=tiny_tokenizer, device="cpu"
        )("the dog")
