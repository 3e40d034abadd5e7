"""What would lose data in silence: pipes, files that are read and written, values and types of other columns."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from pyarrow import array, float32, int8, list_, parquet, table, timestamp

from hf_rnn_s2s import RnnTranslationPipeline
from hf_rnn_s2s.decoding.batched_pipeline import BatchedPipeline
from hf_rnn_s2s.errors import ProcessError

from .conftest import TEXTS, Run


def test_a_pipe_is_read_once(run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting its lines for the bar would take them away."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    writer = threading.Thread(target=lambda: pipe.write_text("a dog\n" * 50, encoding="utf-8"))
    writer.start()
    outcome = run(["translate", "-m", model_folder, pipe, "--buffer-size", 7])
    writer.join()
    assert len(outcome.out.splitlines()) == 50


def test_files_that_are_read_are_not_written(run: Run, model_folder: Path, lines: Path, tmp_path: Path) -> None:
    content = lines.read_bytes()
    other = tmp_path / "other.txt"
    for arguments in (
        ["translate", lines, "-o", lines],
        ["translate", lines, "-o", other, "--attentions", lines],
        ["translate", lines, "-o", other, "--attentions", other],
        ["score", lines, lines, "-o", lines],
    ):
        outcome = run([arguments[0], "-m", model_folder, *arguments[1:], "--overwrite"])
        assert outcome.code == 2
        assert "which is the same file: name another one" in outcome.error
        assert lines.read_bytes() == content
        assert not other.exists()


def test_blank_records_of_a_table_with_one_column(run: Run, model_folder: Path, tmp_path: Path) -> None:
    for suffix in ("tsv", "csv"):
        source = tmp_path / f"in.{suffix}"
        source.write_text("text\na dog\n\na cat\n", encoding="utf-8")
        outcome = run(["translate", "-m", model_folder, source, "--output-format", "jsonl"])
        assert [json.loads(line)["text"] for line in outcome.out.splitlines()] == ["a dog", "", "a cat"]


def test_values_of_other_columns_stay_as_they_are(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    row = {
        "text": "a dog",
        "f": 1234567.891,
        "n": None,
        "l": [1, {"a": "ß"}],
        "b": True,
        "s": 'x\r"y"\n',
        "h": "\ud800",
    }
    source.write_text(json.dumps(row) + "\n", encoding="utf-8")
    outcome = run(["translate", "-m", model_folder, source, "--output-format", "csv"])
    assert outcome.code == 0, outcome.error
    [found] = csv.DictReader(io.StringIO(outcome.out, newline=""))
    assert (found["f"], found["n"], found["b"], found["s"], found["h"]) == (
        "1234567.891",
        "",
        "true",
        row["s"],
        "\\ud800",
    )
    assert json.loads(found["l"]) == row["l"]
    outcome = run(["translate", "-m", model_folder, source])
    assert {**json.loads(outcome.out), "translation": ""} == {**row, "translation": ""}


def test_types_of_parquet_columns_stay(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.parquet", tmp_path / "out.parquet"
    columns = {
        "text": array(["a dog", "a cat", "red"]),
        "late": array([None, None, 3], type=int8()),
        "when": array([None, datetime.datetime(2026, 3, 1), None], type=timestamp("us")),
        "none": array([None] * 3, type=float32()),
        "list": array([None, [1], []], type=list_(int8())),
    }
    parquet.write_table(table(columns), source, row_group_size=1)
    command = ["translate", "-m", model_folder, source, "--buffer-size", 1]
    assert run([*command, "-o", output]) == (0, "", "")
    written = parquet.read_table(output)
    assert written.schema.names == [*columns, "translation", "warning"]
    for name, column in columns.items():
        assert written[name].type == column.type
        assert written[name].to_pylist() == column.to_pylist()
    records = [json.loads(line) for line in run([*command, "--output-format", "jsonl"]).out.splitlines()]
    assert [record["when"] for record in records] == [None, "2026-03-01 00:00:00", None]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_bytes_go_to_parquet_only(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    parquet.write_table(table({"text": ["a dog"], "raw": [b"\x00"]}), source)
    outcome = run(["translate", "-m", model_folder, source, "-o", tmp_path / "o.csv"])
    assert outcome.code == 2
    assert "A column has bytes, which a text format cannot hold" in outcome.error
    assert run(["translate", "-m", model_folder, source, "-o", tmp_path / "o.csv", "--keep-columns", "text"]).code == 0
    assert run(["translate", "-m", model_folder, source, "-o", tmp_path / "o.parquet"]).code == 0


def test_the_output_of_one_command_is_the_input_of_the_next(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source, first = tmp_path / "in.jsonl", tmp_path / "first.tsv"
    texts = ["a dog", "the cat " * 60]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    assert run(["translate", "-m", model_folder, source, "-o", first]).code == 0
    outcome = run(["score", "-m", model_folder, first, "--source-column", "text", "--target-column", "translation"])
    rows = list(csv.DictReader(io.StringIO(outcome.out), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [bool(row["warning"]) for row in rows] == [False, True]
    outcome = run(["translate", "-m", model_folder, source, "--output-column", "warning"])
    assert "two columns 'warning'" in outcome.error


def test_settings_stand_anywhere(run: Run, model_folder: Path, lines: Path) -> None:
    expected = run(["translate", "-m", model_folder, lines, "--length-penalty", "-3", "--num-beams", 3])
    assert expected.code == 0
    for words in (
        ["--length-penalty", "-3", lines, "--num-beams", 3],
        ["--length-penalty=-3", "--num-beams", 3, lines],
        ["--early-stopping", "false", "--length-penalty", "-3", "--num-beams", 3, lines],
    ):
        assert run(["translate", "-m", model_folder, *words]) == expected
    assert run(["translate", "-m", model_folder, "--do-sample", lines, "--top-k", 1]).code == 0
    assert "needs a value" in run(["translate", "-m", model_folder, lines, "--length-penalty"]).error


def test_what_the_pipeline_refuses_is_one_line(run: Run, model_folder: Path, lines: Path) -> None:
    for words, said in (
        (["--force-phrases", "Hund"], "force_phrases"),
        (["--shortlist", "--num-beams", 2], "shortlist"),
        (["--watermarking-config", '{"a": 1}'], "watermarking_config"),
        (["--minimum-bayes-risk"], "say among how many, --n-best 8"),
        (["--batch-tokens", 0], "--batch-tokens 0 must be at least 1"),
        (["--processes", 0], "--processes 0 must be at least 1"),
        (["--device", "meta"], "--device meta"),
        (["--seed", -1], "--seed"),
    ):
        outcome = run(["translate", "-m", model_folder, lines, *words])
        assert (outcome.code, outcome.error.count("\n")) == (2, 1), outcome
        assert said in outcome.error


def test_the_least_risk_among_several(
    run: Run, model_folder: Path, lines: Path, translator: RnnTranslationPipeline
) -> None:
    outcome = run(["translate", "-m", model_folder, lines, "--n-best", 4, "--minimum-bayes-risk"])
    settings = {"num_return_sequences": 4, "num_beams": 4, "minimum_bayes_risk": True}
    assert outcome.out.splitlines() == [one["translation_text"] for one in translator(TEXTS, **settings)]


def test_alignments_count_the_words_that_are_read(run: Run, model_folder: Path, tmp_path: Path) -> None:
    found = []
    for text in ("the big cat sleeps", "  the   big  cat   sleeps "):
        source = tmp_path / "in.txt"
        source.write_text(text + "\n", encoding="utf-8")
        found.append(run(["translate", "-m", model_folder, source, "--alignments"]).out)
    assert found[0] == found[1]
    assert "-" in found[0]


def test_several_documents_need_a_table(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "One.\\n\\nTwo."}\n{"text": "\\n \\n"}\n', encoding="utf-8")
    outcome = run(["translate", "-m", model_folder, source, "--document", "-o", tmp_path / "o.txt"])
    assert outcome.code == 2
    assert "Several documents cannot go to a file of lines" in outcome.error
    outcome = run(["translate", "-m", model_folder, source, "--document"])
    assert [json.loads(line)["translation"].count("\n") for line in outcome.out.splitlines()] == [2, 2]


def test_an_empty_input_for_a_full_output(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.touch()
    output.write_text("one\n", encoding="utf-8")
    outcome = run(["translate", "-m", model_folder, source, "-o", output, "--resume"])
    assert outcome.code == 2
    assert "The output has 1 records, more than" in outcome.error
    assert output.read_text(encoding="utf-8") == "one\n"


def test_what_fails_in_another_process_is_named_by_its_record(
    run: Run, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blank records do not reach the pipeline, so its numbers are others."""

    def fails(*arguments: Any) -> Any:
        raise ProcessError([1], "it fails")

    monkeypatch.setattr(BatchedPipeline, "_write_all", fails)
    source = tmp_path / "source.txt"
    source.write_text("a dog\n\na cat\n", encoding="utf-8")
    outcome = run(["translate", "--model", model_folder, source, "--processes", 2])
    assert outcome.code == 1
    assert outcome.error.endswith(f"{source}: Record 3: it fails\n")
