"""An encoder that reads features, such as those of speech, and halves their number."""

from typing import Any

import torch
from torch.nn import functional

from hf_rnn_s2s import RnnS2SConfig, register
from hf_rnn_s2s.model.base_rnn_s2s import RnnS2SPart
from hf_rnn_s2s.model.cells_rnn_s2s import CELLS, PaddedSource
from hf_rnn_s2s.model.encoder_rnn_s2s import RnnS2SEncoderOutput

FEATURES = 3  # of a frame


class HalvingEncoder(RnnS2SPart):
    """One layer over pairs of frames, side by side (Chan et al. 2016, section 3.1). It has no state to hand over."""

    main_input_name = "input_features"
    keeps_length = False

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        self.memory_size, self.state_size = 2 * config.hidden_size, 0
        self.layer = CELLS[config.cell_type](2 * FEATURES, self.memory_size)
        self.post_init()

    def forward(
        self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> RnnS2SEncoderOutput:
        """Features `(batch, frames, 3)` and a mask `(batch, frames)` of padding at the end."""
        if attention_mask is None:
            attention_mask = input_features.new_ones(input_features.shape[:2], dtype=torch.bool)
        features = input_features * attention_mask.unsqueeze(-1)
        features = functional.pad(features, (0, 0, 0, features.shape[1] % 2))
        mask = attention_mask[:, ::2].bool()
        source = PaddedSource(mask)
        pairs = source.forward_order(features.unflatten(1, (-1, 2)).flatten(2))
        outputs, _ = self.layer(pairs, padding=source.padding)
        return RnnS2SEncoderOutput(last_hidden_state=source.original_order(outputs), attention_mask=mask)


register("encoder_type", "halving", HalvingEncoder)
