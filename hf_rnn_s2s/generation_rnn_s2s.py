"""How `generate()` of transformers works with a recurrent decoder, and when the package's own search does the work."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, cast

import torch
import transformers
from torch import nn
from transformers import EosTokenCriteria, GenerationConfig, GenerationMixin, LogitsProcessorList, StoppingCriteriaList
from transformers.utils import logging

from .base_rnn_s2s import check_ids
from .cache_rnn_s2s import RnnS2SCache, require_cache, require_rows, require_same_keys
from .configuration_rnn_s2s import RnnS2SConfig
from .decoder_rnn_s2s import rows_per_source
from .encoder_rnn_s2s import RnnS2SEncoderOutput, whole_encoder_outputs
from .limits_rnn_s2s import NEEDED, check_generation_file, check_generation_settings
from .numbers_rnn_s2s import FirstLogits, removes_invalid_values, require_numbers, require_usable_weights
from .search_rnn_s2s import beam_search, greedy_search
from .shortlist_rnn_s2s import Shortlist, load_shortlist
from .step_graphs_rnn_s2s import GraphStepper, StepGraphs
from .stepping_rnn_s2s import Stepper

logger = logging.get_logger(__name__)

# Processors and criteria that look at each row by itself, wherever it stands in the batch. Of others nobody knows.
BY_ROW = (
    transformers.MinLengthLogitsProcessor,
    transformers.MinNewTokensLengthLogitsProcessor,
    transformers.TemperatureLogitsWarper,
    transformers.RepetitionPenaltyLogitsProcessor,
    transformers.NoRepeatNGramLogitsProcessor,
    transformers.SequenceBiasLogitsProcessor,
    transformers.NoBadWordsLogitsProcessor,
    transformers.ForcedBOSTokenLogitsProcessor,
    transformers.ForcedEOSTokenLogitsProcessor,
    transformers.InfNanRemoveLogitsProcessor,
    transformers.ExponentialDecayLengthPenalty,
    transformers.LogitNormalization,
    transformers.SuppressTokensLogitsProcessor,
    transformers.SuppressTokensAtBeginLogitsProcessor,
    transformers.EosTokenCriteria,
    transformers.MaxLengthCriteria,
    transformers.MaxTimeCriteria,
    transformers.StopStringCriteria,
)
# Others that keep nothing from one call to the next, and do not look at the clock: a search with them can be repeated.
REPEATABLE = (
    *(one for one in BY_ROW if one is not transformers.MaxTimeCriteria),
    transformers.EncoderRepetitionPenaltyLogitsProcessor,
    transformers.EncoderNoRepeatNGramLogitsProcessor,
)
# What a search reads, or what means nothing to it: a Trainer passes the labels on, and the pipeline the tokenizer.
KNOWN_ARGUMENTS = {
    "encoder_outputs",
    "attention_mask",
    "past_key_values",
    "use_cache",
    "logits_to_keep",
    "labels",
    "tokenizer",
}
# What is said where these are of no use
WITHOUT = {
    "shortlist": "shortlist: this call looks at the whole vocabulary. Less is enough for greedy and beam search only, "
    "and only if nothing but token ids is wanted and no logits processor is used.",
    "step_graphs": "step_graphs: this call does not use them. They are for greedy and beam search, if nothing but "
    "token ids is wanted.",
}


class _Own(NamedTuple):
    """Arguments of our own on their way from `generate()` to a search."""

    shortlist: Shortlist | None
    source_ids: torch.Tensor | None
    step_graphs: StepGraphs | None


class _OwnCache(RnnS2SCache):
    """Made by `generate()`, so that nobody misses it where a search does without."""


class RnnS2SGenerationMixin(GenerationMixin):
    """`GenerationMixin` for a model with a recurrent decoder."""

    # Of the model class that this is mixed into
    config: RnnS2SConfig
    model: Any
    lm_head: nn.Module
    generation_config: GenerationConfig
    training: bool

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        *args: Any,
        shortlist: Shortlist | str | bool | None = None,
        step_graphs: StepGraphs | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        As `GenerationMixin.generate`, with two arguments more, for greedy and beam search that return token ids alone:

        Args:
            shortlist: which target tokens to look at, by the tokens of the batch's sources: a shortlist, a folder or a
                name on the Hub to read it from at every call, or True for the one beside the model. If a logits
                processor (a forced token, a repetition penalty, ...) wants scores of the whole vocabulary, or in other
                kinds of generation, the whole vocabulary is looked at, with a warning.
            step_graphs: replays the steps of the search as CUDA graphs, which it keeps from call to call.

        Raises:
            OSError: if there is no shortlist where it is looked for.
            ValueError: for a shortlist without source ids, or one made for fewer source tokens than there are; for a
                shortlist and graphs together, since the former changes the size of every step; for a setting that is
                no number where it must be one, or beyond all sense (`limits_rnn_s2s`); for weights that are
                no finite numbers.
        """
        config = args[0] if args else kwargs.get("generation_config")
        kwargs = {name: value for name, value in kwargs.items() if value is not None or name not in NEEDED}

        def setting(name: str) -> Any:
            """As `generate()` goes by it: what the caller says, before what the model has."""
            found = (kwargs.get(name), getattr(config, name, None), getattr(self.generation_config, name, None))
            return next((value for value in found if value is not None), None)

        check_generation_settings(setting, "Pass another one to generate(), or set it in model.generation_config.")
        source_ids = kwargs.get("input_ids") if inputs is None else inputs
        shortlist = load_shortlist(shortlist, self)
        if shortlist is not None and source_ids is None:
            raise ValueError("shortlist goes by the tokens of the source: pass input_ids beside it.")
        if shortlist is not None and step_graphs is not None:
            raise ValueError("step_graphs have a fixed size, which a shortlist changes every time; leave one out.")
        if shortlist is not None or step_graphs is not None:
            kwargs["own"] = _Own(shortlist, source_ids, step_graphs)
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        past_key_values: RnnS2SCache | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """
        What `generate()` passes to `forward`: of the target `input_ids` `(batch, past + target)`, only what the cache
        has not read.

        Raises:
            ValueError: if there is nothing new.
        """
        require_rows(past_key_values, input_ids.shape[0])
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

    def adjust_generation_fn(self, *args: Any, **kwargs: Any) -> None:
        """Reads the generation settings of a checkpoint, as in `GenerationMixin`, for `from_pretrained`.

        Raises:
            ValueError: for a setting of another kind than it must be, or a file without settings.
        """
        try:
            super().adjust_generation_fn(*args, **kwargs)  # type: ignore[misc]
        except (AttributeError, TypeError):  # of a comparison of a text and a number, which does not tell of what
            name = kwargs.get("pretrained_model_name_or_path", args[3] if len(args) > 3 else None)
            places = ("cache_dir", "local_files_only", "token", "revision", "subfolder", "proxies")
            if name is not None:
                check_generation_file(name, **{place: kwargs[place] for place in places if place in kwargs})
            raise

    def _prepare_generated_length(
        self, generation_config: GenerationConfig, has_default_max_length: bool, *args: Any, **kwargs: Any
    ) -> GenerationConfig:
        # A caller's max_new_tokens wins over max_length. Where that is the model's own, no warning of both is due.
        is_own = generation_config.max_length == self.generation_config.max_length
        may_differ = has_default_max_length or (generation_config.max_new_tokens is not None and is_own)
        return super()._prepare_generated_length(generation_config, may_differ, *args, **kwargs)  # type: ignore[misc]

    def _validate_model_kwargs(self, model_kwargs: dict[str, Any]) -> None:
        super()._validate_model_kwargs(  # type: ignore[misc]
            {name: value for name, value in model_kwargs.items() if name != "own"}
        )

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
        # The sources stay as they are: all beams of a sentence look at the same.
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
        cache = model_kwargs.get("past_key_values")
        require_cache(cache)
        if generation_config.prefill_chunk_size is not None:
            raise ValueError(
                "prefill_chunk_size: a recurrent decoder reads a prompt of any length at once; leave it out."
            )
        mask = model_kwargs.get("decoder_attention_mask")
        if mask is not None and not mask[:, -1].all():
            raise ValueError(
                "decoder_attention_mask has a row that ends in padding, from which nothing can be written on. Put the "
                "padding of prompts on the left."
            )
        # With dropout other keys are to be expected; an assistant begins again and again with a cache of its own.
        if cache is not None and cache.is_initialized and not self.training and not generation_config.is_assistant:
            encoded = whole_encoder_outputs(model_kwargs["encoder_outputs"], self.config.cell_type)
            if encoded is not None and encoded.last_hidden_state is not None:
                require_same_keys(cache, self.model.decoder.prepare_keys(encoded.last_hidden_state))
        super()._prepare_cache_for_generation(  # type: ignore[misc]
            generation_config, model_kwargs, *args, **kwargs
        )
        if generation_config.use_cache is not False and model_kwargs.get("past_key_values") is None:
            cache = _OwnCache()
            if generation_config.is_assistant:
                cache.activate_past_recording()
            model_kwargs["past_key_values"] = cache

    def _sample(
        self,
        input_ids: torch.LongTensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        ends = any(isinstance(criterion, EosTokenCriteria) for criterion in stopping_criteria)
        plain = ends and not generation_config.do_sample and streamer is None
        own = model_kwargs.pop("own", None)
        if not plain or not self._searches_itself(generation_config, synced_gpus, model_kwargs, rows_per_source=1):
            _warn_of_unused(own, "shortlist", "step_graphs")
            return super()._sample(  # type: ignore[misc]
                input_ids,
                self._checking_first_logits(logits_processor),
                stopping_criteria,
                generation_config,
                synced_gpus=synced_gpus,
                streamer=streamer,
                **model_kwargs,
            )
        pad_token_id: Any = generation_config._pad_token_tensor
        return greedy_search(
            self._stepper(input_ids, model_kwargs, generation_config, logits_processor, own),
            input_ids,
            logits_processor,
            stopping_criteria,
            pad_token_id.to(input_ids.device),
            may_leave=_may_leave(logits_processor, stopping_criteria, own),
        )

    def _beam_search(
        self,
        input_ids: torch.LongTensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        synced_gpus: bool = False,
        **model_kwargs: Any,
    ) -> Any:
        plain = not generation_config.do_sample and not generation_config.low_memory
        own = model_kwargs.pop("own", None)
        beams = generation_config.num_beams
        if not plain or not self._searches_itself(generation_config, synced_gpus, model_kwargs, rows_per_source=beams):
            _warn_of_unused(own, "shortlist", "step_graphs")
            return super()._beam_search(  # type: ignore[misc]
                input_ids,
                self._checking_first_logits(logits_processor),
                stopping_criteria,
                generation_config,
                synced_gpus=synced_gpus,
                **model_kwargs,
            )
        sequences, _ = beam_search(
            self._stepper(input_ids, model_kwargs, generation_config, logits_processor, own),
            input_ids[::beams],
            logits_processor,
            stopping_criteria,
            generation_config,
            may_leave=_may_leave(logits_processor, stopping_criteria, own) and not _may_displace(logits_processor),
            may_repeat=all(type(one) in REPEATABLE for one in [*logits_processor, *stopping_criteria]),
        )
        return sequences

    def _assisted_decoding(
        self, input_ids: torch.LongTensor, logits_processor: LogitsProcessorList, *args: Any, **kwargs: Any
    ) -> Any:
        # Processors are shown drafts as well, so they cannot tell which logits are those of this model.
        if not removes_invalid_values(logits_processor):
            require_usable_weights(cast(nn.Module, self))
        return super()._assisted_decoding(input_ids, logits_processor, *args, **kwargs)  # type: ignore[misc]

    def _searches_itself(
        self, config: GenerationConfig, synced_gpus: bool, model_kwargs: dict[str, Any], rows_per_source: int
    ) -> bool:
        """
        Whether nothing is asked for but token ids, in the ordinary way. Everything else is left to transformers: what
        else `generate()` returns, going on from a cache, padded prompts, an assistant's drafts, and models whose
        forward pass is not the one of this package.
        """
        cache, encoded = model_kwargs.get("past_key_values"), model_kwargs.get("encoder_outputs")
        unknown = [name for name, value in model_kwargs.items() if value is not None and name not in KNOWN_ARGUMENTS]
        return not (
            unknown
            or config.return_dict_in_generate
            or config.use_cache is False
            or config.is_assistant
            or synced_gpus
            or self.training
            or not (cache is None or type(cache) is _OwnCache)
            or (cache is not None and (cache.is_initialized or cache.records_past))
            or not isinstance(encoded, RnnS2SEncoderOutput)
            or (encoded.rows_per_source or 1) != rows_per_source
            or self._changes_forward()
        )

    def _checking_first_logits(self, processors: LogitsProcessorList) -> LogitsProcessorList:
        """Behind one that looks at the first logits, for a search of transformers."""
        if removes_invalid_values(processors):
            return processors
        return LogitsProcessorList([FirstLogits(cast(nn.Module, self)), *processors])

    def _changes_forward(self) -> bool:
        """Whether calling the model does anything but what the model class says."""
        raise NotImplementedError

    def _stepper(
        self,
        input_ids: torch.Tensor,
        model_kwargs: dict[str, Any],
        config: GenerationConfig,
        logits_processor: LogitsProcessorList,
        own: _Own | None,
    ) -> Stepper:
        """For target rows `input_ids` `(rows, prompt)`, of which the stepper has one for each source."""
        check_ids(input_ids, self.config.target_vocab_size, "decoder_input_ids")
        self.model.decoder.require_rows_for(model_kwargs["encoder_outputs"], len(input_ids))
        encoded = dataclasses.replace(model_kwargs["encoder_outputs"], rows_per_source=None)
        arguments = (self.model.decoder, self.lm_head, encoded, model_kwargs.get("attention_mask"))
        look = (
            None
            if removes_invalid_values(logits_processor)
            else functools.partial(require_numbers, model=cast(nn.Module, self))
        )
        rows = len(input_ids)
        if own is None:
            return Stepper(*arguments, rows=rows, look=look)
        if own.step_graphs is not None:
            return GraphStepper(*arguments, graphs=own.step_graphs, look=look)
        if logits_processor:
            _warn_of_unused(own, "shortlist")
            return Stepper(*arguments, rows=rows, look=look)
        end_ids: Any = config._eos_token_tensor
        shortlist: Any = own.shortlist
        tokens = shortlist.tokens_for(own.source_ids, [] if end_ids is None else end_ids.tolist())
        check_ids(tokens, self.config.target_vocab_size, "shortlist")
        return Stepper(*arguments, tokens.to(input_ids.device), rows, look)


def _may_leave(processors: list[Any], criteria: list[Any], own: _Own | None) -> bool:
    """Whether finished rows can leave the batch."""
    has_fixed_size = own is not None and own.step_graphs is not None
    return not has_fixed_size and all(type(one) in BY_ROW for one in [*processors, *criteria])


def _may_displace(processors: list[Any]) -> bool:
    """
    Whether a score may become so high, or no number, that transformers prefers it to hypotheses that are finished. The
    decay grows without end; a row of which nothing is left has no sum to be divided by.
    """
    kinds = {type(one) for one in processors}
    return transformers.ExponentialDecayLengthPenalty in kinds or (
        transformers.LogitNormalization in kinds and len(kinds) > 1
    )


def _warn_of_unused(own: _Own | None, *names: str) -> None:
    for name in names:
        if own is not None and getattr(own, name) is not None:
            logger.warning_once(WITHOUT[name])


__all__ = ["RnnS2SGenerationMixin"]
