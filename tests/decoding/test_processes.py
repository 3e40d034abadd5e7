"""The pipeline with several processes: the same results, in order, as they come; and what cannot be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline
from hf_rnn_s2s.errors import ProcessError

WORDS = ["a", "small", "dog", "runs", "fast", "the", "big", "cat", "sleeps", "on", "red", "mat", "one", "two", "three"]


def texts_of(count: int) -> list[str]:
    """Some texts of 0 to 11 words."""
    return [
        " ".join(WORDS[(number * 7 + place * 5) % len(WORDS)] for place in range(number % 12))
        for number in range(count)
    ]


TEXTS = texts_of(50)


class Fragile(RnnTranslationPipeline):
    """Fails at some texts, and kills its process at others."""

    def postprocess(self, model_outputs: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
        text = model_outputs["source"][0]
        if text.endswith("fails"):
            raise KeyError(text)
        if text.endswith("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().postprocess(model_outputs, **parameters)


@pytest.fixture(scope="module")
def kept() -> list[RnnTranslationPipeline]:
    """The pipeline of all tests here, whose processes start once."""
    return []


@pytest.fixture
def translator(
    kept: list[RnnTranslationPipeline],
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> RnnTranslationPipeline:
    made = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    if kept:
        made._workers = kept[0]._workers
    kept[:] = [made]
    return made


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 3, "num_return_sequences": 2, "return_scores": True, "return_warnings": True},
        {"split_sentences": True},
        {"forbid_phrases": [[["dog"], []][number % 2] for number in range(50)]},
        {"prefix_allowed_tokens_fn": max},
    ],
)
def test_results_are_those_of_one_process(translator: RnnTranslationPipeline, settings: dict[str, Any]) -> None:
    if "prefix_allowed_tokens_fn" in settings:
        settings = {"prefix_allowed_tokens_fn": only_small_ids}
    expected = translator(TEXTS, batch_size=4, **settings)
    assert translator(TEXTS, batch_size=4, processes=2, **settings) == expected
    assert len({str(one) for one in expected}) > 5


def only_small_ids(row: int, ids: torch.Tensor) -> list[int]:
    return list(range(100 + 10 * row))


def test_ten_thousand_texts(translator: RnnTranslationPipeline) -> None:
    texts = texts_of(10_000)
    assert translator(texts, processes=2) == translator(texts, processes=1)


def test_tensors_come_back(translator: RnnTranslationPipeline) -> None:
    settings: dict[str, Any] = {"return_attentions": "heads", "return_tensors": True, "batch_size": 3}
    expected = translator(TEXTS, **settings)
    for one, other in zip(translator(TEXTS, processes=2, **settings), expected, strict=True):
        assert torch.equal(one["translation_token_ids"], other["translation_token_ids"])
        assert torch.equal(one["attention"], other["attention"])
        assert torch.equal(one["cross_attentions"][0], other["cross_attentions"][0])


def test_a_stream_is_read_a_few_batches_ahead(translator: RnnTranslationPipeline) -> None:
    read: list[str] = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    results = iter(translator(texts(), batch_size=2, processes=2))
    first = [next(results), next(results)]
    assert len(read) <= 16
    assert [one for [one] in [*first, *results]] == translator(TEXTS, batch_size=2)


def test_what_has_changed_counts(translator: RnnTranslationPipeline) -> None:
    before = translator(TEXTS, processes=2)
    with torch.no_grad():
        translator.model.lm_head.weight.data.mul_(-1)
    after = translator(TEXTS, processes=2)
    assert after == translator(TEXTS)
    assert after != before
    translator.model.generation_config.max_new_tokens = 3
    assert translator(TEXTS, processes=2) == translator(TEXTS)


def test_what_is_drawn_depends_on_the_seed_alone(translator: RnnTranslationPipeline) -> None:
    def drawn(seed: int, processes: int) -> Any:
        torch.manual_seed(seed)
        return translator(TEXTS, processes=processes, do_sample=True, batch_size=4)

    first = drawn(1, 2)
    assert drawn(1, 3) == first
    assert drawn(2, 3) != first
    assert len({str(one) for one in first}) > 10


def test_a_process_that_is_killed_loses_nothing(translator: RnnTranslationPipeline) -> None:
    expected = translator(texts_of(200), batch_size=4)
    results = iter(translator(iter(texts_of(200)), batch_size=4, processes=2))
    got = [next(results)]
    assert translator._workers is not None
    assert translator._workers._pool is not None
    os.kill(next(iter(translator._workers._pool._processes)), signal.SIGKILL)
    got.extend(results)
    assert [one for [one] in got] == expected


@pytest.fixture
def fragile(translator: RnnTranslationPipeline) -> RnnTranslationPipeline:
    made = Fragile(model=translator.model, tokenizer=translator.tokenizer, device="cpu", max_new_tokens=6)
    made._workers = translator._workers
    return made


def test_a_text_that_fails_is_named(fragile: RnnTranslationPipeline) -> None:
    texts = [*TEXTS, "the cat fails", *TEXTS]
    with pytest.raises(ProcessError, match=r"^Input 50: it fails, and not all others .*: KeyError: 'the cat fails'"):
        fragile(texts, processes=2)
    with pytest.raises(KeyError, match="the cat fails"):  # where it is not the text
        fragile(["the cat fails"] * 3, processes=2)


def test_a_sentence_that_fails_is_named_by_its_document(fragile: RnnTranslationPipeline) -> None:
    documents = ["A dog runs. A cat sleeps.", "One dog. The cat fails", "Two dogs. A cat."]
    with pytest.raises(ProcessError, match="^Input 1: it fails"):
        fragile(documents, processes=2, split_sentences="en")


def test_a_text_at_which_processes_die_is_named(fragile: RnnTranslationPipeline) -> None:
    with pytest.raises(ProcessError, match=r"Inputs? 2.*: a worker process died at one of them.*lower batch_size"):
        fragile(["a", "a dog", "the cat dies"], processes=2, batch_size=1)


def test_settings_are_refused_as_in_one_process(translator: RnnTranslationPipeline) -> None:
    for settings, message in (
        ({"num_beams": 0}, "num_beams=0 must be a whole number"),
        ({"processes": 0}, "processes=0 must be a whole number from 1"),
        ({"processes": 2.5}, r"processes=2\.5 must be a whole number"),
        ({"prefix_allowed_tokens_fn": lambda row, ids: [1]}, "cannot be sent to another process"),
        ({"minimum_bayes_risk": True}, "set num_return_sequences above 1"),
    ):
        with pytest.raises(ValueError, match=message):
            translator(TEXTS, **{"processes": 2, **settings})


def test_a_model_on_another_device_is_refused(
    translator: RnnTranslationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator, "device", torch.device("cuda"))
    with pytest.raises(ValueError, match="processes=2 share the cores of a CPU, and the model is on cuda"):
        translator(TEXTS, processes=2)


def test_a_call_that_takes_long_brings_a_hint_once(
    translator: RnnTranslationPipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    monkeypatch.setattr("hf_rnn_s2s.decoding.batched_pipeline.usable_cores", lambda: 4)
    translator(TEXTS)  # which does not take long
    monkeypatch.setattr("hf_rnn_s2s.decoding.batched_pipeline.WORTH_PROCESSES", 0.0)
    translator(TEXTS, processes=1)
    assert not caplog.messages
    for _ in range(2):
        translator(TEXTS)
    [message] = caplog.messages
    assert "processes=4 (--processes 4" in message


def test_a_script_that_is_not_written_for_processes_is_told(
    translator: RnnTranslationPipeline, tmp_path: Path
) -> None:
    translator.save_pretrained(tmp_path / "model")
    script = tmp_path / "script.py"
    script.write_text(
        "from transformers import pipeline\nimport hf_rnn_s2s\n"
        f"translator = pipeline('translation', model={str(tmp_path / 'model')!r}, device='cpu')\n"
        "print(translator(['a dog'], processes=2))\n",
        encoding="utf-8",
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert 'put what your script does under `if __name__ == "__main__":`' in ended.stderr.splitlines()[-1]
