"""Cross-entropy over a large vocabulary without the logits of a whole batch.

Output layer and loss are one function here. It takes a block of target tokens at a time, so small that the logits of
the block stay in the processor's cache, and computes the loss together with its gradients: nothing of the size
`(tokens, vocabulary)` is kept for the backward pass. The sums are those of the ordinary loss, in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..decoding.guard import may_use_weights
from ..decoding.packing import has_kernels, linear
from ..model.head_rnn_s2s import IGNORED_LABEL
from ..model.head_rnn_s2s import summed_cross_entropy as plain_summed_cross_entropy

# Number of float32 logits in a block: 8 MB stay in the cache of a CPU. On other devices a block must be large enough
# to occupy the device, and small beside its memory.
BLOCK_ON_CPU = 2**21
BLOCK_ELSEWHERE = 2**25
# Why torch.compile leaves the loss out
WHY_NOT_COMPILED = "The blocks have the size of a processor's cache, and kernels that the compiler cannot take in."

# Number of logits in a span of blocks on a CPU, whose gradients are collected for one matrix product with all of them.
# Elsewhere a span is one block.
COLLECTED_ON_CPU = 2**23


def fast_loss(
    lm_head: nn.Module,
    hidden: Tensor,
    labels: Tensor,
    label_smoothing: float,
    logits: Tensor | None,
) -> Tensor | None:
    """The loss of the package's model, in place of that of its head.

    Args:
        lm_head: the output layer.
        hidden: inputs of the output layer, `(tokens, size)`.
        labels: as in `summed_cross_entropy`.
        label_smoothing: as in `summed_cross_entropy`.
        logits: `(tokens, vocabulary)`, if they have been computed already.

    Returns:
        The summed cross-entropy; None where the output layer has to be called, since more than its weights may decide
        what it computes.
    """
    if logits is not None:
        return summed_cross_entropy_of_logits(logits, labels, label_smoothing)
    if isinstance(lm_head, nn.Linear) and may_use_weights(lm_head, nn.Linear):
        return summed_cross_entropy(hidden, lm_head.weight, lm_head.bias, labels, label_smoothing)
    return None


@torch.compiler.disable(reason=WHY_NOT_COMPILED)
def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The sum of the cross-entropies between `softmax(hidden @ weight.T + bias)` and the labels, in nats.

    Under autocast the matrix products are in autocast's type. Whatever their type, softmax, logarithm and the sums
    over blocks are in float32, or in float64 for float64 inputs.

    Args:
        hidden: inputs of the output layer, `(tokens, size)`.
        weight: of the output layer, `(vocabulary, size)`.
        bias: of the output layer, `(vocabulary,)`; None if it has none.
        labels: ids of the vocabulary, `(tokens,)`; tokens with -100 do not count.
        label_smoothing: share of the target probability that is spread over the whole vocabulary (Szegedy et al.
            2016, section 7).

    Returns:
        A float32 number, or a float64 one for float64 inputs. It can be differentiated once.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        # Inside the function gradients are always off, and inputs may require them even under `no_grad`.
        return _SummedCrossEntropy.apply(hidden, weight, bias, labels, label_smoothing, dtype, torch.is_grad_enabled())


def summed_cross_entropy_of_logits(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """As `summed_cross_entropy`, of the logits `(tokens, vocabulary)` of any output layer, the ordinary way.

    Where gradients are off it takes a block at a time, so that no other tensor of the size of the logits is made.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return plain_summed_cross_entropy(logits, labels, label_smoothing)
    blocks = _slices(0, len(logits), _rows_per_block(logits, logits.shape[1]))
    return torch.stack(
        [plain_summed_cross_entropy(logits[rows], labels[rows], label_smoothing) for rows in blocks]
    ).sum()


class _SummedCrossEntropy(torch.autograd.Function):
    """Computes the gradients in the forward pass, while it has the logits; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        label_smoothing: float,
        dtype: torch.dtype,
        grad_enabled: bool,
    ) -> Tensor:
        """The loss, with matrix products in `dtype`; `grad_enabled` says whether gradients are on outside."""
        ctx.dtypes = [None if part is None else part.dtype for part in (hidden, weight, bias)]
        ctx.rows, ctx.token_count = None, len(labels)
        counted = labels != IGNORED_LABEL
        # On the CPU, where reading labels does not wait for a device, tokens that do not count are left out.
        on_cpu = _is_on_cpu(hidden)
        if on_cpu and not counted.all():
            ctx.rows = counted.nonzero().squeeze(1)
            hidden, labels = hidden[ctx.rows], labels[ctx.rows]
        bias = None if bias is None else bias.to(dtype)
        needs_grad = tuple(grad_enabled and one for one in ctx.needs_input_grad[:3])
        blocks = _Blocks(
            hidden.to(dtype), weight.to(dtype), bias, labels, None if on_cpu else counted, label_smoothing, needs_grad
        )
        loss = blocks.run()
        ctx.save_for_backward(blocks.grad_hidden, blocks.grad_weight, blocks.grad_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the arguments: those of the forward pass times that of the loss."""
        # Scaled in float32: in float16 a small factor, or a small product with it, may underflow.
        grad_hidden, grad_weight, grad_bias = (
            None if gradient is None else (gradient.to(grad_output.dtype) * grad_output).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        if ctx.rows is not None and grad_hidden is not None:
            grad_all = grad_hidden.new_zeros(ctx.token_count, grad_hidden.shape[1])
            grad_hidden = grad_all.index_copy_(0, ctx.rows, grad_hidden)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


class _Blocks:
    """One pass over all blocks.

    Args:
        hidden: inputs of the output layer, `(tokens, size)`, in the type of the products.
        weight: of the output layer, `(vocabulary, size)`, in the same type.
        bias: of the output layer, `(vocabulary,)`, in the same type; None if it has none.
        labels: `(tokens,)`.
        counted: `(tokens,)`, False where a token does not count; None if all do.
        label_smoothing: as in `summed_cross_entropy`.
        needs_grad: which of the first three arguments need a gradient.

    Attributes:
        grad_hidden: gradient of the hidden states after `run()`; None if it is not needed.
        grad_weight: gradient of the weight, likewise.
        grad_bias: gradient of the bias, likewise.
    """

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        counted: Tensor | None,
        label_smoothing: float,
        needs_grad: tuple[bool, ...],
    ) -> None:
        self.hidden, self.weight, self.bias = hidden, weight, bias
        self.labels, self.counted = labels, counted
        self.label_smoothing = label_smoothing
        self.sum_dtype = torch.promote_types(hidden.dtype, torch.float32)
        # torch has two libraries for float32 products on CPUs; the default one is slow on some processors. In bfloat16
        # it takes the same kernels by itself, and only the bias, which they add meanwhile, is a reason to call them.
        self.has_kernels = has_kernels(hidden)
        self.kernels_make_gradients = self.has_kernels and hidden.dtype == torch.float32
        self.needs_grad, self.any_needs_grad = needs_grad, any(needs_grad)
        self.grad_hidden = torch.empty_like(hidden) if needs_grad[0] else None
        self.grad_weight: Tensor | None = None
        self.grad_bias: Tensor | None = None

    def run(self) -> Tensor:
        """Compute the loss and the gradients that are needed."""
        tokens, vocabulary = len(self.hidden), len(self.weight)
        on_cpu = _is_on_cpu(self.hidden)
        block_rows = _rows_per_block(self.hidden, vocabulary)
        span_rows = max(block_rows, COLLECTED_ON_CPU // vocabulary) if on_cpu else block_rows
        loss = self.hidden.new_zeros((), dtype=self.sum_dtype)
        # Allocating memory costs more than the arithmetic on it, so all blocks share their buffers. The kernels return
        # tensors of their own.
        most, is_converted = min(block_rows, tokens), self.sum_dtype != self.hidden.dtype
        products = self.hidden.new_empty(0 if self.has_kernels else most, vocabulary)
        logits = self.hidden.new_empty(most if is_converted else 0, vocabulary, dtype=self.sum_dtype)
        grad_logits = self.hidden.new_empty(min(span_rows, tokens) if self.any_needs_grad else 0, vocabulary)
        for span in _slices(0, tokens, span_rows):
            for rows in _slices(span.start, span.stop, block_rows):
                size, start = rows.stop - rows.start, rows.start - span.start
                loss += self._block_loss(rows, products[:size], logits[:size], grad_logits[start : start + size])
            if self.any_needs_grad:
                self._add_gradients(span, grad_logits[: span.stop - span.start])
        if not tokens:
            self.grad_weight = torch.zeros_like(self.weight)
            self.grad_bias = None if self.bias is None else torch.zeros_like(self.bias)
        return loss

    def _block_loss(self, rows: slice, products: Tensor, logits: Tensor, grad_logits: Tensor) -> Tensor:
        """Compute the loss of some rows, and write its gradient with respect to their logits to `grad_logits`."""
        products = self._products(rows, products)
        logits = products if products.dtype == logits.dtype else logits.copy_(products)
        labels = self.labels[rows].unsqueeze(1)
        labels = labels.masked_fill(labels == IGNORED_LABEL, 0)
        confidence = 1 - self.label_smoothing
        highest = logits.amax(1)
        loss = highest - confidence * logits.gather(1, labels).squeeze(1)
        if self.label_smoothing:
            loss -= self.label_smoothing * logits.mean(1)
        probabilities = torch.softmax(logits, dim=1, out=logits)
        # The log-sum-exp minus the highest logit is -log of the highest probability, which never underflows.
        loss -= probabilities.amax(1).log()
        if self.counted is not None:
            loss *= self.counted[rows]
        if self.any_needs_grad:
            probabilities.scatter_add_(1, labels, torch.full_like(highest, -confidence).unsqueeze(1))
            if self.label_smoothing:
                probabilities -= self.label_smoothing / probabilities.shape[1]
            if self.counted is not None:
                probabilities *= self.counted[rows].unsqueeze(1)
            if self.bias is not None and self.needs_grad[2]:
                self.grad_bias = _accumulate(self.grad_bias, probabilities.sum(0))
            grad_logits.copy_(probabilities)
        return loss.sum()

    def _products(self, rows: slice, buffer: Tensor) -> Tensor:
        """The logits of some rows in the type of the products; they may stand in the buffer."""
        hidden = self.hidden[rows]
        if self.has_kernels:
            return linear(hidden, self.weight, self.bias)
        if self.bias is None:
            return torch.mm(hidden, self.weight.t(), out=buffer)
        return torch.addmm(self.bias, hidden, self.weight.t(), out=buffer)

    def _add_gradients(self, rows: slice, grad_logits: Tensor) -> None:
        """Add what the gradients of the logits of some rows give to the gradients of hidden states and weight."""
        hidden = self.hidden[rows]
        if self.grad_hidden is not None:
            if self.kernels_make_gradients:
                self.grad_hidden[rows] = linear(grad_logits, self.weight.t())
            else:
                torch.mm(grad_logits, self.weight, out=self.grad_hidden[rows])
        if self.needs_grad[1]:
            grad_weight = (
                linear(hidden.t(), grad_logits.t()).t() if self.kernels_make_gradients else grad_logits.t() @ hidden
            )
            self.grad_weight = _accumulate(self.grad_weight, grad_weight.to(self.sum_dtype))


def _rows_per_block(tensor: Tensor, vocabulary: int) -> int:
    return max(1, (BLOCK_ON_CPU if _is_on_cpu(tensor) else BLOCK_ELSEWHERE) // vocabulary)


def _is_on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _accumulate(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Split a range into slices of nearly the same size, at most `size`."""
    parts = -(-(stop - start) // size)
    for part in range(parts):
        yield slice(
            start + part * (stop - start) // parts,
            start + (part + 1) * (stop - start) // parts,
        )
