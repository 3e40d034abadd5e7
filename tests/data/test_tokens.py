"""Texts become token ids; long ones are left out or cut."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s.data.arguments import DataArguments, DataError
from hf_rnn_s2s.data.loading import load_examples
from hf_rnn_s2s.data.tokens import tokenize_examples
from hf_rnn_s2s.training.tokenizer_training import train_tokenizer

from ..data_examples import FULL_PAIRS, PAIRS, files, pairs_dataset, rows, write_table

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([text for pair in PAIRS for text in pair.values()], 400)


@pytest.mark.parametrize("squeezes", [False, True])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_tokens_are_the_tokenizers(
    tokenizer: PreTrainedTokenizerFast, streaming: bool, training: bool, squeezes: bool
) -> None:
    arguments = DataArguments(squeeze_whitespace=squeezes)
    tokenized = tokenize_examples(pairs_dataset(streaming), tokenizer, arguments, training)
    pairs = [
        {side: " ".join(text.split()) if squeezes else text for side, text in pair.items()} for pair in FULL_PAIRS
    ]
    assert (pairs == FULL_PAIRS) != squeezes
    expected = [
        {"input_ids": tokenizer(pair["source"])["input_ids"], "labels": tokenizer(pair["target"])["input_ids"]}
        for pair in pairs
    ]
    assert rows(tokenized) == expected
    batch = DataCollatorForSeq2Seq(tokenizer)(rows(tokenized))
    assert batch["attention_mask"].sum(dim=1).tolist() == [len(row["input_ids"]) for row in expected]


def test_targets_use_their_own_vocabulary() -> None:
    english, german = ([pair[side] for pair in FULL_PAIRS] for side in ("source", "target"))
    tokenizer = train_tokenizer(english, 300, target_texts=german, target_vocab_size=330)
    tokenized = tokenize_examples(pairs_dataset(), tokenizer, DataArguments(squeeze_whitespace=False), True)
    assert [row["labels"] for row in tokenized] == tokenizer.target_tokenizer(german)["input_ids"]
    assert [row["input_ids"] for row in tokenized] == tokenizer(english)["input_ids"]


@pytest.mark.parametrize("streaming", [False, True])
def test_long_training_pairs_are_left_out(
    tokenizer: PreTrainedTokenizerFast, streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    whole = rows(tokenize_examples(pairs_dataset(), tokenizer, DataArguments(), True))
    limits: dict[str, Any] = {"max_source_length": 12, "max_target_length": 16}
    fitting = [row for row in whole if len(row["input_ids"]) <= 12 and len(row["labels"]) <= 16]
    assert 0 < len(fitting) < len(whole)
    kept = rows(tokenize_examples(pairs_dataset(streaming), tokenizer, DataArguments(**limits), True))
    assert kept == fitting
    if not streaming:
        assert f"{len(whole) - len(kept)} of 5 training pairs are longer than max_source_length=12" in caplog.text


def test_limits_hold_at_the_token(tokenizer: PreTrainedTokenizerFast) -> None:
    one = Dataset.from_list(FULL_PAIRS[:1])
    length = len(tokenizer(FULL_PAIRS[0]["source"])["input_ids"])
    assert len(rows(tokenize_examples(one, tokenizer, DataArguments(max_source_length=length), True))) == 1
    with pytest.raises(DataError, match=f"All 1 training pairs are longer than max_source_length={length - 1} or"):
        tokenize_examples(one, tokenizer, DataArguments(max_source_length=length - 1), True)
    unlimited = DataArguments(max_source_length=None, max_target_length=None)
    assert len(rows(tokenize_examples(one, tokenizer, unlimited, True))) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_long_test_sources_are_cut_and_references_kept(
    tokenizer: PreTrainedTokenizerFast, streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    limits = DataArguments(max_source_length=5, max_target_length=2, squeeze_whitespace=False)
    tokenized = rows(tokenize_examples(pairs_dataset(streaming), tokenizer, limits, False))
    for row, pair in zip(tokenized, FULL_PAIRS, strict=True):
        ids = tokenizer(pair["source"])["input_ids"]
        assert row["input_ids"] == (ids if len(ids) <= 5 else [*ids[:4], tokenizer.eos_token_id])
        assert row["labels"] == tokenizer(pair["target"])["input_ids"]
    too_long = sum(len(tokenizer(pair["source"])["input_ids"]) > 5 for pair in FULL_PAIRS)
    assert too_long > 0
    if not streaming:
        assert f"{too_long} of 5 sources are longer than max_source_length=5 tokens" in caplog.text


def test_second_run_finds_the_first_ones_cache(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """A fingerprint that changed with each process, or with each use of the tokenizer, would fill the disk."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    path = write_table(tmp_path / "pairs.jsonl", FULL_PAIRS)
    code = f"""
import datasets
datasets.config.HF_DATASETS_CACHE = {str(tmp_path / "cache")!r}
from transformers import AutoTokenizer
from hf_rnn_s2s.data.loading import load_examples
from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.data.tokens import tokenize_examples
arguments = DataArguments(train_file={path!r}, validation_file={path!r}, max_source_length=5)
tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / "tokenizer")!r})
fingerprints = []
for training in (True, False, False):
    examples = load_examples(arguments)["validation"]
    arguments.max_source_length = 50 if training else 5
    fingerprints.append(tokenize_examples(examples, tokenizer, arguments, training)._fingerprint)
    tokenizer("a sentence between two uses")
"""
    here: dict[str, Any] = {}
    exec(code, here)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", f"{code}\nprint(fingerprints)"]
    fresh = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert fresh.strip() == str(here["fingerprints"])
    assert here["fingerprints"][1] == here["fingerprints"][2] != here["fingerprints"][0]


def test_worker_processes_give_the_same(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = write_table(tmp_path / "pairs.jsonl", PAIRS)
    arguments = files(path, preprocessing_num_workers=2)
    examples = load_examples(arguments)
    assert rows(examples["train"]) == FULL_PAIRS
    alone = tokenize_examples(pairs_dataset(), tokenizer, DataArguments(), True)
    assert rows(tokenize_examples(examples["train"], tokenizer, arguments, True)) == rows(alone)
