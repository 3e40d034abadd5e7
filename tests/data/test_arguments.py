"""What the data arguments accept and refuse."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from transformers import HfArgumentParser, Seq2SeqTrainingArguments

from hf_rnn_s2s.data.arguments import DataArguments, DataError


def test_arguments_parse_beside_the_trainers() -> None:
    both: list[Any] = [DataArguments, Seq2SeqTrainingArguments]
    parser = HfArgumentParser(both)  # raises if an option is there twice
    command = ["--output_dir", "x", "--demo_locales", "en", "de", "--max_source_length", "50"]
    arguments, _ = parser.parse_args_into_dataclasses(command)
    assert (arguments.demo_locales, arguments.max_source_length) == (["en", "de"], 50)
    assert arguments.max_train_samples is None
    assert arguments.streaming is False
    assert "prefix of a parallel text" in parser.format_help().replace("\n", " ").replace("  ", "")


def test_every_argument_has_a_help() -> None:
    assert all(field.metadata["help"].endswith(".") for field in fields(DataArguments))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_source_length": 0}, "max_source_length must be at least 1, not 0"),
        ({"demo_size": -1}, "demo_size must be at least 1"),
        ({"demo_locales": ["en"]}, "demo_locales takes a source and a target locale"),
        ({"dataset_name": "a", "train_file": "b"}, "Give dataset_name or train_file, not both"),
        ({"train_file": "b.csv"}, "train_file b.csv needs a validation_file. Give a validation_file, or"),
        ({"source_lang": "en", "target_lang": "de"}, "source_lang says how to read data, but no data is named"),
        ({"train_file": "a.csv", "validation_split_percentage": 100}, "must lie between 0 and 100, not be 100"),
    ],
)
def test_contradictory_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataArguments(**options)
