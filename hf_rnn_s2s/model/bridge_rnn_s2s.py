"""How the encoder's final state becomes the decoder's first state."""

import torch
from torch import Tensor, nn

from .cells_rnn_s2s import CELLS
from .configuration_rnn_s2s import RnnS2SConfig
from .state_rnn_s2s import LayerState


class Bridge(nn.Module):
    """Makes the decoder's first state. This class is the contract of all bridges.

    Args:
        config: of the model.
        state_size: width of the encoder's final states.
        memory_size: width of the memory.

    Attributes:
        reads_state: whether it needs the encoder's final states; a bridge that reads the memory alone does not.
    """

    reads_state = True

    def __init__(self, config: RnnS2SConfig, state_size: int, memory_size: int) -> None:
        super().__init__()
        self.layer_count, self.hidden_size = config.decoder_layers, config.hidden_size
        self.state_names = CELLS[config.cell_type].state_names

    def forward(self, final_states: dict[str, Tensor], memory: Tensor, mask: Tensor | None) -> tuple[LayerState, ...]:
        """Compute the first states of all decoder layers, each tensor `(batch, hidden)`.

        Args:
            final_states: of the encoder, `(batch, layers, state)`, by name, such as `hidden`; empty if there are none.
            memory: `(batch, source, memory)`, zero at padding.
            mask: `(batch, source)`, True at tokens; None if there is no padding.
        """
        raise NotImplementedError


class DenseBridge(Bridge):
    """Each decoder layer starts from a learned map of the top encoder layer's final state, through tanh.

    Hidden and cell state have maps of their own (Bahdanau et al. 2015, appendix A.2.2).
    """

    def __init__(self, config: RnnS2SConfig, state_size: int, memory_size: int) -> None:
        super().__init__(config, state_size, memory_size)
        self.projections = nn.ModuleDict(
            {name: nn.Linear(state_size, self.layer_count * self.hidden_size) for name in self.state_names}
        )

    def forward(self, final_states: dict[str, Tensor], memory: Tensor, mask: Tensor | None) -> tuple[LayerState, ...]:
        """As in `Bridge`."""
        parts = [
            torch.tanh(projection(final_states[name][:, -1])).chunk(self.layer_count, dim=-1)
            for name, projection in self.projections.items()
        ]
        return tuple(zip(*parts, strict=True))


class CopyBridge(Bridge):
    """Each decoder layer starts from the final state of the encoder layer of the same number.

    Decoder layers above the top of the encoder start from the encoder's top layer (Sutskever et al. 2014).

    Raises:
        ValueError: if the final states have another width than the decoder's layers.
    """

    def __init__(self, config: RnnS2SConfig, state_size: int, memory_size: int) -> None:
        super().__init__(config, state_size, memory_size)
        if state_size != self.hidden_size:
            raise ValueError(
                f"bridge='copy' hands on final states as they are, but those of the encoder have {state_size} numbers "
                f"and hidden_size is {self.hidden_size}. Choose bridge='dense'."
            )

    def forward(self, final_states: dict[str, Tensor], memory: Tensor, mask: Tensor | None) -> tuple[LayerState, ...]:
        """As in `Bridge`."""
        parts = [final_states[name] for name in self.state_names]
        top = parts[0].shape[1] - 1
        return tuple(tuple(part[:, min(layer, top)] for part in parts) for layer in range(self.layer_count))


class ZeroBridge(Bridge):
    """Each decoder layer starts from zeros; the decoder sees the source through attention only."""

    reads_state = False

    def forward(self, final_states: dict[str, Tensor], memory: Tensor, mask: Tensor | None) -> tuple[LayerState, ...]:
        """As in `Bridge`."""
        zeros = memory.new_zeros(memory.shape[0], self.hidden_size)
        return ((zeros,) * len(self.state_names),) * self.layer_count


# `bridge` of the configuration, and the class it names.
BRIDGES: dict[str, type[Bridge]] = {"dense": DenseBridge, "copy": CopyBridge, "zero": ZeroBridge}
