"""Products of 8 bit integers: what they compute, to the last integer, and what stays as it was."""

import builtins
import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import (
    RnnS2SConfig,
    RnnS2SForConditionalGeneration,
    RnnTranslationPipeline,
    Shortlist,
    quantize_int8,
)
from hf_rnn_s2s.decoding.int8 import Int8Linear, Int8LSTMLayer
from hf_rnn_s2s.machine import has_fast_int8
from hf_rnn_s2s.model import modeling_rnn_s2s as plain
from hf_rnn_s2s.model.cells_rnn_s2s import LSTMLayer

from ..random_models import model_that_ends, sources

pytest.importorskip("onnx", reason="the extra int8 is not installed")
pytest.importorskip("onnxruntime", reason="the extra int8 is not installed")


def product_of_integers(inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """
    Dynamic quantization as ONNX defines it (DynamicQuantizeLinear, MatMulInteger): one scale and one zero for all
    inputs, which span 256 integers, and one scale for each row of the weights. The scales are float32, as there.
    """
    numbers, rows = inputs.numpy(), weight.numpy()
    lowest, highest = min(numbers.min(), np.float32(0)), max(numbers.max(), np.float32(0))
    scale = (highest - lowest) / np.float32(255)
    zero = np.rint(-lowest / scale)
    integers = np.clip(np.rint(numbers / scale) + zero, 0, 255).astype(np.int64) - int(zero)
    most = 127 if has_fast_int8() else 63
    scales = np.abs(rows).max(axis=1, keepdims=True) / np.float32(most)
    weights = np.clip(np.rint(rows / scales), -most, most).astype(np.int64)
    return torch.tensor((integers @ weights.T) * (scale * scales.T).astype(np.float64))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (3, 2, 24)])
@torch.no_grad()
def test_a_linear_layer_multiplies_integers(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(24, 7, bias).eval()
    inputs = torch.randn(shape) + 0.3
    outputs = Int8Linear(linear)(inputs)
    expected = product_of_integers(inputs, linear.weight) + (linear.bias.double() if bias else 0)
    torch.testing.assert_close(outputs.double(), expected, rtol=0, atol=1e-5)
    error = (outputs - linear(inputs)).abs().max()
    assert 0 < error < 0.03


@pytest.mark.parametrize("hidden", [1, 16])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (4, 1), (3, 5)])
@torch.no_grad()
def test_an_lstm_layer_is_close_to_its_own_in_float32(batch: int, time: int, hidden: int) -> None:
    torch.manual_seed(0)
    layer = LSTMLayer(12, hidden).eval()
    for parameter in layer.parameters():
        parameter.normal_(std=0.4)
    inputs, state = torch.randn(batch, time, 12), (torch.randn(batch, hidden), torch.randn(batch, hidden))
    outputs, new_state = Int8LSTMLayer(layer)(inputs, state)
    expected, expected_state = layer(inputs, state)
    for ours, exact in zip((outputs, *new_state), (expected, *expected_state), strict=True):
        assert ours.shape == exact.shape
        assert 0 < (ours - exact).abs().max() < 0.05
    # Without a state, it starts from zeros, as the layer does.
    assert (Int8LSTMLayer(layer)(inputs)[0] - layer(inputs)[0]).abs().max() < 0.05


@pytest.fixture
def model() -> RnnS2SForConditionalGeneration:
    return model_that_ends(attention_type="additive")


@torch.no_grad()
def test_a_model_is_close_to_its_own_in_float32(model: RnnS2SForConditionalGeneration) -> None:
    quantized = quantize_int8(model)
    assert all(type(layer) is Int8LSTMLayer for layer in quantized.model.decoder.layers)
    assert type(quantized.lm_head) is Int8Linear
    labels = torch.randint(3, 40, (16, 9), generator=torch.Generator().manual_seed(0))
    exact, ours = (each(sources(), labels=labels).logits.log_softmax(-1) for each in (model, quantized))
    assert 0 < (exact - ours).abs().max() < 0.1 * (exact.max() - exact.min())
    assert (exact.argmax(-1) == ours.argmax(-1)).float().mean() > 0.9


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("values", [{}, {"cell_type": "gru"}, {"attention_type": "none"}])
def test_searches_find_what_those_of_transformers_find(
    values: dict[str, Any], num_beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentence by sentence, since the rows beside one have a part in its scales, and finished rows leave the batch."""
    quantized = quantize_int8(model_that_ends(**values))
    arguments = {"num_beams": num_beams, "max_new_tokens": 12}
    translations = []
    for source in sources().split(1):
        translations.append(quantized.generate(source, **arguments))
        with monkeypatch.context() as patch:
            patch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
            assert torch.equal(translations[-1], quantized.generate(source, **arguments))
    assert len({tuple(translation[0].tolist()) for translation in translations}) > 5


def test_with_a_shortlist(model: RnnS2SForConditionalGeneration) -> None:
    """The few words of a shortlist are other ones in each batch, and stay in float32."""
    quantized = quantize_int8(model)
    words = [2, 7, 8, 9, 11]
    found = quantized.generate(sources(), num_beams=3, max_new_tokens=10, shortlist=Shortlist([words] * 40))
    assert set(found[:, 1:].flatten().tolist()) <= {*words, model.config.pad_token_id}


def test_the_model_is_left_as_it_was(model: RnnS2SForConditionalGeneration) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantized = quantize_int8(model.train())
    assert model.training
    assert not quantized.training
    assert type(model.lm_head) is nn.Linear
    for name, tensor in quantized.state_dict().items():
        assert torch.equal(tensor, before.pop(name))
        assert tensor.data_ptr() != model.state_dict()[name].data_ptr()
    assert not before


def test_it_is_saved_as_the_model_that_it_was_made_of(model: RnnS2SForConditionalGeneration, tmp_path: Path) -> None:
    quantize_int8(model).save_pretrained(tmp_path)
    loaded = RnnS2SForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert type(loaded.lm_head) is nn.Linear
    with torch.no_grad():
        logits = [each(sources(), labels=sources()).logits for each in (model.eval(), loaded)]
    assert torch.equal(*logits)


def test_copies_compute_the_same(model: RnnS2SForConditionalGeneration) -> None:
    quantized = quantize_int8(model)
    with torch.no_grad():
        expected = quantized(sources(), labels=sources()).logits
        for copied in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
            assert torch.equal(copied(sources(), labels=sources()).logits, expected)


def test_the_pipeline_translates(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    translate = RnnTranslationPipeline(model=quantize_int8(tiny_model), tokenizer=tiny_tokenizer, max_new_tokens=6)
    texts = ["the dog runs", "one red cat"]
    whole = translate(texts, batch_size=2)
    assert [list(record) for record in whole] == [["translation_text"]] * 2
    assert any(record["translation_text"] for record in whole)


def test_what_it_cannot_do_is_refused(model: RnnS2SForConditionalGeneration) -> None:
    quantized = quantize_int8(model)
    with pytest.raises(TypeError, match="these are torch.bfloat16: call model.float"):
        quantize_int8(copy.deepcopy(model).bfloat16())
    with pytest.raises(ValueError, match=r"is on meta: call model.to\(\"cpu\"\)"):
        quantize_int8(copy.deepcopy(model).to("meta"))
    with pytest.raises(ValueError, match="cannot learn: train the one it was made of"):
        copy.deepcopy(quantized).train()(sources(), labels=sources())
    with pytest.raises(TypeError, match="the inputs are torch.bfloat16: leave out bfloat16"):
        copy.deepcopy(quantized).bfloat16().generate(sources(), max_new_tokens=2)
    with pytest.raises(ValueError, match="the inputs are on meta"):
        quantized.lm_head(torch.zeros(2, model.config.embedding_size, device="meta"))


def test_the_missing_extra_is_named(model: RnnS2SForConditionalGeneration, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="int8 needs onnxruntime, .*: pip install onnxruntime onnx \\(in a copy"):
        quantize_int8(model)


def test_weights_have_seven_bits_where_sums_would_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx
    from onnx import numpy_helper

    torch.manual_seed(0)
    for fast, most in ((True, 127), (False, 64)):
        monkeypatch.setattr("hf_rnn_s2s.decoding.int8.has_fast_int8", lambda fast=fast: fast)
        graph = onnx.load_from_string(Int8Linear(nn.Linear(16, 8).eval())._graph._model).graph
        stored = [numpy_helper.to_array(each) for each in graph.initializer if each.name == "weight_quantized"]
        assert len(stored) == 1
        assert most - 1 <= np.abs(stored[0].astype(int)).max() <= most


def test_the_configuration_with_tied_embeddings() -> None:
    config = RnnS2SConfig(vocab_size=30, embedding_size=8, hidden_size=8, tie_word_embeddings=True)
    torch.manual_seed(0)
    model = RnnS2SForConditionalGeneration(config).eval()
    quantized = quantize_int8(model)
    assert quantized.lm_head.weight is quantized.model.decoder.embed_tokens.weight
