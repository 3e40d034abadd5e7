"""Recurrent layers that run a whole sequence in one fused call, padded rows included.

A row's padding stands before its tokens (right alignment), where the layer is still in its zero state. An extra input
column, one on padding and zero on tokens, shuts the gate through which anything could enter that state. So the state
reaches the row's first token as exact zeros, the outputs at padding are exact zeros, and the last time step is every
row's last token: nothing depends on the rest of the batch, and nothing needs packing, which keeps the fused kernels of
the CPU from being used.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization

from .configuration_rnn_s2s import RnnS2SConfig
from .state_rnn_s2s import LayerState

# Beyond any pre-activation that training reaches, and still a float16 number: the sigmoid is exactly 0 or 1.
SHUT = 1e4
FEW_ROWS = 32  # up to so many rows one step is cheaper without the kernel for sequences
WHY_NOT_COMPILED = (
    "The fused recurrent kernels stay as they are: compiling would write out every time step. Leave fullgraph=False, "
    "or use torch.export(strict=False), which does write them out, for a source of fixed length."
)

LayerOutput = tuple[Tensor, LayerState]  # outputs `(batch, time, hidden)`, and the state after the last step
Masks = tuple[Tensor | None, Tensor | None]  # factors `(batch, hidden)`, of the state and of the candidate
Weights = list[Tensor]  # those of inputs and state, and the vectors


class RecurrentLayer(nn.Module):
    """One layer in one direction. A subclass says how many gates it has, and what one step of it computes.

    Args:
        input_size: width of the inputs.
        hidden_size: width of the outputs.

    Attributes:
        gate_count: number of gates, whose weights are stacked row-wise.
        state_names: the tensors that its state consists of.
        vectors: names of its parameters `(gates * hidden,)`, which are zero at first.
        has_kernel: whether a fused kernel computes it, `_run` and `_step`. Without one, and with dropout inside the
            recurrence, the layer loops over the steps by itself.
        needs_steps: whether it can read a sequence only one step at a time, so that the decoder loops over the steps.
        state_dropout, candidate_dropout: probabilities, see `draw_dropout`.
    """

    gate_count: int
    state_names: tuple[str, ...]
    bias_ih: Tensor
    bias_hh: Tensor
    vectors: tuple[str, ...] = ("bias_ih", "bias_hh")
    has_kernel = True
    needs_steps = False
    state_dropout = candidate_dropout = 0.0

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        rows = self.gate_count * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        for name in self.vectors:
            setattr(self, name, nn.Parameter(torch.empty(rows)))

    def forward(
        self,
        inputs: Tensor,
        state: LayerState | None = None,
        padding: Tensor | None = None,
        dropout: Masks | None = None,
    ) -> LayerOutput:
        """Run over a sequence.

        Args:
            inputs: `(batch, time, input)`.
            state: the state before the first step; None for zeros.
            padding: `(batch, time)`, True at padding before a row's first token; only together with `state=None`.
            dropout: what `draw_dropout` returned, if the sequence is read in several calls; None draws it.

        Returns:
            The outputs `(batch, time, hidden)`, zero at padding, and the state after the last step.

        Raises:
            ValueError: if the inputs have another width than the layer reads, which the kernels do not check.
        """
        weight_ih: Tensor = self.weight_ih
        if inputs.shape[-1] != weight_ih.shape[1]:
            raise ValueError(f"The inputs have {inputs.shape[-1]} features; this layer reads {weight_ih.shape[1]}.")
        dropout = self.draw_dropout(inputs) if dropout is None else dropout
        loops = not self.has_kernel or dropout[0] is not None or dropout[1] is not None
        if padding is not None and not loops:
            inputs = torch.cat([inputs, padding.unsqueeze(-1).to(inputs.dtype)], dim=-1)
            weight_ih = torch.cat([weight_ih, self._padding_column()], dim=-1)
        if state is None:
            zeros = inputs.new_zeros(inputs.shape[0], self.hidden_size)
            state = (zeros,) * len(self.state_names)
        weights = [weight_ih, self.weight_hh, *[getattr(self, name) for name in self.vectors]]
        device = inputs.device.type
        if loops:
            return self._run_steps(inputs, state, padding, dropout, weights)
        run = self._step if self._is_step(inputs) else self._run
        if not torch.is_autocast_enabled(device):
            return run(inputs, state, weights)
        # By itself, autocast picks a bfloat16 kernel for LSTMs that many processors do not have, and fails.
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            state = tuple(part.to(dtype) for part in state)
            return run(inputs.to(dtype), state, [weight.to(dtype) for weight in weights])

    def draw_dropout(self, like: Tensor) -> Masks:
        """Draw what a sequence is multiplied by inside the recurrence, the same at every step; None is nothing.

        The first factor `(batch, hidden)` is for the hidden state on its way into the gates (Gal & Ghahramani 2016,
        equation 7), the second one for the candidate, without which a step leaves the state as it is (Semeniuta et
        al. 2016, equations 10 and 13). `like` is a tensor `(batch, ...)`.
        """
        if not self.training:
            return None, None
        shape = like.shape[0], self.hidden_size
        return draw_mask(like, shape, self.state_dropout), draw_mask(like, shape, self.candidate_dropout)

    def initialize(self) -> None:
        """Draw the weights that were not loaded from a checkpoint.

        Input weights are drawn after Glorot & Bengio 2010, recurrent weights orthogonal per gate (Saxe et al. 2014).
        """
        gates = self.gate_count
        for weight, draw in ((self.weight_ih, nn.init.xavier_uniform_), (self.weight_hh, nn.init.orthogonal_)):
            if not is_loaded(weight):
                drawn = [draw(torch.empty(weight.shape[0] // gates, weight.shape[1])) for _ in range(gates)]
                weight.data.copy_(torch.cat(drawn))
        for name in self.vectors:
            initialization.zeros_(getattr(self, name))

    def _is_step(self, inputs: Tensor) -> bool:
        """Whether this is one step that costs less without the kernel for sequences."""
        # On a CPU that kernel reorders the weights first, for gradients again; elsewhere its every start has a cost.
        if torch.compiler.is_compiling() or inputs.shape[1] != 1:
            return False
        return inputs.shape[0] <= FEW_ROWS or inputs.device.type != "cpu" or torch.is_grad_enabled()

    def _gate_rows(self, gate: int) -> slice:
        return slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)

    def _padding_column(self) -> Tensor:
        """Weights `(gates * hidden, 1)` of the input that is one on padding."""
        raise NotImplementedError

    def _run(self, inputs: Tensor, state: LayerState, weights: Weights) -> LayerOutput:
        raise NotImplementedError

    def _step(self, inputs: Tensor, state: LayerState, weights: Weights) -> LayerOutput:
        """As `_run`, for one step `(batch, 1, input)`."""
        raise NotImplementedError

    @torch.compiler.disable(reason=WHY_NOT_COMPILED)
    def _run_steps(
        self, inputs: Tensor, state: LayerState, padding: Tensor | None, dropout: Masks, weights: Weights
    ) -> LayerOutput:
        """As `_run`, one step after another; what depends on the inputs alone is computed for all of them at once."""
        outputs = []
        for step, projected in enumerate(self._project(inputs, weights).unbind(1)):
            after = self._transition(projected, state, dropout, weights)
            if padding is not None:
                after = tuple(part.masked_fill(padding[:, step : step + 1], 0) for part in after)
            state = after
            outputs.append(state[0])
        return torch.stack(outputs, dim=1), state

    def _project(self, inputs: Tensor, weights: Weights) -> Tensor:
        """The part `(batch, time, gates * hidden)` of the gates that depends on the inputs."""
        return functional.linear(inputs, weights[0], weights[2])

    def _transition(self, projected: Tensor, state: LayerState, dropout: Masks, weights: Weights) -> LayerState:
        """One step, from what `_project` returned for it, `(batch, gates * hidden)`."""
        raise NotImplementedError


class LSTMLayer(RecurrentLayer):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; with forget gates, Gers et al. 2000)."""

    gate_count = 4  # input, forget, candidate, output: the order of torch's kernels
    state_names = ("hidden", "cell")

    def initialize(self) -> None:
        """As in `RecurrentLayer`, with the bias of the forget gate at 1."""
        super().initialize()
        bias = getattr(self, self.vectors[0])
        if not is_loaded(bias):
            # An open forget gate lets gradients reach far from the start (Jozefowicz et al. 2015).
            bias.data[self._gate_rows(1)] = 1.0

    def _padding_column(self) -> Tensor:
        column = self.weight_ih.new_zeros(self.weight_ih.shape[0], 1)
        column[self._gate_rows(0)] = -SHUT  # input gate 0: a zero cell stays zero, and tanh(0) makes the output zero
        return column

    @torch.compiler.disable(reason=WHY_NOT_COMPILED)
    def _run(self, inputs: Tensor, state: LayerState, weights: Weights) -> LayerOutput:
        first = [part.unsqueeze(0).contiguous() for part in state]
        outputs, hidden, cell = torch.lstm(inputs, first, weights, *_kernel_arguments())
        # Not squeeze(0): what torch.export writes out for older versions of torch has one dimension more.
        return outputs, (hidden.flatten(0, -2), cell.flatten(0, -2))

    def _step(self, inputs: Tensor, state: LayerState, weights: Weights) -> LayerOutput:
        hidden, cell = torch.lstm_cell(inputs.squeeze(1), state, *weights)
        return hidden.unsqueeze(1), (hidden, cell)

    def _transition(self, projected: Tensor, state: LayerState, dropout: Masks, weights: Weights) -> LayerState:
        gates = self._gates(projected, _kept(state[0], dropout[0]), weights)
        input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
        added = input_gate.sigmoid() * _kept(candidate.tanh(), dropout[1])
        cell = forget_gate.sigmoid() * state[1] + added
        return output_gate.sigmoid() * cell.tanh(), cell

    def _gates(self, projected: Tensor, hidden: Tensor, weights: Weights) -> Tensor:
        """The gates `(batch, 4 * hidden)` before their sigmoids and tanh."""
        return projected + functional.linear(hidden, weights[1], weights[3])


class LayerNormLSTMLayer(LSTMLayer):
    """An LSTM whose gates are normalised, each by itself (Ba et al. 2016, equation 4; Chen et al. 2018, section 3).

    What goes into the sigmoid or tanh of a gate is `gain * (a - mean(a)) / sd(a) + bias` with `a = W x + U h`, where
    mean and standard deviation are taken over the units of the gate.
    """

    gain: Tensor
    vectors = ("bias", "gain")
    has_kernel = False

    def initialize(self) -> None:
        """As in `LSTMLayer`, with gains of 1."""
        super().initialize()
        if not is_loaded(self.gain):
            initialization.ones_(self.gain)

    def _project(self, inputs: Tensor, weights: Weights) -> Tensor:
        return functional.linear(inputs, weights[0])

    def _gates(self, projected: Tensor, hidden: Tensor, weights: Weights) -> Tensor:
        gates = (projected + functional.linear(hidden, weights[1])).unflatten(-1, (4, self.hidden_size))
        return functional.layer_norm(gates, (self.hidden_size,)).flatten(-2) * weights[3] + weights[2]


class GRULayer(RecurrentLayer):
    """Gated recurrent unit (Cho et al. 2014, in the form of torch and cuDNN).

    The candidate is `tanh(W x + b + r (U h + b'))`, and the update gate says how much of the old state stays.
    """

    gate_count = 3  # reset, update, candidate: the order of torch's kernels
    state_names = ("hidden",)

    def _padding_column(self) -> Tensor:
        column = self.weight_ih.new_zeros(self.weight_ih.shape[0], 1)
        column[self._gate_rows(1)] = SHUT  # update gate 1: the state stays as it is
        return column

    @torch.compiler.disable(reason=WHY_NOT_COMPILED)
    def _run(self, inputs: Tensor, state: LayerState, weights: Weights) -> LayerOutput:
        first = state[0].unsqueeze(0).contiguous()
        outputs, hidden = torch.gru(inputs, first, weights, *_kernel_arguments())
        return outputs, (hidden.squeeze(0),)

    def _step(self, inputs: Tensor, state: LayerState, weights: Weights) -> LayerOutput:
        hidden = torch.gru_cell(inputs.squeeze(1), state[0], *weights)
        return hidden.unsqueeze(1), (hidden,)

    def _transition(self, projected: Tensor, state: LayerState, dropout: Masks, weights: Weights) -> LayerState:
        of_input = projected.chunk(3, dim=-1)
        of_state = functional.linear(_kept(state[0], dropout[0]), weights[1], weights[3]).chunk(3, dim=-1)
        reset, update = (torch.sigmoid(of_input[gate] + of_state[gate]) for gate in (0, 1))
        candidate = _kept(torch.tanh(of_input[2] + reset * of_state[2]), dropout[1])
        return ((1 - update) * candidate + update * state[0],)


class ResetFirstGRULayer(RecurrentLayer):
    """Gated recurrent unit that resets the state before the product (Bahdanau et al. 2015, appendix A.1.1).

    The candidate is `tanh(W x + b + U (r s))`, and the update gate says how much of it is taken. No kernel of torch
    computes it.
    """

    gate_count = 3  # reset, update, candidate
    state_names = ("hidden",)
    vectors = ("bias",)
    has_kernel = False

    def _transition(self, projected: Tensor, state: LayerState, dropout: Masks, weights: Weights) -> LayerState:
        split, hidden = 2 * self.hidden_size, _kept(state[0], dropout[0])
        gates = torch.sigmoid(projected[:, :split] + functional.linear(hidden, weights[1][:split]))
        reset, update = gates.chunk(2, dim=-1)
        candidate = torch.tanh(projected[:, split:] + functional.linear(reset * hidden, weights[1][split:]))
        return ((1 - update) * state[0] + update * _kept(candidate, dropout[1]),)


# `cell_type` of the configuration, and the class it names.
CELLS: dict[str, type[RecurrentLayer]] = {
    "lstm": LSTMLayer,
    "gru": GRULayer,
    "layer_norm_lstm": LayerNormLSTMLayer,
    "reset_first_gru": ResetFirstGRULayer,
}


def build_layer(config: RnnS2SConfig, input_size: int, hidden_size: int) -> RecurrentLayer:
    """A layer of the cell that a configuration names, with its dropout inside the recurrence."""
    layer = CELLS[config.cell_type](input_size, hidden_size)
    layer.state_dropout, layer.candidate_dropout = config.state_dropout, config.recurrent_dropout
    return layer


def draw_mask(like: Tensor, shape: tuple[int, ...], probability: float) -> Tensor | None:
    """Zeros with this probability, and else what keeps the expectation as it is; None for a probability of 0."""
    if probability == 0:
        return None
    return (torch.rand(shape, device=like.device) >= probability).to(like.dtype) / (1 - probability)


def _kept(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask


class SequenceDropout(nn.Module):
    """Dropout with one mask for all time steps of a row (Gal & Ghahramani 2016).

    Args:
        probability: of a feature to be dropped for a whole row.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Take and return `(batch, time, size)`; do nothing in evaluation mode.

        `mask` is what `draw` returned, if the sequence is read in several calls; None draws it.
        """
        if mask is None and self.training:
            mask = self.draw(inputs, inputs.shape[-1])
        return inputs if mask is None else inputs * mask

    def draw(self, like: Tensor, size: int) -> Tensor | None:
        """What the features of a sequence are multiplied by, `(batch, 1, size)`; None where nothing is dropped."""
        return draw_mask(like, (like.shape[0], 1, size), self.probability) if self.training else None


def is_loaded(parameter: Tensor) -> bool:
    """Whether transformers has filled the parameter from a checkpoint, so that it must not be drawn again."""
    return getattr(parameter, "_is_hf_initialized", False)


def _kernel_arguments() -> tuple[bool, int, float, bool, bool, bool]:
    # has_biases, num_layers, dropout, train, bidirectional, batch_first. The kernels keep what the backward pass needs
    # only in training mode, and gradients may be wanted of a model in evaluation mode too.
    return True, 1, 0.0, torch.is_grad_enabled(), False, True


class PaddedSource:
    """Moves each row's tokens to the end of the row, in reading order or reversed, and the results back.

    Args:
        mask: `(batch, source)`, True at tokens. Padding may stand anywhere. None where there is none.

    Attributes:
        padding: `(batch, source)`, True at padding, in either order; None where there is none.
    """

    def __init__(self, mask: Tensor | None) -> None:
        self.padding: Tensor | None = None
        if mask is None:
            return
        time = mask.shape[1]
        lengths = mask.sum(1, keepdim=True)
        token_rank = mask.cumsum(1) - 1
        padding_rank = (~mask).cumsum(1) - 1
        self._forward_slot = torch.where(mask, time - lengths + token_rank, padding_rank)
        backward_slot = torch.where(mask, time - 1 - token_rank, padding_rank)
        self._forward_source = self._forward_slot.argsort(1)
        self._backward_source = backward_slot.argsort(1)
        self._backward_slot_of_forward = backward_slot.gather(1, self._forward_source)
        self.padding = torch.arange(time, device=mask.device) < time - lengths

    def forward_order(self, inputs: Tensor) -> Tensor:
        """Put `(batch, source, ...)` in reading order, each row's tokens at its end."""
        return inputs if self.padding is None else _take_positions(inputs, self._forward_source)

    def backward_order(self, inputs: Tensor) -> Tensor:
        """Put `(batch, source, ...)` in reverse order, each row's tokens at its end."""
        return inputs.flip(1) if self.padding is None else _take_positions(inputs, self._backward_source)

    def backward_to_forward(self, outputs: Tensor) -> Tensor:
        """Bring outputs from the layout of `backward_order` to that of `forward_order`, or the other way round."""
        return outputs.flip(1) if self.padding is None else _take_positions(outputs, self._backward_slot_of_forward)

    def original_order(self, outputs: Tensor) -> Tensor:
        """Bring outputs from the layout of `forward_order` to that of the input."""
        return outputs if self.padding is None else _take_positions(outputs, self._forward_slot)


def _take_positions(tensor: Tensor, positions: Tensor) -> Tensor:
    # Whole rows of the flattened tensor move in one copy each; torch.gather would move single numbers.
    batch, time = positions.shape
    first_of_row = torch.arange(batch, device=positions.device).unsqueeze(1) * time
    return tensor.flatten(0, 1).index_select(0, (positions + first_of_row).flatten()).view_as(tensor)
