"""What loads the batches of a training run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers.utils import logging

from ..data.bpe_dropout import UNITS, BpeDropoutCollator
from ..data.streaming import StreamBatching, StreamLoader
from ..data.tokens import tokenize_in_one_thread
from .arguments import RnnS2STrainingArguments
from .checkpoints import STREAM_STATE

logger = logging.get_logger(__name__)


def require_segmentation(bpe_dropout: float, collate: Any, examples: Any) -> None:
    """Raise a ValueError if training rows would not be segmented anew although `bpe_dropout` asks for it."""
    if not bpe_dropout:
        return
    if not isinstance(collate, BpeDropoutCollator):
        raise ValueError("bpe_dropout is done where batches are made: pass data_collator=training_collator(...).")
    names = getattr(examples, "column_names", None)  # None of a stream whose columns nobody knows yet
    if names is not None and not set(UNITS.values()) <= set(names):
        raise ValueError("bpe_dropout needs the units of tokens: tokenize the training data with_units=True.")


def load_stream(
    examples: IterableDataset,
    arguments: RnnS2STrainingArguments,
    seed: int,
    collate: Callable[[Any], Any],
    begin_pass: Callable[[int], None] | None,
    checkpoint: str | None,
) -> StreamLoader:
    """The batches of a stream, from its beginning or from where the run's checkpoint left it.

    Args:
        examples: the stream, tokenized.
        arguments: of the run.
        seed: of the order.
        collate: turns rows into a batch.
        begin_pass: called with the number of each pass before it begins; None for nothing.
        checkpoint: the folder to go on from; None for the beginning.
    """
    batching = StreamBatching(
        arguments.shuffle_buffer_size,
        str(arguments.train_sampling_strategy),
        arguments.train_batch_size,
        arguments.per_device_train_batch_tokens,
        arguments.world_size,
        arguments.dataloader_num_workers,
        seed,
    )
    options: dict[str, Any] = {"pin_memory": arguments.dataloader_pin_memory and torch.accelerator.is_available()}
    if arguments.dataloader_num_workers:
        options["prefetch_factor"] = arguments.dataloader_prefetch_factor
        options["worker_init_fn"] = tokenize_in_one_thread
        # A worker that is forked from a process with threads, such as those of tokenizers and of the communication
        # between processes, may wait forever. (Python 3.14 does not fork by default, either.)
        options["multiprocessing_context"] = "spawn" if sys.platform == "win32" else "forkserver"
        options["timeout"] = arguments.ddp_timeout
    stream = StreamLoader(examples, batching, arguments.process_index, collate, begin_pass, **options)
    if checkpoint is not None:
        file = Path(checkpoint, STREAM_STATE)
        if file.is_file():
            stream.load_state_dict(json.loads(file.read_text(encoding="utf-8")))
        else:
            logger.warning(f"{checkpoint} does not say where its stream was: it begins anew.")
    return stream


def lengths_of(dataset: Dataset, column: str) -> list[int]:
    """The number of tokens of each row."""
    return [len(ids) for ids in dataset[column]]


def source_lengths(dataset: Dataset) -> list[int]:
    """The length of each row's source: its tokens, or what a column `length` says, such as the frames of speech."""
    return list(dataset["length"]) if "length" in dataset.column_names else lengths_of(dataset, "input_ids")


def longest_first(dataset: Dataset) -> list[int]:
    """The numbers of the rows, from the longest source to the shortest."""
    return np.argsort(-np.array(source_lengths(dataset)), kind="stable").tolist()
