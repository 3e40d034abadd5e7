"""An int8 copy whose weights change refuses to compute a mixture, and says what to do; nothing else is refused."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from hf_rnn_s2s import RnnS2SForConditionalGeneration, Shortlist, quantize_int8

from ..random_models import model_that_ends, sources

pytest.importorskip("onnx", reason="the extra int8 is not installed")
pytest.importorskip("onnxruntime", reason="the extra int8 is not installed")

CHANGED = "is no longer what its 8 bit integers were made of.*call quantize_int8 on it again"
Model = RnnS2SForConditionalGeneration


@pytest.fixture
def model() -> Model:
    return model_that_ends(attention_type="additive", tie_word_embeddings=False)


@torch.no_grad()
def log_probabilities(model: Model) -> torch.Tensor:
    return model(sources(), labels=sources()).logits.log_softmax(-1)


def others(model: Model) -> dict[str, torch.Tensor]:
    """Other weights for it."""
    torch.manual_seed(9)
    return Model(model.config).state_dict()


def layer_of(model: Model, name: str) -> nn.Module:
    return model.lm_head if name == "lm_head" else model.model.decoder.layers[0]


def twice_as_large(tensor: torch.Tensor) -> None:
    tensor.mul_(2)


def one_number(tensor: torch.Tensor) -> None:
    tensor.view(-1)[5] += 1


def through_data(tensor: torch.Tensor) -> None:
    tensor.data.mul_(2)


def other_data(tensor: torch.Tensor) -> None:
    tensor.data = 2 * tensor.data


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize(("layer", "name"), [("lm_head", "weight"), ("lstm", "weight_hh"), ("lstm", "bias_ih")])
@pytest.mark.parametrize("change", [twice_as_large, one_number, through_data, other_data])
def test_weights_that_were_changed_are_noticed(
    change: Callable[[torch.Tensor], None], layer: str, name: str, inference: bool, model: Model
) -> None:
    """Whether it has computed before or not, also where torch does not count changes."""
    with torch.no_grad():
        getattr(layer_of(model, layer), name).add_(0.1)  # biases begin as zeros
    with torch.inference_mode(inference):
        fresh, used = quantize_int8(model), quantize_int8(model)
        used(sources(), labels=sources())
        for quantized in (fresh, used):
            with torch.no_grad():
                change(getattr(layer_of(quantized, layer), name))
            with pytest.raises(ValueError, match=f"^{name} of Int8.* {CHANGED}"):
                quantized(sources(), labels=sources())
            with pytest.raises(ValueError, match=CHANGED):
                quantized.generate(sources(), num_beams=3, max_new_tokens=3)


def test_another_parameter_in_its_place_is_noticed(model: Model) -> None:
    quantized = quantize_int8(model)
    same = quantized.lm_head.weight.detach().clone()
    expected = log_probabilities(quantized)
    quantized.lm_head.weight = nn.Parameter(same, requires_grad=False)
    assert torch.equal(log_probabilities(quantized), expected)  # it is the same, after all
    quantized.lm_head.weight = nn.Parameter(2 * same, requires_grad=False)
    with pytest.raises(ValueError, match=CHANGED):
        log_probabilities(quantized)


@pytest.mark.parametrize(
    "part",
    [
        lambda model: model,
        lambda model: model.model.decoder,
        lambda model: model.lm_head,
        lambda model: model.model.encoder,  # which has no integers, but belongs to a decoder that has
        lambda model: model.model.decoder.embed_tokens,
        lambda model: model.model.decoder.bridge,
    ],
)
def test_loading_is_refused_before_anything_is_loaded(part: Callable[[Any], nn.Module], model: Model) -> None:
    quantized = quantize_int8(model)
    expected = log_probabilities(quantized)
    weights = copy.deepcopy(model)
    weights.load_state_dict(others(model))
    for each in (quantized, copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        with pytest.raises(ValueError, match=r"keeps the weights it was made of.*call quantize_int8 on it again"):
            part(each).load_state_dict(part(weights).state_dict())
        assert torch.equal(log_probabilities(each), expected)


def test_weights_loaded_one_by_one_are_noticed(model: Model) -> None:
    """As those who do without `load_state_dict` load them."""
    quantized = quantize_int8(model)
    for name, tensor in others(model).items():
        quantized.get_parameter(name).data.copy_(tensor)
    with pytest.raises(ValueError, match=CHANGED):
        quantized(sources(), labels=sources())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("joint", [False, True])
def test_resizing_is_refused_before_anything_is_resized(joint: bool, tied: bool) -> None:
    values: dict[str, Any] = {} if joint else {"decoder_vocab_size": 40, "share_encoder_decoder_embeddings": False}
    model = model_that_ends(**values, tie_word_embeddings=tied)
    quantized = quantize_int8(model)
    expected = log_probabilities(quantized)
    for each in (quantized, copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        for holder in (each, each.model):
            with pytest.raises(ValueError, match=r"^resize_token_embeddings: .*call quantize_int8 on it again"):
                holder.resize_token_embeddings(50)
            with pytest.raises(ValueError, match=r"^resize_decoder_token_embeddings: .*call quantize_int8"):
                holder.resize_decoder_token_embeddings(50)
        assert torch.equal(log_probabilities(each), expected)
    model.resize_token_embeddings(50)
    assert quantize_int8(model)(sources(), labels=sources()).logits.shape[-1] == model.config.target_vocab_size


def test_changed_embeddings_of_a_tied_output_layer_are_noticed() -> None:
    quantized = quantize_int8(model_that_ends(tie_word_embeddings=True))
    with torch.no_grad():
        quantized.get_input_embeddings().weight[7] += 1
    with pytest.raises(ValueError, match=CHANGED):
        quantized.generate(sources(), max_new_tokens=3)


@pytest.mark.parametrize("way", ["half", "bfloat16", "double"])
def test_another_type_is_refused(way: str, model: Model) -> None:
    quantized = getattr(quantize_int8(model), way)()
    with pytest.raises(TypeError, match="int8 reads float32"):
        quantized.generate(sources(), max_new_tokens=2)
    if way != "double":  # which keeps every number
        with pytest.raises(ValueError, match=CHANGED):
            quantized.float().generate(sources(), max_new_tokens=2)


def test_what_changes_nothing_is_not_refused(model: Model) -> None:
    quantized = quantize_int8(model)
    expected = log_probabilities(quantized)
    for each in (quantized.to("cpu"), quantized.float(), quantized.eval(), quantized.double().float()):
        assert torch.equal(log_probabilities(each), expected)
    quantized.tie_weights()
    with torch.no_grad():
        quantized.lm_head.weight.add_(0)
    assert torch.equal(log_probabilities(quantized), expected)


def test_the_bias_of_the_output_layer_is_read_as_it_is(model: Model) -> None:
    quantized = quantize_int8(model)
    with torch.no_grad():
        quantized.lm_head.bias[13] += 100
    assert quantized.generate(sources(), max_new_tokens=3)[:, 1:].eq(13).all()


def test_a_changed_copy_can_be_quantized_again(model: Model) -> None:
    """Its integers then are those of the changed weights."""
    quantized = quantize_int8(model)
    with torch.no_grad():
        for each in (quantized, model):
            each.model.decoder.layers[0].weight_hh.mul_(2)
            each.lm_head.weight.mul_(1.5)
    assert torch.equal(log_probabilities(quantize_int8(quantized)), log_probabilities(quantize_int8(model)))


def test_a_copy_of_a_changed_copy_is_refused_too(model: Model, tmp_path: Path) -> None:
    quantized = quantize_int8(model)
    with torch.no_grad():
        quantized.lm_head.weight.mul_(2)
    for each in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        with pytest.raises(ValueError, match=CHANGED):
            each(sources(), labels=sources())
    quantized.save_pretrained(tmp_path)  # what it holds now
    loaded = Model.from_pretrained(tmp_path)
    assert torch.equal(loaded.lm_head.weight, 2 * model.lm_head.weight)


def test_gradients_are_refused(model: Model) -> None:
    quantized = quantize_int8(model).requires_grad_(True)
    with pytest.raises(ValueError, match="has no gradients: take those of the one it was made of"):
        quantized(sources(), labels=sources())
    with torch.no_grad():
        quantized(sources(), labels=sources())
    quantized.requires_grad_(False)
    embedded = torch.randn(2, 3, model.config.embedding_size, requires_grad=True)
    with pytest.raises(ValueError, match="has no gradients"):
        quantized(inputs_embeds=embedded, decoder_input_ids=torch.tensor([[1], [1]]))


def test_a_loss_in_evaluation_is_that_of_its_own_logits(model: Model) -> None:
    quantized = quantize_int8(model)
    with torch.no_grad():
        output, exact = (each(sources(), labels=sources()) for each in (quantized, model))
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(output.logits.mT, sources()))
    assert 0 < (output.loss - exact.loss).abs() < 0.05


def test_a_shortlist_after_a_search_without_one(model: Model) -> None:
    quantized = quantize_int8(model)
    arguments: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 5}
    quantized.generate(sources(), **arguments)
    with torch.no_grad():
        quantized.model.decoder.layers[0].weight_ih.mul_(2)
    with pytest.raises(ValueError, match=CHANGED):
        quantized.generate(sources(), shortlist=Shortlist([[2, 7, 8, 9, 11, 12]] * 40), **arguments)


def test_weights_that_are_computed_at_each_call_are_named(model: Model) -> None:
    prune.random_unstructured(model.lm_head, "weight", 0.5)
    with pytest.raises(ValueError, match=r"^lm_head.weight is computed of other weights .*prune.remove"):
        quantize_int8(model)
    prune.remove(model.lm_head, "weight")
    exact, ours = log_probabilities(model), log_probabilities(quantize_int8(model))
    assert 0 < (exact - ours).abs().max() < 0.2
