"""Streams: every row once in a pass, other orders from pass to pass, like lengths together, and exact resuming."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset

from hf_rnn_s2s import train_tokenizer
from hf_rnn_s2s.data import files as files_module
from hf_rnn_s2s.data import rows as rows_module
from hf_rnn_s2s.data.arguments import DataArguments, DataError
from hf_rnn_s2s.data.loading import load_examples
from hf_rnn_s2s.data.streaming import StreamBatching, StreamLoader
from hf_rnn_s2s.data.tokens import tokenize_examples

from ..data_examples import write_parallel, write_table

ROWS = 137
KEPT = [number for number in range(ROWS) if number % 5]
Batch = list[int]


def stream(shards: int = 7) -> IterableDataset:
    """Rows of 1 to 9 tokens, each with its number as all of its tokens; mapped and filtered as real ones are."""
    generator = random.Random(0)
    rows = [
        {"n": n, "input_ids": [n] * generator.randint(1, 9), "labels": [n] * generator.randint(1, 9)}
        for n in range(ROWS)
    ]
    mapped = Dataset.from_list(rows).to_iterable_dataset(num_shards=shards)
    mapped = mapped.map(lambda batch: batch, batched=True, batch_size=10, remove_columns=["n"])
    return mapped.filter(lambda batch: [ids[0] % 5 != 0 for ids in batch["input_ids"]], batched=True, batch_size=8)


def numbers(rows: list[dict[str, list[int]]]) -> Batch:
    return [row["input_ids"][0] for row in rows]


def batching(**options: Any) -> StreamBatching:
    usual = {"buffer_size": 24, "strategy": "group_by_length", "batch_size": 3, "batch_tokens": None, "processes": 1}
    return StreamBatching(**{**usual, "workers": 0, "seed": 5, **options})


def run(
    how: StreamBatching, steps: int, process: int = 0, state: dict[str, Any] | None = None, shards: int = 7
) -> tuple[list[Batch], list[dict[str, Any]]]:
    """So many batches, and the state after each, having been through JSON."""
    loader = StreamLoader(stream(shards), how, process, numbers)
    if state is not None:
        loader.load_state_dict(state)
    batches, states = [], []
    iterator = iter(loader)
    for _ in range(steps):
        batches.append(next(iterator))
        states.append(json.loads(json.dumps(loader.state_dict())))
    return batches, states


def first_pass(batches: list[Batch], states: list[dict[str, Any]]) -> list[Batch]:
    return [
        batch
        for batch, before in zip(batches, [None, *states], strict=False)
        if before is None or before["position"]["pass_number"] == 0
    ]


WAYS: list[dict[str, Any]] = [
    {"strategy": "group_by_length"},
    {"strategy": "random"},
    {"strategy": "sequential"},
    {"batch_tokens": 20},
]


@pytest.mark.parametrize("how", WAYS, ids=lambda how: "-".join(map(str, how.values())))
@pytest.mark.parametrize(("workers", "processes"), [(0, 1), (0, 2), (2, 1), (2, 2)])
def test_every_row_comes_once_in_a_pass_and_resuming_is_exact(
    how: dict[str, Any], workers: int, processes: int
) -> None:
    how = {**how, "workers": workers, "processes": processes}
    of_all = [run(batching(**how), 66, process) for process in range(processes)]
    whole, states = of_all[0]
    assert all(of_one[1] == states for of_one in of_all)  # so one process can save the state for all
    rows = [number for of_one, _ in of_all for batch in first_pass(of_one, states) for number in batch]
    assert sorted(set(rows)) == KEPT
    assert len(rows) - len(KEPT) < processes  # only what fills the last step up
    for one in zip(*(of_one for of_one, _ in of_all), strict=True):
        assert max(map(len, one)) - min(map(len, one)) <= 1
    for step in (1, 13, 30, 37, 40) if workers else range(1, 60, 3):
        again, _ = run(batching(**how), 6, state=states[step - 1])
        assert again == whole[step : step + 6], step


def test_passes_come_in_other_orders_but_for_a_sequential_one() -> None:
    for strategy, is_same in (("group_by_length", False), ("random", False), ("sequential", True)):
        batches, states = run(batching(strategy=strategy), 90)
        passes = [state["position"]["pass_number"] for state in states]
        per_pass = passes.index(1) + 1
        first, second = batches[:per_pass], batches[per_pass : 2 * per_pass]
        assert (first == second) == is_same, strategy
        if is_same:
            assert [number for batch in first for number in batch] == KEPT
        else:
            in_first, in_second = ([number for batch in one for number in batch] for one in (first, second))
            assert sorted(in_first) == sorted(in_second) == KEPT
            places = {number: place for place, number in enumerate(in_first)}
            moved = [abs(places[number] - place) for place, number in enumerate(in_second)]
            assert sum(moved) / len(moved) > 24  # farther than a block reaches: the shards were shuffled, too


def test_batches_have_like_lengths_and_so_many_tokens() -> None:
    lengths = {row["input_ids"][0]: (len(row["input_ids"]), len(row["labels"])) for row in stream()}

    def padding(**how: Any) -> float:
        batches, states = run(batching(buffer_size=120, **how), 40)
        shapes = [[lengths[number] for number in batch] for batch in first_pass(batches, states)]
        padded = sum(len(shape) * max(target for _, target in shape) for shape in shapes)
        return padded / sum(target for shape in shapes for _, target in shape)

    assert padding(strategy="group_by_length") < 1.1 < 1.3 < padding(strategy="random")
    batches, _ = run(batching(buffer_size=120, batch_tokens=20), 30)
    sizes = [len(batch) * max(max(lengths[number]) for number in batch) for batch in batches]
    assert max(sizes) <= 20
    assert sum(sizes) / len(sizes) > 14
    assert len({len(batch) for batch in batches}) > 2


def test_resuming_in_another_way_is_refused_by_name() -> None:
    _, states = run(batching(), 3)
    for name, value in (("buffer_size", 30), ("workers", 2), ("processes", 2), ("batch_tokens", 50), ("seed", 1)):
        with pytest.raises(DataError, match=rf"{name} was .* and is {value}.*--ignore_data_skip"):
            run(batching(**{name: value}), 1, state=states[-1])


def test_a_stream_without_rows_is_refused() -> None:
    empty = stream().filter(lambda batch: [False] * len(batch["input_ids"]), batched=True)
    with pytest.raises(DataError, match="no row to train on"):
        next(iter(StreamLoader(empty, batching(), 0, numbers)))
    with pytest.raises(DataError, match="train_sampling_strategy=length"):
        batching(strategy="length")


def complain(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    raise DataError("Row 7 has no text.")


@pytest.mark.parametrize("workers", [0, 2])
def test_wrong_data_ends_with_a_message_and_no_stack_of_a_worker(workers: int) -> None:
    wrong = stream().map(complain, batched=True)
    with pytest.raises(DataError) as error:
        next(iter(StreamLoader(wrong, batching(workers=workers), 0, numbers)))
    assert str(error.value) == "Row 7 has no text."


def test_what_cannot_be_sent_to_a_new_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # How long torch waits for each of the processes, of which there are none.
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    loader = StreamLoader(stream(), batching(workers=1), 0, numbers, multiprocessing_context="spawn")
    with pytest.raises(DataError, match="dataloader_num_workers=1: workers are new processes.*<lambda>"):
        next(iter(loader))


# Real files, through everything that is done to them


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch, own_datasets_cache: None) -> None:
    monkeypatch.setattr(rows_module, "SHARD_ROWS", 10)


PAIRS = [{"source": f"{n}" + " dog" * (n % 7), "target": "" if n % 9 == 0 else f"{n} Hund"} for n in range(90)]


def write(folder: Path, kind: str) -> DataArguments:
    if kind == "text":
        prefix = write_parallel(folder / "t", PAIRS)
        return DataArguments(
            train_file=prefix, validation_file=prefix, source_lang="en", target_lang="de", streaming=True
        )
    if kind == "folder":  # streamed by `datasets` itself
        for split in ("train", "validation"):
            Dataset.from_list(PAIRS).to_parquet(folder / f"{split}.parquet", batch_size=10)
        return DataArguments(dataset_name=str(folder), streaming=True)
    if kind == "parquet":
        path = folder / "t.parquet"
        Dataset.from_list(PAIRS).to_parquet(path, batch_size=10)
    else:
        path = Path(write_table(folder / f"t.{kind}", PAIRS))
    return DataArguments(train_file=str(path), validation_file=str(path), streaming=True)


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["text", "jsonl", "csv", "parquet", "folder"])
def test_files_are_streamed_and_resumed(tmp_path: Path, kind: str, workers: int) -> None:
    tokenizer = train_tokenizer([pair["source"] for pair in PAIRS], 300)
    arguments = write(tmp_path, kind)

    def loader() -> StreamLoader:
        examples: Any = tokenize_examples(load_examples(arguments)["train"], tokenizer, arguments, training=True)
        how = batching(batch_size=4, buffer_size=16, workers=workers)
        return StreamLoader(examples, how, 0, lambda rows: [row["input_ids"] for row in rows])

    whole, states = loader(), []
    batches: list[list[list[int]]] = []
    for batch in whole:
        batches.append(batch)
        states.append(json.loads(json.dumps(whole.state_dict())))
        if whole.finished_passes == 2:
            break
    of_first = [ids for batch, state in zip(batches, [None, *states], strict=False) for ids in batch]
    expected = sorted(tokenizer(pair["source"])["input_ids"] for pair in PAIRS if pair["target"])
    assert sorted(of_first) == sorted(expected * 2)
    for step in (3, len(batches) // 2, len(batches) - 4):
        again = loader()
        again.load_state_dict(states[step - 1])
        assert [batch for batch, _ in zip(again, range(3), strict=False)] == batches[step : step + 3]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("kind", ["text", "jsonl", "csv", "parquet"])
def test_resuming_does_not_read_a_file_from_its_start(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 6000
    monkeypatch.setattr(f"{__name__}.PAIRS", [{"source": f"{n}", "target": f"{n}"} for n in range(rows)])
    arguments = write(tmp_path, kind)
    tokenizer = train_tokenizer(["0123456789"], 300)
    read: list[int] = []

    def counted(yielded: Iterator[Any]) -> Iterator[Any]:
        for one in yielded:
            read.append(1)
            yield one

    reader = "_read_parallel_text" if kind == "text" else "_read_table"
    original = getattr(files_module, reader)
    monkeypatch.setattr(files_module, reader, lambda **content: counted(original(**content)))
    examples: Any = tokenize_examples(load_examples(arguments)["train"], tokenizer, arguments, training=True)
    how = batching(batch_size=50, buffer_size=200, strategy="sequential")
    loader = StreamLoader(examples, how, 0, lambda rows: [row["input_ids"] for row in rows])
    iterator = iter(loader)
    for _ in range(105):
        next(iterator)
    state, expected = loader.state_dict(), next(iterator)
    read.clear()
    again = StreamLoader(examples, how, 0, lambda rows: [row["input_ids"] for row in rows])
    again.load_state_dict(state)
    assert next(iter(again)) == expected
    # Of 5,250 rows before it the last thousand for each of the three batches that `datasets` was in the middle of:
    # of pairs with both sides, of token ids, and of those that are not too long
    assert 0 < len(read) <= 3200
