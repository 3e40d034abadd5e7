"""Local files: read as they are, or refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from datasets import Dataset, IterableDataset

from hf_rnn_s2s.data.arguments import DataError
from hf_rnn_s2s.data.loading import load_examples

from ..data_examples import FULL_PAIRS, NO_TABS, PAIRS, files, parallel, rows, write_parallel, write_table

pytestmark = pytest.mark.usefixtures("own_datasets_cache")


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


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_a_changed_table_is_read_again_whatever_its_time(tmp_path: Path, suffix: str) -> None:
    """tar, rsync and docker write files with the times that they had elsewhere."""
    path = tmp_path / f"pairs{suffix}"
    for pair in NO_TABS[:2]:
        write_table(path, [pair])
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert rows(load_examples(files(str(path)))["train"]) == [pair]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_tables_keep_every_field_as_it_is(tmp_path: Path, suffix: str, streaming: bool) -> None:
    pairs = NO_TABS if suffix == ".tsv" else PAIRS
    path = write_table(tmp_path / f"pairs{suffix}", [{"id": str(i), **pair} for i, pair in enumerate(pairs)])
    examples = load_examples(files(path, streaming=streaming))
    assert rows(examples["validation"]) == pairs
    assert rows(examples["train"]) == pairs[:-1]


def test_unequal_line_counts(tmp_path: Path) -> None:
    prefix = write_parallel(tmp_path / "t", PAIRS)
    (tmp_path / "t.de").write_text("eins\nzwei\n")
    with pytest.raises(DataError, match=r"t\.en has 6 lines and .*t\.de has 2: line n of one must translate line n"):
        load_examples(parallel(prefix))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["t", "t.jsonl", "t.csv", "t.tsv"])
def test_undecodable_bytes(tmp_path: Path, name: str, streaming: bool) -> None:
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


def test_broken_tables(tmp_path: Path) -> None:
    broken = tmp_path / "t.jsonl"
    broken.write_text('{"source": "a", "target": "b"}\n{"source": "a", \n')
    with pytest.raises(DataError, match=r"t\.jsonl cannot be read as JSON: line 2 is not a whole JSON object"):
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


@pytest.mark.parametrize("streaming", [False, True])
def test_text_that_looks_like_a_time_or_a_number_stays_text(tmp_path: Path, streaming: bool) -> None:
    pairs = [{"source": "2020-01-01", "target": "2020-01-01 10:00:00"}, {"source": "1e5", "target": "true"}]
    path = write_table(tmp_path / "t.jsonl", pairs)
    assert rows(load_examples(files(path, streaming=streaming))["train"]) == pairs


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("bad_line", "message"),
    [
        ('{"source": "a", "target": 3}', "row 3: 'target' is not text but 3"),
        ('{"source": ["a"], "target": "b"}', r"row 3: 'source' is not text but \['a'\]"),
        ('{"source": "a"}', r"row 3: 'target' is missing \(null\)"),
        ('["a", "b"]', r"row 3 is not a JSON object but \['a', 'b'\]"),
        ('{"source": "a",', "line 3 is not a whole JSON object"),
        (r'{"source": "a\ud800", "target": "b"}', "row 3: 'source' is not valid Unicode"),
        ('{"source": "a", "target": "b", "n": ' + "9" * 5000 + "}", "line 3 is not a whole JSON object"),
    ],
)
def test_the_row_that_is_wrong_is_the_one_that_is_named(
    tmp_path: Path, bad_line: str, message: str, streaming: bool
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n' * 2 + bad_line + '\n{"source": "c", "target": "d"}\n')
    with pytest.raises(DataError, match=rf"t\.jsonl.*{message}"):
        rows(load_examples(files(str(path), streaming=streaming))["train"])


def test_rows_may_have_more_than_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    lines = [{"translation": {"en": "a", "de": "b"}}, {"translation": {"en": "c", "de": "d", "fr": "e"}, "id": 7}]
    expected = [{"source": "a", "target": "b"}, {"source": "c", "target": "d"}]
    path.write_text("\n\n".join(json.dumps(line) for line in lines))
    assert rows(load_examples(parallel(str(path)))["train"]) == expected
    path.write_text(json.dumps(lines, indent=1))  # one list in the whole file
    assert rows(load_examples(parallel(str(path)))["train"]) == expected


def test_the_case_of_a_suffix_does_not_matter(tmp_path: Path) -> None:
    for suffix in (".JSONL", ".Csv", ".TSV"):
        path = tmp_path / f"t{suffix}"
        lower = write_table(tmp_path / f"t{suffix.lower()}", NO_TABS)
        path.write_bytes(Path(lower).read_bytes())
        assert rows(load_examples(files(str(path)))["validation"]) == NO_TABS


def test_a_quotation_mark_without_its_pair_is_suspected(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('source,target\n"a,b\n' + "c,d\n" * 40_000)
    with pytest.raises(DataError, match="line [0-9]+: field larger than .*quotation mark without its pair"):
        load_examples(files(str(path)))


def test_a_null_in_the_first_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"translation": null}\n{"translation": {"en": "a", "de": "b"}}\n')
    with pytest.raises(DataError, match=r"row 1: 'translation.en' is missing \(null\)"):
        load_examples(parallel(str(path)))
