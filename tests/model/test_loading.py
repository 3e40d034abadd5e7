"""Saving and loading: weights come back as they were, whatever is missing, and are drawn only where they must be."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSeq2SeqLM, BertConfig

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnS2SModel

from .. import random_models

SOURCE, TARGET = torch.tensor([[5, 9, 11, 2], [7, 2, 0, 0]]), torch.tensor([[1, 8, 21], [1, 9, 9]])
WEIGHTS = "model.safetensors"


def build(seed: int = 0, **values: Any) -> RnnS2SForConditionalGeneration:
    model = random_models.build(seed, **values)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(SOURCE, decoder_input_ids=TARGET).logits


SHARING = [
    {},
    {"tie_word_embeddings": False},
    {"share_encoder_decoder_embeddings": False},
    {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False},
    {"decoder_vocab_size": 25},
    {"decoder_vocab_size": 25, "tie_word_embeddings": False},
]


@pytest.mark.parametrize("values", SHARING, ids=str)
def test_shared_tensors_are_saved_once_and_shared_again(values: dict[str, Any], tmp_path: Path) -> None:
    model = build(**values)
    model.save_pretrained(tmp_path)
    joint, tied = model.config.share_encoder_decoder_embeddings, model.config.tie_word_embeddings
    matrices = [name for name in load_file(tmp_path / WEIGHTS) if "embed_tokens" in name or name == "lm_head.weight"]
    assert len(matrices) == 3 - joint - tied
    loaded = RnnS2SForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(model))
    encoder, decoder = loaded.model.encoder.embed_tokens.weight, loaded.model.decoder.embed_tokens.weight
    assert (encoder is decoder) == joint
    assert (loaded.lm_head.weight is decoder) == tied
    assert loaded.lm_head.out_features == model.config.target_vocab_size


@pytest.mark.parametrize("values", SHARING[::2], ids=str)
def test_saving_a_tied_model_leaves_the_configuration_to_the_caller(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)
    model = build(**values)
    model.save_pretrained(tmp_path / "as_it_is")
    assert not caplog.records
    model.config.tie_word_embeddings = False
    for count in (1, 2):
        model.save_pretrained(tmp_path / "tied")
        assert model.config.tie_word_embeddings is False
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == count
        assert "one matrix, and are saved as such" in messages[-1]
        assert "call model.untie_embeddings() first" in messages[-1]
    loaded = RnnS2SForConditionalGeneration.from_pretrained(tmp_path / "tied")
    assert loaded.lm_head.weight is loaded.model.decoder.embed_tokens.weight
    assert torch.equal(logits(loaded), logits(model))
    model.untie_embeddings()
    model.save_pretrained(tmp_path / "untied")
    assert len(caplog.records) == 2
    assert "lm_head.weight" in load_file(tmp_path / "untied" / WEIGHTS)


def test_the_base_model_loads_from_the_whole_one_and_back(tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path / "whole")
    base = AutoModel.from_pretrained(tmp_path / "whole")
    assert isinstance(base, RnnS2SModel)
    for values in ({}, {"tie_word_embeddings": False}):
        build(**values).save_pretrained(tmp_path / "other")
        for kind in (AutoModel, RnnS2SModel):
            _, report = kind.from_pretrained(tmp_path / "other", output_loading_info=True)
            assert not any(report.values()), report
    with torch.no_grad():
        hidden = base(SOURCE, decoder_input_ids=TARGET).last_hidden_state
    assert torch.equal(model.lm_head(hidden), logits(model))
    base.save_pretrained(tmp_path / "base")
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base")
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)  # tied to the embeddings, which the base model has


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_a_missing_weight_is_drawn_and_no_other_changes(cell_type: str, tmp_path: Path) -> None:
    model = build(cell_type=cell_type, attention_type="cosine")
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / WEIGHTS)
    for missing in saved:
        kept = {name: tensor for name, tensor in saved.items() if name != missing}
        save_file(kept, tmp_path / WEIGHTS, metadata={"format": "pt"})
        loaded, report = RnnS2SForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
        state = loaded.state_dict()
        # A shared matrix has several names; any of them may be reported.
        assert any(state[name].data_ptr() == state[missing].data_ptr() for name in report["missing_keys"])
        for name, tensor in kept.items():
            assert torch.equal(state[name], tensor), (missing, name)
        assert state[missing].isfinite().all()
        assert not torch.equal(state[missing], saved[missing])


def test_a_missing_forget_gate_bias_is_one(tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    saved = load_file(tmp_path / WEIGHTS)
    del saved["model.decoder.layers.0.bias_ih"]
    save_file(saved, tmp_path / WEIGHTS, metadata={"format": "pt"})
    bias = RnnS2SForConditionalGeneration.from_pretrained(tmp_path).model.decoder.layers[0].bias_ih
    assert bias.reshape(4, 12).sum(1).tolist() == [0, 12, 0, 0]


def test_a_mismatched_weight_is_refused_or_drawn_and_no_other_changes(tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        RnnS2SForConditionalGeneration.from_pretrained(tmp_path, embedding_size=14)
    loaded = RnnS2SForConditionalGeneration.from_pretrained(tmp_path, embedding_size=14, ignore_mismatched_sizes=True)
    saved = model.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.isfinite().all()
        if tensor.shape == saved[name].shape:
            assert torch.equal(tensor, saved[name]), name
    assert loaded.model.encoder.forward_layer.weight_ih.shape == (24, 14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_loading_in_another_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=dtype)
    assert {parameter.dtype for parameter in loaded.parameters()} == {dtype}
    tolerance = {torch.bfloat16: 0.3, torch.float16: 0.03, torch.float64: 1e-5}[dtype]
    torch.testing.assert_close(logits(loaded).double(), logits(model).double(), rtol=0, atol=tolerance)
    loaded.save_pretrained(tmp_path / "again")
    assert AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again", dtype="auto").dtype == dtype


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}, {"model.encoder": "cpu", "": "cpu"}], ids=str)
def test_loading_with_a_device_map(device_map: Any, tmp_path: Path) -> None:
    model = build()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, device_map=device_map)
    assert torch.equal(logits(loaded), logits(model))
    assert torch.equal(loaded.generate(SOURCE, max_new_tokens=5), model.generate(SOURCE, max_new_tokens=5))


def test_building_on_the_meta_device_computes_nothing(tmp_path: Path) -> None:
    model = build()
    with torch.device("meta"):
        empty = RnnS2SForConditionalGeneration(model.config)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    empty.to_empty(device="cpu")
    empty.load_state_dict(model.state_dict())
    empty.tie_weights()
    assert torch.equal(logits(empty.eval()), logits(model))


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    BertConfig(hidden_size=12).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type 'bert'.*'rnn_s2s'"):
        RnnS2SForConditionalGeneration.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type 'bert'.*'rnn_s2s'"):
        RnnS2SConfig.from_pretrained(tmp_path)


def test_resizing_a_joint_vocabulary() -> None:
    model = build(tie_word_embeddings=True)
    before, bias = logits(model), model.lm_head.bias.detach().clone()
    model.resize_token_embeddings(45)
    assert (model.config.vocab_size, model.config.target_vocab_size) == (45, 45)
    weight = model.get_input_embeddings().weight
    assert weight.shape == (45, 10)
    assert model.model.decoder.embed_tokens.weight is weight
    assert model.get_output_embeddings().weight is weight
    torch.testing.assert_close(logits(model)[..., :40], before)
    assert torch.equal(model.lm_head.bias[:40], bias)
    model.resize_token_embeddings(30)
    torch.testing.assert_close(logits(model), before[..., :30])
    loss = model(SOURCE, labels=TARGET).loss
    loss.backward()
    assert model.get_input_embeddings().weight.grad.shape == (30, 10)


@pytest.mark.parametrize("tied", [True, False])
def test_resizing_separate_vocabularies(tied: bool, tmp_path: Path) -> None:
    model = build(decoder_vocab_size=30, tie_word_embeddings=tied)
    before = logits(model)
    model.resize_token_embeddings(50)
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (50, 30)
    assert torch.equal(logits(model), before)
    model.resize_decoder_token_embeddings(33)
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (50, 33)
    torch.testing.assert_close(logits(model)[..., :30], before)
    assert (model.lm_head.weight is model.model.decoder.embed_tokens.weight) == tied
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(AutoModelForSeq2SeqLM.from_pretrained(tmp_path)), logits(model))
    with pytest.raises(ValueError, match="resize_token_embeddings"):
        build().resize_decoder_token_embeddings(33)


def test_setting_embeddings() -> None:
    model = build()
    new = torch.nn.Embedding(40, 10)
    model.set_input_embeddings(new)
    assert model.get_input_embeddings() is new
    assert model.model.decoder.embed_tokens is new
    head = torch.nn.Linear(10, 40)
    model.set_output_embeddings(head)
    assert model.get_output_embeddings() is head
    assert model.get_encoder() is model.model.encoder
    assert model.get_decoder() is model.model.decoder


def test_a_fresh_process_computes_the_same_numbers(tmp_path: Path) -> None:
    model = build(attention_type="additive", encoder_layers=2)
    model.save_pretrained(tmp_path)
    code = (
        "import hf_rnn_s2s, json, sys, torch; from transformers import AutoModelForSeq2SeqLM as Auto\n"
        f"model = Auto.from_pretrained({str(tmp_path)!r})\n"
        f"source, target = torch.tensor({SOURCE.tolist()}), torch.tensor({TARGET.tolist()})\n"
        "with torch.no_grad():\n"
        "    print(json.dumps(model(source, decoder_input_ids=target).logits.tolist()))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert torch.equal(torch.tensor(json.loads(answer.stdout.splitlines()[-1])), logits(model))


def test_bfloat16_forward_and_backward() -> None:
    model = build().bfloat16().train()
    output = model(SOURCE, labels=TARGET, return_logits=True)
    output.loss.backward()
    assert output.logits.dtype == torch.bfloat16
    assert output.loss.dtype == torch.float32  # the sum over the vocabulary needs it
    full = build().eval()
    assert abs(model.eval()(SOURCE, labels=TARGET).loss.item() - full(SOURCE, labels=TARGET).loss.item()) < 0.1
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("cell_type", ["lstm", "gru"])
def test_autocast_to_bfloat16(cell_type: str) -> None:
    model = build(cell_type=cell_type).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(SOURCE, labels=TARGET).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all(), name
