"""Recurrent layers that run a whole sequence in one fused call, padded rows included.

A row's padding stands before its tokens (right alignment), where the layer is still in its zero state. An extra input
column, one on padding and zero on tokens, shuts the gate through which anything could enter that state. So the state
reaches the row's first token as exact zeros, the outputs at padding are exact zeros, and the last time step is every
row's last token: nothing depends on the rest of the batch, and nothing needs packing, which keeps the fused kernels of
the CPU from being used.

`torch.compile` leaves the fused kernels as they are, since it would write out every time step. `torch.export` does
write them out, so an exported encoder has a fixed source length; shorter sources are padded to it.
"""

import torch
from torch import Tensor, nn
from transformers import initialization

from .state_rnn_s2s import LayerState

# Beyond any pre-activation that training reaches, and still a float16 number: the sigmoid is exactly 0 or 1.
SHUT = 1e4
FEW_ROWS = 32  # up to so many rows one step is cheaper without the kernel for sequences
WHY_NOT_COMPILED = (
    "The fused recurrent kernels stay as they are: compiling would write out every time step. Leave fullgraph=False, "
    "or use torch.export(strict=False), which does write them out."
)

LayerOutput = tuple[Tensor, LayerState]  # outputs `(batch, time, hidden)`, and the state after the last step


class RecurrentLayer(nn.Module):
    """One layer in one direction. A subclass says how many gates it has and which kernel computes it.

    Args:
        input_size: width of the inputs.
        hidden_size: width of the outputs.

    Attributes:
        gate_count: number of gates, whose weights are stacked row-wise.
        state_names: the tensors that its state consists of.
        needs_steps: whether it can read a sequence only one step at a time, so that the decoder loops over the steps.
    """

    gate_count: int
    state_names: tuple[str, ...]
    needs_steps = False

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        rows = self.gate_count * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows))

    def forward(self, inputs: Tensor, state: LayerState | None = None, padding: Tensor | None = None) -> LayerOutput:
        """Run over a sequence.

        Args:
            inputs: `(batch, time, input)`.
            state: the state before the first step; None for zeros.
            padding: `(batch, time)`, True at padding before a row's first token; only together with `state=None`.

        Returns:
            The outputs `(batch, time, hidden)`, zero at padding, and the state after the last step.

        Raises:
            ValueError: if the inputs have another width than the layer reads, which the kernels do not check.
        """
        weight_ih: Tensor = self.weight_ih
        if inputs.shape[-1] != weight_ih.shape[1]:
            raise ValueError(f"The inputs have {inputs.shape[-1]} features; this layer reads {weight_ih.shape[1]}.")
        if padding is not None:
            inputs = torch.cat([inputs, padding.unsqueeze(-1).to(inputs.dtype)], dim=-1)
            weight_ih = torch.cat([weight_ih, self._padding_column()], dim=-1)
        if state is None:
            zeros = inputs.new_zeros(inputs.shape[0], self.hidden_size)
            state = (zeros,) * len(self.state_names)
        weights = [weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        device = inputs.device.type
        run = self._step if self._is_step(inputs) else self._run
        if not torch.is_autocast_enabled(device):
            return run(inputs, state, weights)
        # By itself, autocast picks a bfloat16 kernel for LSTMs that many processors do not have, and fails.
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            state = tuple(part.to(dtype) for part in state)
            return run(inputs.to(dtype), state, [weight.to(dtype) for weight in weights])

    def initialize(self) -> None:
        """Draw the weights that were not loaded from a checkpoint.

        Input weights are drawn after Glorot & Bengio 2010, recurrent weights orthogonal per gate (Saxe et al. 2014).
        """
        gates = self.gate_count
        for weight, draw in ((self.weight_ih, nn.init.xavier_uniform_), (self.weight_hh, nn.init.orthogonal_)):
            if not is_loaded(weight):
                drawn = [draw(torch.empty(weight.shape[0] // gates, weight.shape[1])) for _ in range(gates)]
                weight.data.copy_(torch.cat(drawn))
        initialization.zeros_(self.bias_hh)
        initialization.zeros_(self.bias_ih)

    def _is_step(self, inputs: Tensor) -> bool:
        """Whether this is one step that costs less without the kernel for sequences."""
        # On a CPU that kernel first reorders the weights; elsewhere its every start has a cost.
        if torch.compiler.is_compiling() or inputs.shape[1] != 1:
            return False
        return inputs.shape[0] <= FEW_ROWS or inputs.device.type != "cpu"

    def _gate_rows(self, gate: int) -> slice:
        return slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)

    def _padding_column(self) -> Tensor:
        """Weights `(gates * hidden, 1)` of the input that is one on padding."""
        raise NotImplementedError

    def _run(self, inputs: Tensor, state: LayerState, weights: list[Tensor]) -> LayerOutput:
        raise NotImplementedError

    def _step(self, inputs: Tensor, state: LayerState, weights: list[Tensor]) -> LayerOutput:
        """As `_run`, for one step `(batch, 1, input)`."""
        raise NotImplementedError


class LSTMLayer(RecurrentLayer):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; with forget gates, Gers et al. 2000)."""

    gate_count = 4  # input, forget, candidate, output: the order of torch's kernels
    state_names = ("hidden", "cell")

    def initialize(self) -> None:
        """As in `RecurrentLayer`, with the bias of the forget gate at 1."""
        super().initialize()
        if not is_loaded(self.bias_ih):
            # An open forget gate lets gradients reach far from the start (Jozefowicz et al. 2015).
            self.bias_ih.data[self._gate_rows(1)] = 1.0

    def _padding_column(self) -> Tensor:
        column = self.weight_ih.new_zeros(self.weight_ih.shape[0], 1)
        column[self._gate_rows(0)] = -SHUT  # input gate 0: a zero cell stays zero, and tanh(0) makes the output zero
        return column

    @torch.compiler.disable(reason=WHY_NOT_COMPILED)
    def _run(self, inputs: Tensor, state: LayerState, weights: list[Tensor]) -> LayerOutput:
        first = [part.unsqueeze(0).contiguous() for part in state]
        outputs, hidden, cell = torch.lstm(inputs, first, weights, *_kernel_arguments())
        # Not squeeze(0): what torch.export writes out for older versions of torch has one dimension more.
        return outputs, (hidden.flatten(0, -2), cell.flatten(0, -2))

    def _step(self, inputs: Tensor, state: LayerState, weights: list[Tensor]) -> LayerOutput:
        hidden, cell = torch.lstm_cell(inputs.squeeze(1), state, *weights)
        return hidden.unsqueeze(1), (hidden, cell)


class GRULayer(RecurrentLayer):
    """Gated recurrent unit (Cho et al. 2014, in the form of torch and cuDNN)."""

    gate_count = 3  # reset, update, candidate: the order of torch's kernels
    state_names = ("hidden",)

    def _padding_column(self) -> Tensor:
        column = self.weight_ih.new_zeros(self.weight_ih.shape[0], 1)
        column[self._gate_rows(1)] = SHUT  # update gate 1: the state stays as it is
        return column

    @torch.compiler.disable(reason=WHY_NOT_COMPILED)
    def _run(self, inputs: Tensor, state: LayerState, weights: list[Tensor]) -> LayerOutput:
        first = state[0].unsqueeze(0).contiguous()
        outputs, hidden = torch.gru(inputs, first, weights, *_kernel_arguments())
        return outputs, (hidden.squeeze(0),)

    def _step(self, inputs: Tensor, state: LayerState, weights: list[Tensor]) -> LayerOutput:
        hidden = torch.gru_cell(inputs.squeeze(1), state[0], *weights)
        return hidden.unsqueeze(1), (hidden,)


# `cell_type` of the configuration, and the class it names.
CELLS: dict[str, type[RecurrentLayer]] = {"lstm": LSTMLayer, "gru": GRULayer}


class SequenceDropout(nn.Module):
    """Dropout with one mask for all time steps of a row (Gal & Ghahramani 2016).

    Args:
        probability: of a feature to be dropped for a whole row.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, inputs: Tensor) -> Tensor:
        """Take and return `(batch, time, size)`; do nothing in evaluation mode."""
        if not self.training or self.probability == 0:
            return inputs
        batch, _, size = inputs.shape
        kept = torch.rand(batch, 1, size, device=inputs.device) >= self.probability
        return inputs * (kept.to(inputs.dtype) / (1 - self.probability))

    def extra_repr(self) -> str:
        """What `print(model)` shows of it."""
        return f"probability={self.probability}"


def is_loaded(parameter: Tensor) -> bool:
    """Whether transformers has filled the parameter from a checkpoint, so that it must not be drawn again."""
    return getattr(parameter, "_is_hf_initialized", False)


def _kernel_arguments() -> tuple[bool, int, float, bool, bool, bool]:
    # has_biases, num_layers, dropout, train, bidirectional, batch_first. The kernels keep what the backward pass needs
    # only in training mode, and gradients may be wanted of a model in evaluation mode too.
    return True, 1, 0.0, torch.is_grad_enabled(), False, True


class UnpaddedSource:
    """Lays out a source without padding for the two directions. Its methods are those of `PaddedSource`."""

    padding = None

    def forward_order(self, inputs: Tensor) -> Tensor:
        """The inputs `(batch, source, ...)` as they are."""
        return inputs

    def backward_order(self, inputs: Tensor) -> Tensor:
        """Reverse `(batch, source, ...)`."""
        return inputs.flip(1)

    def backward_to_forward(self, outputs: Tensor) -> Tensor:
        """As in `PaddedSource`."""
        return outputs.flip(1)

    def original_order(self, outputs: Tensor) -> Tensor:
        """The outputs as they are."""
        return outputs


class PaddedSource:
    """Moves each row's tokens to the end of the row, in reading order or reversed, and the results back.

    Args:
        mask: `(batch, source)`, True at tokens. Padding may stand anywhere.
    """

    def __init__(self, mask: Tensor) -> None:
        time = mask.shape[1]
        lengths = mask.sum(1, keepdim=True)
        token_rank = mask.cumsum(1) - 1
        padding_rank = (~mask).cumsum(1) - 1
        forward_slot = torch.where(mask, time - lengths + token_rank, padding_rank)
        backward_slot = torch.where(mask, time - 1 - token_rank, padding_rank)
        self._forward_slot = forward_slot
        self._forward_source = forward_slot.argsort(1)
        self._backward_source = backward_slot.argsort(1)
        self._backward_slot_of_forward = backward_slot.gather(1, self._forward_source)
        self.padding = torch.arange(time, device=mask.device) < time - lengths

    def forward_order(self, inputs: Tensor) -> Tensor:
        """Put `(batch, source, ...)` in reading order, each row's tokens at its end."""
        return _take_positions(inputs, self._forward_source)

    def backward_order(self, inputs: Tensor) -> Tensor:
        """Put `(batch, source, ...)` in reverse order, each row's tokens at its end."""
        return _take_positions(inputs, self._backward_source)

    def backward_to_forward(self, outputs: Tensor) -> Tensor:
        """Bring outputs from the layout of `backward_order` to that of `forward_order`."""
        return _take_positions(outputs, self._backward_slot_of_forward)

    def original_order(self, outputs: Tensor) -> Tensor:
        """Bring outputs from the layout of `forward_order` to that of the input."""
        return _take_positions(outputs, self._forward_slot)


def _take_positions(tensor: Tensor, positions: Tensor) -> Tensor:
    # Whole rows of the flattened tensor move in one copy each; torch.gather would move single numbers.
    batch, time = positions.shape
    first_of_row = torch.arange(batch, device=positions.device).unsqueeze(1) * time
    return tensor.flatten(0, 1).index_select(0, (positions + first_of_row).flatten()).view_as(tensor)
