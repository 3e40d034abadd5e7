"""When `generate()` uses the package's own search, and what that search is given.

`generate(custom_generate=function)` is the public way to search with a function of one's own. Such a function takes
the place of every kind of generation, and is given no streamer, assistant or tokenizer. So it is passed only for
greedy and beam search that return token ids alone; everything else is left to the loops of transformers. Checkpoints
do not carry this file or the search: where the package is not installed, transformers searches, with the same result.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.integrations.fsdp import is_fsdp_managed_module
from transformers.utils import logging

from ..model.inputs_rnn_s2s import check_ids
from ..model.modeling_rnn_s2s import RnnS2SForConditionalGeneration
from .divided_options import are_grouped, check_groups, read_phrases
from .divided_search import divided_beam_search
from .endings import candidate_count, list_of_end_ids
from .ensemble import EnsembleStepper, check_ensemble
from .guard import changes_forward
from .normalization import GnmtPenalties
from .numbers import removes_invalid_values, require_numbers
from .phrases import (
    Forbidden,
    ForbidPhrases,
    ForbidPhrasesOfRows,
    Phrase,
    PhrasesOfRows,
    forbid,
    require_none_written,
    require_room,
)
from .repeated_calls import Prepared, Remember, can_be_repeated, prompts_of
from .search import beam_search, greedy_search
from .shortlist import Shortlist, is_optional, load_shortlist
from .step_graphs import GraphStepper, StepGraphs
from .stepper import Stepper

logger = logging.get_logger(__name__)

Setting = Callable[[str], Any]
"""Returns a setting of `generate()` by its name: the caller's value, or else that of the model."""

# Processors and criteria that treat each row independently of the others and of its position in the batch. Of unknown
# ones that is not assumed.
ROW_INDEPENDENT = (
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
    ForbidPhrases,
)
# Processors and criteria that keep nothing from one call to the next, and do not read the clock: a search with them
# can be repeated.
REPEATABLE = (
    *(one for one in ROW_INDEPENDENT if one is not transformers.MaxTimeCriteria),
    transformers.EncoderRepetitionPenaltyLogitsProcessor,
    transformers.EncoderNoRepeatNGramLogitsProcessor,
    ForbidPhrasesOfRows,
)
# Settings that ask for other kinds of generation, or for more results than token ids
UNSUPPORTED_SETTINGS = (
    "do_sample",
    "low_memory",
    "penalty_alpha",
    "dola_layers",
    "use_mtp",
    "prompt_lookup_num_tokens",
    "assistant_early_exit",
    "is_assistant",
    "token_healing",
    "stop_strings",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
)
# Arguments that the search reads or may ignore: a Trainer passes the labels on, and the pipeline the tokenizer. With
# any other one, such as a cache or a streamer, transformers searches.
KNOWN_ARGUMENTS = {
    "input_ids",
    "inputs_embeds",
    "input_features",
    "attention_mask",
    "copy_ids",
    "encoder_outputs",
    "decoder_input_ids",
    "generation_config",
    "logits_processor",
    "stopping_criteria",
    "prefix_allowed_tokens_fn",
    "use_cache",
    "logits_to_keep",
    "labels",
    "tokenizer",
    "trust_remote_code",
    "note_prepared",
}
# The arguments that this search adds to `generate()`
OPTIONS = (
    "shortlist",
    "step_graphs",
    "ensemble",
    "gnmt_length_penalty",
    "coverage_penalty",
    "force_phrases",
    "forbid_phrases",
)
# Passed beside them by the model: see `RepeatedCalls.note`
NOTE = "note_prepared"
# Those that a `GenerationConfig` may hold, too
SETTINGS = ("force_phrases", "forbid_phrases", "gnmt_length_penalty", "coverage_penalty")
# Those that compare hypotheses, and so mean nothing in greedy search
PENALTIES = ("gnmt_length_penalty", "coverage_penalty")
# Those that change what is written, so that they must not be left out
NEEDED_OPTIONS = ("ensemble", "gnmt_length_penalty", "coverage_penalty", "force_phrases", "forbid_phrases")
# The warning for each option where it is not used
UNUSED_WARNINGS = {
    "shortlist": "shortlist: this call looks at the whole vocabulary. Less is enough for greedy and beam search only, "
    "and only if nothing but token ids is wanted, no logits processor is used, no phrase is forced or forbidden, the "
    "beams are in one group, and the model copies no words.",
    "step_graphs": "step_graphs: this call does not use them. They are for greedy and beam search, if nothing but "
    "token ids is wanted.",
}


def load_options(model: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `generate()`, with the shortlist loaded if it is given by its name.

    Raises:
        OSError, TypeError, ValueError: as `load_shortlist`.
    """
    if "shortlist" not in arguments:
        return arguments
    return {**arguments, "shortlist": load_shortlist(arguments["shortlist"], model)}


def with_fast_search(
    model: RnnS2SForConditionalGeneration, inputs: Any, setting: Setting, arguments: dict[str, Any]
) -> dict[str, Any]:
    """The keyword arguments of a call of `generate()`, with `custom_generate` where this search can serve it.

    It has options, which are more arguments of `generate()`, for greedy and beam search that return token ids alone:

    - `shortlist`: selects the target tokens to score by the tokens of the batch's sources: a `Shortlist`, a folder or
      a name on the Hub to read it from at every call, or True for the one beside the model. If a logits processor (a
      forced token, a repetition penalty, ...) reads scores of the whole vocabulary, or in other kinds of generation,
      the whole vocabulary is scored, with a warning.
    - `step_graphs`: `StepGraphs`, which replay the steps of the search as CUDA graphs and keep them from call to call.
    - `ensemble`: a list of models with the same vocabulary that write together with this one: at every step, their
      probabilities are averaged.
    - `gnmt_length_penalty`, `coverage_penalty`: alpha and beta of `GnmtPenalties`, for beam search; they take the
      place of `length_penalty`.
    - `force_phrases`: what every translation must contain, for beam search (`divided_search`): a list of phrases, each
      a list of target token ids, for all rows, or one such list for each source row. `force_words_ids` of
      transformers 4 means the same where it is a list of phrases. A prompt (`decoder_input_ids`) counts, too. To find
      a good place for the phrases takes more beams than they have tokens.
    - `forbid_phrases`: what no translation may contain, in the same form, for greedy and beam search. As phrases are
      followed in Python, forced ones take a few times as long as plain beam search, and forbidden ones less.

    The last four may stand in a `GenerationConfig`, as other settings do.

    `num_beam_groups` and `diversity_penalty`, settings of transformers 4 for which version 5 goes to the Hub, make
    beam search diverse (`divided_search`): of `num_return_sequences`, the first ones are the best of each group.

    Raises:
        OSError: if there is no shortlist where it is looked for.
        TypeError: for an ensemble that is no list of models, and phrases that are no lists.
        ValueError: for a shortlist without source ids, or one made for fewer source tokens than there are; for a
            shortlist and graphs together, since the former changes the size of every step; for an ensemble with
            another vocabulary, penalties that are no numbers, and options in calls that they cannot be used in; for
            phrases that are none, do not fit in a translation, or contradict each other, and for beams that cannot be
            divided.
    """
    arguments = load_options(model, arguments)
    options = {name: arguments.pop(name, None) for name in (*OPTIONS, NOTE)}
    options = {**_settings(setting), **{name: value for name, value in options.items() if value is not None}}
    if arguments.get("custom_generate") is None:  # somebody's own way to search knows its own settings
        options |= read_phrases(model, inputs, options, setting)
        options = {name: value for name, value in options.items() if value is not None}
        check_groups(setting)
    if is_optional(options.get("shortlist")) and options.keys() & {"ensemble", "step_graphs"}:
        del options["shortlist"]
    if "shortlist" in options or "ensemble" in options:
        source = arguments.get(model.main_input_name) if inputs is None else inputs
        name = "shortlist goes by the tokens" if "shortlist" in options else "ensemble: every model reads the tokens"
        if source is None or ("shortlist" in options and source.is_floating_point()):
            raise ValueError(f"{name} of the source: pass {model.main_input_name} beside it.")
        options["source_ids"] = source
    _check_options(model, options, setting)
    if _can_search(model, setting, arguments):
        source = arguments.get("input_ids") if inputs is None else inputs
        if source is not None and arguments.get("encoder_outputs") is None and not are_grouped(setting):
            encoded = _encode(model, source, arguments.get("attention_mask"), options)
            if encoded is not None:
                arguments = {**arguments, "encoder_outputs": encoded}
        return {**arguments, **options, "custom_generate": search}
    asked = [name for name in NEEDED_OPTIONS if name in options]
    if arguments.get("custom_generate") is None and are_grouped(setting):
        asked.append("num_beam_groups")
    if asked:
        name = getattr(options.get(asked[0]), "name", asked[0])
        raise ValueError(
            f"{name}: only greedy and beam search that return token ids alone, with a cache, can do it. Leave out "
            "what asks for other kinds of generation or for more results (in the pipeline, return_attentions and "
            "replace_unknown do), or leave this out."
        )
    _warn_of_unused(options)
    return arguments


def search_again(model: Any, source: Tensor, mask: Tensor | None, prepared: Prepared) -> Tensor | None:
    """What `generate()` returns for sources `(sources, source)`, with settings that it has prepared before.

    None if the model has changed in a way that makes this search another one than before.
    """
    if not _is_searched(model):
        return None
    options = prepared.options
    if "shortlist" in options:
        options = {**options, "source_ids": source}
    with torch.no_grad():
        encoded = _encode(model, source, mask, options)
        if encoded is None:
            encoded = model.get_encoder()(source, attention_mask=mask, return_dict=True)
        if prepared.config.num_beams > 1:
            encoded.rows_per_source = prepared.config.num_beams
        prompts = prompts_of(source, prepared.config)
        given: dict[str, Any] = {"encoder_outputs": encoded, "attention_mask": mask, **options}
        arguments: Any = (model, prompts, LogitsProcessorList(), prepared.criteria, prepared.config)
        return search(*arguments, **given)


def _encode(model: Any, source: Tensor, mask: Tensor | None, options: dict[str, Any]) -> Any:
    """Sources as the graphs of an exported model encode them; None if they cannot make the steps of this search."""
    if model.runtime is None or options.keys() - {NOTE, "shortlist", "source_ids"}:
        return None
    return model.runtime.encode(source, mask, model.config) if model.runtime.serves(model) else None


def _settings(setting: Setting) -> dict[str, Any]:
    """The options that a generation configuration holds, but none for beams where there is one."""
    is_greedy = (setting("num_beams") or 1) == 1
    names = [name for name in SETTINGS if not (is_greedy and name in PENALTIES)]
    return {name: setting(name) for name in names if setting(name) is not None}


def _check_options(model: RnnS2SForConditionalGeneration, options: dict[str, Any], setting: Setting) -> None:
    """Raise an error for options that contradict each other or the call; see `with_fast_search`."""
    if "step_graphs" in options:
        if "shortlist" in options:
            raise ValueError("step_graphs have a fixed size, which a shortlist changes every time; leave one out.")
        others = ["num_beam_groups"] if are_grouped(setting) else []
        for name in (*filter(options.__contains__, ("ensemble", "coverage_penalty", "force_phrases")), *others):
            raise ValueError(f"step_graphs do not know {name}; leave one of the two out.")
    if "ensemble" in options:
        check_ensemble(model, options["ensemble"])
        if "shortlist" in options:
            raise ValueError("ensemble and shortlist cannot be used together; leave one of the two out.")
    for name in filter(options.__contains__, PENALTIES):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{name}={value!r} must be a finite number.")
        if (setting("num_beams") or 1) == 1:
            raise ValueError(f"{name} compares hypotheses, of which greedy search has one: set num_beams above 1.")
    if options.get("coverage_penalty") and model.config.attention_type == "none":
        raise ValueError("coverage_penalty is about the attention, but attention_type='none'.")


def search(
    model: RnnS2SForConditionalGeneration,
    input_ids: torch.LongTensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    shortlist: Shortlist | None = None,
    source_ids: Tensor | None = None,
    step_graphs: StepGraphs | None = None,
    ensemble: list[RnnS2SForConditionalGeneration] | None = None,
    gnmt_length_penalty: float | None = None,
    coverage_penalty: float | None = None,
    force_phrases: PhrasesOfRows[Phrase] | None = None,
    forbid_phrases: PhrasesOfRows[Forbidden] | None = None,
    note_prepared: Remember | None = None,
    **model_kwargs: Any,
) -> Tensor:
    """What `generate()` calls as `custom_generate`: greedy search, or with `num_beams` above 1 beam search.

    Args:
        model: whose decoder and output layer are called.
        input_ids: the prompts, `(rows, prompt)`; the beams of a sentence are rows next to each other.
        logits_processor: as `generate()` made it.
        stopping_criteria: as `generate()` made them.
        generation_config: as `generate()` made it.
        shortlist: selects the target tokens to score; None for all.
        source_ids: token ids of the sources, `(sources, source)`, for the shortlist and the ensemble.
        step_graphs: keeps captured steps.
        ensemble: models that write together with this one.
        gnmt_length_penalty: alpha of `GnmtPenalties`.
        coverage_penalty: beta of `GnmtPenalties`.
        force_phrases: what the translations of each source must contain.
        forbid_phrases: what they must not contain.
        note_prepared: is told what this search was given, if another one can be given the same.
        model_kwargs: the encoder's outputs, one row for each source, and other arguments of the model.

    Returns:
        Token ids `(rows, prompt + new)`, or with beams `(sentences * num_return_sequences, prompt + new)`.
    """
    check_ids(input_ids, model.config.written_vocab_size, "decoder_input_ids")
    model.model.decoder.require_rows_for(model_kwargs["encoder_outputs"], len(input_ids))
    beams: Any = generation_config.num_beams
    sentences = len(input_ids) // beams
    if note_prepared is not None and not logits_processor and can_be_repeated(input_ids, stopping_criteria):
        options = {} if shortlist is None else {"shortlist": shortlist}
        note_prepared(generation_config, stopping_criteria, options)
    if forbid_phrases is not None:
        forbid_phrases.require_rows(sentences)
        # Behind all others, so that none of them makes a token possible again
        forbidding = forbid(forbid_phrases, sentences, is_greedy=beams == 1)
        logits_processor = LogitsProcessorList([*logits_processor, forbidding])
    is_divided = force_phrases is not None or (generation_config.num_beam_groups or 1) > 1
    if shortlist is not None and (is_divided or logits_processor or model.output_head.needs_source_ids):
        _warn_of_unused({"shortlist": shortlist})
        shortlist = None
    stepper = _make_stepper(
        model,
        generation_config,
        len(input_ids),
        None if removes_invalid_values(logits_processor) else functools.partial(require_numbers, model=model),
        bool(coverage_penalty),
        None if shortlist is None else _tokens(model, shortlist, source_ids, generation_config, input_ids.device),
        step_graphs,
        model_kwargs,
    )
    if ensemble is not None:
        given = {name: model_kwargs.get(name) for name in ("attention_mask", "copy_ids")}
        others = [_stepper_of(one, source_ids, given, len(input_ids), bool(coverage_penalty)) for one in ensemble]
        stepper = EnsembleStepper([stepper, *others])
    processors, criteria = (list(map(type, some)) for some in (logits_processor, stopping_criteria))
    drop_finished = step_graphs is None and all(kind in ROW_INDEPENDENT for kind in [*processors, *criteria])
    prompts = input_ids[::beams]
    normalization = None
    if gnmt_length_penalty is not None or coverage_penalty is not None:
        normalization = GnmtPenalties(gnmt_length_penalty or 0.0, coverage_penalty or 0.0)
    if beams == 1:
        sequences = greedy_search(
            stepper, prompts, logits_processor, stopping_criteria, generation_config, drop_finished
        )
    elif is_divided:
        sequences = divided_beam_search(
            stepper,
            prompts,
            logits_processor,
            stopping_criteria,
            generation_config,
            drop_finished=drop_finished,
            normalization=normalization,
            phrases=_phrases_to_write(force_phrases, generation_config, prompts),
        )
    else:
        sequences, _ = beam_search(
            stepper,
            prompts,
            logits_processor,
            stopping_criteria,
            generation_config,
            drop_finished=drop_finished and not _may_beat_finished(set(processors)),
            repeatable=all(kind in REPEATABLE for kind in [*processors, *criteria]),
            normalization=normalization,
        )
    if forbid_phrases is not None:
        end_ids = list_of_end_ids(generation_config)
        require_none_written(sequences, forbid_phrases, input_ids.shape[1], end_ids, sentences)
    return sequences


def _make_stepper(
    model: Any,
    config: Any,
    rows: int,
    check: Callable[[Tensor], None] | None,
    covers: bool,
    tokens: Tensor | None,
    graphs: StepGraphs | None,
    model_kwargs: dict[str, Any],
) -> Stepper:
    """The steps of a search with so many rows and these settings; the other arguments are those of `Stepper`."""
    encoded = model_kwargs["encoder_outputs"]
    if hasattr(encoded, "of_runtime"):
        return model.runtime.stepper(encoded, tokens, candidate_count(config))
    if encoded.rows_per_source is not None:
        encoded = dataclasses.replace(encoded, rows_per_source=None)
    mask = model.model.memory_mask(model_kwargs.get("attention_mask"))
    arguments = (model.model.decoder, model.output_head, model.lm_head, encoded, mask)
    if graphs is not None:
        return GraphStepper(*arguments, graphs=graphs, check=check)
    return Stepper(*arguments, tokens, rows, check, covers)


def _tokens(
    model: Any, shortlist: Shortlist, source_ids: Tensor | None, config: GenerationConfig, device: torch.device
) -> Tensor | None:
    """The tokens of a shortlist for these sources; None for all, also where an optional one has too few."""
    if source_ids is None:
        return None
    tokens = shortlist.tokens_for(source_ids, list_of_end_ids(config))
    if is_optional(shortlist) and len(tokens) < candidate_count(config):
        return None
    check_ids(tokens, model.config.target_vocab_size, "shortlist")
    return tokens.to(device)


def _phrases_to_write(forced: PhrasesOfRows[Phrase] | None, config: Any, prompts: Tensor) -> list[list[Phrase]] | None:
    """The phrases of each row, which fit in what may be written behind the prompts `(sentences, prompt)`."""
    if forced is None:
        return None
    forced.require_rows(len(prompts))
    require_room(forced, config.max_length - prompts.shape[1])
    return [forced.of(row) for row in range(len(prompts))]


def _stepper_of(model: Any, source_ids: Any, given: dict[str, Any], rows: int, covers: bool) -> Stepper:
    """The steps of another model of an ensemble, for the same sources, of which `given` says more."""
    mask, copied = given["attention_mask"], given["copy_ids"]
    copied = {} if copied is None else {"copy_ids": copied[:: len(copied) // len(source_ids)]}
    encoded = model.get_encoder()(source_ids, attention_mask=mask, return_dict=True, **copied)
    modules = model.model.decoder, model.output_head, model.lm_head
    return Stepper(*modules, encoded, model.model.memory_mask(mask), None, rows, None, covers)


# `generate()` asks for the signature twice in every call, and making it takes longer than anything else here.
search.__signature__ = inspect.signature(search)  # type: ignore[attr-defined]


def _can_search(model: RnnS2SForConditionalGeneration, setting: Setting, arguments: dict[str, Any]) -> bool:
    """Whether the call is for greedy or beam search, for token ids alone, with a model whose forward is unchanged."""
    unknown = (
        name not in KNOWN_ARGUMENTS and not hasattr(model.generation_config, name)
        for name, value in arguments.items()
        if value is not None and value is not False
    )
    has_end = arguments.get("eos_token_id", setting("eos_token_id")) is not None
    return _is_searched(model) and not (
        any(unknown)
        or any(setting(name) not in (None, False) for name in UNSUPPORTED_SETTINGS)
        or setting("use_cache") is False
        or not (has_end or (setting("num_beams") or 1) > 1)  # greedy search of transformers never pads then
        or getattr(arguments.get("encoder_outputs"), "rows_per_source", None) is not None
    )


def _is_searched(model: Any) -> bool:
    """Whether the parts of a model may be called without the model itself."""
    return not (
        model.training or is_deepspeed_zero3_enabled() or is_fsdp_managed_module(model) or changes_forward(model)
    )


def _may_beat_finished(kinds: set[type]) -> bool:
    """Whether a score may become so high, or NaN, that transformers prefers it to finished hypotheses.

    The exponential decay of the length grows without bound; a row without any token left is normalized to NaN.
    """
    return transformers.ExponentialDecayLengthPenalty in kinds or (
        transformers.LogitNormalization in kinds and len(kinds) > 1
    )


def _warn_of_unused(options: dict[str, Any]) -> None:
    for name in filter(options.__contains__, UNUSED_WARNINGS):
        if not is_optional(options[name]):
            logger.warning_once(UNUSED_WARNINGS[name])
