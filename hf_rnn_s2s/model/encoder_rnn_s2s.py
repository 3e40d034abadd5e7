"""The encoder, and what it hands to a decoder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .base_rnn_s2s import RnnS2SPart
from .cells_rnn_s2s import CELLS, PaddedSource, SequenceDropout, UnpaddedSource
from .configuration_rnn_s2s import RnnS2SConfig
from .head_rnn_s2s import HEADS
from .inputs_rnn_s2s import boolean_mask, embed


@dataclass
class RnnS2SEncoderOutput(ModelOutput):
    """Everything a decoder needs from an encoder, with the batch first, so that `generate()` can repeat it for beams.

    Args:
        last_hidden_state: the memory `(batch, source, memory)`, zero at padding. Its length need not be the input's.
        final_hidden: hidden state of each layer after a row's last token, `(batch, layers, state)`, if there is one.
        final_cell: the same for the cell state.
        attention_mask: `(batch, source)`, 1 at tokens; None if no row is padded.
        hidden_states: embeddings and the outputs of each layer, if asked for.
        rows_per_source: how many target rows, one after another, belong to each row here, such as beams; None: one.
        source_ids: token ids `(batch, source)`, for a head that copies from the source.
    """

    last_hidden_state: Tensor | None = None
    final_hidden: Tensor | None = None
    final_cell: Tensor | None = None
    attention_mask: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    rows_per_source: int | None = None
    source_ids: Tensor | None = None


class RnnS2SEncoder(RnnS2SPart):
    """Reads the source: one bidirectional layer (Schuster & Paliwal 1997), then forward layers.

    The forward layers have residual connections (Wu et al. 2016, section 3.1). Any other encoder is called as this one
    is, with its main input and a mask, and has the same attributes.

    Attributes:
        main_input_name: of the argument it reads, `input_ids`, or `input_features` `(batch, frames, features)`.
        memory_size: width of the memory.
        state_size: width of the final states; 0 if it gives none.
        keeps_length: whether the memory has a position for every position of the input; otherwise it returns a mask.
    """

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        self.memory_size = self.state_size = config.hidden_size
        cell = CELLS[config.cell_type]
        size = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        self.embedding_dropout = SequenceDropout(config.dropout_of_embeddings)
        self.forward_layer = cell(config.embedding_size, size // 2)
        self.backward_layer = cell(config.embedding_size, size // 2)
        self.upper_layers = nn.ModuleList(cell(size, size) for _ in range(config.encoder_layers - 1))
        self.dropout = SequenceDropout(config.dropout)
        self.keeps_ids = HEADS[config.head_type].needs_source_ids
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> RnnS2SEncoderOutput:
        """Read a source.

        Args:
            input_ids: `(batch, source)`.
            attention_mask: `(batch, source)`, 1 at tokens and 0 at padding, which may stand anywhere. Without it,
                padding is where `input_ids` has the padding id.
            inputs_embeds: `(batch, source, embedding)` instead of `input_ids`.
            output_hidden_states: whether to return the outputs of all layers.
            kwargs: as in `RnnS2SModel.forward`.

        Returns:
            The memory `(batch, source, hidden)` in the order of the input, zero at padding, and the final states. A
            row of only padding gives zeros. Errors are those of `embed` and `boolean_mask`.
        """
        embedded = embed(self.embed_tokens, input_ids, inputs_embeds, "input_ids", "inputs_embeds")
        mask = self._source_mask(input_ids, attention_mask, embedded)
        source = UnpaddedSource() if mask is None else PaddedSource(mask)
        if mask is not None and inputs_embeds is not None:
            # The caller's embeddings at padding may be anything, NaN included.
            embedded = embedded.masked_fill(~mask.unsqueeze(-1), 0)
        dropped = self.embedding_dropout(embedded)
        forward, forward_state = self.forward_layer(source.forward_order(dropped), padding=source.padding)
        backward, backward_state = self.backward_layer(source.backward_order(dropped), padding=source.padding)
        outputs = torch.cat([forward, source.backward_to_forward(backward)], dim=-1)
        states = [tuple(torch.cat(parts, dim=-1) for parts in zip(forward_state, backward_state, strict=True))]
        layer_outputs = [outputs]
        for layer in self.upper_layers:
            above, state = layer(self.dropout(outputs), padding=source.padding)
            outputs = outputs + above
            states.append(state)
            layer_outputs.append(outputs)
        hidden, *cell = (torch.stack(parts, dim=1) for parts in zip(*states, strict=True))
        shown = (embedded, *map(source.original_order, layer_outputs)) if output_hidden_states else None
        return RnnS2SEncoderOutput(
            last_hidden_state=source.original_order(outputs),
            final_hidden=hidden,
            final_cell=cell[0] if cell else None,
            attention_mask=mask,
            hidden_states=shown,
            source_ids=input_ids if self.keeps_ids else None,
        )

    def _source_mask(self, input_ids: Tensor | None, attention_mask: Tensor | None, embedded: Tensor) -> Tensor | None:
        if attention_mask is None:
            if input_ids is None:
                return None
            attention_mask = input_ids.ne(self.config.pad_token_id)
        mask = boolean_mask(attention_mask, embedded.shape[:2], "attention_mask", "source")
        # Looked up on the CPU only: elsewhere it would wait for the device.
        unpadded = mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())
        return None if unpadded else mask


# `encoder_type` of the configuration, and the class it names.
ENCODERS: dict[str, type[RnnS2SPart]] = {"bidirectional": RnnS2SEncoder}


def rows_per_source(encoder_outputs: Any) -> int:
    """How many target rows belong to one row of the source."""
    return getattr(encoder_outputs, "rows_per_source", None) or 1


def whole_encoder_outputs(outputs: Any, cell_type: str) -> Any:
    """Make an `RnnS2SEncoderOutput` of any encoder's output; nothing that was passed is changed.

    That is a tuple, as from `return_dict=False`, without what is None, or another class, such as `BaseModelOutput`.
    """
    if isinstance(outputs, ModelOutput) and not isinstance(outputs, RnnS2SEncoderOutput):
        own = [field.name for field in fields(RnnS2SEncoderOutput)]
        return RnnS2SEncoderOutput(**{name: getattr(outputs, name, None) for name in own})
    if not isinstance(outputs, (tuple, list)):
        return outputs
    names = ["last_hidden_state", *(f"final_{part}" for part in CELLS[cell_type].state_names)]
    named: dict[str, Any] = dict(zip(names, outputs, strict=False))
    for extra in outputs[len(names) :]:
        if isinstance(extra, int):
            named["rows_per_source"] = extra
        else:
            named["hidden_states" if isinstance(extra, (tuple, list)) else "attention_mask"] = extra
    return RnnS2SEncoderOutput(**named)
