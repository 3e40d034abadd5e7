"""
Peak memory of training, of the whole process: beside other toolkits, and how it grows with the vocabulary.

    python -m benchmarks.memory

The first table is training on Multi30k as in `benchmarks.training`. The second is one batch of random tokens at
growing vocabularies: ours as it is, and ours with the plain loss, that is `cross_entropy` of all logits at once. Each
cell is a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median

import torch
from torch.nn import functional

from benchmarks.contenders.base import peak_megabytes
from benchmarks.options import add_contenders, parse, parser, streams
from benchmarks.race import Worker
from benchmarks.report import report, rounded
from benchmarks.training import floor_share
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.machine import has_fast_bfloat16, keep_freed_memory

VOCABULARIES = [8000, 16000, 32000, 64000]
ROWS, LENGTH = 64, 20


def train_once(vocabulary: int, loss: str, threads: int) -> float:
    """Three steps at a vocabulary; the peak in megabytes above what the process, model and optimizer hold by then."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    torch.manual_seed(0)
    config = RnnS2SConfig(vocab_size=vocabulary, decoder_vocab_size=vocabulary, decoder_layers=1, label_smoothing=0.1)
    model = RnnS2SForConditionalGeneration(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    source, labels = (torch.randint(4, vocabulary, (ROWS, LENGTH)) for _ in range(2))
    target = model.prepare_decoder_input_ids_from_labels(labels)
    # The state of the optimizer and the gradients, which every way needs, come first.
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    before = peak_megabytes()
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16("cpu")):
            if loss == "ours":
                total = model(input_ids=source, labels=labels, return_logits=False).loss
            else:
                logits = model(input_ids=source, decoder_input_ids=target).logits
        if loss == "plain":
            total = functional.cross_entropy(
                logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=config.label_smoothing
            )
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return peak_megabytes() - before


def _in_its_own_process(vocabulary: int, loss: str, threads: int) -> float:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", "--threads", str(threads), "--one"]
    outcome = subprocess.run([*command, str(vocabulary), loss], capture_output=True, text=True, check=True)
    return rounded(float(outcome.stdout))


def main() -> None:
    """Prints both tables."""
    options = parser(__doc__)
    add_contenders(options, "training")
    options.add_argument("--one", nargs=2, metavar=("VOCABULARY", "LOSS"), help="one cell of the second table")
    chosen = parse(options)
    if chosen.one:
        print(train_once(int(chosen.one[0]), chosen.one[1], chosen.threads))
        return
    count, rounds = (4, 1) if chosen.quick else (48, min(chosen.rounds, 3))
    peaks: dict[str, list[float]] = {name: [] for name in chosen.contenders}
    speeds: dict[str, list[float]] = {name: [] for name in chosen.contenders if "ours" in name}
    for _ in range(rounds):
        for name in chosen.contenders:
            worker = Worker.of(name, streams(chosen))
            tokens = worker.call("prepare", first=0, count=count)
            worker.call("train", first=0, count=count)
            peaks[name].append(worker.call("peak_memory"))
            if name in speeds:
                speeds[name].append(tokens / worker.call("train", first=0, count=count))
            worker.end()
    vocabularies = VOCABULARIES[:2] if chosen.quick else VOCABULARIES
    print(f"\nmegabytes that training takes above model, gradients and optimizer; vocabulary: {vocabularies}")
    growth: dict[str, list[float]] = {}
    slopes: dict[str, float] = {}
    for loss in ("ours", "plain"):
        growth[loss] = [_in_its_own_process(size, loss, chosen.threads) for size in vocabularies]
        more = (growth[loss][-1] - growth[loss][0]) / (vocabularies[-1] - vocabularies[0])
        slopes[loss] = rounded(1000 * more)
        print(f"  {loss:6} " + "".join(f"{one:10,.0f}" for one in growth[loss]))
    print(f"megabytes per thousand tokens of vocabulary: {json.dumps(slopes)}")
    shares = {name: floor_share(chosen, name, median(values), count) for name, values in speeds.items()}
    report(
        "memory",
        "peak megabytes in training",
        peaks,
        "ours" if "ours" in peaks else next(iter(peaks)),
        floor_share=shares,
        more_is_better=False,
        vocabularies=vocabularies,
        growth=growth,
        megabytes_per_thousand_tokens=slopes,
    )


if __name__ == "__main__":
    main()
