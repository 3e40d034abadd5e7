"""
What `train.py` adds to a bare loop over the same batches, in target tokens per second.

    python -m benchmarks.trainer

Each turn is a process: `train.py` for some hundred steps, as anybody would run it, with its logging and its loading of
data, and without evaluations; then the bare loop of `benchmarks.training`, over the batches that `train.py` had, made
beforehand. What `train.py` reports as `train_runtime` is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.contenders.ours import Ours
from benchmarks.options import parse, parser
from benchmarks.report import report
from benchmarks.streams import Streams
from benchmarks.training import floor_share
from hf_rnn_s2s.data.sampling import ShuffledLengthGroups
from hf_rnn_s2s.machine import has_fast_bfloat16, keep_freed_memory

SEED = 42  # what train.py draws batches with unless it is told another one


def through_train_py(chosen: argparse.Namespace, steps: int) -> tuple[int, float]:
    """Target tokens, and seconds, of `train.py`."""
    folder = chosen.work / "trainer"
    if folder.exists():
        shutil.rmtree(folder)
    options = {
        "train_file": chosen.data / "train",
        "validation_file": chosen.data / "val",
        "source_lang": "en",
        "target_lang": "de",
        "output_dir": folder,
        "tokenizer_name": chosen.work / f"tokenizer-{chosen.vocabulary}",
        "decoder_layers": 1,
        "dropout": 0.3,
        "label_smoothing_factor": 0.1,
        "per_device_train_batch_size": chosen.batch_size,
        "max_steps": steps,
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": "false",
        "do_predict": "false",
        "seed": SEED,
    }
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parents[1] / "train.py")]
    command += [f"--{name}={value}" for name, value in options.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": str(chosen.threads)}
    outcome = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if outcome.returncode:
        raise SystemExit(outcome.stderr)
    results = json.loads((folder / "train_results.json").read_text(encoding="utf-8"))
    return results["target_tokens"], results["train_runtime"]


def bare_loop(chosen: argparse.Namespace, steps: int) -> tuple[int, float]:
    """Target tokens, and seconds, of the loop."""
    streams = Streams(chosen.data, chosen.work, chosen.vocabulary, chosen.batch_size)
    sources, targets = (list(map(len, side)) for side in zip(*streams.pairs, strict=True))
    rows = list(ShuffledLengthGroups(sources, targets, chosen.batch_size, SEED, lambda: 0))
    batches = [rows[chosen.batch_size * step :][: chosen.batch_size] for step in range(steps)]
    contender = Ours(streams, "bfloat16" if has_fast_bfloat16("cpu") else "float32")
    contender.model.train()
    keep_freed_memory()
    prepared = [contender.batch(batch) for batch in batches]
    start = time.perf_counter()
    for batch in prepared:
        contender.train_step(batch)
    seconds = time.perf_counter() - start
    return sum(map(streams.target_tokens, batches)), seconds


def main() -> None:
    """Takes turns."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--bare", action="store_true", help="one turn of the bare loop")
    chosen = parse(options)
    steps, rounds = (8, 1) if chosen.quick else (chosen.steps, chosen.rounds)
    if chosen.bare:
        print(json.dumps(bare_loop(chosen, steps)))
        return
    Streams(chosen.data, chosen.work, chosen.vocabulary)  # makes the tokenizer
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.trainer", *sys.argv[1:], "--bare"]
    results: dict[str, list[float]] = {"bare loop": [], "train.py": []}
    for _ in range(rounds):
        outcome = subprocess.run(command, check=True, capture_output=True, text=True)
        tokens, seconds = json.loads(outcome.stdout.splitlines()[-1])
        results["bare loop"].append(tokens / seconds)
        same_tokens, seconds = through_train_py(chosen, steps)
        if same_tokens != tokens:
            raise SystemExit(f"The loop had {tokens} target tokens and train.py {same_tokens}: not the same batches.")
        results["train.py"].append(same_tokens / seconds)
    name, fastest = ("ours", "bfloat16") if has_fast_bfloat16("cpu") else ("ours-float32", "float32")
    share = floor_share(chosen, name, median(results["train.py"]), steps)
    print(f"products in the time of a step of train.py, {fastest}: {share:.0%}")
    report("trainer", "target tokens per second", results, "train.py", floor_share=share)


if __name__ == "__main__":
    main()
