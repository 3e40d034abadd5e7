"""Encoders that are Transformers: one of this model's own, and any pretrained one of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils.generic import can_return_tuple

from .base_rnn_s2s import RnnS2SPart
from .configuration_rnn_s2s import RnnS2SConfig
from .encoder_rnn_s2s import ENCODERS, RnnS2SEncoderOutput, ids_to_copy, source_mask
from .inputs_rnn_s2s import embed


class TransformerEncoder(RnnS2SPart):
    """The encoder of Vaswani et al. 2017, with normalisation before each part (Chen et al. 2018, section 4).

    A token's position, of which there are sines and cosines, is its number among the tokens of its row, so that it
    does not matter where padding stands. Embeddings are not scaled on their way in: they begin wide. It has no final
    states.
    """

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.memory_size, self.state_size = config.encoder_projection_size or size, 0
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        self.embedding_dropout = nn.Dropout(config.dropout_of_embeddings)
        widths = size, config.encoder_attention_heads, config.encoder_ffn_dim
        layer = nn.TransformerEncoderLayer(*widths, config.dropout, batch_first=True, norm_first=True)
        norm = nn.LayerNorm(size)
        self.layers = nn.TransformerEncoder(layer, config.encoder_layers, norm, enable_nested_tensor=False)
        self.projection = _projection(config, size)
        self.post_init()

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
        """As in `RnnS2SEncoder`; the hidden states are the embeddings and what comes out in the end."""
        embedded = embed(self.embed_tokens, input_ids, inputs_embeds, "input_ids", "inputs_embeds")
        mask = source_mask(input_ids, attention_mask, embedded, self.config.pad_token_id)
        positions = torch.arange(embedded.shape[1], device=embedded.device).unsqueeze(0)
        if mask is not None:
            embedded = embedded.masked_fill(~mask.unsqueeze(-1), 0)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
        inputs = self.embedding_dropout(embedded + sinusoids(positions, embedded))
        outputs = self.layers(inputs, src_key_padding_mask=None if mask is None else ~mask)
        memory = outputs if self.projection is None else self.projection(outputs)
        return RnnS2SEncoderOutput(
            last_hidden_state=_blank(memory, mask),
            attention_mask=mask,
            hidden_states=(embedded, outputs) if output_hidden_states else None,
            source_ids=ids_to_copy(self.config, input_ids, copy_ids),
        )


class PretrainedEncoder(RnnS2SPart):
    """Any encoder of transformers, of which `encoder_config` is the configuration (Rothe et al. 2020, under an RNN).

    Tokens of a row are moved together to its beginning before it reads them, since many count positions from there.
    It has no final states.
    """

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        nested: Any = config.encoder_config
        reader: Any = AutoModel.from_config(nested)
        self.reader = reader.get_encoder() if nested.is_encoder_decoder else reader
        if getattr(self.reader, "pooler", None) is not None:
            self.reader.pooler = None  # makes one vector of a text, which nobody reads here
        self.main_input_name = self.reader.main_input_name
        self.memory_size, self.state_size = config.encoder_projection_size or nested.hidden_size, 0
        self.projection = _projection(config, nested.hidden_size)
        self.post_init()

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """As in `nn.Module`; a frozen encoder stays in evaluation mode, and its weights get no gradients.

        Loading calls this, too, after it has put other tensors in the place of the weights.
        """
        super().train(mode)
        if self.config.freeze_encoder:
            self.reader.requires_grad_(False).eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        """Those of the pretrained encoder."""
        return self.reader.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace those of the pretrained encoder."""
        self.reader.set_input_embeddings(value)

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
        """As in `RnnS2SEncoder`; the hidden states are those of the pretrained encoder, its own order included."""
        embedded = embed(self.get_input_embeddings(), input_ids, inputs_embeds, "input_ids", "inputs_embeds")
        nested, length = self.config.encoder_config, embedded.shape[1]
        longest = getattr(nested, "max_position_embeddings", None)
        if longest is not None and length > longest:
            raise ValueError(f"The source has {length} tokens, and this pretrained encoder reads at most {longest}.")
        mask = source_mask(input_ids, attention_mask, embedded, nested.pad_token_id)
        given: dict[str, Any] = {"input_ids": input_ids} if inputs_embeds is None else {"inputs_embeds": embedded}
        if mask is None:
            outputs = self.reader(**given, output_hidden_states=output_hidden_states, return_dict=True)
            memory = outputs.last_hidden_state
        else:
            order = mask.long().argsort(dim=1, descending=True, stable=True)  # tokens first, as they were
            rows = torch.arange(len(order), device=order.device).unsqueeze(1)
            given = {name: values[rows, order] for name, values in given.items()}
            settings = {"attention_mask": mask[rows, order].long(), "output_hidden_states": output_hidden_states}
            outputs = self.reader(**given, **settings, return_dict=True)
            memory = outputs.last_hidden_state[rows, order.argsort(dim=1)]
        memory = memory if self.projection is None else self.projection(memory)
        return RnnS2SEncoderOutput(
            last_hidden_state=_blank(memory, mask),
            attention_mask=mask,
            hidden_states=outputs.hidden_states if output_hidden_states else None,
            source_ids=ids_to_copy(self.config, input_ids, copy_ids),
        )


ENCODERS |= {"transformer": TransformerEncoder, "pretrained": PretrainedEncoder}


def sinusoids(positions: Tensor, like: Tensor) -> Tensor:
    """Sines and cosines in turn, `(batch, source, size)`, of positions `(batch, source)` (Vaswani et al. 2017)."""
    size, dtype = like.shape[-1], torch.promote_types(like.dtype, torch.float32)
    exponents = torch.arange(0, size, 2, device=like.device, dtype=dtype) / size
    angles = positions.unsqueeze(-1) / 10000.0**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :size].to(like.dtype)


def _projection(config: RnnS2SConfig, size: int) -> nn.Linear | None:
    width = config.encoder_projection_size
    return None if width is None else nn.Linear(size, width, bias=False)


def _blank(memory: Tensor, mask: Tensor | None) -> Tensor:
    """The memory with zeros at padding."""
    return memory if mask is None else memory.masked_fill(~mask.unsqueeze(-1), 0)
