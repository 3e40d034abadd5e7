"""`evaluate`: the metrics of each task, with intervals and a second system, as sacreBLEU computes them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

from hf_rnn_s2s.training.resampling import RatioMetric, estimate
from hf_rnn_s2s.training.tasks import TASKS

from .conftest import Run

WORDS = ["the", "a", "dog", "cat", "house", "runs", "sleeps", "on", "under", "red", "small", "big"]


def corpus(count: int, wrong: float, seed: int) -> tuple[list[str], list[str]]:
    """Results and references, some words of which differ."""
    choice = random.Random(seed)
    references = [" ".join(choice.choices(WORDS, k=choice.randint(3, 9))) for _ in range(count)]
    results = [
        " ".join(choice.choice(WORDS) if choice.random() < wrong else word for word in text.split())
        for text in references
    ]
    return results, references


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, list[str]], Path]:
    def write_lines(name: str, texts: list[str]) -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return path

    return write_lines


@pytest.mark.parametrize("name", TASKS)
def test_resampled_metrics_are_those_of_the_task(name: str) -> None:
    """Of one reference and of two, whatever the task."""
    task = TASKS[name]()
    results, references = corpus(60, 0.3, 0)
    more = corpus(60, 0.5, 0)[0]
    score = task.score(TASKS_CONFIG, None) if name != "transduction" else _transduction_score
    for alternatives in ([references], [references, more]):
        expected = score(results, [list(texts) for texts in zip(*alternatives, strict=True)])
        estimates, signatures = estimate(task.resampled("en", None), results, alternatives, samples=10)
        assert list(estimates) == list(task.metrics)
        assert expected is not None
        for metric, found in estimates.items():
            assert found.score == pytest.approx(expected[metric], rel=1e-9), metric
            assert "bs:10" in signatures[metric]


class _Configuration:
    target_lang = "en"


TASKS_CONFIG = _Configuration()


def _transduction_score(results: list[str], references: list[Any]) -> dict[str, Any] | None:
    from hf_rnn_s2s.training.error_rates import TransductionMetric

    return TransductionMetric().compute(predictions=results, references=references, split=str.split)


def test_a_ratio_is_resampled_as_it_would_be_by_hand() -> None:
    """Against numpy, with the draws that sacreBLEU makes."""
    values = {"a": 1.0, "b": 0.0, "c": 0.5, "d": 0.25}
    metric = RatioMetric("mean", lambda result, references: (values[result], 2.0), 10.0)
    found, _ = estimate({"mean": metric}, list(values), [list(values)], samples=500)
    draws = np.random.default_rng(12345).choice(4, size=(500, 4), replace=True)
    means = np.sort(10 * np.array(list(values.values()))[draws].sum(1) / 8)
    assert found["mean"].score == pytest.approx(10 * 1.75 / 8)
    assert found["mean"].mean == pytest.approx(means.mean())
    assert found["mean"].interval == pytest.approx((means[-13] - means[12]) / 2)
    assert found["mean"].p_value is None


def test_translation_with_a_second_system(run: Run, write: Callable[[str, list[str]], Path]) -> None:
    results, references = corpus(200, 0.2, 1)
    other, _ = corpus(200, 0.4, 1)
    paths = write("out.txt", results), write("ref.txt", references), write("other.txt", other)
    outcome = run(["evaluate", paths[0], "--reference", paths[1], "--against", paths[2], "--json", "--samples", 300])
    assert (outcome.code, outcome.error) == (0, "")
    report = json.loads(outcome.out)
    test = PairedTest([("b", other), ("s", results)], {"BLEU": BLEU()}, [references], "bs", 300)
    baseline, system = test()[1]["BLEU"]
    found = report["scores"]["bleu"]
    assert report["records"] == 200
    assert found["score"] == pytest.approx(system.score)
    assert found["other"] == pytest.approx(baseline.score)
    assert found["p_value"] == pytest.approx(system.p_value)
    assert found["interval"] == pytest.approx(system.ci)
    assert found["score"] > found["other"]
    assert report["signatures"]["bleu"].startswith("nrefs:1|bs:300|seed:12345|case:mixed")
    same = run(["evaluate", paths[0], "-r", paths[1], "--against", paths[0], "--json"])
    assert "p_value" not in json.loads(same.out)["scores"]["bleu"]
    assert " same" in run(["evaluate", paths[0], "-r", paths[1], "--against", paths[0]]).out


def test_the_table_and_the_predictions_of_a_run(run: Run, tmp_path: Path, model_folder: Path) -> None:
    results, references = corpus(50, 0.2, 2)
    path = tmp_path / "predictions.tsv"
    rows = zip(["x"] * 50, references, results, strict=True)
    path.write_text("source\treference\thypothesis\n" + "".join("\t".join(row) + "\n" for row in rows), "utf-8")
    outcome = run(["evaluate", path, "--model", model_folder])
    exact = sum(map(str.__eq__, results, references)) / 50
    assert f"{exact:.4f}" in next(line for line in outcome.out.splitlines() if line.startswith("Exact match"))
    assert "BLEU (higher)" in outcome.out
    outcome = run(["evaluate", path, "--task", "speech-recognition", "--json"])
    assert set(json.loads(outcome.out)["scores"]) == {"wer", "cer", "exact_match"}
    assert not math.isnan(json.loads(outcome.out)["scores"]["wer"]["mean"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "has results alone: name the references with --reference FILE"),
        (["-r", "SHORT"], "has 2 records, and"),
        (["-r", "REF", "--against", "SHORT"], "has 2 records, and"),
        (["-r", "nowhere.txt"], "There is no file nowhere.txt"),
        (["-r", "REF", "--task", "cooking"], "There is no task 'cooking': there are translation"),
        (["-r", "REF", "--samples", "1"], "--samples 1 must be at least 2"),
        (["-r", "EMPTY"], "has 0 records"),
        (["-r", "BLANK"], "every one is empty"),
        (["-r", "REF", "-m", "nowhere/at/all"], "There is no model nowhere/at/all"),
    ],
)
def test_what_cannot_be_scored(
    arguments: list[str], said: str, run: Run, write: Callable[[str, list[str]], Path]
) -> None:
    files = {
        "REF": write("ref.txt", WORDS),
        "SHORT": write("short.txt", WORDS[:2]),
        "EMPTY": write("empty.txt", []),
        "BLANK": write("blank.txt", [""] * len(WORDS)),
    }
    outcome = run(["evaluate", write("out.txt", WORDS), *(files.get(one, one) for one in arguments)])
    assert outcome.code == 2
    assert said in outcome.error
    assert outcome.error.count("\n") == 1
    assert "is empty: there is nothing to score" in run(["evaluate", files["EMPTY"], "-r", files["EMPTY"]]).error


def test_blank_references_make_no_score_that_is_no_number(run: Run, write: Callable[[str, list[str]], Path]) -> None:
    """In some of the draws all references are blank."""
    results, references = write("out.txt", ["", "one", "x"]), write("ref.txt", ["", "one", ""])
    for task in ("speech-recognition", "transduction"):
        outcome = run(["evaluate", results, "-r", references, "--task", task, "--json"])
        scores = json.loads(outcome.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["scores"]
        assert all(math.isfinite(one["interval"]) for one in scores.values())
    assert "Standard input can be one of the files only" in run(["evaluate", "-", "-r", "-"]).error
