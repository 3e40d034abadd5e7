"""
How the cost grows: with the length of the source, the batch, the vocabulary and the number of layers.

    python -m benchmarks.scaling

Times a training step, and encoding plus 16 greedy steps, on random tokens, for ours and for MarianMT of transformers
with as many parameters. Below each row stands what one more of the growing thing costs from a column to the next:
where that stays the same the cost is linear, where it grows the cost is worse than linear.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from transformers import MarianMTModel, PreTrainedModel

from benchmarks.contenders.marian import marian_config
from benchmarks.floor import floor_seconds, training_floor
from benchmarks.options import parse, parser
from benchmarks.report import report, rounded
from benchmarks.streams import END
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.machine import keep_freed_memory

TARGET = 16
# What stands still while one thing grows
USUAL = {"source": 32, "batch": 16, "vocabulary": 8000, "layers": 1, "width": 256}
GROWTH = {
    "source": [10, 100, 250, 500, 1000],
    "batch": [1, 4, 16, 64],
    "vocabulary": [2000, 8000, 32000],
    "layers": [1, 2, 4],
}
QUICK_GROWTH = {"source": [10, 100, 400], "batch": [1, 8], "vocabulary": [2000, 8000], "layers": [1, 2]}


def ours(vocabulary: int, layers: int, width: int) -> PreTrainedModel:
    """With as many layers on both sides."""
    model = RnnS2SForConditionalGeneration(our_config(vocabulary, layers, width))
    model.skip_logits_in_training()
    return model


def our_config(vocabulary: int, layers: int, width: int) -> RnnS2SConfig:
    """The default architecture, `width` being the size of its embeddings."""
    return RnnS2SConfig(
        vocab_size=vocabulary,
        decoder_vocab_size=vocabulary,
        embedding_size=width,
        hidden_size=2 * width,
        encoder_layers=layers,
        decoder_layers=layers,
        label_smoothing=0.1,
    )


def marian(vocabulary: int, layers: int, width: int) -> PreTrainedModel:
    """Of the same width; two of its layers have the parameters of one of ours."""
    return MarianMTModel(marian_config(vocabulary, 2 * layers, width, max_position_embeddings=1024))


MODELS: dict[str, Callable[[int, int, int], PreTrainedModel]] = {"ours": ours, "marian": marian}


def job(name: str, kind: str, source: int, batch: int, vocabulary: int, layers: int, width: int) -> Callable[[], Any]:
    """A training step, or a translation of 16 tokens, ready to be called."""
    torch.manual_seed(0)
    model: Any = MODELS[name](vocabulary, layers, width)
    inputs = {
        "input_ids": torch.randint(4, vocabulary, (batch, source)),
        "attention_mask": torch.ones(batch, source, dtype=torch.long),
    }
    labels = torch.randint(4, vocabulary, (batch, TARGET))

    def train() -> None:
        model(**inputs, labels=labels).loss.backward()
        model.zero_grad()

    def translate() -> None:
        model.generate(**inputs, num_beams=1, max_new_tokens=TARGET)

    if kind == "translating":
        model.eval()
        output_bias = model.lm_head.bias if name == "ours" else model.final_logits_bias[0]
        with torch.no_grad():
            output_bias[END] = -1e9  # every translation has its 16 tokens
    return train if kind == "training" else translate


def race(jobs: dict[tuple[str, int], Callable[[], Any]], rounds: int) -> dict[tuple[str, int], list[float]]:
    """Seconds of each, in turns, after a turn that does not count."""
    times: dict[tuple[str, int], list[float]] = {key: [] for key in jobs}
    for turn in range(rounds + 1):
        for key, run in jobs.items():
            start = time.perf_counter()
            run()
            if turn:
                times[key].append(time.perf_counter() - start)
    return times


def floor_share(seconds: float, source: int, batch: int, vocabulary: int, layers: int, width: int) -> float:
    """The share of the products in the time of our training step."""
    parts = training_floor(our_config(vocabulary, layers, width), batch, source, TARGET)
    return rounded(floor_seconds(parts, "float32") / seconds)


def marginal(sizes: Sequence[int], seconds: Sequence[float]) -> list[float]:
    """Milliseconds for one more, from each size to the next."""
    return [
        1e3 * (after - before) / (larger - smaller)
        for (smaller, larger), (before, after) in zip(
            itertools.pairwise(sizes), itertools.pairwise(seconds), strict=True
        )
    ]


def main() -> None:
    """Prints a table for each thing that grows."""
    options = parser(__doc__)
    options.add_argument("--small", action="store_true", help="narrow models, short sources: shows that it runs")
    chosen = parse(options)
    keep_freed_memory()
    growth, rounds = (QUICK_GROWTH, 1) if chosen.quick else (GROWTH, chosen.rounds)
    usual = USUAL
    if chosen.small:
        usual, growth = {**USUAL, "width": 16}, {**growth, "source": [10, 20, 50]}
    table: dict[str, Any] = {}
    times: dict[tuple[str, str, str], list[list[float]]] = {}
    for kind in ("training", "translating"):
        for what, sizes in growth.items():
            print(f"\n{kind + ', milliseconds; ' + what:36}" + "".join(f"{size:>9}" for size in sizes))
            shapes = [{**usual, what: size} for size in sizes]
            jobs = {(name, shape[what]): job(name, kind, **shape) for shape in shapes for name in MODELS}
            turns = race(jobs, rounds)
            for name in MODELS:
                measured = times[name, kind, what] = [turns[name, size] for size in sizes]
                seconds = [median(one) for one in measured]
                row = table[f"{name}, {kind}, {what}"] = {
                    "sizes": sizes,
                    "ms": [rounded(1e3 * one) for one in seconds],
                    "spread_ms": [[rounded(1e3 * min(one)), rounded(1e3 * max(one))] for one in measured],
                    "ms_for_one_more": [rounded(one) for one in marginal(sizes, seconds)],
                }
                print(f"{name:>36}" + "".join(f"{one:9.1f}" for one in row["ms"]))
                print(f"{'one more':>36}" + " " * 9 + "".join(f"{one:9.3f}" for one in row["ms_for_one_more"]))
                if (name, kind) == ("ours", "training"):
                    pairs = zip(seconds, shapes, strict=True)
                    row["floor_share"] = [floor_share(one, **shape) for one, shape in pairs]
                    print(f"{'share of the products':>36}" + "".join(f"{one:9.0%}" for one in row["floor_share"]))
                print(end="", flush=True)
    growth_of_cost: dict[str, list[float]] = {name: [] for name in MODELS}
    for name, values in growth_of_cost.items():
        for turn in zip(*times[name, "training", "source"], strict=True):
            more = marginal(growth["source"], turn)
            values.append(more[-1] / more[-2])
    report(
        "scaling",
        "cost of one more source token in training, at the last length over that before",
        growth_of_cost,
        floor_share=dict(zip(map(str, growth["source"]), table["ours, training, source"]["floor_share"], strict=True)),
        more_is_better=False,
        table=table,
    )


if __name__ == "__main__":
    main()
