"""Which tokenizers and models go together. `test_train.py` builds them."""

import logging
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.arguments import ModelArguments
from hf_rnn_s2s.training.building import check_vocabularies, get_model


def config(vocab_size: int, decoder_vocab_size: int | None = None, shared: bool | None = None) -> RnnS2SConfig:
    return RnnS2SConfig(
        vocab_size=vocab_size, decoder_vocab_size=decoder_vocab_size, share_encoder_decoder_embeddings=shared
    )


@pytest.fixture
def separate(tiny_texts: list[str]) -> PreTrainedTokenizerFast:
    return train_tokenizer(tiny_texts, 300, target_texts=tiny_texts, target_vocab_size=290)


def test_what_fits_is_taken(tiny_tokenizer: PreTrainedTokenizerFast, separate: PreTrainedTokenizerFast) -> None:
    size = len(tiny_tokenizer)
    for fitting in (config(size), config(size + 8), config(size, size), config(size, size, shared=True)):
        check_vocabularies(tiny_tokenizer, fitting, "model")
    check_vocabularies(separate, config(300, 290), "model")


def test_what_does_not_fit_is_refused(
    tiny_tokenizer: PreTrainedTokenizerFast, separate: PreTrainedTokenizerFast
) -> None:
    size = len(tiny_tokenizer)
    message = "The tokenizer has .* but the model some-model has vocab_size=.*use the tokenizer that belongs"
    for tokenizer, wrong in (
        (tiny_tokenizer, config(size - 1)),
        (tiny_tokenizer, config(size, size + 10)),
        (separate, config(400)),
        (separate, config(len(separate) - 1, 300)),
        (separate, config(300, len(separate.target_tokenizer) - 1)),
    ):
        with pytest.raises(ValueError, match=message):
            check_vocabularies(tokenizer, wrong, "some-model")


def test_the_languages_of_the_run_go_into_the_configuration(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a new model, and of a checkpoint that has none. One that has others gets them with a warning."""
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)
    new = ModelArguments(hidden_size=16, embedding_size=16)
    config = get_model(new, None, tiny_tokenizer, ("en", "de")).config
    assert (config.source_lang, config.target_lang) == ("en", "de")
    first, second = tmp_path / "first", tmp_path / "second"
    tiny_model.save_pretrained(first)
    model = get_model(ModelArguments(model_name_or_path=str(first)), None, tiny_tokenizer, ("en", "de"))
    assert not caplog.messages
    model.save_pretrained(second)
    assert RnnS2SConfig.from_pretrained(second).target_lang == "de"
    swapped = get_model(ModelArguments(model_name_or_path=str(second)), None, tiny_tokenizer, ("de", "en")).config
    assert (swapped.source_lang, swapped.target_lang) == ("de", "en")
    assert [message.count(str(second)) for message in caplog.messages] == [1]


def test_hard_attention_is_for_small_target_vocabularies() -> None:
    """Of symbols there are as many as the data has, so that nobody need say how many; one too many is refused then."""
    named: dict[str, Any] = {"preset": "wu2019-hard", "tokenizer_kind": "char"}
    ModelArguments(**named)
    ModelArguments(preset="wu2019-hard", tokenizer_kind="bpe", decoder_vocab_size=300)
    with pytest.raises(UsageError, match="vocab_size=8000: head_type='marginal' scores every target token"):
        ModelArguments(preset="wu2019-hard")
    few, many = (
        train_tokenizer([chr(0x4E00 + number) for number in range(count)], 8000, "char") for count in (9, 3000)
    )
    sizes = {"hidden_size": 8, "encoder_direction_size": 4, "embedding_size": 8, "readout_size": 8}
    arguments = ModelArguments(**named, **sizes)
    assert get_model(arguments, None, few).config.target_vocab_size == len(few) < 20
    with pytest.raises(UsageError, match=r"vocab_size=30\d\d: head_type='marginal' .* 2,000 of them at most"):
        get_model(arguments, None, many)


def test_a_preset_can_be_changed_in_part(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    """Its vocabulary is the tokenizer's, and its sizes are the paper's where nobody says otherwise."""
    arguments = ModelArguments(preset="luong2015", hidden_size=16, embedding_size=8, decoder_layers=2)
    config = get_model(arguments, None, tiny_tokenizer).config
    assert (config.encoder_layers, config.decoder_layers, config.hidden_size) == (4, 2, 16)
    assert config.input_feeding
    assert config.reverse_source
    assert (config.vocab_size, config.decoder_vocab_size) == (len(tiny_tokenizer), None)
    assert not config.share_encoder_decoder_embeddings
    with pytest.raises(UsageError, match="There is no preset 'luong'; known are sutskever2014, bahdanau2015, luong"):
        ModelArguments(preset="luong")
    with pytest.raises(UsageError, match="num_attention_heads=3 does not divide 16, the width of the queries"):
        ModelArguments(preset="luong2015", hidden_size=16, num_attention_heads=3)
