"""What is read, record by record."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hf_rnn_s2s.commands.records import count_lines, open_records, pick_column
from hf_rnn_s2s.errors import UsageError


def test_a_long_field_is_read_and_the_limit_of_others_stays(tmp_path: Path) -> None:
    path, before = tmp_path / "in.tsv", csv.field_size_limit()
    path.write_text(f"text\n{'x' * (2 * before)}\n", encoding="utf-8")
    with open_records(str(path), "tsv") as records:
        [(number, row)] = records.rows
    assert (number, len(row["text"])) == (2, 2 * before)
    assert csv.field_size_limit() == before


def test_how_many_lines_there_are(tmp_path: Path) -> None:
    for content, count in ((b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3), (b"\n", 1)):
        (tmp_path / "f").write_bytes(content)
        assert count_lines(str(tmp_path / "f")) == count
        with open_records(str(tmp_path / "f"), "lines") as records:
            assert (records.total(), len(list(records.rows))) == (count, count)
    assert count_lines("/dev/null") is None


def test_which_column_is_read() -> None:
    assert pick_column("b", ["a", "b"], ["a"], "--column", "x") == "b"
    assert pick_column(None, ["c", "b", "a"], ["a", "b"], "--column", "x") == "a"
    assert pick_column(None, ["z"], ["a"], "--column", "x") == "z"
    for given, columns in (("c", ["a"]), (None, ["y", "z"]), (None, [])):
        with pytest.raises(UsageError, match="--column"):
            pick_column(given, columns, ["a"], "--column", "x")
