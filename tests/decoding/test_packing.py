"""Packed weights: the same numbers, from the same modules, and only where it can be done."""

import platform
from collections.abc import Callable

import pytest
import torch
from torch import nn

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.decoding import packing
from hf_rnn_s2s.decoding.packing import PackedLinear, PackedLSTMLayer, packed
from hf_rnn_s2s.decoding.stepper import Stepper
from hf_rnn_s2s.model.cells_rnn_s2s import GRULayer, LSTMLayer

IS_POSSIBLE = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()
pytestmark = pytest.mark.skipif(not IS_POSSIBLE, reason="the kernels that read packed weights are those of x86")
TYPES = [torch.float32]
if IS_POSSIBLE and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    TYPES.append(torch.bfloat16)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (64, 1, 5), (2, 3, 4, 5)])
@torch.no_grad()
def test_a_linear_layer(shape: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(shape[-1], 11, bias).to(dtype)
    inputs = torch.randn(shape).to(dtype)
    outputs = packed(linear)(inputs)
    assert isinstance(packed(linear), PackedLinear)
    expected = nn.functional.linear(inputs.double(), linear.weight.double(), linear.bias.double() if bias else None)
    torch.testing.assert_close(outputs.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    # Inputs that lie in memory some other way
    spread = torch.stack([inputs, inputs.neg()], dim=-1)[..., 0]
    assert torch.equal(packed(linear)(spread), outputs)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 9), (5, 1), (6, 4), (40, 1)])
@torch.no_grad()
def test_an_lstm_layer(batch: int, time: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = LSTMLayer(6, 10)
    for parameter in layer.parameters():
        parameter.normal_()
    layer = layer.to(dtype)
    inputs = torch.randn(batch, time, 6).to(dtype)
    state = torch.randn(batch, 10).to(dtype), torch.randn(batch, 10).to(dtype)
    other = packed(layer)
    assert isinstance(other, PackedLSTMLayer)
    outputs, new_state = other(inputs, state)
    expected, expected_state = layer.double()(inputs.double(), tuple(part.double() for part in state))
    assert outputs.shape == (batch, time, 10)
    for ours, theirs in zip((outputs, *new_state), (expected, *expected_state), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    # State and inputs that lie in memory some other way
    wide = tuple(torch.stack([part, part], dim=1)[:, 0] for part in state)
    again, again_state = other(inputs.transpose(0, 1).contiguous().transpose(0, 1), wide)
    assert all(torch.equal(*pair) for pair in zip((again, *again_state), (outputs, *new_state), strict=True))


@torch.no_grad()
def test_the_rest_is_shared_and_left_as_it_is() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 2)}))
    module[2].once = ("b",)
    other = packed(module)
    assert type(other) is nn.Sequential
    assert isinstance(other[0], PackedLinear)
    assert isinstance(other[2]["a"], PackedLinear)
    assert other[2]["b"] is module[2]["b"]
    assert other[1] is module[1]
    assert [type(inner) for inner in module.modules()].count(nn.Linear) == 3


class Foreign(nn.Module):
    """As PEFT's adapters, which read the weights of the layers inside them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(inputs.to(self.inner.weight.dtype))


class Doubled(nn.Linear):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(inputs)


def with_hook(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, inputs, outputs: 2 * outputs)
    return layer


def with_own_forward(layer: nn.Module) -> nn.Module:
    """As accelerate does it, to bring the weights to where they are needed."""
    layer.forward = lambda inputs: inputs  # type: ignore[method-assign]
    return layer


@pytest.mark.parametrize(
    "make",
    [
        lambda: Doubled(3, 3),
        lambda: with_hook(nn.Linear(3, 3)),
        lambda: with_own_forward(nn.Linear(3, 3)),
        lambda: nn.Linear(3, 3, device="meta"),
        lambda: nn.Linear(3, 3).double(),
        lambda: GRULayer(3, 3),
        lambda: Foreign(),
        lambda: nn.Sequential(Doubled(3, 3), nn.ReLU()),
    ],
)
@torch.no_grad()
def test_other_modules_stay(make: Callable[[], nn.Module]) -> None:
    module = make()
    assert packed(module) is module


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")  # of the switch for the kernels
def test_nothing_is_packed_while_it_may_learn_or_change_its_type() -> None:
    linear = nn.Linear(3, 3)
    assert packed(linear) is linear
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert packed(linear) is linear
        with torch.backends.mkldnn.flags(enabled=False):
            assert packed(linear) is linear
        assert packed(linear) is not linear


@pytest.mark.parametrize("change", ["other arguments", "no such name", "other results"])
@torch.no_grad()
def test_without_kernels_that_work_nothing_is_packed(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a version of torch that has changed them."""

    def linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        if change == "other arguments":
            raise TypeError("linear() got an unexpected argument")
        if change == "no such name":
            raise AttributeError("no operator linear")
        return 2 * nn.functional.linear(inputs, weight, bias)

    monkeypatch.setattr(packing, "linear", linear)
    packing._kernels_work.cache_clear()
    try:
        layer = nn.Linear(3, 3)
        assert packed(layer) is layer
    finally:
        packing._kernels_work.cache_clear()


@torch.no_grad()
def test_a_search_packs_what_it_steps() -> None:
    config = RnnS2SConfig(vocab_size=20, embedding_size=6, hidden_size=8, attention_type="additive")
    model = RnnS2SForConditionalGeneration(config).eval()
    memory = model.get_encoder()(torch.tensor([[5, 6, 7]]))
    decoder = model.model.decoder
    stepper = Stepper(decoder, model.output_head, model.lm_head, memory, None)
    assert isinstance(stepper._decoder.layers[0], PackedLSTMLayer)
    assert isinstance(stepper._decoder.output_projection, PackedLinear)
    assert isinstance(stepper._decoder.attention.score.query_projection, PackedLinear)
    assert isinstance(stepper._lm_head, PackedLinear)
    assert stepper._decoder.attention.score.key_projection is decoder.attention.score.key_projection
    assert stepper._decoder.bridge is decoder.bridge
    assert Stepper(decoder, model.output_head, model.lm_head, memory, None, rows=1)._decoder is decoder


def test_a_search_sees_weights_that_changed_since_the_last_one() -> None:
    torch.manual_seed(0)
    model = RnnS2SForConditionalGeneration(RnnS2SConfig(vocab_size=20, embedding_size=6, hidden_size=8)).eval()
    source = torch.tensor([[5, 6, 7]])
    model.generate(source, max_new_tokens=3)
    with torch.no_grad():
        model.lm_head.bias[13] += 100
    assert model.generate(source, max_new_tokens=3)[0, 1:].tolist() == [13, 13, 13]
