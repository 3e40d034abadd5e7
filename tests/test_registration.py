"""What importing the package does to transformers. `test_hub.py` shows the same from fresh processes."""

import logging
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSeq2SeqLM,
    Pipeline,
    PreTrainedTokenizerFast,
    pipelines,
)

import hf_rnn_s2s
from hf_rnn_s2s import (
    RnnS2SCache,
    RnnS2SConfig,
    RnnS2SForConditionalGeneration,
    RnnS2SModel,
    RnnSummarizationPipeline,
    RnnText2TextGenerationPipeline,
    RnnTranslationPipeline,
)
from hf_rnn_s2s.options import meaning
from hf_rnn_s2s.registration import register_everything, register_pipelines

pipeline: Any = pipelines.pipeline  # its type hints know the tasks of transformers only


def test_auto_classes_know_the_model_type(tiny_config: RnnS2SConfig) -> None:
    assert type(AutoConfig.for_model("rnn_s2s")) is RnnS2SConfig
    assert type(AutoModel.from_config(tiny_config)) is RnnS2SModel
    assert type(AutoModelForSeq2SeqLM.from_config(tiny_config)) is RnnS2SForConditionalGeneration


@pytest.mark.parametrize("task", ["translation", "translation_en_to_de", "translation_zh_CN_to_en"])
def test_translation_is_a_task_again(
    task: str, tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    translator = pipeline(task, model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=4)
    assert type(translator) is RnnTranslationPipeline
    assert translator.task == task
    assert list(translator("a dog")[0]) == ["translation_text"]


@pytest.mark.parametrize(
    ("task", "pipeline_class", "key"),
    [
        ("summarization", RnnSummarizationPipeline, "summary_text"),
        ("text2text-generation", RnnText2TextGenerationPipeline, "generated_text"),
    ],
)
def test_other_tasks_of_transformers_4_are_back(
    task: str,
    pipeline_class: type,
    key: str,
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    writer = pipeline(task, model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=4)
    assert type(writer) is pipeline_class
    assert list(writer("a dog")[0]) == [key]
    assert list(writer("a dog", return_tensors=True)[0]) == [key.replace("text", "token_ids")]
    assert list(writer("a dog", return_scores=True)[0]) == [key, key.replace("text", "score")]
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=4)
    assert writer("a dog")[0][key] == translator("a dog")[0]["translation_text"]


@pytest.mark.parametrize("task", ["question-answering", "translation_en", "sentiment"])
def test_other_tasks_are_refused_as_before(task: str, tiny_model: RnnS2SForConditionalGeneration) -> None:
    with pytest.raises(KeyError, match=task):
        pipeline(task, model=tiny_model)


def test_aliases_of_transformers_still_work() -> None:
    registry = pipelines.PIPELINE_REGISTRY
    assert registry.check_task("ner")[0] == "token-classification"
    assert "ner" in registry.get_supported_tasks()
    assert registry.get_supported_tasks().count("translation") == 1
    with pytest.raises(KeyError, match="no-such-task"):
        registry.check_task("no-such-task")
    with pytest.raises(KeyError, match="no-such-task"):
        registry.task_aliases["no-such-task"]


def test_registering_again_changes_nothing_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    registry = pipelines.PIPELINE_REGISTRY
    before = (dict(registry.supported_tasks), registry.task_aliases)
    with caplog.at_level(logging.WARNING):
        register_everything()
    assert (registry.supported_tasks, registry.task_aliases) == before
    assert registry.task_aliases is before[1]
    assert not caplog.records


def test_a_cache_is_taken_apart_and_put_together(tiny_model: RnnS2SForConditionalGeneration) -> None:
    trees = torch.utils._pytree
    ids = torch.tensor([[5, 9, 2], [7, 2, 0]])
    cache = RnnS2SCache()
    cache.activate_past_recording()
    tiny_model(ids, decoder_input_ids=ids[:, :2], past_key_values=cache)
    leaves, tree = trees.tree_flatten(cache)
    assert all(isinstance(leaf, torch.Tensor) or leaf is None for leaf in leaves)
    other = trees.tree_unflatten([None if leaf is None else leaf.clone() for leaf in leaves], tree)
    assert repr(other) == repr(cache)
    assert other.records_past
    names = [trees.keystr(path) for path, _ in trees.tree_flatten_with_path(cache)[0]]
    assert names[:2] == [".state[0][0]", ".state[0][1]"]
    for one in (cache, other):
        one.crop(1)
    arguments = {"input_ids": ids, "decoder_input_ids": torch.tensor([[8], [9]])}
    logits = [tiny_model(**arguments, past_key_values=one).logits for one in (cache, other)]
    assert logits[0].equal(logits[1])


def test_torch_without_the_private_trees_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but export: the pipeline, which is taken away here, is registered again."""
    monkeypatch.delattr(torch.utils, "_pytree")
    monkeypatch.delitem(pipelines.PIPELINE_REGISTRY.supported_tasks, "translation")
    register_everything()
    assert pipelines.PIPELINE_REGISTRY.check_task("translation")[1]["impl"] is RnnTranslationPipeline


def test_somebody_elses_translation_pipeline_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    class OtherPipeline(Pipeline):
        pass

    tasks = pipelines.PIPELINE_REGISTRY.supported_tasks
    monkeypatch.setitem(tasks, "translation", {"impl": OtherPipeline, "pt": ()})
    register_pipelines()
    assert tasks["translation"]["impl"] is OtherPipeline


def test_transformers_without_the_private_table_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pipelines, "REMOVED_TASKS", raising=False)
    monkeypatch.delitem(pipelines.PIPELINE_REGISTRY.supported_tasks, "translation")
    register_pipelines()
    assert pipelines.PIPELINE_REGISTRY.check_task("translation")[1]["impl"] is RnnTranslationPipeline


def test_public_names_exist() -> None:
    assert [name for name in hf_rnn_s2s.__all__ if not hasattr(hf_rnn_s2s, name)] == []


@pytest.mark.parametrize("task", ["translation_en_to_de", "translation_zh-CN_to_en", "translation_en_to_pt_BR"])
def test_language_codes_of_every_form_make_a_task(task: str) -> None:
    assert pipelines.PIPELINE_REGISTRY.check_task(task)[0] == "translation"


@pytest.mark.parametrize("task", ["translation", "translation_en_to_de", "summarization", "text2text-generation"])
def test_without_a_model_the_error_asks_for_one(task: str) -> None:
    with pytest.raises(ValueError, match=r"no default model for (translation|summarization|text2text).*model="):
        pipeline(task)


def test_what_a_value_means_is_said_by_its_class_and_by_nothing_else() -> None:
    assert meaning("attention_type", "dot") == "`q · m` (Luong et al. 2015, equation 8, dot)"
    assert meaning("attention_normalizer", "softmax") == meaning("attention_type", "none") == ""
    assert meaning("attention_layer", "top") == ""
