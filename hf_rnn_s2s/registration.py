"""Registers this package with others: the Auto classes, the pipelines, and the cache in `torch.export`."""

from __future__ import annotations

import re
from typing import Any

import torch
import transformers.pipelines
from torch import Tensor
from transformers import (
    AutoConfig,
    AutomaticSpeechRecognitionPipeline,
    AutoModel,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    AutoTokenizer,
)

from .config_checks import register_checks
from .decoding.pipeline import RnnSummarizationPipeline, RnnText2TextGenerationPipeline, RnnTranslationPipeline
from .decoding.speech_pipeline import SpeechRecognitionByModel
from .model.cache_rnn_s2s import RnnS2SCache
from .model.configuration_rnn_s2s import RnnS2SConfig
from .model.state_rnn_s2s import DecoderState
from .model.tokenization_rnn_s2s import RnnS2STokenizer, RnnS2SWordTokenizer
from .options import describe_options
from .package_models import RnnS2SForConditionalGeneration, RnnS2SModel
from .presets import register_presets

TRANSLATION = "translation"
# The classes of pipelines, by the names of their tasks in transformers
PIPELINES = {
    TRANSLATION: RnnTranslationPipeline,
    "summarization": RnnSummarizationPipeline,
    "text2text-generation": RnnText2TextGenerationPipeline,
}
SPEECH = "automatic-speech-recognition"  # which transformers still has
TASK_OF_A_LANGUAGE_PAIR = re.compile(r"translation_.+_to_.+")  # its names in transformers 4


def register_everything() -> None:
    """Make all registrations; to do so again changes nothing."""
    register_auto_classes()
    register_pipelines()
    register_cache()
    describe_options()
    register_presets()
    register_checks()


def register_auto_classes() -> None:
    """Make the Auto classes read `model_type: rnn_s2s` with the classes of this package.

    They do so whether or not a checkpoint carries code of its own.
    """
    AutoConfig.register(RnnS2SConfig.model_type, RnnS2SConfig, exist_ok=True)
    AutoModel.register(RnnS2SConfig, RnnS2SModel, exist_ok=True)
    AutoModelForSeq2SeqLM.register(RnnS2SConfig, RnnS2SForConditionalGeneration, exist_ok=True)
    AutoModelForSpeechSeq2Seq.register(RnnS2SConfig, RnnS2SForConditionalGeneration, exist_ok=True)
    AutoTokenizer.register(RnnS2SConfig, tokenizer_class=RnnS2STokenizer, exist_ok=True)
    AutoTokenizer.register(_OfWords, tokenizer_class=RnnS2SWordTokenizer, exist_ok=True)
    # Tokenizers with one vocabulary of subwords are plain ones without code; these always need their own.
    RnnS2STokenizer.register_for_auto_class()
    RnnS2SWordTokenizer.register_for_auto_class()


def register_pipelines() -> None:
    """Bring back the tasks of `PIPELINES`, and `"translation_XX_to_YY"`, which transformers 5 removed.

    A pipeline that somebody else has registered under one of the names stays.
    """
    # Newer versions refuse the names of former tasks before they look at what is registered. The table is private, so
    # it may be gone one day, and the refusal with it.
    removed = getattr(transformers.pipelines, "REMOVED_TASKS", {})
    registry = transformers.pipelines.PIPELINE_REGISTRY
    for task, pipeline_class in PIPELINES.items():
        removed.pop(task, None)
        if task not in registry.supported_tasks:
            registry.register_pipeline(task, pipeline_class, pt_model=AutoModelForSeq2SeqLM, type="text")
            registry.supported_tasks[task]["default"] = _NoDefault(task)
    # The pipeline of transformers takes models it does not know for another kind (CTC).
    speech = registry.supported_tasks.get(SPEECH, {})
    current = speech.get("impl")  # the class, or its full name
    if current is AutomaticSpeechRecognitionPipeline or str(current).endswith(".AutomaticSpeechRecognitionPipeline"):
        speech["impl"] = SpeechRecognitionByModel
    if not isinstance(registry.task_aliases, _AliasesWithLanguagePairs):
        registry.task_aliases = _AliasesWithLanguagePairs(registry.task_aliases)


def register_cache() -> None:
    """Let `torch.export` take an `RnnS2SCache` apart.

    A whole model that returns a cache can then be exported, and a step that also takes one.
    """
    # torch has no public name for its trees. Without this one everything but the export of a cache works.
    trees = getattr(torch.utils, "_pytree", None)
    if trees is None or RnnS2SCache in getattr(trees, "SUPPORTED_NODES", {}):
        return

    def parts_with_keys(cache: RnnS2SCache) -> tuple[list[tuple[Any, Any]], bool]:
        parts, context = _parts_of_cache(cache)
        names = ("state", "keys", "token_count", "past", "remembered")
        return [(trees.GetAttrKey(name), part) for name, part in zip(names, parts, strict=True)], context

    trees.register_pytree_node(
        RnnS2SCache,
        _parts_of_cache,
        _cache_of_parts,
        serialized_type_name="hf_rnn_s2s.RnnS2SCache",
        flatten_with_keys_fn=parts_with_keys,
    )


def _parts_of_cache(cache: RnnS2SCache) -> tuple[list[Any], bool]:
    # A saved graph holds plain tuples only. The number of tokens is a tensor here: an exported step would take a plain
    # number for one that never changes.
    count: Any = cache._token_count
    if not isinstance(count, Tensor):
        count = torch.tensor(count)
    states = [cache.state, *cache._past]
    layers = [None if state is None else state.layers for state in states]
    remembered = [None if state is None else tuple(state[1:]) for state in states]
    return [layers[0], cache.keys, count, layers[1:], remembered], cache.records_past


def _cache_of_parts(parts: Any, records_past: bool) -> RnnS2SCache:
    cache = RnnS2SCache()
    state, cache.keys, count, past, remembered = parts
    cache.state, *cache._past = (
        None if layers is None else DecoderState(layers, *rest)
        for layers, rest in zip([state, *past], remembered, strict=True)
    )
    # While a graph is captured, tensors are fake and have no value.
    cache._token_count = int(count) if type(count) is Tensor else count
    cache._records_past = records_past
    return cache


class _OfWords(RnnS2SConfig):
    """For `AutoTokenizer` alone, which finds the classes of tokenizers by those of configurations, one by one."""


class _NoDefault(dict[str, Any]):
    """What transformers looks up where no model is named. An entry without it would end in a bare `KeyError`."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self._task = task

    def __contains__(self, name: object) -> bool:
        raise ValueError(
            f"There is no default model for {self._task}. Name one, a folder or a name on the Hub: "
            f'pipeline("{self._task}", model=...).'
        )


class _AliasesWithLanguagePairs(dict[str, str]):
    """Other names of tasks; among them `translation_XX_to_YY` for any two languages, as in transformers 4."""

    def __contains__(self, task: object) -> bool:
        return super().__contains__(task) or (isinstance(task, str) and bool(TASK_OF_A_LANGUAGE_PAIR.fullmatch(task)))

    def __missing__(self, task: Any) -> str:
        if task in self:
            return TRANSLATION
        raise KeyError(task)
