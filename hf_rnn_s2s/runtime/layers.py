"""Layers as they stand in a graph: made of operators of ONNX, with weights as they are stored.

They take the place of the model's own while a graph is exported, and compute nothing by themselves: operators that
torch does not know are only noted down. Whatever stands around them is exported as torch computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..decoding.guard import may_use_weights
from ..decoding.packing import rebuilt
from ..model.cells_rnn_s2s import GRULayer, LayerNormLSTMLayer, LSTMLayer, RecurrentLayer, ResetFirstGRULayer
from ..model.state_rnn_s2s import LayerState
from .recurrence import recurrence
from .weights import LARGEST, NUMBERS, SCALE

OPSET = 18  # version of ONNX's operators
MICROSOFT = "com.microsoft::"  # the operators that ONNX Runtime adds
# Inputs of a product in 8 bit integers: numbers from -1 to 1, and 0 stands in the middle
MIDDLE = 128
SMALLEST = 1e-20  # above 0: of a row of zeros, the largest number


class Stored(nn.Module):
    """A parameter as it stands in the file: one tensor, or the integers of a matrix and their scale.

    Args:
        tensors: the part of the file, by name.
        name: of the parameter.
    """

    def __init__(self, tensors: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        self.is_int8 = name + NUMBERS in tensors
        self.register_buffer("numbers", tensors[name + NUMBERS if self.is_int8 else name])
        self.register_buffer("scale", tensors[name + SCALE] if self.is_int8 else None)

    def values(self) -> Tensor:
        """In float32. In a graph they are computed once, when it is loaded."""
        numbers = cast(Tensor, self.numbers)
        return numbers.float() * cast(Tensor, self.scale).unsqueeze(1) if self.is_int8 else numbers


Storage = Callable[[Tensor], Stored]  # what gives a parameter as it is stored


class Product(nn.Module):
    """As `nn.Linear`, with one or more matrices side by side.

    In 8 bit integers each row of the inputs is divided by its largest number first, so that a row's result does not
    depend on the others.

    Args:
        matrices: `(out, in)` each; they read the inputs one after another.
        is_bounded: whether all inputs are from -1 to 1. They are not divided then: fewer passes over the outputs.
    """

    step: Tensor
    middle: Tensor

    def __init__(self, *matrices: Stored, is_bounded: bool = False) -> None:
        super().__init__()
        self.is_bounded = is_bounded
        self.matrices = nn.ModuleList(matrices)
        self.is_int8 = matrices[0].is_int8
        self.register_buffer("step", torch.tensor(1 / LARGEST))
        self.register_buffer("middle", torch.tensor(MIDDLE, dtype=torch.uint8))

    def forward(self, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map inputs `(..., in)` to outputs `(..., out)`."""
        matrices = [cast(Stored, one) for one in self.matrices]
        if not self.is_int8:
            return functional.linear(inputs, self._joined([one.values() for one in matrices]), bias)
        numbers = self._joined([cast(Tensor, one.numbers) for one in matrices]).t()
        return self.of(inputs, numbers, cast(Tensor, matrices[0].scale), bias)

    def of(self, inputs: Tensor, numbers: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        """The same with other integers, `(in, out)`, and their scale `(out,)`."""
        if self.is_bounded:
            return self._of_integers(inputs, numbers, scale, bias)
        largest = inputs.abs().amax(-1, keepdim=True).clamp(min=SMALLEST)
        outputs = self._of_integers(inputs / largest, numbers, scale, None) * largest
        return outputs if bias is None else outputs + bias

    def _of_integers(self, inputs: Tensor, numbers: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        """The product of inputs from -1 to 1."""
        quantized = torch.onnx.ops.symbolic(
            "QuantizeLinear",
            (inputs, self.step, self.middle),
            dtype=torch.uint8,
            shape=inputs.shape,
            version=OPSET,
        )
        arguments = (quantized, numbers, self.step, scale, self.middle, None, bias)
        return torch.onnx.ops.symbolic(
            f"{MICROSOFT}MatMulIntegerToFloat",
            arguments[: 5 if bias is None else 7],
            dtype=torch.float32,
            shape=(*inputs.shape[:-1], scale.shape[0]),
            version=1,
        )

    @staticmethod
    def _joined(matrices: list[Tensor]) -> Tensor:
        return matrices[0] if len(matrices) == 1 else torch.cat(matrices, dim=1)


class GraphLinear(nn.Module):
    """In place of `nn.Linear`.

    Attributes:
        matrices: names of the parameters that may be integers, together if they share their scales.
    """

    matrices = (("weight",),)

    def __init__(self, linear: nn.Linear, stored: Storage, is_bounded: bool = False) -> None:
        super().__init__()
        self.product = Product(stored(linear.weight), is_bounded=is_bounded)
        self.bias = None if linear.bias is None else stored(linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """As in `nn.Linear`."""
        return self.product(inputs, None if self.bias is None else self.bias.values())


class GraphEmbedding(nn.Module):
    """In place of `nn.Embedding`."""

    matrices = (("weight",),)

    def __init__(self, embedding: nn.Embedding, stored: Storage) -> None:
        super().__init__()
        self.weight = stored(embedding.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """As in `nn.Embedding`."""
        rows = functional.embedding(ids, cast(Tensor, self.weight.numbers))
        if not self.weight.is_int8:
            return rows
        scales = cast(Tensor, self.weight.scale).index_select(0, ids.flatten())
        return rows.float() * scales.view(*ids.shape, 1)


class GraphRecurrentLayer(nn.Module):
    """In place of a `RecurrentLayer`; a class derived from this one says what an operator or a step computes.

    Args:
        layer: which it takes the place of.
        stored: gives a parameter as it is stored.

    Attributes:
        operator: of ONNX, for a sequence.
        attributes: of the operator, beside the size.
    """

    operator: str
    attributes: dict[str, int] = {}
    matrices: tuple[tuple[str, ...], ...]

    def __init__(self, layer: RecurrentLayer, stored: Storage) -> None:
        super().__init__()
        self.number = 0  # among those of a graph, if it has a loop; see `recurrence`
        self.hidden_size, self.state_names = layer.hidden_size, layer.state_names
        self.gates = layer.gate_count * layer.hidden_size
        self.weight_ih, self.weight_hh = stored(layer.weight_ih), stored(layer.weight_hh)
        self.vectors = nn.ModuleDict({name: stored(getattr(layer, name)) for name in layer.vectors})
        self.register_buffer("padding_column", layer._padding_column().detach() if layer.has_kernel else None)

    def forward(
        self, inputs: Tensor, state: LayerState | None = None, padding: Tensor | None = None, dropout: Any = None
    ) -> tuple[Tensor, LayerState]:
        """As in `RecurrentLayer`: over a sequence from a state of zeros, or one step from a state."""
        if state is None:
            return self._run(inputs, padding)
        after = self._step(inputs.squeeze(1), state)
        return after[0].unsqueeze(1), after

    def _run(self, inputs: Tensor, padding: Tensor | None) -> tuple[Tensor, LayerState]:
        if self.weight_ih.is_int8:
            projected = self.project(inputs.transpose(0, 1))  # in this order, since the gates are more numbers
            if padding is not None:
                column = cast(Tensor, self.padding_column).squeeze(1)
                projected = projected + padding.t().unsqueeze(-1) * column
            return self.loop(projected)
        weight = self.weight_ih.values()
        if padding is not None:
            inputs = torch.cat([inputs, padding.unsqueeze(-1).to(inputs.dtype)], dim=-1)
            weight = torch.cat([weight, cast(Tensor, self.padding_column)], dim=-1)
        (batch, time, _), size = inputs.shape, self.hidden_size
        biases = torch.cat([self._onnx_gates(self.vector(name)) for name in ("bias_ih", "bias_hh")])
        weights = self._onnx_gates(weight), self._onnx_gates(self.weight_hh.values()), biases
        outputs, *state = torch.onnx.ops.symbolic_multi_out(
            self.operator,
            (inputs.transpose(0, 1), *(one.unsqueeze(0) for one in weights)),
            {"hidden_size": size, **self.attributes},
            dtypes=(torch.float32,) * (1 + len(self.state_names)),
            shapes=((time, 1, batch, size), *((1, batch, size) for _ in self.state_names)),
            version=OPSET,
        )
        return outputs.squeeze(1).transpose(0, 1), tuple(part.squeeze(0) for part in state)

    def loop(self, projected: Tensor) -> tuple[Tensor, LayerState]:
        """All steps from a state of zeros, from what `project` returned for them, `(time, batch, gates)`."""
        return recurrence(self.number, projected, len(self.state_names), self.hidden_size)

    def vector(self, name: str) -> Tensor:
        """One of the parameters `(gates,)`."""
        return cast(Stored, self.vectors[name]).values()

    def project(self, inputs: Tensor) -> Tensor:
        """The part of the gates that depends on the inputs alone, `(..., gates)`, of inputs `(..., input)`."""
        raise NotImplementedError

    def input_bias(self) -> Tensor | None:
        """What `project` adds to the product, `(gates,)`; None for nothing."""
        return None

    def take_bounded_inputs(self) -> None:
        """From now on inputs are numbers from -1 to 1, see `Product`. Layers that do not use this do nothing."""

    def transition(self, projected: Tensor, state: LayerState) -> LayerState:
        """One step, from what `project` returned for it, `(batch, gates)`."""
        raise NotImplementedError

    def _step(self, inputs: Tensor, state: LayerState) -> LayerState:
        """One step from inputs `(batch, input)` and a state."""
        return self.transition(self.project(inputs), state)

    def _onnx_gates(self, parameter: Tensor) -> Tensor:
        """The rows of a parameter in ONNX's order of the gates."""
        raise NotImplementedError


class GraphLSTM(GraphRecurrentLayer):
    """In place of an `LSTMLayer`. In a step, one product takes both of its matrices."""

    matrices = (("weight_ih", "weight_hh"),)
    operator = "LSTM"

    def __init__(self, layer: LSTMLayer, stored: Storage) -> None:
        super().__init__(layer, stored)
        self.of_inputs, self.of_state = Product(self.weight_ih), Product(self.weight_hh, is_bounded=True)
        self.of_both = Product(self.weight_ih, self.weight_hh)

    def project(self, inputs: Tensor) -> Tensor:
        """As in `GraphRecurrentLayer`, without the bias, which costs nothing in the product of the state."""
        return self.of_inputs(inputs)

    def take_bounded_inputs(self) -> None:
        """As in `GraphRecurrentLayer`."""
        self.of_inputs.is_bounded = self.of_both.is_bounded = True

    def transition(self, projected: Tensor, state: LayerState) -> LayerState:
        """As in `GraphRecurrentLayer`."""
        return self._after(projected + self.of_state(state[0], self._bias()), state)

    def _step(self, inputs: Tensor, state: LayerState) -> LayerState:
        return self._after(self.of_both(torch.cat([inputs, state[0]], dim=1), self._bias()), state)

    def _bias(self) -> Tensor:
        return self.vector("bias_ih") + self.vector("bias_hh")

    @staticmethod
    def _after(gates: Tensor, state: LayerState) -> LayerState:
        input_gate, forget_gate, candidate, output = gates.chunk(4, dim=1)
        cell = torch.sigmoid(forget_gate) * state[1] + torch.sigmoid(input_gate) * torch.tanh(candidate)
        return torch.sigmoid(output) * torch.tanh(cell), cell

    def _onnx_gates(self, parameter: Tensor) -> Tensor:
        input_gate, forget_gate, candidate, output = parameter.chunk(4)
        return torch.cat([input_gate, output, forget_gate, candidate])


class GraphGRU(GraphRecurrentLayer):
    """In place of a `GRULayer`."""

    matrices = (("weight_ih",), ("weight_hh",))
    operator = "GRU"
    attributes = {"linear_before_reset": 1}  # the form of torch

    def __init__(self, layer: GRULayer, stored: Storage) -> None:
        super().__init__(layer, stored)
        self.of_inputs, self.of_state = Product(self.weight_ih), Product(self.weight_hh, is_bounded=True)

    def project(self, inputs: Tensor) -> Tensor:
        """As in `GraphRecurrentLayer`."""
        return self.of_inputs(inputs, self.input_bias())

    def input_bias(self) -> Tensor | None:
        """As in `GraphRecurrentLayer`."""
        return self.vector("bias_ih")

    def take_bounded_inputs(self) -> None:
        """As in `GraphRecurrentLayer`."""
        self.of_inputs.is_bounded = True

    def transition(self, projected: Tensor, state: LayerState) -> LayerState:
        """As in `GraphRecurrentLayer`."""
        (hidden,) = state
        of_inputs = projected.chunk(3, dim=1)
        of_state = self.of_state(hidden, self.vector("bias_hh")).chunk(3, dim=1)
        reset, update = (torch.sigmoid(one + other) for one, other in zip(of_inputs[:2], of_state[:2], strict=True))
        candidate = torch.tanh(of_inputs[2] + reset * of_state[2])
        return ((1 - update) * candidate + update * hidden,)

    def _onnx_gates(self, parameter: Tensor) -> Tensor:
        reset, update, candidate = parameter.chunk(3)
        return torch.cat([update, reset, candidate])


class GraphCell(GraphRecurrentLayer):
    """In place of a cell that no operator computes, with float32 weights: over a sequence always a loop."""

    matrices = ()

    def __init__(self, layer: RecurrentLayer, stored: Storage) -> None:
        super().__init__(layer, stored)
        self.gates += 1  # in the loop, behind the gates, whether there is a token
        self._cell = [layer]  # in a list, so that its parameters are not taken for those of this module

    def _run(self, inputs: Tensor, padding: Tensor | None) -> tuple[Tensor, LayerState]:
        is_token = inputs.new_ones(inputs.shape[:2]) if padding is None else (~padding).to(inputs.dtype)
        return self.loop(torch.cat([self.project(inputs.transpose(0, 1)), is_token.t().unsqueeze(-1)], dim=-1))

    def project(self, inputs: Tensor) -> Tensor:
        """As in `GraphRecurrentLayer`."""
        return self._cell[0]._project(inputs, self._weights())

    def transition(self, projected: Tensor, state: LayerState) -> LayerState:
        """As in `GraphRecurrentLayer`."""
        after = self._cell[0]._transition(projected[:, :-1], state, (None, None), self._weights())
        return tuple(part * projected[:, -1:] for part in after)

    def _step(self, inputs: Tensor, state: LayerState) -> LayerState:
        return self._cell[0]._transition(self.project(inputs), state, (None, None), self._weights())

    def _weights(self) -> list[Tensor]:
        return [self.weight_ih.values(), self.weight_hh.values(), *map(self.vector, self.vectors)]


# What takes the place of a module of exactly this class
LAYERS: dict[type[nn.Module], Callable[..., nn.Module]] = {
    nn.Linear: GraphLinear,
    nn.Embedding: GraphEmbedding,
    LSTMLayer: GraphLSTM,
    GRULayer: GraphGRU,
    LayerNormLSTMLayer: GraphCell,
    ResetFirstGRULayer: GraphCell,
}


def with_graph_layers(module: nn.Module, stored: Storage) -> nn.Module:
    """A module like this one, with the layers of a graph in place of its own."""

    def replacement(layer: nn.Module) -> nn.Module:
        return LAYERS[type(layer)](layer, stored) if _is_replaced(layer) else layer

    return rebuilt(module, replacement, leaves_out_once=False)


def matrices_of(model: Any) -> Iterator[list[str]]:
    """The names of a model's matrices that the layers of a graph can take as integers; see `Int8`."""
    found: list[nn.Module] = []

    def note(layer: nn.Module) -> nn.Module:
        if _is_replaced(layer):
            found.append(layer)
        return layer

    for part in (model.get_encoder(), model.model.decoder, model.output_head, model.lm_head):
        rebuilt(part, note, leaves_out_once=False)
    paths = {id(module): path for path, module in model.named_modules()}
    for layer in found:
        for names in LAYERS[type(layer)].matrices:  # type: ignore[attr-defined]
            yield [f"{paths[id(layer)]}.{name}" for name in names]


def _is_replaced(layer: nn.Module) -> bool:
    return may_use_weights(layer, *LAYERS)
