"""`score`: the log-probabilities of given targets, in every form of input."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import torch

from hf_rnn_s2s import RnnTranslationPipeline

from .conftest import LONGEST, Run, write_sides

PAIRS = [("a small dog", "ein kleiner Hund"), ("the cat sleeps", "die Katze schläft"), ("", ""), ("red", "rot")]


def by_hand(translator: RnnTranslationPipeline, source: str, target: str) -> tuple[list[str], list[float]]:
    """Tokens and their log-probabilities, one forward pass for each pair."""
    tokenizer = translator.tokenizer
    inputs = tokenizer([source], return_tensors="pt")
    labels = tokenizer(text_target=[target], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = translator.model(**inputs, labels=labels).logits
    scores = logits.log_softmax(-1).gather(2, labels.unsqueeze(2)).flatten().tolist()
    return tokenizer.convert_ids_to_tokens(labels[0].tolist()), scores


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_sides(tmp_path, PAIRS)


def test_two_files(run: Run, model_folder: Path, files: tuple[Path, Path], translator: RnnTranslationPipeline) -> None:
    outcome = run(["score", "--model", model_folder, *files])
    assert (outcome.code, outcome.error) == (0, "")
    for line, pair in zip(outcome.out.splitlines(), PAIRS, strict=True):
        score, length = line.split("\t")
        tokens, scores = by_hand(translator, *pair)
        assert float(score) == pytest.approx(sum(scores), rel=1e-4)
        assert int(length) == len(tokens)


def test_each_token(
    run: Run, model_folder: Path, files: tuple[Path, Path], translator: RnnTranslationPipeline
) -> None:
    outcome = run(["score", "-m", model_folder, *files, "--per-token", "--output-format", "jsonl"])
    for line, pair in zip(outcome.out.splitlines(), PAIRS, strict=True):
        record = json.loads(line)
        tokens, scores = by_hand(translator, *pair)
        assert (record["source"], record["target"]) == pair
        assert record["score_tokens"] == tokens
        assert record["score_of_tokens"] == pytest.approx(scores, abs=1e-4)
        assert record["score"] == pytest.approx(sum(scores), abs=1e-3)


def test_columns_of_one_table(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("de,en,note\nein Hund,a dog,x\n", encoding="utf-8")
    usual = run(["score", "-m", model_folder, source])  # named as the model's languages
    named = run(["score", "-m", model_folder, source, "--source-column", "en", "--target-column", "de"])
    swapped = run(["score", "-m", model_folder, source, "--source-column", "de", "--target-column", "en"])
    assert usual == named
    assert usual.out != swapped.out
    [row] = csv.DictReader(io.StringIO(usual.out))
    assert list(row) == ["de", "en", "note", "score", "score_length", "warning"]
    outcome = run(["score", "-m", model_folder, source, "--target-column", "fr"])
    assert "has no column 'fr' (--target-column). It has de, en, note." in outcome.error


def test_unequal_files(run: Run, model_folder: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = files
    target.write_text("one\ntwo", encoding="utf-8")
    outcome = run(["score", "-m", model_folder, source, target, "-o", tmp_path / "out"])
    assert outcome.code == 2
    assert f"{source} has 4 lines and {target} 2" in outcome.error
    assert not (tmp_path / "out").exists()
    table = tmp_path / "t.jsonl"
    table.write_text('{"target": "one"}\n' * 6, encoding="utf-8")
    outcome = run(["score", "-m", model_folder, source, table])
    assert outcome.code == 2
    assert f"{source} has 4 records and {table} 6" in outcome.error
    assert "need a name each" in run(["score", "-m", model_folder, "-", table]).error


def test_a_source_that_is_too_long_and_resuming(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source, output, whole = tmp_path / "in.jsonl", tmp_path / "out.tsv", tmp_path / "whole.tsv"
    rows = [{"source": "the cat " * number, "target": "die Katze"} for number in (1, 60, 2)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = ["score", "-m", model_folder, source, "-o"]
    assert run([*command, whole]).code == 0
    with whole.open(encoding="utf-8", newline="") as file:
        warnings = [row["warning"] for row in csv.DictReader(file, delimiter="\t")]
    assert warnings[0] == warnings[2] == ""
    assert f"tokens is cut to {LONGEST}, the model_max_length" in warnings[1]
    output.write_bytes(whole.read_bytes()[:-9])
    assert run([*command, output, "--resume"]).code == 0
    assert output.read_bytes() == whole.read_bytes()
