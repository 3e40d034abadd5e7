"""What the decoder attends to, what it computes, and what it carries from step to step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# What one recurrent layer carries from step to step: `(hidden,)` or `(hidden, cell)`, each `(batch, hidden)`.
LayerState = tuple[Tensor, ...]
AttentionOutput = tuple[Tensor, Tensor, Any]  # contexts, weights, and what the attention remembers
NO_WEIGHT = -1e4  # the logarithm of a weight of zero: a float16 number, and a number to calculate with


class Sources(NamedTuple):
    """What the decoder attends to while it writes, made once per source sentence.

    Several target rows may belong to one source, such as its beams; they are adjacent.

    Attributes:
        memory: `(sources, source, memory)`.
        keys: what the attention prepared of it, `(sources, ..., source, key)`; None without attention.
        mask: `(sources, source)`, True at tokens; None if there is no padding.
        ids: token ids `(sources, source)`, for a head that copies; None for others.
    """

    memory: Tensor
    keys: Tensor | None
    mask: Tensor | None
    ids: Tensor | None = None

    def select(self, indices: Tensor) -> Sources:
        """The sources with these indices, in this order."""
        return self.map(lambda part: part.index_select(0, indices))

    def map(self, change: Callable[[Tensor], Tensor]) -> Sources:
        """The sources with `change` applied to every part."""
        return Sources(*(None if part is None else change(part) for part in self))  # type: ignore[arg-type]


class DecoderOutput(NamedTuple):
    """What the decoder computed of some target positions.

    Attributes:
        last_hidden_state: `(rows, time, embedding)`, which the output layer turns into logits; with hard attention
            `(rows, time, source, embedding)`, for every source position.
        weights: of the attention, `(rows, heads, time, source)`; None without attention.
        layer_outputs: of each layer, `(rows, time, hidden)`.
        embedded: the tokens that were read, `(rows, time, embedding)`.
        log_probabilities: `(rows, time, vocabulary)`, if the head has read all of this already.
    """

    last_hidden_state: Tensor
    weights: Tensor | None = None
    layer_outputs: tuple[Tensor, ...] = ()
    embedded: Tensor | None = None
    log_probabilities: Tensor | None = None

    def at(self, positions: slice | Tensor) -> DecoderOutput:
        """What was computed of some of these positions."""
        weights = None if self.weights is None else self.weights[:, :, positions]
        layers = tuple(one[:, positions] for one in self.layer_outputs)
        embedded, known = (
            None if one is None else one[:, positions] for one in (self.embedded, self.log_probabilities)
        )
        return DecoderOutput(self.last_hidden_state[:, positions], weights, layers, embedded, known)


class DecoderState(NamedTuple):
    """The decoder's state in every row.

    Each part is None, a tensor `(rows, ...)`, or any nesting of tuples, lists and dictionaries of them.

    Attributes:
        layers: the states of all recurrent layers, the bottom layer first.
        attention: what the attention remembers of earlier steps, such as a coverage vector.
        fed_back: what the next step reads of this one beside the token, such as the attentional vector of input
            feeding (Luong et al. 2015, section 3.3).
        readout: what the readout remembers of earlier tokens.
        dropout: what is dropped at every step alike, while a target is read step by step in training.
        head: what the head remembers of earlier tokens; the decoder only keeps it.
    """

    layers: tuple[LayerState, ...]
    attention: Any = None
    fed_back: Any = None
    readout: Any = None
    dropout: Any = None
    head: Any = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.layers[0][0].shape[0]

    def map(self, change: Callable[[Tensor], Tensor]) -> DecoderState:
        """The state with `change` applied to every tensor."""
        # Once for every step of a search, so the part that is always there is not looked into for what it is.
        layers = tuple([tuple([change(part) for part in layer]) for layer in self.layers])
        return DecoderState(layers, *[part if part is None else map_tensors(change, part) for part in self[1:]])

    def select(self, rows: Tensor) -> DecoderState:
        """The rows with these indices, in this order."""
        rows = rows.to(self.layers[0][0].device)
        return self.map(lambda tensor: tensor.index_select(0, rows))

    def repeat(self, count: int) -> DecoderState:
        """The state with every row repeated `count` times in succession."""
        return self.map(lambda tensor: tensor.repeat_interleave(count, dim=0))

    def where(self, mask: Tensor, old: DecoderState) -> DecoderState:
        """Choose this state in rows where the mask `(rows, 1)` is True, and the old one in the others.

        A tensor that has grown since is padded with zeros in the rows of the old state. So what grows, with a place
        for every step, keeps its lengths beside it, `(rows,)`.
        """

        def chosen(new: Tensor, before: Tensor) -> Tensor:
            if new.shape != before.shape:
                growth = [now - then for now, then in zip(new.shape, before.shape, strict=True)]
                before = functional.pad(before, [size for one in reversed(growth) for size in (0, one)])
            return torch.where(mask.view(-1, *[1] * (new.dim() - 1)), new, before)

        return DecoderState(*(map_tensors(chosen, *parts) for parts in zip(self, old, strict=True)))


def map_tensors(change: Callable[..., Tensor], part: Any, *others: Any) -> Any:
    """Apply `change` to each tensor of a nesting, together with those in the same place of the others."""
    if isinstance(part, Tensor):
        return change(part, *others)
    if part is None:
        return None
    if isinstance(part, dict):
        return {name: map_tensors(change, one, *(other[name] for other in others)) for name, one in part.items()}
    changed = [map_tensors(change, *ones) for ones in zip(part, *others, strict=True)]
    return type(part)(*changed) if hasattr(part, "_fields") else type(part)(changed)
