"""What the encoder, the decoder and the models share: initial weights, tied weights, resizing, and uploading."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, initialization

from .cells_rnn_s2s import is_loaded
from .configuration_rnn_s2s import RnnS2SConfig
from .remote_code_rnn_s2s import model_to_share


class RnnS2SPreTrainedModel(PreTrainedModel):
    """Weight initialisation and tied weights for all models of this package."""

    config: RnnS2SConfig
    config_class = RnnS2SConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _no_split_modules = ["RnnS2SEncoder", "RnnS2SDecoder"]

    def __init__(self, config: RnnS2SConfig, *args: Any, **kwargs: Any) -> None:
        config.check()
        super().__init__(config, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw the weights of one module, except those that were loaded from a checkpoint."""
        own: Any = getattr(module, "initialize", None)
        if own is not None:  # a module that draws its own weights
            own()
        elif isinstance(module, (nn.Linear, nn.Conv1d)):
            initialization.xavier_uniform_(module.weight)
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, nn.MultiheadAttention):
            initialization.xavier_uniform_(module.in_proj_weight)
            initialization.zeros_(module.in_proj_bias)
        elif isinstance(module, nn.LayerNorm):
            initialization.ones_(module.weight)
            initialization.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.padding_idx is not None and not is_loaded(module.weight):
                module.weight.data[module.padding_idx].zero_()

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Which parameters are one tensor; the two switches of the configuration are independent of each other."""
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys)

    def _resize_token_embeddings(self, new_num_tokens: int | None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Resize both sides where they share their embeddings, else the source; the configuration follows."""
        config = self.config
        if config.share_encoder_decoder_embeddings:
            embeddings = super()._resize_token_embeddings(new_num_tokens, *args, **kwargs)
            if config.decoder_vocab_size is not None:
                config.decoder_vocab_size = embeddings.num_embeddings
        else:
            # Not the output layer, which belongs to the target
            source = cast(nn.Embedding, self.get_input_embeddings())
            embeddings = self._get_resized_embeddings(source, new_num_tokens, *args, **kwargs)
            self.set_input_embeddings(embeddings)
            if embeddings.num_embeddings != config.vocab_size:
                config.decoder_vocab_size = config.target_vocab_size
        config.vocab_size = embeddings.num_embeddings
        if config.encoder_config is not None:
            config.encoder_config.vocab_size = config.vocab_size
        return embeddings

    def push_to_hub(self, repo_id: str, *, carry_code: bool | None = None, **kwargs: Any) -> str:  # type: ignore[override]
        """Upload as `PreTrainedModel.push_to_hub` does, with the code that loads the model without this package.

        `carry_code=False` leaves the code out, and so does None after `config.drop_code()`. The model does not change.
        """
        shared: Any = super(RnnS2SPreTrainedModel, model_to_share(self, carry_code))
        return shared.push_to_hub(repo_id, **kwargs)

    @property
    def _tied_weights_keys(self) -> dict[str, str]:  # type: ignore[override]
        # A plain attribute in transformers; here it follows the switches of the configuration.
        return {}


class RnnS2SPart(RnnS2SPreTrainedModel):
    """Encoder or decoder. The two may share their embeddings, so only the whole model resizes them.

    Attributes:
        keeps_length: of an encoder, whether the memory has a position for every position of the input.
    """

    keeps_length = True

    def _resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        raise TypeError("Resize the vocabulary of the whole model; its parts may share their embeddings.")
