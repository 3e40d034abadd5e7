"""
Translating speed beside other toolkits, from text to text, in sentences per second, in the same run.

    python -m benchmarks.translating              all toolkits that are installed, greedy and beam 5
    python -m benchmarks.translating --batch-one  one sentence at a time

Every contender is trained first, so that its translations end where they should; the weights are kept in --work, so
only the first run takes hours. All translate test 2016 of Multi30k with the same tokenizer, in batches of like length,
with their toolkit's own search; ours goes through the pipeline. BLEU says that what was translated is a translation.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from statistics import median, quantiles

import sacrebleu

from benchmarks.floor import decoding_floor, floor_seconds
from benchmarks.options import add_contenders, parse, parser, streams
from benchmarks.race import Worker, race
from benchmarks.report import report, rounded
from benchmarks.streams import Streams
from hf_rnn_s2s import RnnS2SConfig
from hf_rnn_s2s.machine import has_fast_bfloat16

# Contenders that differ in nothing but how they translate share their weights.
WEIGHTS = {
    "ours-float32": "ours",
    "ours-shortlist": "ours",
    "ours-int8": "ours",
    "ours-int8-shortlist": "ours",
    "marian-bfloat16": "marian",
    "ctranslate2": "marian",
    "ctranslate2-int8": "marian",
    "ctranslate2-int8-map": "marian",
    "joeynmt-bfloat16": "joeynmt",
}
EPOCHS = {"ours": 16, "marian": 10, "opennmt": 6, "opennmt-feeding": 5, "joeynmt": 5}


def main() -> None:
    """Trains what is not trained yet, then races."""
    options = parser(__doc__)
    add_contenders(options, "translating")
    options.add_argument("--sentences", type=int, default=1000)
    options.add_argument("--batch-one", action="store_true", help="one sentence at a time")
    chosen = parse(options)
    sentences, rounds = (16, 1) if chosen.quick else (chosen.sentences, chosen.rounds)
    searches = [(1, chosen.batch_size), (5, chosen.batch_size)]
    if chosen.batch_one:
        searches, sentences = [(1, 1), (5, 1)], 3 if chosen.quick else min(sentences, 200)
    workers = [Worker.of(name, streams(chosen)) for name in chosen.contenders]
    made = Streams(chosen.data, chosen.work, chosen.vocabulary)
    for worker in workers:
        learn(worker, chosen, made)
    references = made.texts("test_2016_flickr", "de")[:sentences]
    for beams, batch_size in searches:
        _race(workers, sentences, beams, batch_size, rounds, references, chosen.vocabulary)
    for worker in workers:
        worker.end()


def learn(worker: Worker, chosen: argparse.Namespace, made: Streams) -> None:
    """Train a contender where that has not been done; weights belong to a tokenizer, so they carry its fingerprint."""
    name = WEIGHTS.get(worker.name, worker.name)
    epochs = 0.02 if chosen.quick else EPOCHS[name]
    tokens = json.dumps(made.tokenizer([*made.texts("test_2016_flickr", "en")])["input_ids"])
    fingerprint = hashlib.sha256(tokens.encode()).hexdigest()[:8]
    file = f"{name}-{made.vocabulary}-{fingerprint}{'-quick' * chosen.quick}.pt"
    seconds = worker.call("learn", epochs=epochs, path=str(chosen.work / "models" / file))
    if seconds:
        print(f"{worker.name} learned for {seconds / 60:.1f} minutes", flush=True)


def _race(
    workers: list[Worker],
    sentences: int,
    beams: int,
    batch_size: int,
    rounds: int,
    references: list[str],
    vocabulary: int,
) -> None:
    texts: dict[str, list[str]] = {}
    latencies: dict[str, list[float]] = {}

    def measure(worker: Worker) -> float:
        way, more = "translate", {"beams": beams, "batch_size": batch_size}
        if batch_size == 1:
            way, more = "translate_one_by_one", {"beams": beams}
        # While others had their turns, its memory may have been put aside.
        worker.call(way, sentences=min(sentences, 2 * batch_size), **more)
        outcome = worker.call(way, sentences=sentences, **more)
        texts[worker.name] = outcome["texts"]
        latencies.setdefault(worker.name, []).extend(outcome.get("each", []))
        return sentences / outcome["seconds"]

    results = race(workers, rounds, measure)
    bleu = {name: rounded(sacrebleu.corpus_bleu(ours, [references]).score) for name, ours in texts.items()}
    print(f"\nBLEU, {beams} beams: " + ", ".join(f"{name} {score:.1f}" for name, score in bleu.items()))
    times = {
        name: [_milliseconds(seconds, 50), _milliseconds(seconds, 95)]
        for name, seconds in latencies.items()
        if seconds
    }
    for name, (usual, long) in times.items():
        print(f"{name}: a sentence takes {usual} ms, and one in twenty {long} ms or more")
    for worker in workers:
        if worker.name.startswith(("ctranslate2", "ours")):
            workers_of, threads = worker.call("setting", beams=beams, batch_size=batch_size)
            print(f"{worker.name}: {workers_of} workers with {threads} threads each are the fastest")
    overheads, by_steps, shares = {}, {}, {}
    for worker in workers:
        if (name := worker.name) in ("ours", "ours-float32"):
            calls = [
                worker.call("search_and_model", sentences=sentences, beams=beams, batch_size=batch_size)
                for _ in range(rounds)
            ]
            overheads[name] = rounded(median(call["generate"] / call["model"] for call in calls))
            by_steps[name] = rounded(median(call["generate"] / call["steps"] for call in calls))
            shares[name] = _floor_share(name, calls, vocabulary, beams, batch_size)
            print(
                f"{name}: generate() takes {overheads[name]:.2f} times the time of calling the model for all rows "
                f"until the last one ends, {by_steps[name]:.2f} times that of its own steps; of a step, "
                f"{shares[name]:.0%} are products"
            )
    report(
        f"translating, {beams} beams, batches of {batch_size}",
        "sentences per second",
        results,
        "ours" if "ours" in results else workers[0].name,
        floor_share=shares,
        bleu=bleu,
        generate_by_model_alone=overheads,
        generate_by_own_steps=by_steps,
        milliseconds=times,
    )


def _milliseconds(seconds: list[float], percent: int) -> float:
    """The percentile of some times."""
    return rounded(1000 * quantiles(seconds, n=100, method="inclusive")[percent - 1])


def _floor_share(name: str, calls: list[dict[str, float]], vocabulary: int, beams: int, batch_size: int) -> float:
    """Of the products in a step of the search at its full width."""
    precision = "float32" if "float32" in name or not has_fast_bfloat16("cpu") else "bfloat16"
    config = RnnS2SConfig(vocab_size=vocabulary, decoder_vocab_size=vocabulary, decoder_layers=1)
    parts = decoding_floor(config, batch_size, beams, source=round(calls[0]["source"]))
    return rounded(floor_seconds(parts, precision) / median(call["full_step"] for call in calls))


if __name__ == "__main__":
    main()
