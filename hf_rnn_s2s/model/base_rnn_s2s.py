"""What the encoder, the decoder and the models share: initial and tied weights, and the checked embedding of ids."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, initialization

from .cells_rnn_s2s import is_loaded
from .configuration_rnn_s2s import BUILT_IN, RnnS2SConfig
from .remote_code_rnn_s2s import model_to_share

# What save_pretrained passes on to push_to_hub: arguments of that alone, and arguments that both of them read.
FOR_HUB_ONLY = ("repo_id", "commit_message", "commit_description", "private", "revision", "create_pr", "tags")
FOR_HUB_TOO = ("token", "max_shard_size")


class RnnS2SPreTrainedModel(PreTrainedModel):
    """Weight initialisation, tied weights, loading and sharing for all models of this package.

    Attributes:
        runtime: the `hf_rnn_s2s.runtime.Runtime` that the package sets where it is imported; None for a checkpoint
            that runs on the code it carries.
    """

    runtime: ClassVar[Any] = None

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
        elif isinstance(module, nn.Linear):
            initialization.xavier_uniform_(module.weight)
            if module.bias is not None:
                initialization.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            initialization.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.padding_idx is not None and not is_loaded(module.weight):
                module.weight.data[module.padding_idx].zero_()

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Two short rows, the second one padded, for source and target."""
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        ids = torch.tensor([[start, start, start], [start, start, pad]], device=self.device)
        return {"input_ids": ids, "attention_mask": ids.ne(pad), "decoder_input_ids": ids}

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
        return embeddings

    def save_pretrained(
        self, save_directory: str | os.PathLike, *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save as `PreTrainedModel.save_pretrained` does.

        With `push_to_hub`, `push_to_hub` of this class uploads the model, and the folder is the same as without.

        Raises:
            ValueError: if code is to be saved with a model that has a class from outside this package.
        """
        self._require_code_of_this_package()
        for_hub = {name: kwargs.pop(name) for name in FOR_HUB_ONLY if name in kwargs}
        super().save_pretrained(save_directory, *args, **kwargs)
        if push_to_hub and kwargs.get("is_main_process", True):
            of_both = {name: kwargs[name] for name in FOR_HUB_TOO if name in kwargs}
            repo_id = for_hub.pop("repo_id", None) or Path(save_directory).name
            self.push_to_hub(repo_id, **for_hub, **of_both)

    def push_to_hub(self, repo_id: str, *, carry_code: bool | None = None, **kwargs: Any) -> str:  # type: ignore[override]
        """Upload as `PreTrainedModel.push_to_hub` does, with the code that loads the model without this package.

        Where the package is imported, and the model was loaded from a folder with a card (`README.md`), the card goes
        up with the pictures it shows, and so does the shortlist. The model and its configuration stay as they are.

        Args:
            repo_id: the repository, such as `"your-name/your-model"`.
            carry_code: whether the code goes along. None means yes, unless `config.drop_code()` was called.
            kwargs: everything else that `push_to_hub` of transformers takes.
        """
        shared: Any = super(RnnS2SPreTrainedModel, model_to_share(self, carry_code))
        return shared.push_to_hub(repo_id, **kwargs)

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        # By now the folder has all that will be uploaded, with the card of the repository or an empty draft.
        if self.runtime is not None:
            self.runtime.add_card(self.name_or_path, working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _require_code_of_this_package(self) -> None:
        for name, choices in BUILT_IN.items():
            value = getattr(self.config, name)
            if self.config._auto_class is not None and value not in choices:
                raise ValueError(
                    f"{name}={value!r} means a class of your own, and the code that goes with a checkpoint is that of "
                    "hf_rnn_s2s alone. Save the model without code (model.config.drop_code(), or carry_code=False), "
                    "and register the class again where the model is loaded."
                )

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


__all__ = ["RnnS2SPart", "RnnS2SPreTrainedModel"]
