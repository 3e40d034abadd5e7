"""`shortlist`: what is learned from a file is what `Shortlist.from_pairs` learns, and the commands use it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from hf_rnn_s2s import Shortlist

from .conftest import Run, write_sides

PAIRS = [
    ("a small dog", "ein kleiner Hund"),
    ("a  red cat", "eine rote Katze"),
    ("the small cat", "die kleine Katze"),
    ("the dog sleeps", "der Hund schläft"),
]


@pytest.fixture
def folder(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return write_sides(tmp_path, PAIRS)


def test_it_is_learned_and_used(run: Run, folder: Path, files: tuple[Path, Path]) -> None:
    outcome = run(["shortlist", "--model", folder, *files, "--size", 3, "--frequent", 2])
    assert (outcome.code, outcome.error) == (0, "")
    assert outcome.out.startswith(f"shortlist.json in {folder}: from 4 pairs, 2 tokens for every text, and ")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sources, targets = ([" ".join(text.split()) for text in side] for side in zip(*PAIRS, strict=True))
    encoded = tokenizer(sources, text_target=targets)
    size = AutoConfig.from_pretrained(folder).vocab_size
    expected = Shortlist.from_pairs(encoded["input_ids"], encoded["labels"], size, size=3, frequent=2)
    found = Shortlist.from_pretrained(folder)
    assert (found.candidates, found.always) == (expected.candidates, expected.always)
    allowed = {*found.always, *(one for some in found.candidates for one in some)}
    settings = folder / "generation_config.json"
    content = json.loads(settings.read_text())
    del content["suppress_tokens"]  # which looks at all scores
    settings.write_text(json.dumps(content))
    outcome = run(["translate", "-m", folder, files[0], "--shortlist"])
    assert (outcome.code, outcome.error) == (0, "")
    written = outcome.out.splitlines()
    assert len(written) == len(PAIRS)
    letters = set(" ".join(tokenizer.decode([one]) for one in allowed))
    assert {letter for line in written for letter in line} <= letters
    assert len(letters) < 40


def test_two_columns_of_a_table(run: Run, folder: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    run(["shortlist", "--model", folder, *files])
    first = (folder / "shortlist.json").read_text()
    table = tmp_path / "pairs.jsonl"
    lines = [json.dumps({"from": source, "to": target}) for source, target in PAIRS]
    table.write_text("\n".join(lines), encoding="utf-8")
    names = ["--source-column", "from", "--target-column", "to"]
    outcome = run(["shortlist", "--model", folder, table, *names])
    assert outcome.code == 2
    assert "replace it with --overwrite" in outcome.error
    assert run(["shortlist", "--model", folder, table, *names, "--overwrite"]).code == 0
    assert (folder / "shortlist.json").read_text() == first


def test_what_cannot_be_is_told(run: Run, folder: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.tsv"
    empty.write_text("source\ttarget\n", encoding="utf-8")
    for words, said in (
        (["-m", folder, files[0]], "name a file with the targets"),
        (["-m", tmp_path / "nothing", *files], "is no folder"),
        (["-m", folder, "-"], "Name a file with translated text"),
        (["-m", folder, *files, "--size", 0], "--size 0 must be at least 1"),
        (["-m", folder, *files, "--frequent", -1], "--frequent -1 must be at least 0"),
        (["-m", folder, empty], "is empty: there is nothing to learn from"),
        (["-m", folder, files[0], empty], "has 0 records and"),
    ):
        outcome = run(["shortlist", *words])
        assert outcome.code == 2, outcome
        assert said in outcome.error
    assert not (folder / "shortlist.json").exists()
