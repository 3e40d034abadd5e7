"""Cells without a kernel: the loop that training uses computes what `RecurrentLayer` and autograd do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hf_rnn_s2s.model.cells_rnn_s2s import CELLS, RecurrentLayer
from hf_rnn_s2s.training.looped_layers import LoopedLayer
from hf_rnn_s2s.training.step_gradients import with_looped_layers

from ..random_models import build

CELLS_WITHOUT_KERNEL = [name for name, cell in CELLS.items() if not cell.has_kernel]
INPUT_SIZE, HIDDEN_SIZE, ROWS, TIME = 3, 4, 3, 5
PADDING = torch.arange(TIME) < torch.tensor([[2], [0], [4]])


class Looped(nn.Module):
    """A layer as training calls it."""

    def __init__(self, layer: RecurrentLayer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *arguments: Any, **named: Any) -> Any:
        looped = with_looped_layers(self.layer)
        assert isinstance(looped, LoopedLayer)
        return looped(*arguments, **named)


def random_layer(cell_type: str, dtype: torch.dtype = torch.float64) -> RecurrentLayer:
    torch.manual_seed(0)
    layer = CELLS[cell_type](INPUT_SIZE, HIDDEN_SIZE).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def random_inputs(layer: RecurrentLayer) -> tuple[Tensor, tuple[Tensor, ...]]:
    inputs = torch.randn(ROWS, TIME, INPUT_SIZE, dtype=torch.float64, requires_grad=True)
    state = (torch.randn(ROWS, HIDDEN_SIZE, dtype=torch.float64, requires_grad=True) for _ in layer.state_names)
    return inputs, tuple(state)


def results(layer: nn.Module, tensors: list[Tensor], *arguments: Any) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """Outputs and last state, and the gradients of a sum of them with random weights."""
    outputs, state = layer(*arguments)
    torch.manual_seed(1)
    total = sum((one * torch.randn(one.shape, dtype=one.dtype)).sum() for one in (outputs, *state))
    return [outputs, *state], torch.autograd.grad(total, tensors)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("cell_type", CELLS_WITHOUT_KERNEL)
def test_results_and_gradients_are_those_of_the_layer(cell_type: str, given: bool, padded: bool) -> None:
    layer = random_layer(cell_type)
    inputs, state = random_inputs(layer)
    tensors = [inputs, *(state if given else ()), *layer.parameters()]
    arguments = inputs, state if given else None, PADDING if padded else None
    expected, gradients = results(layer, tensors, *arguments)
    ours, our_gradients = results(Looped(layer), tensors, *arguments)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(our_gradients, gradients, rtol=1e-10, atol=1e-13)
    if padded:
        assert ours[0][PADDING].eq(0).all()
        assert our_gradients[0][PADDING].eq(0).all()


@pytest.mark.parametrize("cell_type", CELLS_WITHOUT_KERNEL)
def test_gradients_are_those_of_small_differences(cell_type: str) -> None:
    layer = random_layer(cell_type)
    inputs, state = random_inputs(layer)
    looped = Looped(layer)
    names = [name for name, _ in looped.named_parameters()]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        weights = dict(zip(names, tensors[: len(names)], strict=True))
        read, *before = tensors[len(names) :]
        outputs, after = torch.func.functional_call(looped, weights, (read, tuple(before), PADDING))
        return outputs, *after

    assert torch.autograd.gradcheck(run, (*layer.parameters(), inputs, *state))


@pytest.mark.parametrize("cell_type", CELLS_WITHOUT_KERNEL)
def test_step_by_step_is_the_same(cell_type: str) -> None:
    layer = random_layer(cell_type)
    inputs, _ = random_inputs(layer)
    expected, final = layer(inputs)
    looped, state, steps = with_looped_layers(layer), None, []
    for position in range(TIME):
        outputs, state = looped(inputs[:, position : position + 1], state)
        steps.append(outputs)
    torch.testing.assert_close(torch.cat(steps, dim=1), expected)
    torch.testing.assert_close(state, final)
    gradients = torch.autograd.grad(torch.cat(steps, dim=1).square().sum(), list(layer.parameters()))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.square().sum(), list(layer.parameters())))


@pytest.mark.parametrize("state_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("input_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell_type", CELLS_WITHOUT_KERNEL)
def test_types_in_mixed_precision(cell_type: str, input_dtype: torch.dtype, state_dtype: torch.dtype) -> None:
    layer = random_layer(cell_type, torch.float32)
    inputs = torch.randn(ROWS, TIME, INPUT_SIZE)
    state = tuple(torch.randn(ROWS, HIDDEN_SIZE).to(state_dtype) for _ in layer.state_names)
    exact, _ = layer(inputs, tuple(part.float() for part in state))
    with torch.autocast("cpu", torch.bfloat16):
        expected, their_state = layer(inputs.to(input_dtype), state)
        outputs, our_state = Looped(layer)(inputs.to(input_dtype), state)
    assert [one.dtype for one in (outputs, *our_state)] == [one.dtype for one in (expected, *their_state)]
    assert (outputs - exact).abs().max() <= 0.02 + 2 * (expected - exact).abs().max()
    outputs.float().square().sum().backward()
    assert all(one.grad is not None and one.grad.dtype == torch.float32 for one in layer.parameters())


def test_frozen_weights_get_no_gradient() -> None:
    for cell_type in CELLS_WITHOUT_KERNEL:
        layer = random_layer(cell_type)
        inputs, _ = random_inputs(layer)
        expected = torch.autograd.grad(layer(inputs)[0].sum(), [inputs, layer.weight_ih])
        layer.weight_hh.requires_grad_(False)
        getattr(layer, layer.vectors[-1]).requires_grad_(False)
        Looped(layer)(inputs)[0].sum().backward()
        torch.testing.assert_close([inputs.grad, layer.weight_ih.grad], list(expected))
        assert layer.weight_hh.grad is getattr(layer, layer.vectors[-1]).grad is None


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.mark.parametrize("cell_type", CELLS_WITHOUT_KERNEL)
def test_what_is_unusual_is_left_as_it_is(cell_type: str) -> None:
    layer = random_layer(cell_type)
    assert isinstance(with_looped_layers(layer), LoopedLayer)
    with torch.no_grad():
        assert with_looped_layers(layer) is layer
    layer.state_dropout = 0.5
    assert with_looped_layers(layer.train()) is layer
    assert isinstance(with_looped_layers(layer.eval()), LoopedLayer)
    handle = layer.register_forward_hook(lambda *_: None)
    assert with_looped_layers(layer) is layer
    handle.remove()
    parametrize.register_parametrization(layer, "weight_hh", Twice())
    assert with_looped_layers(layer) is layer


@pytest.mark.parametrize("cell_type", CELLS_WITHOUT_KERNEL)
def test_dropout_that_is_given_and_wrong_widths_are_for_the_layer(cell_type: str) -> None:
    layer = random_layer(cell_type)
    inputs, _ = random_inputs(layer)
    mask = torch.tensor([0.0, 2.0, 2.0, 0.0], dtype=torch.float64).expand(ROWS, -1)
    for dropout in ((mask, None), (None, mask)):
        torch.testing.assert_close(Looped(layer)(inputs, dropout=dropout), layer(inputs, dropout=dropout))
    with pytest.raises(ValueError, match="this layer reads 3"):
        Looped(layer)(inputs[..., :2])


@pytest.mark.parametrize("cell_type", CELLS_WITHOUT_KERNEL)
def test_gradients_of_gradients_are_refused_and_transforms_are_not(cell_type: str) -> None:
    layer = random_layer(cell_type)
    inputs, _ = random_inputs(layer)
    (gradient,) = torch.autograd.grad(Looped(layer)(inputs)[0].square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()
    transformed = torch.func.grad(lambda read: with_looped_layers(layer)(read)[0].square().sum())(inputs.detach())
    torch.testing.assert_close(transformed, gradient.detach())


@pytest.mark.parametrize("cell_type", CELLS_WITHOUT_KERNEL)
def test_both_sides_of_a_model_use_them(cell_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(cell_type=cell_type, encoder_type="bidirectional_stack", encoder_layers=2).train()
    before = dict(model.named_modules())
    monkeypatch.delattr(RecurrentLayer, "_run_steps")
    ids = torch.tensor([[5, 9, 2]])
    model(ids, labels=ids).loss.backward()
    assert all(one.grad is not None for one in model.parameters())
    assert dict(model.named_modules()) == before
