"""
Training speed beside other toolkits, in target tokens per second, on the same pairs in the same run.

    python -m benchmarks.training                                 all toolkits that are installed
    python -m benchmarks.training --contenders ours marian        these

A contender makes its batches beforehand, and trains on them in turns with the others: forward, backward, clipping,
Adam, and the loss as a number. JoeyNMT and the tutorial loop put sentences of any length into a batch, as they do by
themselves; the others get batches of like length, and so does `joeynmt-buckets`. Padding does not count as a token.
"""

from __future__ import annotations

import argparse
from statistics import mean, median

from benchmarks.floor import floor_seconds, training_floor
from benchmarks.options import add_contenders, parse, parser, streams
from benchmarks.race import Worker, race
from benchmarks.report import report, rounded
from benchmarks.streams import Streams
from hf_rnn_s2s import RnnS2SConfig


def main() -> None:
    """Races the contenders."""
    options = parser(__doc__)
    add_contenders(options, "training")
    options.add_argument("--batches", type=int, default=24, help="in a turn")
    chosen = parse(options)
    rounds, count, warm = (1, 4, 2) if chosen.quick else (chosen.rounds, chosen.batches, 8)
    workers = [Worker.of(name, streams(chosen)) for name in chosen.contenders]
    tokens = {worker.name: worker.call("prepare", first=0, count=count) for worker in workers}
    for worker in workers:
        worker.call("prepare", first=count, count=warm)

    def measure(worker: Worker) -> float:
        # While others had their turns, its memory may have been put aside.
        worker.call("train", first=count, count=warm)
        return tokens[worker.name] / worker.call("train", first=0, count=count)

    results = race(workers, rounds, measure)
    parameters = {worker.name: worker.call("parameters") for worker in workers}
    memory = {worker.name: rounded(worker.call("peak_memory")) for worker in workers}
    for worker in workers:
        worker.end()
    print("parameters: " + ", ".join(f"{name} {number / 1e6:.2f} M" for name, number in parameters.items()))
    print("peak memory, MB: " + ", ".join(f"{name} {number:,.0f}" for name, number in memory.items()))
    shares = {
        name: floor_share(chosen, name, median(values), count) for name, values in results.items() if "ours" in name
    }
    print("products in the time of a step: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    ours = "ours" if "ours" in results else chosen.contenders[0]
    report(
        "training",
        "target tokens per second",
        results,
        ours,
        floor_share=shares,
        parameters=parameters,
        peak_memory_mb=memory,
    )


def floor_share(chosen: argparse.Namespace, name: str, tokens_per_second: float, count: int) -> float:
    """The share that the products of an average one of the first `count` batches have in the time of its step."""
    made = Streams(chosen.data, chosen.work, chosen.vocabulary, chosen.batch_size)
    batches = made.batches[:count]
    source = round(mean(max(len(made.pairs[row][0]) for row in batch) for batch in batches))
    target = round(mean(max(len(made.pairs[row][1]) for row in batch) for batch in batches))
    config = RnnS2SConfig(vocab_size=made.vocabulary, decoder_vocab_size=made.vocabulary, decoder_layers=1)
    precision = "float32" if "float32" in name else "bfloat16"
    tokens = mean(made.target_tokens(batch) for batch in batches)
    floor = floor_seconds(training_floor(config, made.batch_size, source, target), precision)
    return rounded(floor * tokens_per_second / tokens)


if __name__ == "__main__":
    main()
