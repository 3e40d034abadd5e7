"""Which split comes from where: the embedded corpus, datasets, shares set aside, limits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from hf_rnn_s2s.data import files as files_module
from hf_rnn_s2s.data import loading
from hf_rnn_s2s.data.arguments import DataArguments, DataError
from hf_rnn_s2s.data.demo_corpus import build_demo_corpus
from hf_rnn_s2s.data.loading import load_examples, training_texts
from hf_rnn_s2s.training.tokenizer_training import train_tokenizer

from ..data_examples import FULL_PAIRS, PAIRS, files, pairs_dataset, rows, write_table

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


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


def test_a_changed_local_folder_is_read_again_whatever_its_times(tmp_path: Path) -> None:
    for pair in FULL_PAIRS[:2]:
        for split in ("train", "validation"):
            path = write_table(tmp_path / f"{split}.parquet", [pair])
            os.utime(path, (1_700_000_000, 1_700_000_000))
        assert rows(load_examples(DataArguments(dataset_name=str(tmp_path)))["train"]) == [pair]


def test_rows_that_move_from_file_to_file_are_other_data(tmp_path: Path) -> None:
    """Although all files, read one after another, say what they said."""
    lines = [json.dumps({"source": source, "target": target}) + "\n" for source, target in FULL_PAIRS[:4]]
    for count in (1, 3):
        for split, part in (("train", lines[:count]), ("validation", lines[count:])):
            path = tmp_path / f"{split}.jsonl"
            path.write_text("".join(part), encoding="utf-8")
            os.utime(path, (1_700_000_000, 1_700_000_000))
        assert len(rows(load_examples(DataArguments(dataset_name=str(tmp_path)))["validation"])) == 4 - count


def test_hub_dataset_with_configuration_and_other_split_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    feature = datasets.Features({"translation": datasets.Translation(["de", "en"])})
    table = Dataset.from_list([{"translation": {"de": "Hund", "en": "dog"}}], features=feature)

    def load_dataset(*args: Any, **kwargs: Any) -> DatasetDict:
        asked.append((args, kwargs))
        return DatasetDict({"train": table, "dev": table, "extra": table})

    monkeypatch.setattr(loading, "load_dataset", load_dataset)
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
    monkeypatch.setattr(loading, "load_dataset", lambda *_, **__: DatasetDict({"extra": table}))
    with pytest.raises(DataError, match="none of the splits train, validation, test; it has extra"):
        load_examples(DataArguments(**options))


def test_unknown_dataset_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"dataset_name .*nowhere' .* cannot be loaded"):
        load_examples(DataArguments(dataset_name=str(tmp_path / "nowhere")))


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


def test_all_files_are_looked_at_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a file was read before all were checked")

    monkeypatch.setattr(files_module.Dataset, "from_generator", fail)
    train = write_table(tmp_path / "train.jsonl", PAIRS)
    with pytest.raises(DataError, match=r"nowhere\.jsonl does not exist"):
        load_examples(DataArguments(train_file=train, validation_file=str(tmp_path / "nowhere.jsonl")))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_split_with_an_empty_side_is_refused_before_training(
    tmp_path: Path, side: str, split: str, streaming: bool
) -> None:
    good = write_table(tmp_path / "good.jsonl", FULL_PAIRS)
    bad = write_table(tmp_path / "bad.jsonl", [{**pair, side: "  "} for pair in FULL_PAIRS])
    chosen = {"validation_file": good, "test_file": good, f"{split}_file": bad}
    with pytest.raises(DataError, match=f"The {split} split has no {side} text: all of its 5 are empty"):
        load_examples(DataArguments(train_file=good, streaming=streaming, **chosen))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_that_datasets_saved(tmp_path: Path, streaming: bool) -> None:
    pairs = Dataset.from_list(FULL_PAIRS)
    DatasetDict({"train": pairs, "validation": pairs}).save_to_disk(tmp_path / "saved")
    examples = load_examples(DataArguments(dataset_name=str(tmp_path / "saved"), streaming=streaming))
    assert [list(examples[split]) for split in ("train", "validation")] == [FULL_PAIRS, FULL_PAIRS]
    assert isinstance(examples["train"], Dataset) != streaming
