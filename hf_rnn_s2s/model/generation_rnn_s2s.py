"""How `generate()` of transformers works with a recurrent decoder."""

import dataclasses
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin

from .cache_rnn_s2s import RnnS2SCache
from .configuration_rnn_s2s import RnnS2SConfig
from .encoder_rnn_s2s import RnnS2SEncoderOutput, rows_per_source, whole_encoder_outputs


class RnnS2SGenerationMixin(GenerationMixin):
    """`GenerationMixin` for a model with a recurrent decoder."""

    # Of the model class that this is mixed into
    config: RnnS2SConfig
    model: Any
    generation_config: GenerationConfig
    training: bool

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Generate as `GenerationMixin.generate` does. A shortlist and graphs are refused: they are the package's."""
        if any(kwargs.get(name) is not None for name in ("shortlist", "step_graphs")):
            raise ValueError("shortlist and step_graphs need the package hf_rnn_s2s: import it, or leave them out.")
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: RnnS2SCache | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Pass to `forward`, of the target `input_ids` `(batch, past + target)`, only what the cache has not read.

        Raises:
            ValueError: if there is nothing new.
        """
        read = 0 if past_key_values is None else past_key_values.get_seq_length()
        if read and next_sequence_length is None:
            next_sequence_length = input_ids.shape[1] - read
        if next_sequence_length is not None and next_sequence_length <= 0:
            raise ValueError(
                f"decoder_input_ids has {input_ids.shape[1]} tokens, but the cache has read {read}. Pass the whole "
                "target, the tokens that the cache has read included."
            )
        return super().prepare_inputs_for_generation(  # type: ignore[misc]
            input_ids, next_sequence_length=next_sequence_length, past_key_values=past_key_values, **kwargs
        )

    def _prepare_generated_length(
        self, generation_config: GenerationConfig, has_default_max_length: bool, *args: Any, **kwargs: Any
    ) -> GenerationConfig:
        # A caller's max_new_tokens overrides max_length; if that is the model's own, no warning of both is due.
        is_own = generation_config.max_length == self.generation_config.max_length
        may_differ = has_default_max_length or (generation_config.max_new_tokens is not None and is_own)
        return super()._prepare_generated_length(generation_config, may_differ, *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Any = None, **model_kwargs: Any
    ) -> tuple[Any, dict[str, Any]]:
        encoded = whole_encoder_outputs(model_kwargs.get("encoder_outputs"), self.config.cell_type)
        if not isinstance(encoded, RnnS2SEncoderOutput):
            return super()._expand_inputs_for_generation(  # type: ignore[misc]
                expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
            )
        # The sources are not repeated: all beams of a sentence attend to the same memory.
        of_sources = {"encoder_outputs": encoded, "attention_mask": model_kwargs.pop("attention_mask", None)}
        if expand_size > 1:
            repeats = expand_size * rows_per_source(encoded)
            of_sources["encoder_outputs"] = dataclasses.replace(encoded, rows_per_source=repeats)
        input_ids, model_kwargs = super()._expand_inputs_for_generation(  # type: ignore[misc]
            expand_size=expand_size, input_ids=input_ids, **{**model_kwargs, "encoder_outputs": None}
        )
        return input_ids, {**model_kwargs, **of_sources}

    def _prepare_cache_for_generation(  # type: ignore[override]
        self, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        super()._prepare_cache_for_generation(  # type: ignore[misc]
            generation_config, model_kwargs, *args, **kwargs
        )
        if generation_config.use_cache is not False and model_kwargs.get("past_key_values") is None:
            cache = RnnS2SCache()
            if generation_config.is_assistant:
                cache.activate_past_recording()
            model_kwargs["past_key_values"] = cache
