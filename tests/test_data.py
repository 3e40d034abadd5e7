from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, IterableDataset
from transformers import DataCollatorForSeq2Seq, HfArgumentParser, PreTrainedTokenizerFast, Seq2SeqTrainingArguments

from hf_rnn_s2s import data
from hf_rnn_s2s.data import DataArguments, DataError, load_examples, tokenize_examples, training_texts
from hf_rnn_s2s.demo_corpus import build_demo_corpus
from hf_rnn_s2s.tokenization_rnn_s2s import train_tokenizer

PAIRS = [
    {"source": "A dog runs.", "target": "Ein Hund läuft."},
    {"source": "None", "target": "NA"},
    {"source": "007", "target": "1.50"},
    {"source": 'He said "yes", twice.', "target": "„Ja“, sagte er,\tzweimal."},
    {"source": "one\u2028line\u0085still", "target": "eine\x0bZeile\x1cnoch"},
    {"source": " padded ", "target": "  "},
]
NO_TABS = [{side: text.replace("\t", " ") for side, text in pair.items()} for pair in PAIRS]
FULL_PAIRS = PAIRS[:-1]  # what is left for training: the last one has an empty side


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([text for pair in PAIRS for text in pair.values()], 400)


def write_parallel(prefix: Path, pairs: list[dict[str, str]], *, newline: str = "\n") -> str:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for language, side in (("en", "source"), ("de", "target")):
        text = "".join(pair[side] + newline for pair in pairs)
        prefix.with_name(f"{prefix.name}.{language}").write_bytes(text.encode())
    return str(prefix)


def write_table(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif path.suffix in (".json", ".jsonl"):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def files(path: str, **options: Any) -> DataArguments:
    return DataArguments(train_file=path, validation_file=path, **options)


def parallel(path: str, **options: Any) -> DataArguments:
    return files(path, **{"source_lang": "en", "target_lang": "de", **options})


def rows(examples: data.Examples) -> list[dict[str, Any]]:
    return list(examples)


# The arguments


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


# Sources


def test_nothing_given_is_the_embedded_corpus() -> None:
    options = DataArguments(demo_locales=["en", "de"], demo_size=60, examples_seed=3)
    expected = build_demo_corpus("en", "de", size=60, seed=3)
    examples = load_examples(options)
    assert list(examples) == ["train", "validation", "test"]
    assert {split: rows(dataset) for split, dataset in examples.items()} == expected
    streamed = load_examples(DataArguments(demo_locales=["en", "de"], demo_size=60, examples_seed=3, streaming=True))
    assert isinstance(streamed["train"], IterableDataset)
    assert rows(streamed["test"]) == expected["test"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_parallel_text(tmp_path: Path, streaming: bool, newline: str) -> None:
    prefix = write_parallel(tmp_path / "data" / "train.v1", PAIRS, newline=newline)
    examples = load_examples(parallel(prefix, streaming=streaming))
    assert isinstance(examples["train"], IterableDataset if streaming else Dataset)
    assert rows(examples["train"]) == FULL_PAIRS
    assert rows(examples["validation"]) == PAIRS  # an empty side is kept where leaving it out would change the score
    assert "test" not in examples


def test_parallel_text_drops_a_byte_order_mark_and_needs_no_last_newline(tmp_path: Path) -> None:
    (tmp_path / "t.en").write_bytes(b"\xef\xbb\xbfone\ntwo")
    (tmp_path / "t.de").write_bytes(b"eins\nzwei\n")
    assert rows(load_examples(parallel(str(tmp_path / "t")))["train"]) == [
        {"source": "one", "target": "eins"},
        {"source": "two", "target": "zwei"},
    ]


def test_changed_parallel_text_is_read_again(tmp_path: Path) -> None:
    prefix = write_parallel(tmp_path / "t", PAIRS[:1])
    assert rows(load_examples(parallel(prefix))["train"]) == PAIRS[:1]
    write_parallel(tmp_path / "t", PAIRS[1:2])
    assert rows(load_examples(parallel(prefix))["train"]) == PAIRS[1:2]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_tables_keep_every_field_as_it_is(tmp_path: Path, suffix: str, streaming: bool) -> None:
    pairs = NO_TABS if suffix == ".tsv" else PAIRS
    path = write_table(tmp_path / f"pairs{suffix}", [{"id": str(i), **pair} for i, pair in enumerate(pairs)])
    examples = load_examples(files(path, streaming=streaming))
    assert rows(examples["validation"]) == pairs
    assert rows(examples["train"]) == pairs[:-1]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_translation_column(tmp_path: Path, suffix: str, streaming: bool) -> None:
    table = [{"translation": {"de": pair["target"], "en": pair["source"]}} for pair in PAIRS]
    path = write_table(tmp_path / f"pairs{suffix}", table)
    options = {"source_lang": "en", "target_lang": "de", "streaming": streaming}
    assert rows(load_examples(files(path, **options))["validation"]) == PAIRS
    turned = load_examples(files(path, **{**options, "source_lang": "de", "target_lang": "en"}))["validation"]
    assert rows(turned)[0] == {"source": "Ein Hund läuft.", "target": "A dog runs."}


def test_columns_by_language_and_by_name(tmp_path: Path) -> None:
    table = [{"en": "dog", "de": "Hund", "source": "web", "target": "print"}]
    path = write_table(tmp_path / "pairs.csv", table)
    by_language = load_examples(files(path, source_lang="en", target_lang="de"))["train"]
    assert rows(by_language) == [{"source": "dog", "target": "Hund"}]
    by_name = load_examples(files(path, source_column="de", target_column="source"))["train"]
    assert rows(by_name) == [{"source": "Hund", "target": "web"}]
    turned = load_examples(files(path, source_column="target", target_column="source"))["train"]
    assert rows(turned) == [{"source": "print", "target": "web"}]


@pytest.mark.parametrize("streaming", [False, True])
def test_local_folder_as_dataset_name(tmp_path: Path, streaming: bool) -> None:
    write_table(tmp_path / "train.jsonl", PAIRS)
    write_table(tmp_path / "validation.jsonl", PAIRS[:2])
    write_table(tmp_path / "test.jsonl", PAIRS[2:4])
    examples = load_examples(DataArguments(dataset_name=str(tmp_path), streaming=streaming))
    assert {split: rows(dataset) for split, dataset in examples.items()} == {
        "train": FULL_PAIRS,
        "validation": PAIRS[:2],
        "test": PAIRS[2:4],
    }


def test_hub_dataset_with_configuration_and_other_split_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    feature = datasets.Features({"translation": datasets.Translation(["de", "en"])})
    table = Dataset.from_list([{"translation": {"de": "Hund", "en": "dog"}}], features=feature)

    def load_dataset(*args: Any, **kwargs: Any) -> DatasetDict:
        asked.append((args, kwargs))
        return DatasetDict({"train": table, "dev": table, "extra": table})

    monkeypatch.setattr(data, "load_dataset", load_dataset)
    options: dict[str, Any] = {"dataset_name": "org/name", "dataset_config_name": "de-en"}
    examples = load_examples(DataArguments(**options, source_lang="de", target_lang="en"))
    assert asked == [(("org/name", "de-en"), {"streaming": False})]
    assert {split: rows(dataset) for split, dataset in examples.items()} == {
        "train": [{"source": "Hund", "target": "dog"}],
        "validation": [{"source": "Hund", "target": "dog"}],
    }
    with pytest.raises(
        DataError, match="org/name, split train, column translation: no source_lang 'fr'; there are de"
    ):
        load_examples(DataArguments(**options, source_lang="fr", target_lang="en"))
    with pytest.raises(DataError, match="several languages and no source_lang is given; there are de, en"):
        load_examples(DataArguments(**options))
    monkeypatch.setattr(data, "load_dataset", lambda *_, **__: DatasetDict({"extra": table}))
    with pytest.raises(DataError, match="none of the splits train, validation, test; it has extra"):
        load_examples(DataArguments(**options))


def test_unknown_dataset_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"dataset_name .*nowhere' .* cannot be loaded"):
        load_examples(DataArguments(dataset_name=str(tmp_path / "nowhere")))


# Splits and limits


@pytest.mark.parametrize("streaming", [False, True])
def test_limits_take_the_first_pairs(tmp_path: Path, streaming: bool) -> None:
    path = write_table(tmp_path / "pairs.jsonl", [PAIRS[-1], *PAIRS])
    limits = {"max_train_samples": 2, "max_eval_samples": 3, "max_predict_samples": 100}
    examples = load_examples(files(path, test_file=path, streaming=streaming, **limits))
    assert rows(examples["train"]) == PAIRS[:2]  # counted after the pair with an empty side is left out
    assert rows(examples["validation"]) == [PAIRS[-1], *PAIRS[:2]]
    assert len(rows(examples["test"])) == 7


def test_validation_share_is_seeded_and_leaks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = [{"source": f"source {i % 40}", "target": f"target {i % 45}"} for i in range(100)]
    path = write_table(tmp_path / "pairs.jsonl", pairs)
    load = lambda seed: load_examples(  # noqa: E731
        DataArguments(train_file=path, validation_split_percentage=10, examples_seed=seed)
    )
    first, again, other = load(0), load(0), load(1)
    train, validation = rows(first["train"]), rows(first["validation"])
    assert len(validation) == 10
    assert 0 < len(train) < 90
    assert f"10 training pairs are set aside for validation; {90 - len(train)} that share" in caplog.text
    for side in ("source", "target"):
        assert not {pair[side] for pair in train} & {pair[side] for pair in validation}
    assert rows(again["validation"]) == validation
    assert rows(other["validation"]) != validation


def test_validation_share_needs_something_to_share(tmp_path: Path) -> None:
    same = write_table(tmp_path / "same.jsonl", [PAIRS[0]] * 10)
    with pytest.raises(DataError, match="No training pair is left: each shares a sentence"):
        load_examples(DataArguments(train_file=same, validation_split_percentage=10))
    one = write_table(tmp_path / "one.jsonl", PAIRS[:1])
    with pytest.raises(DataError, match="needs at least 2 training pairs"):
        load_examples(DataArguments(train_file=one, validation_split_percentage=10))
    with pytest.raises(DataError, match="which a stream does not tell"):
        load_examples(DataArguments(train_file=same, validation_split_percentage=10, streaming=True))
    with pytest.raises(DataError, match="There is a validation split: leave validation_split_percentage out"):
        load_examples(files(same, validation_split_percentage=10))


def test_dataset_without_validation_split(tmp_path: Path) -> None:
    write_table(tmp_path / "train.jsonl", PAIRS)
    with pytest.raises(DataError, match=r"no validation split\. Give a validation_file, or"):
        load_examples(DataArguments(dataset_name=str(tmp_path)))
    examples = load_examples(DataArguments(dataset_name=str(tmp_path), validation_split_percentage=20))
    assert (len(rows(examples["train"])), len(rows(examples["validation"]))) == (4, 1)


def test_empty_training_pairs_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_examples(files(write_table(tmp_path / "pairs.jsonl", PAIRS)))
    assert "1 of 6 training pairs have an empty side and are left out" in caplog.text
    with pytest.raises(DataError, match="Every training pair has an empty side"):
        load_examples(files(write_table(tmp_path / "empty.jsonl", PAIRS[-1:])))


# Bad files


def test_unequal_line_counts(tmp_path: Path) -> None:
    prefix = write_parallel(tmp_path / "t", PAIRS)
    (tmp_path / "t.de").write_text("eins\nzwei\n")
    with pytest.raises(DataError, match=r"t\.en has 6 lines and .*t\.de has 2: line n of one must translate line n"):
        load_examples(parallel(prefix))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("name", "options"), [("t", {}), ("t.jsonl", {}), ("t.csv", {}), ("t.tsv", {})])
def test_undecodable_bytes(tmp_path: Path, name: str, options: dict[str, Any], streaming: bool) -> None:
    write_parallel(tmp_path / "t", PAIRS[:2])
    bad_file = tmp_path / ("t.de" if name == "t" else name)
    bad_file.write_bytes(b"gut\nschl\xe4ft\n")
    message = r"line 2, byte offset 8: 0xe4 is not valid UTF-8. Save the file as UTF-8"
    with pytest.raises(DataError, match=message) as error:
        load_examples(parallel(str(tmp_path / name), streaming=streaming))
    assert str(bad_file) in str(error.value)


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.parquet", "t"])
def test_empty_and_missing_files(tmp_path: Path, name: str) -> None:
    given = str(tmp_path / name)
    with pytest.raises(DataError, match=r"t(\.\w+)? does not exist"):
        load_examples(parallel(given))
    write_parallel(tmp_path / "t", PAIRS)
    empty = tmp_path / ("t.en" if name == "t" else name)
    empty.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{empty.name} is empty"):
        load_examples(parallel(given))


def test_header_without_rows_is_empty(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("source,target\n")
    with pytest.raises(DataError, match=r"t\.csv is empty"):
        load_examples(files(str(tmp_path / "t.csv")))


def test_missing_side_lists_what_is_there(tmp_path: Path) -> None:
    prefix = write_parallel(tmp_path / "t", PAIRS)
    with pytest.raises(DataError, match=r"t\.fr does not exist; beside it: t\.de, t\.en"):
        load_examples(parallel(prefix, target_lang="fr"))
    with pytest.raises(DataError, match="name its two languages with source_lang and target_lang"):
        load_examples(files(prefix))
    with pytest.raises(DataError, match="would be its own translation"):
        load_examples(parallel(prefix, target_lang="en"))
    with pytest.raises(DataError, match=r"t\.en has no suffix that says how to read it"):
        load_examples(parallel(f"{prefix}.en"))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_missing_columns_list_what_is_there(tmp_path: Path, suffix: str) -> None:
    path = write_table(tmp_path / f"t{suffix}", [{"english": "dog", "german": "Hund"}])
    with pytest.raises(DataError, match=r"no column 'source' for the source text.*It has english, german"):
        load_examples(files(path))
    with pytest.raises(DataError, match="no column 'de' or 'target' for the target text; name one with target_column"):
        load_examples(files(path, source_column="english", target_lang="de"))
    with pytest.raises(DataError, match="source and target are both 'german'; name two"):
        load_examples(files(path, source_column="german", target_column="german"))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("bad_row", "message"),
    [
        ({"source": "a", "target": None}, r"row 3: 'target' is missing \(null\)"),
        ({"source": "a"}, r"row 3: 'target' is missing \(null\)"),
    ],
)
def test_null_values_name_the_row(tmp_path: Path, streaming: bool, bad_row: dict[str, Any], message: str) -> None:
    path = write_table(tmp_path / "t.jsonl", [*PAIRS[:2], bad_row, *PAIRS[3:]])
    with pytest.raises(DataError, match=message):
        rows(load_examples(files(path, streaming=streaming))["validation"])


def test_null_inside_translation_and_text_that_is_not(tmp_path: Path) -> None:
    table: list[Any] = [{"translation": {"en": "dog", "de": "Hund"}}, {"translation": {"en": "cat", "de": None}}]
    path = write_table(tmp_path / "t.jsonl", table)
    with pytest.raises(DataError, match=r"row 2: 'translation\.de' is missing"):
        load_examples(files(path, source_lang="en", target_lang="de"))
    path = write_table(tmp_path / "n.jsonl", [{"source": "one", "target": 1}])
    with pytest.raises(DataError, match="row 1: 'target' is not text but 1"):
        load_examples(files(path))


def test_broken_tables(tmp_path: Path) -> None:
    broken = tmp_path / "t.jsonl"
    broken.write_text('{"source": "a", "target": "b"}\n{"source": "a", \n')
    with pytest.raises(DataError, match=r"t\.jsonl cannot be read as jsonl: line 2 is not a JSON object"):
        load_examples(files(str(broken)))
    long_row = tmp_path / "t.csv"
    long_row.write_text("source,target\na,b\na,b,c\n")
    with pytest.raises(DataError, match=r"t\.csv, line 3: 3 fields, but the first line names 2 columns: source, t"):
        load_examples(files(str(long_row)))
    short_row = tmp_path / "s.tsv"
    short_row.write_text("source\ttarget\na\tb\nc\n")
    with pytest.raises(DataError, match=r"s\.tsv, line 3: 1 fields, but the first line names 2 columns"):
        load_examples(files(str(short_row)))
    twice = tmp_path / "d.csv"
    twice.write_text("source,source\na,b\n")
    with pytest.raises(DataError, match="must name each column once; it reads source, source"):
        load_examples(files(str(twice)))
    no_rows = tmp_path / "e.json"
    no_rows.write_text("[]")
    with pytest.raises(DataError, match=r"e\.json (is empty|cannot be read as json)"):
        load_examples(files(str(no_rows)))
    not_parquet = tmp_path / "t.parquet"
    not_parquet.write_text("text")
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as parquet"):
        load_examples(files(str(not_parquet)))


def test_all_files_are_looked_at_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was read before all were checked")

    monkeypatch.setattr(data, "load_dataset", fail)
    train = write_table(tmp_path / "train.jsonl", PAIRS)
    with pytest.raises(DataError, match=r"nowhere\.jsonl does not exist"):
        load_examples(DataArguments(train_file=train, validation_file=str(tmp_path / "nowhere.jsonl")))


# Tokens


def pairs_dataset(streaming: bool = False) -> data.Examples:
    dataset = Dataset.from_list(FULL_PAIRS)
    return dataset.to_iterable_dataset() if streaming else dataset


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_tokens_are_the_tokenizers(tokenizer: PreTrainedTokenizerFast, streaming: bool, training: bool) -> None:
    tokenized = tokenize_examples(pairs_dataset(streaming), tokenizer, DataArguments(), training)
    expected = [
        {"input_ids": tokenizer(pair["source"])["input_ids"], "labels": tokenizer(pair["target"])["input_ids"]}
        for pair in FULL_PAIRS
    ]
    assert rows(tokenized) == expected
    batch = DataCollatorForSeq2Seq(tokenizer)(rows(tokenized))
    assert batch["attention_mask"].sum(dim=1).tolist() == [len(row["input_ids"]) for row in expected]


def test_targets_use_their_own_vocabulary() -> None:
    english, german = ([pair[side] for pair in FULL_PAIRS] for side in ("source", "target"))
    tokenizer = train_tokenizer(english, 300, target_texts=german, target_vocab_size=330)
    tokenized = tokenize_examples(pairs_dataset(), tokenizer, DataArguments(), True)
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
    limits = DataArguments(max_source_length=5, max_target_length=2)
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
from hf_rnn_s2s.data import *
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
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", f"{code}\nprint(fingerprints)"]
    fresh = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert fresh.strip() == str(here["fingerprints"])
    assert here["fingerprints"][1] == here["fingerprints"][2] != here["fingerprints"][0]


@pytest.mark.parametrize("streaming", [False, True])
def test_training_texts(streaming: bool) -> None:
    assert sorted(training_texts(pairs_dataset(streaming))) == sorted(
        text for pair in FULL_PAIRS for text in pair.values()
    )
    assert list(training_texts(pairs_dataset(streaming), sides=("target",))) == [pair["target"] for pair in FULL_PAIRS]
    for sides in (("source",), ("source", "target")):
        from_stream = train_tokenizer(training_texts(pairs_dataset(streaming), sides), 300)
        from_list = train_tokenizer([pair[side] for pair in FULL_PAIRS for side in sides], 300)
        assert from_stream.get_vocab() == from_list.get_vocab()


def test_worker_processes_give_the_same(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = write_table(tmp_path / "pairs.jsonl", PAIRS)
    arguments = files(path, preprocessing_num_workers=2)
    examples = load_examples(arguments)
    assert rows(examples["train"]) == FULL_PAIRS
    alone = tokenize_examples(pairs_dataset(), tokenizer, DataArguments(), True)
    assert rows(tokenize_examples(examples["train"], tokenizer, arguments, True)) == rows(alone)
