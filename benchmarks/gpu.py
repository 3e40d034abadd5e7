"""
Training and translating at the shape of NVIDIA's GNMT: 4 layers of 1,024 units on each side, a vocabulary of 32,000.

    python -m benchmarks.gpu                  on a GPU
    python -m benchmarks.gpu --quick --small  on a CPU, at a small size: shows that everything runs

All tokens count, those of the source and those of the target, as NVIDIA counts them. Sentences have 30 random tokens
on either side, and every translation has 30. The figures of NVIDIA's own GNMT in mixed precision on one
A100 stand beside ours (DeepLearningExamples, PyTorch/Translation/GNMT, README).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.floor import floor_seconds, training_floor
from benchmarks.report import report, rounded
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, StepGraphs
from hf_rnn_s2s.machine import has_fast_bfloat16

LENGTH = 30
NVIDIA = {
    "training": 140_909,
    "greedy, batch 128": 53_395,
    "beam 5, batch 128": 28_201,
    "greedy, batch 512": 119_675,
    "beam 5, batch 512": 47_003,
    "greedy, batch 1": 1_292,
    "beam 5, batch 1": 848,
}


def model_of(shape: dict[str, int], device: torch.device) -> RnnS2SForConditionalGeneration:
    """A new model of the shape, of which no translation ends before its time."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = shape
    model: Any = RnnS2SForConditionalGeneration(RnnS2SConfig(dropout=0.2, label_smoothing=0.1, **sizes))
    model.to(device)
    with torch.no_grad():
        model.lm_head.bias[model.config.eos_token_id] = -1e9
    return model


def seconds(run: Callable[[], object], rounds: int, device: torch.device) -> list[float]:
    """Of some runs, with nothing left to be done at the end of each."""
    times = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number > 1:
            times.append(time.perf_counter() - start)
    return times


def training(shape: dict[str, int], rows: int, rounds: int, device: torch.device) -> list[float]:
    """Tokens per second in bfloat16, where there are units for it."""
    model = model_of(shape, device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    ids = torch.randint(4, shape["vocab_size"], (rows, LENGTH), device=device)
    mask = torch.ones_like(ids)
    is_fast = has_fast_bfloat16(device.type)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=is_fast):
            loss = model(input_ids=ids, attention_mask=mask, labels=ids, return_logits=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    return [2 * rows * LENGTH / one for one in seconds(step, rounds, device)]


def translating(
    shape: dict[str, int], rows: int, beams: int, rounds: int, device: torch.device, graphs: StepGraphs | None
) -> list[float]:
    """Tokens per second."""
    model = model_of(shape, device).eval()
    if has_fast_bfloat16(device.type):
        model = model.bfloat16()
    ids = torch.randint(4, shape["vocab_size"], (rows, LENGTH), device=device)
    arguments: dict[str, Any] = {"num_beams": beams, "max_new_tokens": LENGTH, "attention_mask": torch.ones_like(ids)}

    def translate() -> None:
        model.generate(ids, step_graphs=graphs, **arguments)

    return [2 * rows * LENGTH / one for one in seconds(translate, rounds, device)]


def share_of_products(shape: dict[str, int], rows: int, tokens_per_second: float, device: torch.device) -> float:
    """In the time of a training step."""
    sizes: dict[str, Any] = shape
    parts = training_floor(RnnS2SConfig(**sizes), rows, LENGTH, LENGTH)
    precision = "bfloat16" if has_fast_bfloat16(device.type) else "float32"
    return floor_seconds(parts, precision, device) * tokens_per_second / (2 * rows * LENGTH)


def main() -> None:
    """Prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--rounds", type=int, default=10)
    options.add_argument("--training-rows", type=int, default=512, help="pairs in a batch of training")
    options.add_argument("--small", action="store_true", help="2 layers of 64 units, a vocabulary of 1,000")
    options.add_argument("--quick", action="store_true", help="two minutes at most; not to be quoted")
    chosen = options.parse_args()
    device, rounds = torch.device(chosen.device), 2 if chosen.quick else chosen.rounds
    chosen.small |= chosen.quick and device.type == "cpu"
    layers, size, vocabulary = (2, 64, 1000) if chosen.small else (4, 1024, 32_000)
    shape = {
        "vocab_size": vocabulary,
        "embedding_size": size,
        "hidden_size": size,
        "encoder_layers": layers,
        "decoder_layers": layers,
    }
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    rows = min(chosen.training_rows, 16) if chosen.small else chosen.training_rows
    results = {"training": training(shape, rows, rounds, device)}
    share = share_of_products(shape, rows, median(results["training"]), device)
    for batch in (1, 4) if chosen.small else (1, 128, 512):
        for beams, search in ((1, "greedy"), (5, "beam 5")):
            key = f"{search}, batch {batch}"
            results[key] = translating(shape, batch, beams, rounds, device, None)
            if device.type == "cuda":
                results[f"{key}, graphs"] = translating(shape, batch, beams, rounds, device, StepGraphs())
    alone = 1e3 * 2 * LENGTH / median(results["greedy, batch 1"])
    print(f"a sentence of {LENGTH} tokens by itself, greedily: {alone:.1f} ms")
    print(f"products in the time of a training step: {share:.0%}")
    ratios = {}
    for key, value in results.items():
        theirs = None if chosen.small else NVIDIA.get(key.removesuffix(", graphs"))
        if theirs is not None:
            ratios[f"ours/NVIDIA on an A100, {key}"] = rounded(median(value) / theirs)
            print(f"{key}: {ratios[f'ours/NVIDIA on an A100, {key}']} times NVIDIA's GNMT on an A100, {theirs:,}")
    report("gpu", "tokens per second", results, floor_share=share, device=name, ratios=ratios)


if __name__ == "__main__":
    main()
