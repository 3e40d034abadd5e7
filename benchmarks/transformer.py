"""
An RNN with attention beside a Transformer of as many parameters, MarianMT of transformers, on Multi30k.

    python -m benchmarks.transformer --minutes 1 2 4 8

1. BLEU after so many minutes of training. A model is trained anew for each of these times, with a learning rate that
   goes to zero by its end; the two take turns, so that a change of the machine's speed meets both.
2. Sentences per second of the models that learned longest, greedily and with 5 beams.
3. Memory and time against the length of the source, 10 to 1,000 tokens: of a step of training on targets as long,
   and of writing 20 tokens. Each cell is a process of its own, of random tokens. `ours` trains as its Trainer does,
   without the logits of all tokens at once; `ours-all-logits` computes them, as MarianMT does.

The curves are drawn into --work. `--rates` tries learning rates, each for the first of the times, and prints BLEU on
the validation set.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import sacrebleu
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.contenders.base import peak_megabytes
from benchmarks.contenders.marian import LAYERS, marian_config
from benchmarks.options import parse, parser, streams
from benchmarks.race import Worker, race
from benchmarks.report import report, rounded
from benchmarks.streams import PAD, Streams
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.machine import has_fast_bfloat16, keep_freed_memory

OURS, ALL_LOGITS, THEIRS = "ours", "ours-all-logits", "marian-bfloat16"
JOBS = {"train": (OURS, ALL_LOGITS, THEIRS), "write": (OURS, THEIRS)}  # what is measured for each length, and of whom
# Of 0.0005, 0.001 and 0.002 the best with `--rates`: of ours after 1 minute, of MarianMT after 4 minutes.
RATES = {OURS: 2e-3, THEIRS: 1e-3}
COLOURS = {OURS: "C0", THEIRS: "C1", ALL_LOGITS: "C2"}
TURN = 15.0  # seconds
LENGTHS = [10, 30, 100, 300, 1000]
ROWS, WRITTEN, STEPS = 8, 20, 3  # of a cell


def main() -> None:
    """Prints the three tables, and draws the curves."""
    chosen = _arguments()
    if chosen.cell:
        name, job, length = chosen.cell
        print(json.dumps(measure_cell(name, job, int(length), chosen.threads)))
        return
    made = Streams(chosen.data, chosen.work, chosen.vocabulary)
    if chosen.rates:
        _try_rates(chosen, made)
        return
    curves = _learn(chosen, made)
    _race_translating(chosen, made)
    costs = _costs_of_length(chosen)
    draw(chosen.work / "transformer.png", curves, chosen.lengths, costs)


# 1. BLEU against minutes


def train_in_turns(rates: dict[str, float], budget: float, chosen: argparse.Namespace) -> dict[str, Worker]:
    """New models that have each learned for `budget` seconds."""
    workers = {name: Worker.of(name, streams(chosen)) for name in rates}
    learning = set(workers)
    while learning:
        for name in sorted(learning):
            done = workers[name].call("learn_within", budget=budget, rate=rates[name], turn=TURN)
            if done["seconds"] >= budget:
                learning.discard(name)
    return workers


def bleu_of(worker: Worker, split: str, made: Streams, beams: int, sentences: int) -> float:
    """BLEU of the translations of the first sentences of a split."""
    references = made.texts(split, "de")[:sentences]
    outcome = worker.call("translate", sentences=len(references), beams=beams, batch_size=64, split=split)
    return sacrebleu.corpus_bleu(outcome["texts"], [references]).score


def _try_rates(chosen: argparse.Namespace, made: Streams) -> None:
    for rate in chosen.rates:
        workers = train_in_turns(dict.fromkeys(RATES, rate), 60 * chosen.minutes[0], chosen)
        scores = {name: rounded(bleu_of(worker, "val", made, 1, chosen.sentences)) for name, worker in workers.items()}
        print(f"learning rate {rate}: BLEU on val, greedy, {json.dumps(scores)}", flush=True)
        for worker in workers.values():
            worker.end()


def _learn(chosen: argparse.Namespace, made: Streams) -> dict[str, list[tuple[float, float]]]:
    """Minutes and BLEU of each contender; the models that learned longest are kept."""
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in RATES}
    print("minutes of training, BLEU on test 2016 with 5 beams")
    for minutes in sorted(chosen.minutes):
        workers = train_in_turns(RATES, 60 * minutes, chosen)
        for name, worker in workers.items():
            curves[name].append((minutes, rounded(bleu_of(worker, "test_2016_flickr", made, 5, chosen.sentences))))
            worker.call("keep", path=str(_weights(chosen, name)))
            if minutes == chosen.minutes[0]:
                print(f"  {name}: {worker.call('parameters') / 1e6:.2f} M parameters")
            worker.end()
        print(
            f"  {minutes:5.1f}  " + ", ".join(f"{name} {curve[-1][1]:.1f}" for name, curve in curves.items()),
            flush=True,
        )
    print(json.dumps({"benchmark": "bleu", "minutes and bleu": curves}), flush=True)
    return curves


def _weights(chosen: argparse.Namespace, name: str) -> Path:
    return chosen.work / "transformer" / f"{name}.pt"


# 2. Sentences per second


def _race_translating(chosen: argparse.Namespace, made: Streams) -> None:
    workers = [Worker.of(name, streams(chosen)) for name in (OURS, THEIRS, "marian")]
    for worker in workers:
        weights = _weights(chosen, OURS if worker.name == OURS else THEIRS)
        worker.call("learn", epochs=0, path=str(weights))
    whole, tenth = chosen.sentences, max(1, chosen.sentences // 10)
    for beams, batch_size, sentences in ((1, 64, whole), (5, 64, whole), (1, 1, tenth), (5, 1, tenth)):

        def measure(worker: Worker, beams: int = beams, size: int = batch_size, count: int = sentences) -> float:
            worker.call("translate", sentences=min(count, 2 * size), beams=beams, batch_size=size)
            return count / worker.call("translate", sentences=count, beams=beams, batch_size=size)["seconds"]

        results = race(workers, chosen.rounds, measure)
        report(f"translating, {beams} beams, batches of {batch_size}", "sentences per second", results, OURS)
    for worker in workers:
        worker.end()


# 3. The length of the source


def measure_cell(name: str, job: str, length: int, threads: int) -> dict[str, float]:
    """Seconds of a job, the median, and the megabytes it takes at most above what the process has before it."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    vocabulary = 8000
    if name != THEIRS:
        config = RnnS2SConfig(vocab_size=vocabulary, decoder_vocab_size=vocabulary, decoder_layers=1)
        model: Any = RnnS2SForConditionalGeneration(config)
        if name == OURS:
            model.skip_logits_in_training()
    else:
        from transformers import MarianMTModel

        model = MarianMTModel(marian_config(vocabulary, LAYERS, 256, max_position_embeddings=max(LENGTHS) + 1))
    source = torch.randint(4, vocabulary, (ROWS, length))
    return (_train_step if job == "train" else _write)(model, source)


def _train_step(model: Any, source: torch.Tensor) -> dict[str, float]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():  # the gradients and the optimizer's state are not what is measured
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()

    def step(tokens: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16("cpu")):
            loss = model(input_ids=tokens, attention_mask=tokens.ne(PAD).long(), labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    return _measured(step, source)


def _write(model: Any, source: torch.Tensor) -> dict[str, float]:
    model.eval()
    if has_fast_bfloat16("cpu"):
        model = model.bfloat16()
    lengths = {"min_new_tokens": WRITTEN, "max_new_tokens": WRITTEN, "num_beams": 1}

    def write(tokens: torch.Tensor) -> None:
        with torch.inference_mode():
            model.generate(tokens, attention_mask=tokens.ne(PAD).long(), **lengths)

    return _measured(write, source)


def _measured(job: Callable[[torch.Tensor], None], source: torch.Tensor) -> dict[str, float]:
    job(source[:, :2].contiguous())  # what is made once and for all
    gc.collect()
    before = reset_peak()
    job(source)
    megabytes, times = peak_megabytes() - before, []
    keep_freed_memory()
    for _ in range(STEPS + 1):
        begin = time.perf_counter()
        job(source)
        times.append(time.perf_counter() - begin)
    return {"seconds": median(times[1:]), "megabytes": megabytes}


def reset_peak() -> float:
    """Gives freed memory back, and lets the peak of this process begin anew; the megabytes that it holds."""
    peak_megabytes()  # ends the program where there is no such figure
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_megabytes()


def _costs_of_length(chosen: argparse.Namespace) -> dict[str, dict[str, list[dict[str, float]]]]:
    """For each job and contender, what each length costs."""
    costs: dict[str, dict[str, list[dict[str, float]]]] = {}
    for job, title in (("train", "a step of training"), ("write", f"writing {WRITTEN} tokens")):
        costs[job] = {name: [] for name in JOBS[job]}
        for length in chosen.lengths:
            for name, cells in costs[job].items():
                cells.append(_in_a_process(name, job, length, chosen))
        for unit in ("megabytes", "seconds"):
            print(f"\n{unit} of {title}, {ROWS} rows; tokens of the source: {chosen.lengths}")
            for name, cells in costs[job].items():
                print(f"  {name:16}" + "".join(f"{cell[unit]:10.3g}" for cell in cells))
    print(json.dumps({"benchmark": "length", "lengths": chosen.lengths, "costs": costs}), flush=True)
    return costs


def _in_a_process(name: str, job: str, length: int, chosen: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.transformer", "--threads", str(chosen.threads)]
    outcome = subprocess.run([*command, "--cell", name, job, str(length)], capture_output=True, text=True, check=False)
    if outcome.returncode:
        raise SystemExit(f"{name}, {job}, {length} tokens failed:\n{outcome.stderr[-2000:]}")
    return json.loads(outcome.stdout.splitlines()[-1])


def draw(path: Path, curves: dict[str, list[tuple[float, float]]], lengths: list[int], costs: dict[str, Any]) -> None:
    """The curves of 1 and 3 in one picture."""
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    axes = figure.subplots(1, 3)
    for name, curve in curves.items():
        axes[0].plot(*zip(*curve, strict=True), marker="o", label=name, color=COLOURS[name])
    axes[0].set(xlabel="minutes of training", ylabel="BLEU, test 2016", xscale="log")
    _tick(axes[0], [minutes for minutes, _ in next(iter(curves.values()))])
    for place, (job, title) in enumerate((("train", "a step of training"), ("write", "writing")), start=1):
        for name, cells in costs[job].items():
            megabytes = [cell["megabytes"] for cell in cells]
            axes[place].plot(lengths, megabytes, marker="o", label=name, color=COLOURS[name])
        axes[place].set(xlabel="tokens of the source", ylabel=f"megabytes of {title}", xscale="log", yscale="log")
        axes[place].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[place].yaxis.set_major_formatter("{x:g}")
        _tick(axes[place], lengths)
    for one in axes:
        one.legend()
        one.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    print(f"The curves are in {path}.")


def _tick(axes: Axes, values: Sequence[float]) -> None:
    """Marks just these values below the axes, as plain numbers."""
    axes.minorticks_off()
    axes.set_xticks(values, [f"{value:g}" for value in values])


def _arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--minutes", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0], help="of training, each")
    options.add_argument("--rates", type=float, nargs="+", help="learning rates to try, and nothing else")
    options.add_argument("--cell", nargs=3, metavar=("CONTENDER", "JOB", "LENGTH"), help="one cell of the last table")
    chosen = parse(options)
    if chosen.rates and not (chosen.data / "val.de").is_file():
        raise SystemExit(f"There is no {chosen.data / 'val.de'}: learning rates are compared on the validation set.")
    chosen.lengths, chosen.sentences = LENGTHS, 1000
    if chosen.quick:
        chosen.minutes, chosen.rounds, chosen.lengths, chosen.sentences = [0.02], 1, LENGTHS[:1], 8
    return chosen


if __name__ == "__main__":
    main()
