"""The benchmarks of other tasks, and the one beside a Transformer, each on a few rows."""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

import train as script
from benchmarks import pronunciations, tasks, transduction_worker, transformer
from benchmarks.contenders.base import Budget
from benchmarks.contenders.ours import Ours
from benchmarks.streams import Streams
from benchmarks.trivial_summaries import rare_words, words_of

from .test_benchmarks import WorkerHere


def test_rare_words_are_those_of_few_texts_in_their_order() -> None:
    texts_with = Counter({"the": 100, "meeting": 40, "budget": 5, "gas": 2, "typo": 1, "noon": 30, "for": 90})
    words = words_of("The budget for the typo meeting: gas, budget at noon 7")
    assert words == ["the", "budget", "for", "the", "typo", "meeting", "gas", "budget", "at", "noon"]
    assert rare_words(words, texts_with, 100) == ["budget", "meeting", "gas", "noon"]


def test_ours_trains_and_decodes_for_the_race_with_yoyodyne(tmp_path: Path) -> None:
    """A worker writes what was learned: here a letter is its capital."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcd", k=draw.randint(1, 3))) for _ in range(600)]
    table = "".join(f"{word}\t{' '.join(word.upper())}\n" for word in words)
    for split in ("train", "dev", "test"):
        (tmp_path / f"xxx_{split}.tsv").write_text(
            table if split == "train" else table[:200].rsplit("\n", 1)[0] + "\n"
        )
    order: dict[str, Any] = {
        **tasks.COMMON, "folder": str(tmp_path / "model"), "epochs": 12, "rounds": 1,
        "precision": "float32",
        **{split: str(tmp_path / f"xxx_{file}.tsv") for split, file in (("train", "train"), ("test", "test"))},
    }  # fmt: skip
    sizes = {"hidden_size": 32, "embedding_size": 16, "encoder_layers": 1}
    order["options"] = {**tasks.OURS["ours"]["options"], **sizes, "learning_rate": 1e-2, "report_to": "none"}
    trained = transduction_worker.train(order)
    assert trained["seconds"] > 0
    assert trained["parameters"] > 1000
    decoded = transduction_worker.decode(order)
    expected = [target for _, target in tasks.rows_of(tmp_path / "xxx_test.tsv")]
    assert len(decoded["seconds"]) == 1
    assert sum(one == other for one, other in zip(decoded["outputs"], expected, strict=True)) > 0.9 * len(expected)


def test_a_model_that_is_not_there_is_asked_for_by_name(tmp_path: Path) -> None:
    given = argparse.Namespace(work=tmp_path, data=tmp_path, threads=1, learning_rate=1e-3)
    with pytest.raises(SystemExit, match="ours-recipe has no model for ice in --work yet: ask for the part errors"):
        tasks.Process("ours-recipe", given).call("decode", "ice", "whole")


def test_pronunciations_are_learned_once_and_the_better_form_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Through `train.py` in this process; what a form is worth is then written into its results."""
    recipe: dict[str, Any] = yaml.safe_load(pronunciations.RECIPE.read_text(encoding="utf-8"))
    recipe |= {"hidden_size": 16, "embedding_size": 16, "num_train_epochs": 2, "report_to": "none"}
    recipe |= {"eval_steps": 0.5, "save_steps": 0.5, "average_checkpoints": 2}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    monkeypatch.setattr(pronunciations, "RECIPE", tmp_path / "recipe.yaml")
    for split in ("train", "dev", "test"):
        (tmp_path / f"kor_{split}.tsv").write_text("가나\tk a n a\n나\tn a\n" * 8, encoding="utf-8")
    commands: list[list[str]] = []

    def run_here(command: list[str], **options: Any) -> None:
        commands.append(command)
        script.main(command[2:])

    monkeypatch.setattr(pronunciations, "subprocess", SimpleNamespace(run=run_here))
    where = ["--data", str(tmp_path), "--work", str(tmp_path / "work"), "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", ["pronunciations", *where])
    pronunciations.main()
    assert len(commands) == 2
    for form, wer in (("NFC", 30.0), ("NFD", 20.0)):
        for folder, change in (("seed-42", 0.0), ("seed-43", 5.0), ("ensemble", -2.0)):
            path = tmp_path / "work" / f"kor-{form}" / folder / "all_results.json"
            results = {**json.loads(path.read_text()), "predict_wer": wer + change, "eval_wer": 2 * wer}
            path.write_text(json.dumps(results))
    capsys.readouterr()
    pronunciations.main()
    assert len(commands) == 2  # nothing was trained again
    printed = capsys.readouterr().out
    assert "kor in NFC: validation 60.00, test 32.50, ensemble 28.00" in printed
    assert "| kor | 22.50 | 22.50 | 18.00 | 46.89 |" in printed
    assert "| mean | 22.50 | 22.50 | 18.00 | 46.89 |" in printed
    last = tmp_path / "work" / "kor-NFC" / "seed-43" / "all_results.json"
    last.unlink()
    pronunciations.main()
    assert len(commands) == 3  # goes on with what a stopped run has left
    assert last.is_file()


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    draw = random.Random(0)
    for split, pairs in (("train", 96), ("val", 8), ("test_2016_flickr", 8)):
        sources = [" ".join(draw.choices(["ab", "cd", "ef"], k=3)) for _ in range(pairs)]
        (tmp_path / f"{split}.en").write_text("".join(text + "\n" for text in sources))
        (tmp_path / f"{split}.de").write_text("".join(text.upper() + "\n" for text in sources))
    return Streams(tmp_path, tmp_path / "work", vocabulary=300, batch_size=16)


def test_learning_within_a_time_goes_on_where_it_was_and_ends_with_a_rate_near_zero(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that goes on by a tenth of a second whenever it is read: once at first, then once a step."""
    contender, rates = Ours(streams, "float32"), []
    ticks = itertools.count()
    monkeypatch.setattr("benchmarks.contenders.base.time", SimpleNamespace(perf_counter=lambda: 0.1 * next(ticks)))
    set_rate = contender.set_learning_rate

    def noted(rate: float) -> None:
        rates.append(rate)
        set_rate(rate)

    monkeypatch.setattr(contender, "set_learning_rate", noted)
    assert contender.learn_within(budget=1.0, rate=1e-3, turn=0.35) == pytest.approx({"seconds": 0.4, "steps": 4})
    assert contender.learn_within(budget=1.0, rate=1e-3, turn=10.0) == pytest.approx({"seconds": 1.0, "steps": 10})
    assert rates == pytest.approx([1e-3 * min((step + 1) / 200, 2 * (1 - step / 10)) for step in range(10)])


def test_a_budget_shows_every_batch_once_before_any_twice() -> None:
    budget = Budget(list(range(5)))
    shown = [budget.next_batch() for _ in range(10)]
    assert sorted(shown[:5]) == sorted(shown[5:]) == list(range(5))


def test_memory_of_a_longer_source_is_more() -> None:
    """Each is a process of its own, as in the benchmark."""
    chosen = argparse.Namespace(threads=1)
    short, long = (transformer._in_a_process("marian-bfloat16", "train", length, chosen) for length in (10, 200))
    assert 0 <= short["megabytes"] < long["megabytes"]
    assert 0 < short["seconds"] < long["seconds"]


def test_learning_translating_and_the_curves_of_the_comparison(
    streams: Streams, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """All but the cells, to the last line, with workers in this process."""
    monkeypatch.setattr(transformer, "Worker", WorkerHere)
    monkeypatch.setattr(transformer, "_in_a_process", lambda *cell: {"seconds": 1.0, "megabytes": 2.0})
    where = ["--data", str(streams.data), "--work", str(streams.data / "work"), "--vocabulary", "300"]
    monkeypatch.setattr(sys, "argv", ["transformer", "--quick", *where, "--batch-size", "16", "--threads", "1"])
    threads = torch.get_num_threads()
    try:
        transformer.main()
    finally:
        torch.set_num_threads(threads)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["benchmark"].partition(",")[0] for line in lines] == ["bleu", *["translating"] * 4, "length"]
    assert lines[0]["minutes and bleu"].keys() == {"ours", "marian-bfloat16"}
    assert lines[-1]["costs"]["train"].keys() == {"ours", "ours-all-logits", "marian-bfloat16"}
    assert (streams.data / "work" / "transformer.png").stat().st_size > 10_000
