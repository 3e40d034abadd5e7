"""The benchmarks of other tasks, and the one beside a Transformer, each on a few rows."""

from __future__ import annotations

import argparse
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import tasks, transduction_worker, transformer
from benchmarks.contenders.base import Budget
from benchmarks.contenders.ours import Ours
from benchmarks.streams import Streams
from benchmarks.trivial_summaries import rare_words, words_of


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
    contender = tasks.Contender("ours", argparse.Namespace(threads=1, learning_rate=1e-3))
    order: dict[str, Any] = {
        **tasks.COMMON, **contender._of_ours(), "folder": str(tmp_path / "model"), "epochs": 12, "rounds": 1,
        "precision": "float32", "learning_rate": 1e-2,
        **{split: str(tmp_path / f"xxx_{file}.tsv") for split, file in (("train", "train"), ("test", "test"))},
    }  # fmt: skip
    order["options"] |= {"hidden_size": 32, "embedding_size": 16, "encoder_layers": 1, "report_to": "none"}
    trained = transduction_worker.train(order)
    assert trained["seconds"] > 0
    assert trained["parameters"] > 1000
    decoded = transduction_worker.decode(order)
    expected = [target for _, target in tasks.rows_of(tmp_path / "xxx_test.tsv")]
    assert len(decoded["seconds"]) == 1
    assert sum(one == other for one, other in zip(decoded["outputs"], expected, strict=True)) > 0.9 * len(expected)


@pytest.fixture
def streams(tmp_path: Path) -> Streams:
    draw = random.Random(0)
    for split, pairs in (("train", 96), ("val", 8), ("test_2016_flickr", 8)):
        sources = [" ".join(draw.choices(["ab", "cd", "ef"], k=3)) for _ in range(pairs)]
        (tmp_path / f"{split}.en").write_text("".join(text + "\n" for text in sources))
        (tmp_path / f"{split}.de").write_text("".join(text.upper() + "\n" for text in sources))
    return Streams(tmp_path, tmp_path / "work", vocabulary=300, batch_size=16)


def test_learning_within_a_time_goes_on_where_it_was_and_ends_with_a_rate_near_zero(streams: Streams) -> None:
    contender, rates = Ours(streams, "float32"), []
    set_rate = contender.set_learning_rate

    def noted(rate: float) -> None:
        rates.append(rate)
        set_rate(rate)

    contender.set_learning_rate = noted  # type: ignore[method-assign]
    first = contender.learn_within(budget=1.0, rate=1e-3, turn=0.4)
    assert 0.4 <= first["seconds"] < 1.0
    second = contender.learn_within(budget=1.0, rate=1e-3, turn=10.0)
    assert 1.0 <= second["seconds"] < 2.0
    assert second["steps"] == len(rates) > first["steps"] > 0
    assert rates[0] == pytest.approx(1e-3 / 200)
    assert rates[-1] < rates[len(rates) // 2]


def test_a_budget_shows_every_batch_once_before_any_twice() -> None:
    budget = Budget(list(range(5)))
    shown = [budget.next_batch() for _ in range(10)]
    assert sorted(shown[:5]) == sorted(shown[5:]) == list(range(5))


def test_the_cells_and_curves_of_the_comparison_with_a_transformer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both models do both jobs; memory and time are positive numbers, and there is a picture of them."""
    monkeypatch.setattr(transformer, "STEPS", 1)
    threads = torch.get_num_threads()
    costs: dict[str, Any] = {job: {name: [] for name in transformer.RATES} for job in ("train", "write")}
    for job, of_names in costs.items():
        for name, cells in of_names.items():
            cells += [transformer.measure_cell(name, job, 12, threads)] * len(transformer.LENGTHS)
            assert cells[0]["seconds"] > 0
            assert cells[0]["megabytes"] >= 0
    curves = {name: [(1.0, 10.0), (2.0, 20.0)] for name in transformer.RATES}
    transformer.draw(tmp_path / "curves.png", curves, costs)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
