"""Encoders that are Transformers: one of this model's own, and any pretrained one of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from .configuration_rnn_s2s import RnnS2SConfig
from .encoder_rnn_s2s import ENCODERS, RnnS2SEncoderOutput, TokenEncoder, projection_of

Read = tuple[Tensor, tuple[Tensor, ...]]  # outputs `(batch, source, size)`, and those of all layers


class TransformerEncoder(TokenEncoder):
    """The encoder of Vaswani et al. 2017, with normalisation before each part (Chen et al. 2018, section 4).

    A token's position, of which there are sines and cosines, is its number among the tokens of its row, so that it
    does not matter where padding stands. Embeddings are not scaled on their way in: they begin wide. It has no final
    states.
    """

    state_size = 0

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        size = self._add_layers(config)
        self.projection = projection_of(config, size)
        self.memory_size = config.encoder_projection_size or size
        self.post_init()

    def _add_layers(self, config: RnnS2SConfig) -> int:
        """Make the layers, and return the width of their outputs."""
        size = config.hidden_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        self.embedding_dropout = nn.Dropout(config.dropout_of_embeddings)
        widths = size, config.encoder_attention_heads, config.encoder_ffn_dim
        layer = nn.TransformerEncoderLayer(*widths, config.dropout, batch_first=True, norm_first=True)
        norm = nn.LayerNorm(size)
        self.layers = nn.TransformerEncoder(layer, config.encoder_layers, norm, enable_nested_tensor=False)
        return size

    def read(self, embedded: Tensor, mask: Tensor | None, ids: Tensor | None, show: bool) -> RnnS2SEncoderOutput:
        outputs, hidden_states = self._read_layers(embedded, mask, ids)
        memory = outputs if self.projection is None else self.projection(outputs)
        return RnnS2SEncoderOutput(
            last_hidden_state=memory if mask is None else memory.masked_fill(~mask.unsqueeze(-1), 0),
            hidden_states=hidden_states if show else None,
        )

    def _read_layers(self, embedded: Tensor, mask: Tensor | None, ids: Tensor | None) -> Read:
        positions = torch.arange(embedded.shape[1], device=embedded.device).unsqueeze(0)
        if mask is not None:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
        inputs = self.embedding_dropout(embedded + sinusoids(positions, embedded))
        outputs = self.layers(inputs, src_key_padding_mask=None if mask is None else ~mask)
        return outputs, (embedded, outputs)


class PretrainedEncoder(TransformerEncoder):
    """Any encoder of transformers, of which `encoder_config` is the configuration (Rothe et al. 2020, under an RNN).

    Tokens of a row are moved together to its beginning before it reads them, since many count positions from there.
    It has no final states.
    """

    def _add_layers(self, config: RnnS2SConfig) -> int:
        nested: Any = config.encoder_config
        reader: Any = AutoModel.from_config(nested)
        self.reader = reader.get_encoder() if nested.is_encoder_decoder else reader
        if getattr(self.reader, "pooler", None) is not None:
            self.reader.pooler = None  # makes one vector of a text, which nobody reads here
        self.main_input_name = self.reader.main_input_name
        return nested.hidden_size

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

    def _read_layers(self, embedded: Tensor, mask: Tensor | None, ids: Tensor | None) -> Read:
        longest = getattr(self.config.encoder_config, "max_position_embeddings", None)
        if longest is not None and embedded.shape[1] > longest:
            found = f"The source has {embedded.shape[1]} tokens"
            raise ValueError(f"{found}, and this pretrained encoder reads at most {longest}.")
        name, values = ("inputs_embeds", embedded) if ids is None else ("input_ids", ids)
        settings: dict[str, Any] = {"output_hidden_states": True, "return_dict": True}
        if mask is None:
            outputs = self.reader(**{name: values}, **settings)
            return outputs.last_hidden_state, outputs.hidden_states
        order = mask.long().argsort(dim=1, descending=True, stable=True)  # tokens first, as they were
        rows = torch.arange(order.shape[0], device=order.device).unsqueeze(1)
        settings["attention_mask"] = mask[rows, order].long()
        outputs = self.reader(**{name: values[rows, order]}, **settings)
        back = order.argsort(dim=1)
        return outputs.last_hidden_state[rows, back], tuple(one[rows, back] for one in outputs.hidden_states)


ENCODERS |= {"transformer": TransformerEncoder, "pretrained": PretrainedEncoder}


def sinusoids(positions: Tensor, like: Tensor) -> Tensor:
    """Sines and cosines in turn, `(batch, source, size)`, of positions `(batch, source)` (Vaswani et al. 2017)."""
    size, dtype = like.shape[-1], torch.promote_types(like.dtype, torch.float32)
    exponents = torch.arange(0, size, 2, device=like.device, dtype=dtype) / size
    angles = positions.unsqueeze(-1) / 10000.0**exponents
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., :size].to(like.dtype)
