"""
What `benchmarks.revisions` asks of one revision of the package: reads calls as JSON lines, answers them as JSON lines.

It is started as a file, with the checkout of the revision in PYTHONPATH: the package is that of the revision, and this
file is the same for both. So it keeps to what both of them have.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from race import Answers  # of this file's folder, whichever revision is measured
from transformers import DataCollatorForSeq2Seq
from transformers.utils import logging

import hf_rnn_s2s
from hf_rnn_s2s import (
    RnnS2SConfig,
    RnnS2SForConditionalGeneration,
    RnnS2STokenizer,
    train_tokenizer,
)

# Earlier revisions had no packages.
TRAINING = "hf_rnn_s2s.training" if importlib.util.find_spec("hf_rnn_s2s.training") else "hf_rnn_s2s"
RnnS2STrainingArguments = importlib.import_module(f"{TRAINING}.arguments").RnnS2STrainingArguments
RnnS2STrainer = importlib.import_module(f"{TRAINING}.trainer").RnnS2STrainer

# The common shape of the benchmarks, whatever the defaults of a revision are.
SHAPE: dict[str, Any] = {"embedding_size": 256, "hidden_size": 512, "encoder_layers": 1, "decoder_layers": 1}
DROPOUT, SMOOTHING = 0.3, 0.1


class Revision:
    """
    Args:
        data: folder with Multi30k.
        work: folder that `make` writes and everything else reads, the same one for both revisions.
        vocabulary: tokens of each side.
        batch_size: pairs in a batch of training.
    """

    def __init__(self, data: str, work: str, vocabulary: int, batch_size: int) -> None:
        self._data, self._work = Path(data), Path(work)
        self._vocabulary, self._batch_size = vocabulary, batch_size

    def make(self, epochs: float, precision: str) -> float:
        """A tokenizer, the ids of the training pairs, and weights with which translations end; seconds of training."""
        sources, targets = self._texts("train", "en"), self._texts("train", "de")
        tokenizer = train_tokenizer(
            sources, self._vocabulary, "bpe", target_texts=targets, target_vocab_size=self._vocabulary
        )
        encoded = tokenizer(sources, text_target=targets)
        size = self._vocabulary
        torch.manual_seed(0)
        config = RnnS2SConfig(vocab_size=size, decoder_vocab_size=size, dropout=DROPOUT, **SHAPE)
        model = RnnS2SForConditionalGeneration(config)
        pairs = {"input_ids": encoded["input_ids"], "labels": encoded["labels"]}
        steps = max(1, round(epochs * len(sources) / self._batch_size))
        metrics = self._train(model, tokenizer, Dataset.from_dict(pairs), steps, precision)
        model.save_pretrained(self._work)
        tokenizer.save_pretrained(self._work)
        (self._work / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
        return metrics["train_runtime"]

    def train(self, steps: int, precision: str) -> float:
        """Target tokens per second of the Trainer, from the same weights every time."""
        metrics = self._train(self._load(), self._tokenizer(), self._pairs(), steps, precision)
        return metrics["target_tokens_per_second"]

    def _train(
        self,
        model: RnnS2SForConditionalGeneration,
        tokenizer: Any,
        pairs: Dataset,
        steps: int,
        precision: str,
    ) -> dict[str, float]:
        arguments = RnnS2STrainingArguments(
            output_dir=str(self._work / f"run-{os.getpid()}"),
            max_steps=steps,
            per_device_train_batch_size=self._batch_size,
            bf16=precision == "bfloat16",
            label_smoothing_factor=SMOOTHING,
            eval_strategy="no",
            save_strategy="no",
            load_best_model_at_end=False,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = RnnS2STrainer(
            model.train(),
            arguments,
            score=lambda hypotheses, references: None,
            processing_class=tokenizer,
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            train_dataset=pairs,
        )
        return trainer.train().metrics

    def _load(self) -> RnnS2SForConditionalGeneration:
        return RnnS2SForConditionalGeneration.from_pretrained(self._work)

    @cache  # noqa: B019 - there is one object, which lives as long as the process
    def _tokenizer(self) -> RnnS2STokenizer:
        return RnnS2STokenizer.from_pretrained(self._work)

    @cache  # noqa: B019
    def _pairs(self) -> Dataset:
        return Dataset.from_dict(json.loads((self._work / "pairs.json").read_text(encoding="utf-8")))

    def _texts(self, split: str, side: str) -> list[str]:
        return (self._data / f"{split}.{side}").read_text(encoding="utf-8").split("\n")[:-1]


def main() -> None:
    """`python revision_worker.py CHECKOUT SETTINGS`, where SETTINGS are `threads` and the arguments of `Revision`."""
    answers = Answers()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    checkout, settings = Path(sys.argv[1]).resolve(), json.loads(sys.argv[2])
    if checkout not in Path(hf_rnn_s2s.__file__).resolve().parents:
        raise SystemExit(f"The package is to come from {checkout}, but it came from {hf_rnn_s2s.__file__}.")
    torch.set_num_threads(settings.pop("threads"))
    revision = Revision(**settings)
    answers.give(revision)


if __name__ == "__main__":
    main()
