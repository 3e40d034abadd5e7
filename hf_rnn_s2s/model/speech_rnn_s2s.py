"""The encoder of speech: frames of a recording become a memory that is shorter than they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils.generic import can_return_tuple

from .base_rnn_s2s import RnnS2SPart
from .cells_rnn_s2s import PaddedSource, SequenceDropout
from .configuration_rnn_s2s import RnnS2SConfig
from .encoder_rnn_s2s import ENCODERS, RnnS2SEncoderOutput, TwoDirections, projection_of, read_both_ways
from .inputs_rnn_s2s import boolean_mask


class PyramidalEncoder(RnnS2SPart):
    """The listener of Listen, Attend and Spell (Chan et al. 2016, section 3.1): bidirectional layers, one on another.

    The first one reads `stacked_frames` frames side by side, and each layer above it two outputs of the one below
    (equation 5). Padding may stand anywhere: frames move to the beginning of their row before they are joined. In
    training, spans of frames and of features are set to 0 (SpecAugment, Park et al. 2019), as configured.
    """

    main_input_name = "input_features"
    keeps_length = False

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        self.features, self.stacked = config.num_mel_bins, config.stacked_frames
        self.state_size = size = 2 * config.direction_size
        bottom = self.features * self.stacked
        self.layers = nn.ModuleList(
            TwoDirections(config, 2 * size if index else bottom) for index in range(config.encoder_layers)
        )
        self.dropout = SequenceDropout(config.dropout)
        self.projection = projection_of(config, size)
        self.memory_size = config.encoder_projection_size or size
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: torch.FloatTensor | None = None,
        attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> RnnS2SEncoderOutput:
        """Read a recording.

        Args:
            input_features: `(batch, frames, features)`.
            attention_mask: `(batch, frames)`, 1 at frames and 0 at padding.
            output_hidden_states: whether to return the outputs of all layers.
            kwargs: as in `RnnS2SModel.forward`.

        Returns:
            The memory `(batch, source, hidden)`, zero at padding, where `source` is the number of frames divided by
            `stacked_frames` and by 2 for each layer above the first one, rounded up each time; the final states; and
            the mask of the memory.

        Raises:
            TypeError: for features of another dtype than the model.
            ValueError: if there are none, or their shape or that of the mask is wrong.
        """
        features = self._checked(input_features)
        mask = None
        if attention_mask is not None:
            mask = boolean_mask(attention_mask, features.shape[:2], "attention_mask", "source")
            features, mask = _to_the_beginning(features.masked_fill(~mask.unsqueeze(-1), 0), mask)
        if self.training and self.config.apply_spec_augment:
            features = spec_augment(features, mask, self.config)
        outputs, mask = _joined(features, mask, self.stacked)
        states, layer_outputs = [], []
        for index, layer in enumerate(self.layers):
            if index:
                outputs, mask = _joined(self.dropout(outputs), mask, 2)
            source = PaddedSource(mask)
            read, state = read_both_ways(layer, source.forward_order(outputs), source)
            outputs = source.original_order(read)
            states.append(state)
            layer_outputs.append(outputs)
        hidden, *cell = (torch.stack(parts, dim=1) for parts in zip(*states, strict=True))
        return RnnS2SEncoderOutput(
            last_hidden_state=outputs if self.projection is None else self.projection(outputs),
            final_hidden=hidden,
            final_cell=cell[0] if cell else None,
            attention_mask=mask,
            hidden_states=(features, *layer_outputs) if output_hidden_states else None,
        )

    def _checked(self, features: Tensor | None) -> Tensor:
        if features is None:
            raise ValueError("Pass input_features: frames of a recording, as the feature extractor makes them.")
        if features.dim() != 3 or features.shape[2] != self.features or 0 in features.shape:
            raise ValueError(
                f"input_features has the shape {tuple(features.shape)}; it must be (batch, frames, {self.features}), "
                "at least one of each. Use the feature extractor that belongs to the model."
            )
        dtype = next(self.parameters()).dtype
        if features.dtype != dtype and not torch.is_autocast_enabled(features.device.type):
            raise TypeError(
                f"input_features is of {features.dtype} and the model of {dtype}: pass input_features.to({dtype})."
            )
        return features


def _to_the_beginning(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move the frames of each row to its beginning, in their order."""
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    return features.gather(1, order.unsqueeze(-1).expand_as(features)), mask.gather(1, order)


def _joined(features: Tensor, mask: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
    """Join `count` neighbours, `(batch, time / count, count * size)`, with zeros in the place of missing ones."""
    if count == 1:
        return features, mask
    padded = functional.pad(features, (0, 0, 0, -features.shape[1] % count))
    return padded.unflatten(1, (-1, count)).flatten(2), None if mask is None else mask[:, ::count]


def spec_augment(features: Tensor, mask: Tensor | None, config: RnnS2SConfig) -> Tensor:
    """Features `(batch, frames, features)` with spans of frames and of features set to 0.

    As in other models of transformers, `mask_time_prob` and `mask_feature_prob` are the shares of frames and features
    that spans of `mask_time_length` and `mask_feature_length` would cover if none of them overlapped.
    """
    rows, frames, size = features.shape
    lengths = features.new_full((rows,), frames) if mask is None else mask.sum(1)
    sizes = torch.full_like(lengths, size)
    in_time = _random_spans(lengths, frames, config.mask_time_prob, config.mask_time_length)
    in_features = _random_spans(sizes, size, config.mask_feature_prob, config.mask_feature_length)
    return features.masked_fill(in_time.unsqueeze(2) | in_features.unsqueeze(1), 0)


def _random_spans(lengths: Tensor, longest: int, share: float, width: int) -> Tensor:
    """A mask `(rows, longest)` of random spans, inside the first `lengths` positions of each row."""
    lengths = lengths.unsqueeze(1).float()
    most = 1 + int(share * longest / width)
    expected = share * lengths / width
    count = (expected + torch.rand_like(lengths)).floor()  # rounded up or down, so that the mean is right
    starts = (torch.rand(len(lengths), most, device=lengths.device) * (lengths - width + 1).clamp(min=1)).floor()
    is_drawn = torch.arange(most, device=lengths.device) < count
    positions = torch.arange(longest, device=lengths.device)
    covers = (positions >= starts.unsqueeze(2)) & (positions < starts.unsqueeze(2) + width) & is_drawn.unsqueeze(2)
    return covers.any(1)


ENCODERS["pyramidal"] = PyramidalEncoder
