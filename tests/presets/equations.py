"""What the papers share, one sentence and one time step at a time: cells, layers over a sequence, weighted sums."""

from __future__ import annotations

import torch
from torch import Tensor

Weights = dict[str, Tensor]
State = tuple[Tensor, ...]


def affine(weights: Weights, name: str, inputs: Tensor) -> Tensor:
    """`W x + b`, or `W x` where there is no `b`."""
    outputs = weights[f"{name}.weight"] @ inputs
    return outputs + weights[f"{name}.bias"] if f"{name}.bias" in weights else outputs


def lstm(weights: Weights, name: str, inputs: Tensor, state: State) -> State:
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; gates in the order i, f, g, o."""
    hidden, cell = state
    summed = weights[f"{name}.weight_ih"] @ inputs + weights[f"{name}.bias_ih"]
    summed = summed + weights[f"{name}.weight_hh"] @ hidden + weights[f"{name}.bias_hh"]
    i, f, g, o = summed.chunk(4)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def layer_norm_lstm(weights: Weights, name: str, inputs: Tensor, state: State) -> State:
    """Chen et al. 2018: each gate normalised by itself (Ba et al. 2016, equation 4)."""
    hidden, cell = state
    summed = weights[f"{name}.weight_ih"] @ inputs + weights[f"{name}.weight_hh"] @ hidden
    gates = []
    for gate in summed.chunk(4):
        centred = gate - gate.mean()
        gates.append(centred / torch.sqrt((centred**2).mean() + 1e-5))
    i, f, g, o = (torch.cat(gates) * weights[f"{name}.gain"] + weights[f"{name}.bias"]).chunk(4)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def gru(weights: Weights, name: str, inputs: Tensor, state: State) -> State:
    """The GRU of dl4mt-tutorial, Nematus and torch: the reset gate comes after the product; order r, u, candidate."""
    (hidden,) = state
    of_input = (weights[f"{name}.weight_ih"] @ inputs + weights[f"{name}.bias_ih"]).chunk(3)
    of_state = (weights[f"{name}.weight_hh"] @ hidden + weights[f"{name}.bias_hh"]).chunk(3)
    reset, update = torch.sigmoid(of_input[0] + of_state[0]), torch.sigmoid(of_input[1] + of_state[1])
    candidate = torch.tanh(of_input[2] + reset * of_state[2])
    return (update * hidden + (1 - update) * candidate,)


def bahdanau_gru(weights: Weights, name: str, inputs: Tensor, state: State) -> State:
    """Bahdanau et al. 2015, appendix A.1.1: `U [r ∘ s]`; order r, z, candidate."""
    (before,) = state
    of_r, of_z, of_candidate = (weights[f"{name}.weight_ih"] @ inputs + weights[f"{name}.bias"]).chunk(3)
    u_r, u_z, u = weights[f"{name}.weight_hh"].chunk(3)
    r, z = torch.sigmoid(of_r + u_r @ before), torch.sigmoid(of_z + u_z @ before)
    candidate = torch.tanh(of_candidate + u @ (r * before))
    return ((1 - z) * before + z * candidate,)


def zeros(weights: Weights, name: str, parts: int) -> State:
    """The state of zeros of a layer, with one or two parts."""
    recurrent = weights[f"{name}.weight_hh"]
    return tuple(torch.zeros(recurrent.shape[1], dtype=recurrent.dtype) for _ in range(parts))


def run(cell, weights: Weights, name: str, inputs: list[Tensor]) -> tuple[list[Tensor], State]:  # type: ignore[no-untyped-def]
    """A layer over a sequence, from zeros: its outputs and the final state."""
    state = zeros(weights, name, 2 if cell in (lstm, layer_norm_lstm) else 1)
    outputs = []
    for one in inputs:
        state = cell(weights, name, one, state)
        outputs.append(state[0])
    return outputs, state


def both_ways(cell, weights: Weights, name: str, inputs: list[Tensor]) -> tuple[list[Tensor], State, State]:  # type: ignore[no-untyped-def]
    """A layer in both directions: its outputs side by side, and the final states of both."""
    forward, forward_state = run(cell, weights, f"{name}.forward_layer", inputs)
    backward, backward_state = run(cell, weights, f"{name}.backward_layer", inputs[::-1])
    outputs = [torch.cat(pair) for pair in zip(forward, backward[::-1], strict=True)]
    return outputs, forward_state, backward_state


def attend(scores: list[Tensor], memory: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The sum of the memory, weighted by the softmax of scores, and the weights."""
    exponentials = [torch.exp(score) for score in scores]
    total = sum(exponentials)
    weights = [one / total for one in exponentials]
    return sum(weight * one for weight, one in zip(weights, memory, strict=True)), weights  # type: ignore[return-value]


def additive(weights: Weights, name: str, query: Tensor, memory: list[Tensor]) -> list[Tensor]:
    """`v · tanh(W q + b + U m)` for every memory position (Bahdanau et al. 2015, appendix A.1.2)."""
    asked = affine(weights, f"{name}.query_projection", query)
    return [
        affine(
            weights, f"{name}.score_projection", torch.tanh(asked + affine(weights, f"{name}.key_projection", one))
        )[0]
        for one in memory
    ]
