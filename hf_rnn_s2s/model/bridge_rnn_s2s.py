"""How the encoder's final state becomes the decoder's first state."""

from typing import Any

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
        self.layer_count, self.hidden_size = config.decoder_layers, config.decoder_size
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

    Hidden and cell state have maps of their own.
    """

    def __init__(self, config: RnnS2SConfig, state_size: int, memory_size: int) -> None:
        super().__init__(config, state_size, memory_size)
        width = self._mapped_size(state_size, memory_size)
        self.projections = nn.ModuleDict(
            {name: nn.Linear(width, self.layer_count * self.hidden_size) for name in self.state_names}
        )

    def forward(self, final_states: dict[str, Tensor], memory: Tensor, mask: Tensor | None) -> tuple[LayerState, ...]:
        parts = [
            torch.tanh(projection(self._mapped(final_states.get(name), memory, mask))).chunk(self.layer_count, dim=-1)
            for name, projection in self.projections.items()
        ]
        return tuple(zip(*parts, strict=True))

    def _mapped_size(self, state_size: int, memory_size: int) -> int:
        """Width of what is mapped."""
        return state_size

    def _mapped(self, final: Any, memory: Tensor, mask: Tensor | None) -> Tensor:
        """What is mapped, `(batch, width)`: here the final state of the top layer."""
        return final[:, -1]


class BackwardBridge(DenseBridge):
    """As `dense`, of the backward direction's final state, at the first token (Bahdanau et al. 2015, A.2.2)."""

    def _mapped_size(self, state_size: int, memory_size: int) -> int:
        return state_size // 2

    def _mapped(self, final: Any, memory: Tensor, mask: Tensor | None) -> Tensor:
        return final[:, -1, final.shape[-1] // 2 :]


class AverageBridge(DenseBridge):
    """As `dense`, of the mean of the memory (Sennrich et al. 2017, Nematus)."""

    reads_state = False

    def _mapped_size(self, state_size: int, memory_size: int) -> int:
        return memory_size

    def _mapped(self, final: Any, memory: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return memory.mean(1)
        return memory.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)  # it is zero at padding


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
                f"bridge={config.bridge!r} hands on final states as they are, but those of the encoder have "
                f"{state_size} numbers and the decoder's {self.hidden_size}, its width (decoder_hidden_size, or else "
                "hidden_size). Choose bridge='dense'."
            )

    def forward(self, final_states: dict[str, Tensor], memory: Tensor, mask: Tensor | None) -> tuple[LayerState, ...]:
        parts = [final_states[name] for name in self.state_names]
        top = parts[0].shape[1] - 1
        return tuple(tuple(part[:, self._source(layer, top)] for part in parts) for layer in range(self.layer_count))

    def _source(self, layer: int, top: int) -> int:
        """The encoder layer whose state a decoder layer starts from, both counted from 0."""
        return min(layer, top)


class LastBridge(CopyBridge):
    """Every decoder layer starts from the final state of the encoder's top layer, as it is."""

    def _source(self, layer: int, top: int) -> int:
        return top


class ZeroBridge(Bridge):
    """Each decoder layer starts from zeros; the decoder sees the source through attention only."""

    reads_state = False

    def forward(self, final_states: dict[str, Tensor], memory: Tensor, mask: Tensor | None) -> tuple[LayerState, ...]:
        zeros = memory.new_zeros(memory.shape[0], self.hidden_size)
        return ((zeros,) * len(self.state_names),) * self.layer_count


# `bridge` of the configuration, and the class it names.
BRIDGES: dict[str, type[Bridge]] = {
    "dense": DenseBridge,
    "backward": BackwardBridge,
    "average": AverageBridge,
    "copy": CopyBridge,
    "last": LastBridge,
    "zero": ZeroBridge,
}
