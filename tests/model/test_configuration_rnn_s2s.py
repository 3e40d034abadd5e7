import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnS2SModel


def test_defaults_are_those_of_the_documentation() -> None:
    config = RnnS2SConfig()
    assert (config.cell_type, config.attention_type, config.attention_layer) == ("lstm", "general", "bottom")
    assert (config.context_fusion, config.bridge) == ("concat", "dense")
    assert config.is_encoder_decoder
    assert config.share_encoder_decoder_embeddings
    assert config.dropout_of_embeddings == config.dropout
    assert config.initializer_range == 0.3


def test_the_vocabulary_that_generation_asks_for_is_the_targets() -> None:
    config = RnnS2SConfig(vocab_size=30, decoder_vocab_size=20)
    assert config.get_text_config().vocab_size == config.get_text_config(decoder=True).vocab_size == 20
    assert config.get_text_config(encoder=True).vocab_size == config.vocab_size == 30
    assert RnnS2SConfig(vocab_size=30).get_text_config().vocab_size == 30


@pytest.mark.parametrize(
    ("values", "source", "target"),
    [
        ({}, 30, 30),
        ({"decoder_vocab_size": 20}, 30, 20),
        ({"decoder_vocab_size": 30}, 30, 30),
        ({"decoder_vocab_size": 30, "share_encoder_decoder_embeddings": True}, 30, 30),
    ],
)
def test_each_side_has_a_configuration_of_its_own(values: dict[str, Any], source: int, target: int) -> None:
    config = RnnS2SConfig(vocab_size=30, encoder_layers=3, decoder_layers=2, decoder_start_token_id=7, **values)
    for arguments, vocabulary, layers in (
        ({"decoder": True}, target, 2),
        ({"encoder": True}, source, 3),
        ({"decoder": True, "encoder": False}, target, 2),
        ({"decoder": False, "encoder": True}, source, 3),
        ({}, target, 3),
        ({"decoder": True, "encoder": True}, target, 3),
    ):
        side = config.get_text_config(**arguments)
        assert (side.vocab_size, side.num_hidden_layers) == (vocabulary, layers), arguments
        assert (side.decoder_start_token_id, side.hidden_size) == (7, config.hidden_size)
        side.check()
    assert (config.vocab_size, config.encoder_layers, config.decoder_layers) == (30, 3, 2)


@pytest.mark.parametrize(("values", "last"), [({}, 29), ({"decoder_vocab_size": 20}, 19)])
def test_token_ids_are_validated_against_the_vocabulary_they_are_written_in(
    values: dict[str, Any], last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By transformers, which looks at the ids of the decoder's side."""
    config, seen = RnnS2SConfig(vocab_size=30, **values), []
    monkeypatch.setattr("transformers.configuration_utils.logger.warning_once", seen.append)
    config.validate_token_ids()
    assert not seen
    config.eos_token_id = last + 1
    config.validate_token_ids()
    assert len(seen) == 1
    assert f"eos_token_id must be `None` or an integer within the vocabulary (between 0 and {last})" in seen[0]


def test_a_new_model_generates_from_its_own_start() -> None:
    """transformers takes what is unset in the generation settings from the decoder's side."""
    for values in ({}, {"decoder_vocab_size": 20}):
        config = RnnS2SConfig(vocab_size=30, hidden_size=8, embedding_size=8, decoder_start_token_id=7, **values)
        assert RnnS2SForConditionalGeneration(config).generation_config.decoder_start_token_id == 7


def test_the_names_that_the_library_asks_for_mean_something() -> None:
    config = RnnS2SConfig(hidden_size=64, num_hidden_layers=3)
    assert config.encoder_layers == config.num_hidden_layers == 3
    assert config.num_attention_heads == 1
    assert config.hidden_size == 64
    config.num_hidden_layers = 2
    assert config.encoder_layers == 2


def test_a_separate_target_vocabulary_has_embeddings_of_its_own() -> None:
    config = RnnS2SConfig(vocab_size=100, decoder_vocab_size=70)
    assert config.target_vocab_size == 70
    assert not config.share_encoder_decoder_embeddings
    assert RnnS2SConfig(vocab_size=100).target_vocab_size == 100


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell_type": "rnn"}, "cell_type='rnn'.*lstm, gru"),
        ({"attention_type": "dott"}, "attention_type='dott'.*none, dot, scaled_dot, general, additive, .*cosine"),
        ({"attention_layer": 1}, "attention_layer=1.*bottom, top"),
        ({"context_fusion": "sum"}, "context_fusion='sum'.*concat, add"),
        ({"bridge": None}, "bridge=None.*dense, backward, average, copy, last, zero"),
        ({"vocab_size": 0}, "vocab_size=0 .*at least 1"),
        ({"decoder_vocab_size": -5}, "decoder_vocab_size=-5 .*at least 1"),
        ({"encoder_layers": 1.5}, "encoder_layers=1.5 .*whole number"),
        ({"decoder_layers": True}, "decoder_layers=True .*whole number"),
        ({"hidden_size": "512"}, "hidden_size='512' .*whole number"),
        ({"hidden_size": 7}, "hidden_size=7 must be even"),
        ({"dropout": 1}, "dropout=1 must be a number from 0"),
        ({"attention_dropout": -0.1}, "attention_dropout=-0.1 must be"),
        ({"label_smoothing": None}, "label_smoothing=None must be"),
        ({"initializer_range": 0}, "initializer_range=0 must be"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings='yes' must be True or False"),
        ({"eos_token_id": 8000}, "eos_token_id=8000 must be None or one id from 0 to 7999"),
        ({"eos_token_id": [2, -1]}, r"eos_token_id=\[2, -1\] must be ids from 0 to 7999"),
        ({"eos_token_id": []}, r"eos_token_id=\[\] must be None or one id"),
        ({"pad_token_id": [0, 1]}, r"pad_token_id=\[0, 1\] must be None or one id"),
        ({"decoder_start_token_id": [1, 2]}, r"decoder_start_token_id=\[1, 2\] must be None or one id"),
        ({"initializer_range": float("inf")}, "initializer_range=inf must be a finite number"),
        ({"initializer_range": float("nan")}, "initializer_range=nan must be a finite number"),
        ({"initializer_range": True}, "initializer_range=True must be a finite number"),
        ({"embedding_dropout": 1.0}, "embedding_dropout=1.0 must be a number from 0"),
        ({"num_hidden_layers": 2, "encoder_layers": 3}, "num_hidden_layers=2 contradicts encoder_layers=3"),
        ({"num_hidden_layers": 3, "encoder_layers": 1}, "num_hidden_layers=3 contradicts encoder_layers=1"),
        ({"encoder_layers": 10**9}, "encoder_layers=1000000000 must be at most 1,000"),
        ({"num_hidden_layers": 10**9}, "encoder_layers=1000000000 must be at most 1,000"),
        ({"decoder_layers": 1001}, "decoder_layers=1001 must be at most 1,000"),
        ({"hidden_size": 10**9}, "hidden_size=1000000000 must be at most 65,536"),
        ({"embedding_size": 10**9}, "embedding_size=1000000000 must be at most 65,536"),
        ({"vocab_size": 10**12}, "vocab_size=1000000000000 must be at most 10,000,000"),
        ({"decoder_vocab_size": 10**12}, "decoder_vocab_size=1000000000000 must be at most 10,000,000"),
        ({"dtype": "float8"}, "dtype='float8' is not known; allowed are float32, bfloat16, float16, float64"),
        ({"dtype": "nn"}, "dtype='nn' is not known"),
        ({"dtype": "torch.float32"}, "dtype='torch.float32' is not known"),
        ({"dtype": torch.int8}, "dtype=torch.int8 is not known"),
        ({"dtype": 5}, "dtype=5 is not known"),
        ({"torch_dtype": "float8"}, "dtype='float8' is not known"),
        ({"quantization_config": "x"}, "quantization_config='x' does not say how the weights are quantised"),
        ({"quantization_config": []}, r"quantization_config=\[\] does not say"),
        ({"quantization_config": {"bits": 8}}, r"quantization_config=\{'bits': 8\} does not say"),
        ({"quantization_config": {"load_in_8bit": False}}, r"\{'load_in_8bit': False\} does not say"),
        ({"vocab_size": 10**7, "embedding_size": 65536}, "embedding_size make about 655,360,000,000 parameters"),
        ({"decoder_vocab_size": 10**7, "embedding_size": 16384}, "make about 163,971,072,000 parameters"),
        ({"hidden_size": 8192, "encoder_layers": 1000}, "encoder_layers and decoder_layers about 537,944,653,824"),
        (
            {"vocab_size": 10**7, "embedding_size": 6000, "hidden_size": 16384, "decoder_layers": 30},
            "together they must be at most 100,000,000,000: there is no such recurrent model",
        ),
        ({"pad_token_id": None}, "pad_token_id=None"),
        ({"decoder_start_token_id": None}, "decoder_start_token_id=None"),
        ({"decoder_vocab_size": 5, "decoder_start_token_id": 5}, "decoder_start_token_id=5 .*from 0 to 4"),
        ({"decoder_vocab_size": 5, "share_encoder_decoder_embeddings": True}, "share_encoder_decoder_embeddings=True"),
        ({"attention_type": "none", "bridge": "zero"}, "attention_type='none' contradicts bridge='zero'"),
        ({"source_lang": " "}, "source_lang=' ' must be None or a language"),
        ({"target_lang": 5}, "target_lang=5 must be None or a language"),
        ({"target_lang": "x" * 101}, "target_lang='x+' must be .* in 1 to 100 characters"),
        ({"attention_type": "coverage", "num_attention_heads": 4}, "num_attention_heads=4: .*one head"),
        ({"is_encoder_decoder": False}, "is_encoder_decoder=False"),
    ],
)
def test_wrong_and_contradictory_values_name_the_field_and_the_way_out(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RnnS2SConfig(**values)


def test_large_models_and_the_older_form_of_quantization_are_allowed() -> None:
    large = {"vocab_size": 10**6, "embedding_size": 8192, "hidden_size": 8192, "encoder_layers": 32}
    assert RnnS2SConfig(**large, decoder_layers=32).vocab_size == 10**6
    assert RnnS2SConfig(encoder_layers=1000, decoder_layers=1000).encoder_layers == 1000
    for name in ("load_in_8bit", "load_in_4bit"):
        assert RnnS2SConfig(quantization_config={name: True}).quantization_config == {name: True}


def test_a_file_with_two_numbers_of_layers_is_refused(tmp_path: Path) -> None:
    RnnS2SConfig(encoder_layers=1).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    for layers, allowed in ((1, True), (3, False)):
        path.write_text(json.dumps({**content, "num_hidden_layers": layers}))
        for load in (RnnS2SConfig.from_pretrained, AutoConfig.from_pretrained):
            if allowed:
                assert load(tmp_path).encoder_layers == 1
                continue
            with pytest.raises(ValueError, match="num_hidden_layers=3 contradicts encoder_layers=1"):
                load(tmp_path)


def test_the_number_of_layers_may_be_overridden_by_either_name(tmp_path: Path) -> None:
    RnnS2SConfig(encoder_layers=2).save_pretrained(tmp_path)
    assert RnnS2SConfig.from_pretrained(tmp_path, num_hidden_layers=3).encoder_layers == 3
    assert RnnS2SConfig.from_pretrained(tmp_path, encoder_layers=3).num_hidden_layers == 3
    with pytest.raises(ValueError, match="num_hidden_layers=3 contradicts encoder_layers=4"):
        RnnS2SConfig.from_pretrained(tmp_path, num_hidden_layers=3, encoder_layers=4)


@pytest.mark.parametrize("encoder_layers", [1, 3])
def test_copies_are_equal(encoder_layers: int) -> None:
    config = RnnS2SConfig(encoder_layers=encoder_layers, dtype="bfloat16")
    assert config.dtype == torch.bfloat16
    for other in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config


def test_a_value_that_is_changed_later_is_checked_by_the_model() -> None:
    config = RnnS2SConfig(vocab_size=20, hidden_size=8, embedding_size=8)
    config.attention_type = "dott"
    with pytest.raises(ValueError, match="attention_type='dott'"):
        RnnS2SForConditionalGeneration(config)


def test_saving_and_loading_keeps_every_value(tmp_path: Path) -> None:
    config = RnnS2SConfig(
        vocab_size=100,
        decoder_vocab_size=70,
        embedding_size=12,
        hidden_size=14,
        encoder_layers=3,
        decoder_layers=4,
        cell_type="gru",
        attention_type="cosine",
        attention_layer="top",
        context_fusion="add",
        bridge="copy",
        dropout=0.11,
        embedding_dropout=0.12,
        attention_dropout=0.13,
        label_smoothing=0.14,
        tie_word_embeddings=False,
        initializer_range=0.15,
        eos_token_id=[2, 4],
        use_cache=False,
        source_lang="en",
        target_lang="zh_Hans",
    )
    config.save_pretrained(tmp_path)
    assert RnnS2SConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_type"] == "rnn_s2s"
    assert written["attention_type"] == "cosine"
    assert "auto_map" not in written


def test_the_dropout_of_embeddings_follows_the_other_one_until_it_is_set(tmp_path: Path) -> None:
    RnnS2SConfig(dropout=0.3).save_pretrained(tmp_path)
    assert RnnS2SConfig.from_pretrained(tmp_path, dropout=0.5).dropout_of_embeddings == 0.5
    config = RnnS2SConfig.from_pretrained(tmp_path, dropout=0.5, embedding_dropout=0.1)
    assert config.dropout_of_embeddings == 0.1
    model = RnnS2SModel(config)
    assert model.encoder.embedding_dropout.probability == model.decoder.embedding_dropout.probability == 0.1


def test_a_checkpoint_from_before_the_languages_has_none(tmp_path: Path) -> None:
    RnnS2SConfig().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    older = {name: value for name, value in content.items() if not name.endswith("_lang")}
    (tmp_path / "config.json").write_text(json.dumps(older))
    config = RnnS2SConfig.from_pretrained(tmp_path)
    assert (config.source_lang, config.target_lang) == (None, None)


def test_the_former_name_of_the_decoder_is_read() -> None:
    assert RnnS2SConfig.from_dict({"model_type": "rnn_s2s", "decoder_type": "residual"}).decoder_type == "stack"
