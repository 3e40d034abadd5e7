"""
Cross-entropy over a large vocabulary without the logits of a whole batch.

Output layer and loss are one function here. It takes a block of target tokens at a time, so small that the logits of
the block stay in the processor's cache, and computes the loss together with its gradients: nothing of the size
`(tokens, vocabulary)` is kept for the backward pass. The sums are those of the plain way, in another order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ..decoding.guard import is_plain, is_unchanged
from ..decoding.packing import has_kernels, linear
from ..model.head_rnn_s2s import IGNORED_LABEL
from ..model.head_rnn_s2s import summed_cross_entropy as summed_cross_entropy_of_all

# Numbers in a block of float32 logits: 8 MB stay in the cache of a CPU. On other devices a block must be large enough
# to fill the device, and small beside its memory.
BLOCK_ON_CPU = 2**21
BLOCK_ELSEWHERE = 2**25
WHY_NOT_COMPILED = "The blocks have the size of a processor's cache, and kernels that the compiler cannot take in."

# On a CPU the gradients of so many logits are collected for one product with all of them; elsewhere those of a block.
COLLECTED_ON_CPU = 2**23


def fast_loss(
    lm_head: nn.Module,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    label_smoothing: float,
    logits: torch.Tensor | None,
) -> torch.Tensor | None:
    """
    What `registration` gives to the head of the model.

    Args:
        lm_head: the output layer.
        hidden: `(tokens, size)`.
        labels, label_smoothing: as in `summed_cross_entropy`.
        logits: `(tokens, vocabulary)`, if somebody has computed them.

    Returns:
        The summed cross-entropy; None where the output layer has to be called, since its weights do not tell what it
        computes.
    """
    if logits is not None:
        return summed_cross_entropy_of_logits(logits, labels, label_smoothing)
    if isinstance(lm_head, nn.Linear) and is_unchanged(lm_head, nn.Linear) and is_plain(lm_head.weight):
        return summed_cross_entropy(hidden, lm_head.weight, lm_head.bias, labels, label_smoothing)
    return None


@torch.compiler.disable(reason=WHY_NOT_COMPILED)
def summed_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """
    Sum of the cross-entropies between `softmax(hidden @ weight.T + bias)` and the labels, in nats.

    Under autocast the products are in autocast's type. Whatever their type, softmax and logarithm are in float32, and
    so is what adds up over blocks.

    Args:
        hidden: `(tokens, size)`.
        weight: of the output layer, `(vocabulary, size)`.
        bias: of the output layer, `(vocabulary,)`.
        labels: `(tokens,)`, ids of the vocabulary; tokens with -100 do not count.
        label_smoothing: share of the target probability that is spread over the whole vocabulary (Szegedy et al.
            2016, section 7).

    Returns:
        A float32 number, or a float64 one for float64 inputs. It can be differentiated once.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    with torch.autocast(device, enabled=False):
        # Inside the function gradients are off, and it is told of parameters even where nobody wants any gradient.
        return _SummedCrossEntropy.apply(hidden, weight, bias, labels, label_smoothing, dtype, torch.is_grad_enabled())


def summed_cross_entropy_of_logits(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """
    The same of the logits `(tokens, vocabulary)` of any output layer, the plain way. Where no gradient is wanted it
    takes a block at a time, so that the logits are there only once.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return summed_cross_entropy_of_all(logits, labels, label_smoothing)
    blocks = _slices(0, len(logits), _rows_of_a_block(logits, logits.shape[1]))
    return torch.stack(
        [summed_cross_entropy_of_all(logits[rows], labels[rows], label_smoothing) for rows in blocks]
    ).sum()


class _SummedCrossEntropy(torch.autograd.Function):
    """The gradients are made in the forward pass, while the logits are at hand; the backward pass scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        label_smoothing: float,
        dtype: torch.dtype,
        differentiates: bool,
    ) -> torch.Tensor:
        ctx.dtypes = [None if part is None else part.dtype for part in (hidden, weight, bias)]
        ctx.rows, ctx.token_count = None, len(labels)
        counted = labels != IGNORED_LABEL
        looks = _is_on_cpu(hidden)  # where a look at the numbers costs nothing, tokens that do not count are left out
        if looks and not counted.all():
            ctx.rows = counted.nonzero().squeeze(1)
            hidden, labels = hidden[ctx.rows], labels[ctx.rows]
        bias = None if bias is None else bias.to(dtype)
        wanted = tuple(differentiates and one for one in ctx.needs_input_grad[:3])
        blocks = _Blocks(
            hidden.to(dtype), weight.to(dtype), bias, labels, None if looks else counted, label_smoothing, wanted
        )
        loss = blocks.run()
        ctx.save_for_backward(blocks.of_hidden, blocks.of_weight, blocks.of_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In float32: neither the factor nor what it makes small may get lost in float16.
        of_hidden, of_weight, of_bias = (
            None if gradient is None else (gradient.to(factor.dtype) * factor).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        if ctx.rows is not None and of_hidden is not None:
            everywhere = of_hidden.new_zeros(ctx.token_count, of_hidden.shape[1])
            of_hidden = everywhere.index_copy_(0, ctx.rows, of_hidden)
        return of_hidden, of_weight, of_bias, None, None, None, None


class _Blocks:
    """
    One pass over all blocks.

    Args:
        hidden, weight, bias: in the type of the products.
        labels: `(tokens,)`.
        counted: `(tokens,)`, False where a token does not count; None if all do.
        label_smoothing: as in `summed_cross_entropy`.
        wanted: which of the first three arguments a gradient is wanted of.

    Attributes:
        of_hidden, of_weight, of_bias: the gradients after `run()`; None where none is wanted.
    """

    def __init__(
        self,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        counted: torch.Tensor | None,
        label_smoothing: float,
        wanted: tuple[bool, ...],
    ) -> None:
        self.hidden, self.weight, self.bias = hidden, weight, bias
        self.labels, self.counted = labels, counted
        self.label_smoothing = label_smoothing
        self.precise = torch.promote_types(hidden.dtype, torch.float32)
        # Of the two libraries that torch has for products in float32, the other one is slow on some processors.
        self.has_kernels = hidden.dtype == torch.float32 and has_kernels(hidden)
        self.wanted, self.any_wanted = wanted, any(wanted)
        self.of_hidden = torch.empty_like(hidden) if wanted[0] else None
        self.of_weight: torch.Tensor | None = None
        self.of_bias: torch.Tensor | None = None

    def run(self) -> torch.Tensor:
        """Computes the loss, and the gradients that are wanted."""
        tokens, vocabulary = len(self.hidden), len(self.weight)
        on_cpu = _is_on_cpu(self.hidden)
        block = _rows_of_a_block(self.hidden, vocabulary)
        collected = max(block, COLLECTED_ON_CPU // vocabulary) if on_cpu else block
        loss = self.hidden.new_zeros((), dtype=self.precise)
        # New memory costs more than the arithmetic on it, so all blocks share their buffers.
        products = self.hidden.new_empty(min(block, tokens), vocabulary)
        logits = torch.empty_like(products, dtype=self.precise)
        of_logits = self.hidden.new_empty(min(collected, tokens) if self.any_wanted else 0, vocabulary)
        for many in _slices(0, tokens, collected):
            for rows in _slices(many.start, many.stop, block):
                size, start = rows.stop - rows.start, rows.start - many.start
                loss += self._block(rows, products[:size], logits[:size], of_logits[start : start + size])
            if self.any_wanted:
                self._add_products(many, of_logits[: many.stop - many.start])
        if not tokens:
            self.of_weight = torch.zeros_like(self.weight)
            self.of_bias = None if self.bias is None else torch.zeros_like(self.bias)
        return loss

    def _block(
        self, rows: slice, products: torch.Tensor, logits: torch.Tensor, of_logits: torch.Tensor
    ) -> torch.Tensor:
        """The loss of some rows; writes its gradient with respect to their logits."""
        if self.has_kernels:
            logits = linear(self.hidden[rows], self.weight, self.bias)
        else:
            torch.mm(self.hidden[rows], self.weight.t(), out=products)
            logits.copy_(products)
            if self.bias is not None:
                logits += self.bias
        labels = self.labels[rows].unsqueeze(1)
        labels = labels.masked_fill(labels == IGNORED_LABEL, 0)
        kept = 1 - self.label_smoothing
        highest = logits.amax(1)
        loss = highest - kept * logits.gather(1, labels).squeeze(1)
        if self.label_smoothing:
            loss -= self.label_smoothing * logits.mean(1)
        probabilities = torch.softmax(logits, dim=1, out=logits)
        # The logarithm of the sum of exponentials, by way of the one probability that is never too small for a number
        loss -= probabilities.amax(1).log()
        if self.counted is not None:
            loss *= self.counted[rows]
        if self.any_wanted:
            probabilities.scatter_add_(1, labels, torch.full_like(highest, -kept).unsqueeze(1))
            if self.label_smoothing:
                probabilities -= self.label_smoothing / probabilities.shape[1]
            if self.counted is not None:
                probabilities *= self.counted[rows].unsqueeze(1)
            if self.bias is not None and self.wanted[2]:
                self.of_bias = _sum(self.of_bias, probabilities.sum(0))
            of_logits.copy_(probabilities)
        return loss.sum()

    def _add_products(self, rows: slice, of_logits: torch.Tensor) -> None:
        hidden = self.hidden[rows]
        if self.of_hidden is not None:
            if self.has_kernels:
                self.of_hidden[rows] = linear(of_logits, self.weight.t())
            else:
                torch.mm(of_logits, self.weight, out=self.of_hidden[rows])
        if self.wanted[1]:
            of_weight = linear(hidden.t(), of_logits.t()).t() if self.has_kernels else of_logits.t() @ hidden
            self.of_weight = _sum(self.of_weight, of_weight.to(self.precise))


def _rows_of_a_block(tensor: torch.Tensor, vocabulary: int) -> int:
    return max(1, (BLOCK_ON_CPU if _is_on_cpu(tensor) else BLOCK_ELSEWHERE) // vocabulary)


def _is_on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu"


def _sum(so_far: torch.Tensor | None, more: torch.Tensor) -> torch.Tensor:
    return more if so_far is None else so_far.add_(more)


def _slices(start: int, stop: int, size: int) -> Iterator[slice]:
    """Cuts a range into pieces of nearly the same size, at most `size`."""
    pieces = -(-(stop - start) // size)
    for piece in range(pieces):
        yield slice(
            start + piece * (stop - start) // pieces,
            start + (piece + 1) * (stop - start) // pieces,
        )


__all__ = ["fast_loss", "summed_cross_entropy", "summed_cross_entropy_of_logits"]
