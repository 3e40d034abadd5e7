"""`transcribe`: recordings by their paths or their bytes, and those that cannot be read beside others that can."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import parquet, table
from transformers import pipeline

from ..page.saved import save_listener
from ..speech import write_tones
from .conftest import Run


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_listener(tmp_path_factory.mktemp("models") / "listener")


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """Two that can be read, in a folder beside the list of them."""
    folder = tmp_path / "wav"
    folder.mkdir()
    paths = [folder / "first one.wav", folder / "second.wav"]
    write_tones(paths[0], ["low", "mid"])
    write_tones(paths[1], ["high", "low", "low"])
    return paths


def test_a_list_of_paths(run: Run, listener: Path, recordings: list[Path], tmp_path: Path) -> None:
    names = ["wav/first one.wav", "", "wav/nowhere.wav", "wav/broken.wav", "wav/second.wav"]
    (tmp_path / "wav" / "broken.wav").write_bytes(b"RIFF and nothing more")
    source = tmp_path / "list.txt"
    source.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    transcriber = pipeline("automatic-speech-recognition", model=str(listener))
    expected = [transcriber(str(path))["text"] for path in recordings]
    outcome = run(["transcribe", "--model", listener, source])
    assert outcome.code == 0
    assert outcome.out.split("\n") == [expected[0], "", "", "", expected[1], ""]
    said = outcome.error.splitlines()
    assert len(said) == 2
    assert said[0].startswith(f"{source}, record 3: There is no recording")
    assert said[1].startswith(f"{source}, record 4: ")
    outcome = run(["transcribe", "-m", listener, source, "--output-format", "jsonl", "--buffer-size", 2])
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert [record["transcript"] for record in records] == [expected[0], "", "", "", expected[1]]
    assert ["warning" in record for record in records] == [False, False, True, True, False]


def test_the_bytes_of_a_data_set(run: Run, listener: Path, recordings: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    audio = [{"bytes": path.read_bytes(), "path": None} for path in recordings] + [{"bytes": None, "path": None}]
    parquet.write_table(table({"audio": audio, "speaker": ["x", "y", "z"]}), source)
    outcome = run(["transcribe", "-m", listener, source, "--keep-columns", "speaker", "--output-format", "jsonl"])
    assert (outcome.code, outcome.error) == (0, "")
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert [record["speaker"] for record in records] == ["x", "y", "z"]
    expected = run(["transcribe", "-m", listener, list_of(recordings, tmp_path)]).out.splitlines()
    assert [record["transcript"] for record in records] == [*expected, ""]
    assert records[2]["warning"].startswith("a recording is the path of a file, or its bytes, not {")
    outcome = run(["transcribe", "-m", listener, source, "-o", tmp_path / "o.csv"])
    assert outcome.code == 2
    assert "which a text format cannot hold" in outcome.error


def list_of(paths: list[Path], folder: Path) -> Path:
    path = folder / "paths.txt"
    path.write_text("".join(f"{one}\n" for one in paths), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["--n-best", 2],
        ["--scores"],
        ["--alignments"],
        ["--document"],
        ["--batch-tokens", 9],
        ["--processes", 2],
        ["--attentions", "x"],
    ],
)
def test_what_is_for_texts(words: list[object], run: Run, listener: Path, tmp_path: Path) -> None:
    source = tmp_path / "list.jsonl"
    source.write_text('{"path": "x.wav"}\n', encoding="utf-8")
    outcome = run(["transcribe", "-m", listener, source, "-o", tmp_path / "o.jsonl", *words])
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert f"{words[0]} is for texts" in outcome.error
