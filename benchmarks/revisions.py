"""
This checkout beside another revision of the package: training through its Trainer, and translating from text to text.

    python -m benchmarks.revisions --before v1.0              everything
    python -m benchmarks.revisions --before HEAD~3 --quick    that it runs

They take turns, A B A B. In training each revision has a process of its own, in which everything but the package is
the same; the searches of both are in one process, see `revision_pair_worker`. Tokenizer, token ids and weights are
made once, by the earlier revision, and both read them; they are kept in --work. --parts says what to measure.

Two ratios are given, each this checkout's speed by that of the other one, so that 1 means as fast and less is slower:
that of the medians, and the median of the ratios of turns that followed each other. The share of equal translations
says whether it is the same work; roundings may differ.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.options import parse, parser, streams
from benchmarks.race import Worker, race
from benchmarks.report import report, rounded
from benchmarks.streams import require_data
from hf_rnn_s2s.machine import has_fast_bfloat16

ROOT = Path(__file__).parents[1]
SIDES = ("before", "now")
PARTS = ("training", "batches", "singles", "import")


def main() -> None:
    """Races the two."""
    options = parser(__doc__)
    options.add_argument("--before", required=True, help="the other revision, as git names it, or a folder with one")
    options.add_argument("--epochs", type=float, default=4.0, help="of training the weights to translate with")
    options.add_argument("--steps", type=int, default=60, help="of training in a turn")
    options.add_argument("--sentences", type=int, default=1000, help="in a turn; of single ones a fifth")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    chosen = parse(options)
    require_data(chosen.data)
    if chosen.quick:
        chosen.epochs, chosen.steps, chosen.sentences, chosen.rounds = 0.02, 3, 8, 1
    with tempfile.TemporaryDirectory() as folder:
        checkout, revision = Path(chosen.before).resolve(), chosen.before
        if not checkout.is_dir():
            checkout = Path(folder).resolve()
            revision = unpack(chosen.before, checkout)
        checkouts = {"before": checkout, "now": ROOT}
        results: dict[str, dict[str, list[float]]] = {}
        equal: dict[str, float] = {}
        make_weights(checkouts["before"], chosen, revision)
        if "training" in chosen.parts:
            results |= measured_training(checkouts, chosen, revision)
        if {"batches", "singles"} & set(chosen.parts):
            found, equal = measured_searches(checkouts, chosen, revision)
            results |= found
        if "import" in chosen.parts:
            results["import"] = importing(checkouts, chosen.rounds)
    tell(results, equal, revision)


def unpack(revision: str, folder: Path) -> str:
    """Writes the files of a revision into a folder; the first twelve digits of its name."""
    name = _git("rev-parse", "--verify", f"{revision}^{{commit}}").decode().strip()
    with tarfile.open(fileobj=io.BytesIO(_git("archive", name))) as files:
        files.extractall(folder, filter="data")
    return name[:12]


def make_weights(checkout: Path, chosen: argparse.Namespace, revision: str) -> None:
    """Has the earlier revision make tokenizer and weights, unless they are there."""
    done = _work(chosen, revision) / "made"
    if done.is_file():
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    # Not one of those that race: what making leaves in the memory of a process slows it down by a fifth.
    maker = _worker("before", checkout, chosen, revision)
    seconds = maker.call("make", epochs=chosen.epochs, precision=_precisions()[-1])
    maker.end()
    done.touch()
    print(f"{revision} has made the weights, in {seconds / 60:.1f} minutes", flush=True)


def measured_training(
    checkouts: dict[str, Path], chosen: argparse.Namespace, revision: str
) -> dict[str, dict[str, list[float]]]:
    """Target tokens per second of training, by kind of work and by side, one for each round."""
    workers = [_worker(side, checkouts[side], chosen, revision) for side in SIDES]
    results = {
        f"training, {precision}": race(
            workers, chosen.rounds, partial(_training_speed, steps=chosen.steps, precision=precision)
        )
        for precision in _precisions()
    }
    for worker in workers:
        worker.end()
    return results


def measured_searches(
    checkouts: dict[str, Path], chosen: argparse.Namespace, revision: str
) -> tuple[dict[str, dict[str, list[float]]], dict[str, float]]:
    """Sentences per second by kind of work and by side, one for each batch; shares of equal translations by kind."""
    settings = {
        "checkouts": {side: str(folder) for side, folder in checkouts.items()},
        "data": str(chosen.data.resolve()),
        "work": str(_work(chosen, revision)),
        "threads": chosen.threads,
    }
    worker = Worker("both", ["-m", "benchmarks.revision_pair_worker", settings])
    results, equal = {}, {}
    sizes = [size for size, part in ((chosen.batch_size, "batches"), (1, "singles")) if part in chosen.parts]
    for precision, size, beams in product(_precisions(), sizes, (1, 5)):
        sentences = chosen.sentences if size > 1 else max(1, chosen.sentences // 5)
        search = {"sentences": sentences, "beams": beams, "batch_size": size, "precision": precision}
        rounds = [worker.call("translate", **search) for _ in range(chosen.rounds + 1)][1:]  # the first warms up
        kind = f"{'greedy' if beams == 1 else f'{beams} beams'}, batches of {size}, {precision}"
        results[kind] = {side: [speed for one in rounds for speed in one["speeds"][side]] for side in SIDES}
        texts = rounds[-1]["texts"]
        equal[kind] = rounded(sum(map(str.__eq__, texts["before"], texts["now"])) / sentences)
    worker.end()
    return results, equal


def importing(checkouts: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """How often per second a fresh process could import the package, torch and transformers with it."""
    code = "import time; start = time.perf_counter(); import hf_rnn_s2s; print(time.perf_counter() - start)"
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            environment = {**os.environ, "PYTHONPATH": str(checkouts[side])}
            command = [sys.executable, "-c", code]
            outcome = subprocess.run(command, cwd=checkouts[side], env=environment, capture_output=True, check=True)
            speeds[side].append(1 / float(outcome.stdout))
    return speeds


def tell(results: dict[str, dict[str, list[float]]], equal: dict[str, float], revision: str) -> None:
    """Prints the ratios, and what every benchmark ends with."""
    by_medians, by_pairs, flat = {}, {}, {}
    width = max(map(len, results))
    print(f"\nthis checkout by {revision}")
    for kind, speeds in results.items():
        before, now = (speeds[side] for side in SIDES)
        by_medians[kind] = rounded(median(now) / median(before))
        by_pairs[kind] = rounded(median(one / other for one, other in zip(now, before, strict=True)))
        same = f"   {equal[kind]:.1%} of translations equal" if kind in equal else ""
        print(f"  {kind:{width}}  medians {by_medians[kind]:.3f}   pairs {by_pairs[kind]:.3f}{same}")
        flat.update({f"{kind}, {side}": speeds[side] for side in SIDES})
    report(
        "revisions",
        "target tokens or sentences per second",
        flat,
        ratios=by_medians,
        ratios_of_pairs=by_pairs,
        equal_translations=equal,
        revision=revision,
    )


def _worker(side: str, checkout: Path, chosen: argparse.Namespace, revision: str) -> Worker:
    """A process with the package of one revision."""
    settings = {**streams(chosen), "data": str(chosen.data.resolve()), "work": str(_work(chosen, revision))}
    script = str(Path(__file__).with_name("revision_worker.py"))
    return Worker(side, [script, str(checkout), settings], {"PYTHONPATH": str(checkout)})


def _training_speed(worker: Worker, steps: int, precision: str) -> float:
    # While the other one had its turn, its memory may have been put aside.
    worker.call("train", steps=max(1, steps // 6), precision=precision)
    return worker.call("train", steps=steps, precision=precision)


def _work(chosen: argparse.Namespace, revision: str) -> Path:
    """The folder with tokenizer and weights."""
    return chosen.work.resolve() / "revisions" / f"{Path(revision).name}-{chosen.vocabulary}-{chosen.epochs:g}"


def _precisions() -> list[str]:
    """Those that are of use on this machine, the fastest one last."""
    return ["float32", *(["bfloat16"] if has_fast_bfloat16("cpu") else [])]


def _git(*arguments: str) -> bytes:
    outcome = subprocess.run(["git", *arguments], check=False, capture_output=True, cwd=ROOT)
    if outcome.returncode:
        sys.exit(f"git {arguments[0]}: {outcome.stderr.decode().strip()}")
    return outcome.stdout


if __name__ == "__main__":
    main()
