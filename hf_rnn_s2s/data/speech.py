"""Turns recordings and their texts into features and token ids, and these into batches."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Array2D, Dataset, Features, Value
from datasets import Sequence as Values
from torch import Tensor

from ..model.head_rnn_s2s import IGNORED_LABEL
from ..model.pipeline_rnn_s2s import squeezed
from ..model.speech_pipeline_rnn_s2s import SHORTEST, SILENCE
from .arguments import DataArguments, DataError
from .audio import read_recording
from .columns import map_examples
from .unknown import warn_of_unknown_symbols

logger = logging.getLogger(__name__)


def encode_recordings(
    split: str, examples: Dataset, processor: Any, arguments: DataArguments, longest: float, training: bool
) -> Dataset:
    """Make `input_features` `(frames, features)`, their number, `length`, and `labels` of recordings and texts.

    A training pair is left out, with a warning, if the recording is longer than `longest` seconds or the text than
    `max_target_length` tokens. In the other splits a longer recording is cut, and references stay whole, with their
    texts beside them. Silent recordings stay, with a warning.

    Args:
        split: its name.
        examples: with the columns `audio`, `source` and `target`.
        processor: has the feature extractor and the tokenizer.
        arguments: of the run.
        longest: in seconds.
        training: whether it is the training split.

    Raises:
        DataError: if a recording cannot be read, or has no samples; or if every training pair is too long.
    """
    extractor, tokenizer = processor.feature_extractor, processor.tokenizer
    encode = partial(
        _encode,
        split=split,
        extractor=extractor,
        tokenizer=tokenizer,
        longest=longest,
        cuts=not training,
        squeezes=arguments.squeeze_whitespace,
        versions=_versions(examples),
    )
    features = Features(
        {
            "input_features": Array2D(shape=(None, extractor.feature_size), dtype="float32"),
            "labels": Values(Value("int64")),
            "length": Value("int64"),
            "seconds": Value("float64"),
            "loudest": Value("float64"),
        }
    )
    options = {"with_indices": True, "features": features, "remove_columns": ["audio", *_texts(examples)]}
    encoded: Any = map_examples(examples, encode, arguments, batch_size=64, **options)
    silent = sum(loudest < SILENCE for loudest in encoded["loudest"])
    if silent:
        logger.warning("%s split: %d of %d recordings are silent.", split, silent, len(encoded))
    if training:
        encoded = _without_long_pairs(encoded, longest, arguments.max_target_length)
    else:
        warn_of_long_recordings(split, encoded["seconds"], longest)
        warn_of_unknown_symbols(split, examples, encoded, tokenizer, sides=("target",))
        for name in _texts(examples):
            encoded = encoded.add_column(name, examples[name])
    encoded = encoded.remove_columns(["seconds", "loudest"])
    return encoded.with_format("numpy", columns=["input_features"], output_all_columns=True)


def _without_long_pairs(encoded: Dataset, longest: float, limit: int | None) -> Dataset:
    """The training pairs whose recordings and texts are short enough; a warning counts the others."""
    fits = [
        row
        for row, (seconds, labels) in enumerate(zip(encoded["seconds"], encoded["labels"], strict=True))
        if seconds <= longest and (limit is None or len(labels) <= limit)
    ]
    if not fits:
        raise DataError(
            f"Every training pair is longer than max_duration_in_seconds={longest:g} or max_target_length={limit} "
            "tokens: raise them."
        )
    if len(fits) < len(encoded):
        logger.warning(
            "%d of %d training pairs are longer than max_duration_in_seconds=%g or max_target_length=%s, and are "
            "left out.",
            len(encoded) - len(fits),
            len(encoded),
            longest,
            limit,
        )
    return encoded.select(fits)


def warn_of_long_recordings(split: str, seconds: Sequence[float], longest: float) -> None:
    """Say how many recordings of an evaluation split are cut."""
    long = sum(one > longest for one in seconds)
    if long:
        logger.warning(
            "%s split: %d of %d recordings are longer than max_duration_in_seconds=%g: what exceeds it is not heard.",
            split,
            long,
            len(seconds),
            longest,
        )


def _versions(examples: Dataset) -> str:
    """A digest of when files were written, and of their sizes: the cache of `datasets` sees their names only."""
    paths = [audio["path"] for audio in examples["audio"] if not audio["bytes"]]
    written = [(path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in paths]
    return hashlib.sha256(json.dumps(written).encode()).hexdigest()


def _texts(examples: Dataset) -> list[str]:
    return [name for name in ("source", "target", "references") if name in examples.column_names]


def _encode(
    batch: dict[str, list[Any]],
    rows: list[int],
    split: str,
    extractor: Any,
    tokenizer: Any,
    longest: float,
    cuts: bool,
    squeezes: bool,
    versions: str,  # not read: a cache goes by it, too
) -> dict[str, list[Any]]:
    rate = extractor.sampling_rate
    encoded: dict[str, list[Any]] = {"input_features": [], "seconds": [], "loudest": []}
    for row, audio, name in zip(rows, batch["audio"], batch["source"], strict=True):
        samples = read_recording(audio, rate, f"The {split} split, row {row + 1}: {audio['path'] or name}")
        encoded["seconds"].append(len(samples) / rate)
        encoded["loudest"].append(float(np.abs(samples).max()))
        # What is too long for training is left out later, so that its features are not needed.
        heard = samples[: int(longest * rate)] if cuts else samples[: 1 + int(longest * rate)]
        encoded["input_features"].append(features_of(heard, extractor))
    texts = [squeezed(text) if squeezes else text for text in batch["target"]]
    encoded["labels"] = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
    encoded["length"] = [len(frames) for frames in encoded["input_features"]]
    return encoded


def features_of(samples: np.ndarray, extractor: Any) -> np.ndarray:
    """The features `(frames, features)` of samples at the rate of the extractor; too few for a frame are one frame."""
    samples = np.pad(samples, (0, max(0, SHORTEST - len(samples))))
    features = extractor(samples, sampling_rate=extractor.sampling_rate, return_attention_mask=False)
    return np.asarray(features["input_features"][0], dtype=np.float32)


class SpeechCollator:
    """Makes batches of rows with `input_features` `(frames, features)` and `labels`.

    Frames are padded with zeros at the end, with a mask, and labels with -100.
    """

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """The batch: `input_features` `(rows, frames, features)`, `attention_mask` `(rows, frames)`, and `labels`."""
        frames = [torch.as_tensor(np.asarray(row["input_features"], dtype=np.float32)) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        batch = {
            "input_features": pad(frames, batch_first=True),
            "attention_mask": pad([torch.ones(len(one), dtype=torch.long) for one in frames], batch_first=True),
        }
        if "labels" in rows[0]:
            labels = [torch.as_tensor(np.asarray(row["labels"], dtype=np.int64)) for row in rows]
            batch["labels"] = pad(labels, batch_first=True, padding_value=IGNORED_LABEL)
        return batch
