"""The encoder, and what it hands to a decoder."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .attention_rnn_s2s import ScoredAttention
from .base_rnn_s2s import RnnS2SPart
from .cells_rnn_s2s import CELLS, LayerOutput, PaddedSource, SequenceDropout, build_layer
from .configuration_rnn_s2s import RnnS2SConfig
from .head_rnn_s2s import HEADS
from .inputs_rnn_s2s import boolean_mask, embed
from .scores_rnn_s2s import GeneralScore
from .state_rnn_s2s import Sources


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
        source_ids: `(batch, source)`, the target ids of what a head may copy from the source.
    """

    last_hidden_state: Tensor | None = None
    final_hidden: Tensor | None = None
    final_cell: Tensor | None = None
    attention_mask: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    rows_per_source: int | None = None
    source_ids: Tensor | None = None


class TokenEncoder(RnnS2SPart):
    """Reads tokens: what all encoders of tokens have in common. A subclass says in `read` what it makes of them.

    Any other encoder is called as this one is, with its main input and a mask, and has the same attributes.

    Attributes:
        main_input_name: of the argument it reads, `input_ids`, or `input_features` `(batch, frames, features)`.
        memory_size: width of the memory.
        state_size: width of the final states; 0 if it gives none.
        keeps_length: whether the memory has a position for every position of the input; otherwise it returns a mask.
    """

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        output_hidden_states: bool | None = None,
        copy_ids: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> RnnS2SEncoderOutput:
        """Read a source.

        Args:
            input_ids: `(batch, source)`.
            attention_mask: `(batch, source)`, 1 at tokens and 0 at padding, which may stand anywhere. Without it,
                padding is where `input_ids` has the padding id.
            inputs_embeds: `(batch, source, embedding)` instead of `input_ids`.
            output_hidden_states: whether to return the outputs of all layers.
            copy_ids: passed on for a head that copies.
            kwargs: as in `RnnS2SModel.forward`.

        Returns:
            The memory `(batch, source, hidden)` in the order of the input, zero at padding, and the final states. A
            row of only padding gives zeros. Errors are those of `embed` and `boolean_mask`.
        """
        embedded = embed(self.get_input_embeddings(), input_ids, inputs_embeds, "input_ids", "inputs_embeds")
        mask = source_mask(
            input_ids, attention_mask, embedded, (self.config.encoder_config or self.config).pad_token_id
        )
        if mask is not None and inputs_embeds is not None:
            # The caller's embeddings at padding may be anything, NaN included.
            embedded = embedded.masked_fill(~mask.unsqueeze(-1), 0)
        encoded = self.read(embedded, mask, input_ids, bool(output_hidden_states))
        return replace(encoded, attention_mask=mask, source_ids=ids_to_copy(self.config, input_ids, copy_ids))

    def read(self, embedded: Tensor, mask: Tensor | None, ids: Tensor | None, show: bool) -> RnnS2SEncoderOutput:
        """Encode embedded tokens `(batch, source, embedding)`, with the outputs of all layers if they are to be shown.

        The mask `(batch, source)` is None where nothing is padded, and so are the ids where embeddings were given.
        """
        raise NotImplementedError


class RnnS2SEncoder(TokenEncoder):
    """One bidirectional layer (Schuster & Paliwal 1997), then layers in one direction.

    From `first_residual_layer` on, layers have residual connections (Wu et al. 2016, section 3.1).
    """

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        self.embedding_dropout = SequenceDropout(config.dropout_of_embeddings)
        self._add_layers(config)
        self.dropout = SequenceDropout(config.dropout)
        self.projection = projection_of(config, self.state_size)
        self.memory_size = config.encoder_projection_size or self.state_size
        self.post_init()

    def _add_layers(self, config: RnnS2SConfig) -> None:
        """Make the layers, and say how wide the top one is."""
        self.forward_layer = build_layer(config, config.embedding_size, config.direction_size)
        self.backward_layer = build_layer(config, config.embedding_size, config.direction_size)
        self._add_upper_layers(config, 2 * config.direction_size)

    def _add_upper_layers(self, config: RnnS2SConfig, bottom_size: int) -> None:
        size, above = config.hidden_size, range(config.encoder_layers - 1)
        self.upper_layers = nn.ModuleList(build_layer(config, size if index else bottom_size, size) for index in above)
        self.state_size = size if above else bottom_size

    def _read_bottom(self, embedded: Tensor, source: PaddedSource) -> LayerOutput:
        """The outputs of the first layer, in the order in which further layers read, and its final state."""
        return read_both_ways(self, source.forward_order(embedded), source)

    def read(self, embedded: Tensor, mask: Tensor | None, ids: Tensor | None, show: bool) -> RnnS2SEncoderOutput:
        source = PaddedSource(mask)
        outputs, state = self._read_bottom(self.embedding_dropout(embedded), source)
        states, layer_outputs = [state], [outputs]
        for index, layer in enumerate(self.upper_layers, start=2):
            above, state = self._read_upper(layer, self.dropout(outputs), source)
            outputs = outputs + above if 0 < self.config.first_residual_layer <= index else above
            states.append(state)
            layer_outputs.append(outputs)
        memory = outputs if self.projection is None else self.projection(outputs)
        # Only layers as wide as the top one stand in one tensor with it.
        states = [state for state in states if state[0].shape == states[-1][0].shape]
        hidden, *cell = (torch.stack(parts, dim=1) for parts in zip(*states, strict=True))
        in_order = self._original_order
        return RnnS2SEncoderOutput(
            last_hidden_state=self._attend(in_order(memory, source), mask),
            final_hidden=hidden,
            final_cell=cell[0] if cell else None,
            hidden_states=(embedded, *(in_order(one, source) for one in layer_outputs)) if show else None,
        )

    def _read_upper(self, layer: nn.Module, inputs: Tensor, source: PaddedSource) -> LayerOutput:
        """As `_read_bottom`, for a layer above it."""
        return layer(inputs, padding=source.padding)

    def _original_order(self, outputs: Tensor, source: PaddedSource) -> Tensor:
        """Outputs in the order of the input."""
        return source.original_order(outputs)

    def _attend(self, memory: Tensor, mask: Tensor | None) -> Tensor:
        """What becomes of the memory `(batch, source, memory)` in the end."""
        return memory


class UnidirectionalEncoder(RnnS2SEncoder):
    """Layers in one direction: from the last token to the first with `reverse_source` (Sutskever et al. 2014)."""

    def _add_layers(self, config: RnnS2SConfig) -> None:
        self.forward_layer = build_layer(config, config.embedding_size, config.hidden_size)
        self._add_upper_layers(config, config.hidden_size)

    def _read_bottom(self, embedded: Tensor, source: PaddedSource) -> LayerOutput:
        order = source.backward_order if self.config.reverse_source else source.forward_order
        return self.forward_layer(order(embedded), padding=source.padding)

    def _original_order(self, outputs: Tensor, source: PaddedSource) -> Tensor:
        if self.config.reverse_source:
            outputs = source.backward_to_forward(outputs)
        return source.original_order(outputs)


class BidirectionalStackEncoder(RnnS2SEncoder):
    """Every layer reads in both directions (Chen et al. 2018, section 3)."""

    def _add_upper_layers(self, config: RnnS2SConfig, bottom_size: int) -> None:
        above = range(config.encoder_layers - 1)
        self.upper_layers = nn.ModuleList(TwoDirections(config, bottom_size) for _ in above)
        self.state_size = bottom_size

    def _read_upper(self, layer: nn.Module, inputs: Tensor, source: PaddedSource) -> LayerOutput:
        return read_both_ways(layer, inputs, source)


class SelfAttentiveEncoder(RnnS2SEncoder):
    """As `bidirectional`, with a self-attention on top: `m_j + sum_k a_jk m_k`, `a_j = softmax_k(m_j · W m_k)`."""

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        score = GeneralScore(self.memory_size, self.memory_size)
        self.self_attention = ScoredAttention(score, config.attention_dropout)
        self.post_init()

    def _attend(self, memory: Tensor, mask: Tensor | None) -> Tensor:
        context, _, _ = self.self_attention(memory, Sources(memory, self.self_attention.prepare(memory), mask))
        attended = memory + context
        return attended if mask is None else attended.masked_fill(~mask.unsqueeze(-1), 0)


class TwoDirections(nn.Module):
    """A bidirectional layer above the first one."""

    def __init__(self, config: RnnS2SConfig, input_size: int) -> None:
        super().__init__()
        self.forward_layer = build_layer(config, input_size, config.direction_size)
        self.backward_layer = build_layer(config, input_size, config.direction_size)


def read_both_ways(layers: Any, inputs: Tensor, source: PaddedSource) -> LayerOutput:
    """Read with the `forward_layer` and the `backward_layer` of a module; everything is in the forward order."""
    forward, forward_state = layers.forward_layer(inputs, padding=source.padding)
    backward, backward_state = layers.backward_layer(source.backward_to_forward(inputs), padding=source.padding)
    outputs = torch.cat([forward, source.backward_to_forward(backward)], dim=-1)
    return outputs, tuple(torch.cat(parts, dim=-1) for parts in zip(forward_state, backward_state, strict=True))


# `encoder_type` of the configuration, and the class it names.
ENCODERS: dict[str, type[RnnS2SPart]] = {
    "bidirectional": RnnS2SEncoder,
    "unidirectional": UnidirectionalEncoder,
    "bidirectional_stack": BidirectionalStackEncoder,
    "self_attentive": SelfAttentiveEncoder,
}


def projection_of(config: RnnS2SConfig, size: int) -> nn.Linear | None:
    """The map of an encoder's outputs, without a bias, so that zeros at padding stay zeros; None without one."""
    width = config.encoder_projection_size
    return None if width is None else nn.Linear(size, width, bias=False)


def ids_to_copy(config: RnnS2SConfig, input_ids: Tensor | None, copy_ids: Tensor | None) -> Tensor | None:
    """Target ids of the source, `(batch, source)`, for a head that copies: by default the source's, if these are such.

    None where there are none, or the head does not copy.
    """
    if not HEADS[config.head_type].needs_source_ids or copy_ids is not None:
        return copy_ids
    return input_ids if config.share_encoder_decoder_embeddings or config.decoder_vocab_size is None else None


def source_mask(
    input_ids: Tensor | None, attention_mask: Tensor | None, embedded: Tensor, pad_token_id: int | None
) -> Tensor | None:
    """The mask `(batch, source)` of a source, True at tokens; None if there is no padding. Errors: `boolean_mask`."""
    if attention_mask is None:
        if input_ids is None or pad_token_id is None:
            return None
        attention_mask = input_ids.ne(pad_token_id)
    mask = boolean_mask(attention_mask, embedded.shape[:2], "attention_mask", "source")
    # Looked up on the CPU only: elsewhere it would wait for the device.
    unpadded = mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())
    return None if unpadded else mask


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
            is_mask = isinstance(extra, Tensor) and extra.dtype == torch.bool
            named["attention_mask" if is_mask else "source_ids" if isinstance(extra, Tensor) else "hidden_states"] = (
                extra
            )
    return RnnS2SEncoderOutput(**named)
