"""Turns pairs of texts into token ids.

Runs of white space become one space, as in the pipeline, unless `squeeze_whitespace` is off. The texts that are scored
stay as they are.

A pair longer than `max_source_length` or `max_target_length` tokens is left out of the training split, unless the task
cuts long sources there, too. In the other splits a source longer than `max_source_length` is cut, and references stay
whole. A warning counts both, unless the data is a stream, whose length is unknown.
"""

import logging
import os
from functools import partial

from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from ..model.pipeline_rnn_s2s import squeezed
from .arguments import DataArguments, DataError
from .bpe_dropout import UNITS, units_of
from .columns import Examples, filter_examples, map_examples
from .unknown import warn_of_unknown_symbols

logger = logging.getLogger(__name__)


def tokenize_in_one_thread(*_: object) -> None:
    """Make this process tokenize in one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


# A process that is forked from one that has tokenized would wait forever for threads that were not forked with it.
# `tokenizers` prevents that only as long as TOKENIZERS_PARALLELISM is not set.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=tokenize_in_one_thread)


def tokenize_splits(
    examples: dict[str, Examples],
    tokenizer: PreTrainedTokenizerBase,
    arguments: DataArguments,
    do_train: bool,
    do_predict: bool,
    with_units: bool = False,
    cuts_sources: bool = False,
) -> dict[str, Examples]:
    """Tokenize the splits that a run needs. Evaluation splits also keep their texts, which are scored.

    There is a warning for symbols of evaluation splits that the vocabulary lacks.

    `with_units` and `cuts_sources` are for the training split, as in `tokenize_examples`.
    """
    encoded: dict[str, Examples] = {}
    if do_train:
        encoded["train"] = tokenize_examples(examples["train"], tokenizer, arguments, True, with_units, cuts_sources)
    for name in ["validation", *(["test"] if do_predict else [])]:
        if name in examples:
            ids = tokenize_examples(examples[name], tokenizer, arguments, training=False)
            warn_of_unknown_symbols(name, examples[name], ids, tokenizer)
            encoded[name] = concatenate_datasets([ids, examples[name]], axis=1)
    return encoded


def tokenize_examples(
    examples: Examples,
    tokenizer: PreTrainedTokenizerBase,
    arguments: DataArguments,
    training: bool,
    with_units: bool = False,
    cuts_sources: bool = False,
) -> Examples:
    """Encode pairs as columns `input_ids` and `labels`, and `copy_ids` where words are copied.

    The result is cached by `datasets`, or a stream again. No attention mask is kept, as nothing is padded yet: the
    collator makes it. What happens to pairs that are too long depends on `training`; see the docstring of this module.
    `with_units` adds `input_units` and `label_units`, which BPE-dropout needs; see `units_of`. With `cuts_sources`,
    sources are cut in training, too.

    Raises:
        DataError: if every training pair is too long.
    """
    function = _encode_with_units if with_units else _encode
    encode = partial(function, tokenizer=tokenizer, squeezes=arguments.squeeze_whitespace)
    encoded = map_examples(examples, encode, arguments, remove_columns=examples.column_names)
    limits = {"input_ids": arguments.max_source_length, "labels": arguments.max_target_length}
    if cuts_sources or not training:
        encoded = _cut_long_sources(encoded, limits["input_ids"], tokenizer.eos_token_id, arguments)
    return _drop_long_pairs(encoded, limits, arguments) if training else encoded


def _encode(
    batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, squeezes: bool
) -> dict[str, list[list[int]]]:
    batch = _as_read(batch, squeezes)
    encodings = tokenizer(batch["source"], text_target=batch["target"], return_attention_mask=False, verbose=False)
    return {name: encodings[name] for name in ("input_ids", "copy_ids", "labels") if name in encodings}


def _encode_with_units(
    batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, squeezes: bool
) -> dict[str, list[list[int]]]:
    batch = _as_read(batch, squeezes)
    sides = zip(UNITS.values(), (tokenizer, getattr(tokenizer, "target_tokenizer", tokenizer)), batch, strict=True)
    units = {column: units_of(side, batch[name]) for column, side, name in sides}
    return {**_encode(batch, tokenizer, squeezes), **units}


def _as_read(batch: dict[str, list[str]], squeezes: bool) -> dict[str, list[str]]:
    """The texts of both sides, the source first, as the model reads them."""
    return {side: [squeezed(text) if squeezes else text for text in batch[side]] for side in ("source", "target")}


def _drop_long_pairs(encoded: Examples, limits: dict[str, int | None], arguments: DataArguments) -> Examples:
    kept = filter_examples(encoded, partial(_fits, limits=limits), arguments)
    if not isinstance(encoded, Dataset):
        logger.info("Training pairs longer than %s tokens are left out as the stream passes.", limits)
        return kept
    dropped = len(encoded) - len(kept)
    if dropped:
        logger.warning(
            "%d of %d training pairs are longer than max_source_length=%s or max_target_length=%s tokens: left out.",
            dropped,
            len(encoded),
            limits["input_ids"],
            limits["labels"],
        )
    if len(kept) == 0:
        raise DataError(
            f"All {len(encoded)} training pairs are longer than max_source_length={limits['input_ids']} or "
            f"max_target_length={limits['labels']} tokens. Raise the limits."
        )
    return kept


def _fits(batch: dict[str, list[list[int]]], limits: dict[str, int | None]) -> list[bool]:
    fits = [True] * len(batch["input_ids"])
    for column, limit in limits.items():
        if limit is not None:
            fits = [fit and len(ids) <= limit for fit, ids in zip(fits, batch[column], strict=True)]
    return fits


def _cut_long_sources(encoded: Examples, limit: int | None, eos_token_id: int, arguments: DataArguments) -> Examples:
    if limit is None:
        return encoded
    if isinstance(encoded, Dataset):
        too_long = sum(len(ids) > limit for ids in encoded["input_ids"])
        if too_long:
            logger.warning(
                "%d of %d sources are longer than max_source_length=%d tokens: what exceeds it is not read.",
                too_long,
                len(encoded),
                limit,
            )
    return map_examples(encoded, partial(_cut, limit=limit, eos_token_id=eos_token_id), arguments)


def _cut(batch: dict[str, list[list[int]]], limit: int, eos_token_id: int) -> dict[str, list[list[int]]]:
    """Cut sources here: the tokenizer would keep its truncation setting, which changes the cache's fingerprint."""

    def cut(ids: list[int]) -> list[int]:
        if len(ids) <= limit:
            return ids
        return [*ids[: limit - 1], eos_token_id] if ids[-1] == eos_token_id else ids[:limit]

    return {name: [cut(ids) for ids in batch[name]] for name in ("input_ids", "copy_ids") if name in batch}
