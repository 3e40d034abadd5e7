"""The loss in blocks against the plain one: `cross_entropy` of all logits at once, in float64."""

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hf_rnn_s2s.training import blocked_loss
from hf_rnn_s2s.training.blocked_loss import summed_cross_entropy

TOKENS, SIZE, VOCABULARY = 37, 6, 11


@pytest.fixture(params=["one block", "many blocks", "no look at the numbers"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ways to cut the work into pieces; the last one is that of devices on which a look at a number would wait."""
    if request.param == "many blocks":
        monkeypatch.setattr(blocked_loss, "BLOCK_ON_CPU", 4 * VOCABULARY)
        monkeypatch.setattr(blocked_loss, "COLLECTED_ON_CPU", 10 * VOCABULARY)
    if request.param == "no look at the numbers":
        monkeypatch.setattr(blocked_loss, "_is_on_cpu", lambda tensor: False)
        monkeypatch.setattr(blocked_loss, "BLOCK_ELSEWHERE", 5 * VOCABULARY)


def example(dtype: torch.dtype = torch.float64, ignored: bool = True) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(shape, generator=generator) for shape in ((TOKENS, SIZE), (VOCABULARY, SIZE), (VOCABULARY,))]
    labels = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    if ignored:
        labels[::3] = -100
    return [*(part.to(dtype).requires_grad_() for part in parts), labels]


def plain(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, labels: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    logits = functional.linear(hidden, weight, bias)
    return functional.cross_entropy(logits.double(), labels, label_smoothing=label_smoothing, reduction="sum")


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_the_plain_way(blocks: None, label_smoothing: float, ignored: bool) -> None:
    *parts, labels = example(ignored=ignored)
    expected = plain(*parts, labels, label_smoothing)
    total = summed_cross_entropy(*parts, labels, label_smoothing)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)
    # A factor, as from a mean over tokens, reaches all gradients.
    for ours, theirs in zip(
        torch.autograd.grad(total * 0.3, parts), torch.autograd.grad(expected * 0.3, parts), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


def test_the_bias_may_be_missing(blocks: None) -> None:
    hidden, weight, _, labels = example()
    total, expected = summed_cross_entropy(hidden, weight, None, labels), plain(hidden, weight, None, labels, 0.0)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(total, [hidden, weight]), torch.autograd.grad(expected, [hidden, weight]), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("needed", [(0,), (1,), (2,), (0, 2)])
def test_a_gradient_of_some_arguments_only(blocks: None, needed: tuple[int, ...]) -> None:
    *parts, labels = example()
    for number, part in enumerate(parts):
        part.requires_grad_(number in needed)
    wanted = [parts[number] for number in needed]
    ours = torch.autograd.grad(summed_cross_entropy(*parts, labels, 0.1), wanted)
    theirs = torch.autograd.grad(plain(*parts, labels, 0.1), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-14)


def test_without_gradients_the_loss_is_the_same(blocks: None) -> None:
    *parts, labels = example()
    with torch.no_grad():
        alone = summed_cross_entropy(*parts, labels, 0.1)
    assert alone == summed_cross_entropy(*parts, labels, 0.1)
    assert not alone.requires_grad


def test_no_label_counts(blocks: None) -> None:
    *parts, labels = example()
    total = summed_cross_entropy(*parts, labels.fill_(-100), 0.1)
    assert total == 0
    assert all(gradient.eq(0).all() for gradient in torch.autograd.grad(total, parts))
    without_bias = summed_cross_entropy(*parts[:2], None, labels)
    assert all(gradient.eq(0).all() for gradient in torch.autograd.grad(without_bias, parts[:2]))


def test_a_label_of_hardly_any_probability(blocks: None) -> None:
    """Its probability is too small for a float32 number, its loss is not."""
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[0.0], [250.0], [3.0]], requires_grad=True)
    total = summed_cross_entropy(hidden, weight, None, torch.tensor([0]))
    assert total.item() == 250.0
    of_hidden, of_weight = torch.autograd.grad(total, [hidden, weight])
    assert of_hidden.tolist() == [[250.0]]
    assert of_weight.tolist() == [[-1.0], [1.0], [0.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_without_kernels", [False, True])
def test_products_in_half_precision(
    blocks: None, dtype: torch.dtype, is_without_kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As near to the float64 loss as the plain way in that precision is."""
    if is_without_kernels:
        monkeypatch.setattr(blocked_loss, "has_kernels", lambda tensor: False)
    *parts, labels = example(torch.float32)
    exact = torch.autograd.grad(plain(*(part.double() for part in parts), labels, 0.1), parts)
    with torch.autocast("cpu", dtype):
        total = summed_cross_entropy(*parts, labels, 0.1)
    assert total.dtype == torch.float32
    ours = torch.autograd.grad(total, parts)
    for gradient, wanted, part in zip(ours, exact, parts, strict=True):
        assert gradient.dtype == part.dtype
        assert (gradient - wanted).norm() < 0.01 * wanted.norm()
    assert total.item() == pytest.approx(plain(*parts, labels, 0.1).item(), rel=2e-3)


def test_a_float16_gradient_survives_a_small_factor() -> None:
    """Numbers below 6e-8 are zero in float16, and the mean over many tokens makes such gradients."""
    *parts, labels = example(torch.float32)
    with torch.autocast("cpu", torch.float16):
        total = summed_cross_entropy(*parts, labels)
    small = torch.autograd.grad(total * 1e-9, parts, retain_graph=True)
    for one, other in zip(small, torch.autograd.grad(total, parts), strict=True):
        torch.testing.assert_close(one, other * 1e-9, rtol=1e-6, atol=0)


def test_a_float16_gradient_survives_a_large_factor() -> None:
    """A gradient scaler begins with 65,536, which is no float16 number; what comes of it is one."""
    *parts, labels = example(torch.float32)
    scaled = torch.autograd.grad(summed_cross_entropy(*(one.half() for one in parts), labels) * 70_000, parts)
    once = torch.autograd.grad(summed_cross_entropy(*(one.half() for one in parts), labels), parts)
    is_small = once[2].abs() < 0.5
    assert is_small.any()
    torch.testing.assert_close(scaled[2][is_small], once[2][is_small] * 70_000, rtol=2e-3, atol=0)


def test_no_gradient_is_computed_where_nobody_wants_one() -> None:
    *parts, labels = example(ignored=False)
    product = 2 * TOKENS * SIZE * VOCABULARY
    for context, products in ((torch.no_grad(), 1), (torch.inference_mode(), 1), (torch.enable_grad(), 3)):
        with context, FlopCounterMode(display=False) as counter:
            summed_cross_entropy(*parts, labels)
        assert counter.get_total_flops() == products * product


def test_labels_that_no_token_has() -> None:
    *parts, labels = example(ignored=False)
    for wrong in (-1, VOCABULARY):
        labels[5] = wrong
        with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
            summed_cross_entropy(*parts, labels)


def test_no_second_derivative() -> None:
    *parts, labels = example()
    (gradient,) = torch.autograd.grad(summed_cross_entropy(*parts, labels), parts[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()
