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

from ..data.streaming import StreamBatching, StreamLoader
from ..data.tokens import tokenize_in_one_thread
from .arguments import RnnS2STrainingArguments
from .checkpoints import STREAM_STATE

logger = logging.get_logger(__name__)


def load_stream(
    examples: IterableDataset,
    arguments: RnnS2STrainingArguments,
    seed: int,
    collate: Callable[[Any], Any],
    checkpoint: str | None,
) -> StreamLoader:
    """The batches of a stream, from its beginning or from where the run's checkpoint left it.

    Args:
        examples: the stream, tokenized.
        arguments: of the run.
        seed: of the order.
        collate: turns rows into a batch.
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
    stream = StreamLoader(examples, batching, arguments.process_index, collate, **options)
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


def longest_first(dataset: Dataset) -> list[int]:
    """The numbers of the rows, from the longest source to the shortest."""
    return np.argsort(-np.array(lengths_of(dataset, "input_ids")), kind="stable").tolist()
