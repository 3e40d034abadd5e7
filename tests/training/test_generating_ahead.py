"""Evaluations whose translations other processes write: the same figures, also while a model is trained."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration
from hf_rnn_s2s.decoding.workers import Workers
from hf_rnn_s2s.errors import RunError, UsageError
from hf_rnn_s2s.training.trainer import RnnS2STrainer

from .test_trainer import TEXTS, make_trainer

Make = Callable[..., RnnS2STrainer]
SOURCES = [f"{source} {more}" for more in ("", "a dog", "on a red mat runs fast", "seven") for source, _ in TEXTS]


@pytest.fixture
def dataset(tiny_tokenizer: PreTrainedTokenizerFast) -> Dataset:
    rows = []
    for number, source in enumerate(SOURCES):
        target = TEXTS[number % len(TEXTS)][1]
        encoded = tiny_tokenizer(source, text_target=target)
        rows.append({"source": source, "target": target, **encoded})
    return Dataset.from_list(rows).remove_columns("attention_mask")


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers(2)


@pytest.fixture
def make(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> Make:
    """A trainer of a copy of the model, with training arguments."""
    return lambda **given: make_trainer(copy.deepcopy(tiny_model), tiny_tokenizer, dataset, tmp_path, **given)


@pytest.mark.parametrize("bf16", [False, True])
def test_figures_and_texts_are_those_of_one_process(
    bf16: bool, make: Make, dataset: Dataset, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, while and after it is trained, with a last batch that is smaller than the others."""
    of_workers: list[int] = []
    run = workers.run
    monkeypatch.setattr(workers, "run", lambda *given: of_workers.append(1) or run(*given))
    trainers, before = [], []
    for processes in (1, 2):
        trainer = make(
            eval_processes=processes,
            per_device_eval_batch_size=3,
            bf16=bf16,
            eval_strategy="steps",
            eval_steps=1,
            max_steps=2,
            warmup_steps=0,
        )
        trainer._workers = workers
        before.append(figures(trainer.evaluate()))
        trainer.train()
        trainers.append(trainer)
    assert len(of_workers) == 3
    logs = [[figures(one) for one in trainer.state.log_history] for trainer in trainers]
    assert logs[0] == logs[1]
    assert before[0] == before[1]
    losses = [one["eval_loss"] for one in [*before[:1], *logs[0]] if "eval_loss" in one]
    assert losses == sorted(set(losses), reverse=True)
    assert len(losses) == 3
    texts = [trainer.predict(dataset, num_beams=3) for trainer in trainers]
    assert texts[0].predictions == texts[1].predictions
    assert figures(texts[0].metrics) == figures(texts[1].metrics)
    assert len(set(texts[0].predictions)) > 5


def figures(metrics: Any) -> dict[str, Any]:
    """Those that are no times."""
    return {name: one for name, one in metrics.items() if not name.endswith(("runtime", "per_second", "time"))}


def test_a_process_that_dies_twice_ends_the_evaluation(
    make: Make, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(eval_processes=2)
    trainer._workers = workers
    monkeypatch.setattr("hf_rnn_s2s.training.generating_ahead._generate", die)
    with pytest.raises(RunError, match="A process of the evaluation ended, and another one again.*eval_processes"):
        trainer.evaluate()
    monkeypatch.undo()
    assert trainer.evaluate()["eval_loss"] > 0


def die(shared: Any, inputs: Any) -> torch.Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_where_processes_are_of_no_use_they_are_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, message in (
        ("device", torch.device("cuda"), "share the cores of a CPU, and the model is on cuda"),
        ("world_size", 2, "but 2 processes share the work already"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"hf_rnn_s2s.training.arguments.RnnS2STrainingArguments.{name}", value)
            with pytest.raises(UsageError, match=message):
                make(eval_processes=2)
