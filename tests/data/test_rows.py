"""Rows of files: shards together are the file, alone they are stretches of it, whatever the rows hold."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from hf_rnn_s2s.data import rows as rows_module
from hf_rnn_s2s.data.arguments import DataError
from hf_rnn_s2s.data.rows import (
    CHECKS,
    READERS,
    check_text,
    digest_of,
    read_text,
)

ROWS = [
    {"id": str(number), "text": text}
    for number, text in enumerate(
        [
            "plain",
            'with "quotes"',
            "two\nlines",
            "a, comma",
            "",
            "carriage\r\nreturn",
            "lone\rreturn",
            "\u2028",
            "日本",
            "x",
        ]
        * 3
    )
]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "SHARD_ROWS", 4)


def write_json(path: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    path.write_text("\ufeff" + "\n\n".join(lines) + "\n", encoding="utf-8")


def write_list(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=1), encoding="utf-8")


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"], quoting=csv.QUOTE_ALL)
        writer.writeheader()
        for row in ROWS:
            writer.writerow(row)
            file.write("\r\n")  # an empty line is no row


def write_parquet(path: Path) -> None:
    Dataset.from_list(ROWS).to_parquet(path, batch_size=4)


FORMATS: list[tuple[str, str, Callable[[Path], None]]] = [
    ("json", "t.jsonl", write_json),
    ("json", "t.json", write_list),
    ("csv", "t.csv", write_csv),
    ("parquet", "t.parquet", write_parquet),
]


@pytest.mark.parametrize(("kind", "name", "write"), FORMATS, ids=[name for _, name, _ in FORMATS])
def test_shards_are_stretches_of_the_file(tmp_path: Path, kind: str, name: str, write: Callable[[Path], None]) -> None:
    path = tmp_path / name
    write(path)
    table = CHECKS[kind](path)

    def read(shards: list[Any]) -> list[dict[str, Any]]:
        return [row for _, row in READERS[kind](str(path), shards, ("id", "text"), **table.options)]

    assert read(table.shards) == ROWS
    assert len(table.shards) == (1 if name == "t.json" else 15 if kind == "json" else 8)
    pieces = [read([shard]) for shard in table.shards]
    assert [row for piece in pieces for row in piece] == ROWS
    order = random.Random(0).sample(range(len(pieces)), len(pieces))
    assert read([table.shards[number] for number in order]) == [row for number in order for row in pieces[number]]


def test_a_shard_begins_where_a_line_of_the_file_does(tmp_path: Path) -> None:
    """In a file of lone carriage returns there is no other place to begin than its start."""
    path = tmp_path / "t.csv"
    path.write_bytes(b"id,text\r" + b"".join(b"%d,a\r" % number for number in range(20)))
    table = CHECKS["csv"](path)
    assert [shard.rows for shard in table.shards] == [20]
    rows = list(READERS["csv"](str(path), table.shards, (), **table.options))
    assert [row["id"] for _, row in rows] == [str(number) for number in range(20)]


def test_lines_have_the_numbers_that_they_have_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    lines = [f"line {number}\u2028" for number in range(1, 12)]
    path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8", newline="")
    shards = check_text(path).shards
    assert [(shard.first, shard.rows) for shard in shards] == [(1, 4), (5, 4), (9, 3)]
    assert list(read_text(str(path), shards[::-1])) == [
        (number, f"line {number}\u2028") for number in (9, 10, 11, 5, 6, 7, 8, 1, 2, 3, 4)
    ]


def test_a_wrong_row_of_a_later_shard_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": "b"}\n' * 9 + "[]\n")
    table = CHECKS["json"](path)
    with pytest.raises(DataError, match=r"row 10 is not a JSON object"):
        list(READERS["json"](str(path), table.shards[2:], ()))


def test_a_long_file_has_shards_of_more_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MOST_SHARDS", 3)
    path = tmp_path / "t.txt"
    path.write_text("".join(f"{number}\n" for number in range(30)))
    shards = check_text(path).shards
    assert [shard.rows for shard in shards] == [12, 12, 6]
    assert [text for _, text in read_text(str(path), shards)] == [str(number) for number in range(30)]


def test_a_digest_goes_by_content_alone(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    digests = [digest_of(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
