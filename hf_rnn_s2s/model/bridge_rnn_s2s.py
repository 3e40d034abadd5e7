"""How the encoder's final state becomes the decoder's first state."""

from __future__ import annotations

import torch
from torch import nn

from .cache_rnn_s2s import DecoderState
from .configuration_rnn_s2s import RnnS2SConfig
from .recurrent_rnn_s2s import CELLS


class Bridge(nn.Module):
    """
    Attributes:
        reads_state: whether it needs the encoder's final state at all.
    """

    reads_state = True

    def forward(self, encoder_state: dict[str, torch.Tensor]) -> DecoderState:
        """Takes `(batch, layers, hidden)` per part of the state and returns the states of all decoder layers."""
        raise NotImplementedError


class DenseBridge(Bridge):
    """
    Each decoder layer starts from a learned map of the top encoder layer's final state, through tanh (Bahdanau et al.
    2015, appendix A.2.2). Hidden and cell state have maps of their own.
    """

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__()
        self.layer_count = config.decoder_layers
        self.projections = nn.ModuleDict(
            {
                name: nn.Linear(config.hidden_size, config.decoder_layers * config.hidden_size)
                for name in CELLS[config.cell_type].state_names
            }
        )

    def forward(self, encoder_state: dict[str, torch.Tensor]) -> DecoderState:
        """Takes `(batch, layers, hidden)` per part of the state and returns the states of all decoder layers."""
        parts = [
            torch.tanh(projection(encoder_state[name][:, -1])).chunk(self.layer_count, dim=-1)
            for name, projection in self.projections.items()
        ]
        return tuple(zip(*parts, strict=True))


class CopyBridge(Bridge):
    """
    Each decoder layer starts from the final state of the encoder layer at its height (Sutskever et al. 2014); layers
    above the encoder's top start from the top one.
    """

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__()
        self.layer_count = config.decoder_layers

    def forward(self, encoder_state: dict[str, torch.Tensor]) -> DecoderState:
        """Takes `(batch, layers, hidden)` per part of the state and returns the states of all decoder layers."""
        top = next(iter(encoder_state.values())).shape[1] - 1
        return tuple(
            tuple(part[:, min(layer, top)] for part in encoder_state.values()) for layer in range(self.layer_count)
        )


class ZeroBridge(CopyBridge):
    """Each decoder layer starts from zeros; only the attention tells of the source."""

    reads_state = False

    def forward(self, encoder_state: dict[str, torch.Tensor]) -> DecoderState:
        """Takes `(batch, layers, hidden)` per part of the state and returns the states of all decoder layers."""
        return super().forward({name: torch.zeros_like(part) for name, part in encoder_state.items()})


BRIDGES: dict[str, type[Bridge]] = {"dense": DenseBridge, "copy": CopyBridge, "zero": ZeroBridge}
"""`bridge` of the configuration, and how the first decoder state is made."""


__all__ = ["BRIDGES", "CopyBridge", "DenseBridge", "ZeroBridge"]
