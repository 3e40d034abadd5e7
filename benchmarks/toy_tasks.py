"""
Three small tasks, each made so that one part of an architecture is what solves it.

    python -m benchmarks.toy_tasks --work DIR [--only TASK ...] [--processes 2]

- `reversal`, for attention: write 30 random symbols in reverse. Without attention all of them have to go through one
  vector of fixed width, from which the decoder reads them symbol by symbol; with attention each step looks at one.
- `chain`, for input feeding: the source lists cells in random order, each with its name and the name of the next cell.
  The target follows the chain for eight cells from a known one, but tells of each name only a letter, which it shares
  with another one. So what was written does not say which cell was read and which one comes next; the context does.
  The decoder begins with zeros. Without feeding, whoever follows the chain is the encoder, all of it beforehand.
- `inventory`, for coverage: the source lists items, the target lists them in any order, in training a random one.
  The order does not tell what is left to write; a decoder without coverage has to keep in a small state what it has
  written. As the source is a set, the encoder of both sides does no more than embed it.

Each side of a task has the same number of steps and, within 10 %, of parameters. It is trained with three learning
rates, and each of these with three seeds; the rate with the best mean on validation rows is the one whose test rows
count. All decode greedily. Every run leaves a file in DIR, so that the benchmark can be interrupted.
"""

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, register
from hf_rnn_s2s.model.encoder_rnn_s2s import RnnS2SEncoderOutput, TokenEncoder
from hf_rnn_s2s.model.head_rnn_s2s import IGNORED_LABEL

PAD, START, END = 0, 1, 2
FIRST = 4  # the first id of a symbol, behind the special tokens
RATES, SEEDS = (1e-3, 3e-3, 1e-2), (1, 2, 3)
ROWS = 64  # of a batch
Batch = tuple[Tensor, Tensor]  # source and target ids, `(rows, source)` and `(rows, target)`, the target with its end


class EmbeddingEncoder(TokenEncoder):
    """Embeds each token, and no more: for sources without order, of whose tokens the decoder is to make the most."""

    def __init__(self, config: RnnS2SConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.memory_size, self.state_size = config.embedding_size, 0
        self.post_init()

    def read(self, embedded: Tensor, mask: Tensor | None, ids: Tensor | None, show: bool) -> RnnS2SEncoderOutput:
        """As in `TokenEncoder`."""
        return RnnS2SEncoderOutput(last_hidden_state=embedded)


register("encoder_type", "embedding", EmbeddingEncoder)


def with_end(ids: Tensor) -> Tensor:
    return torch.cat([ids, torch.full((len(ids), 1), END)], dim=1)


def orders(rows: int, count: int, generator: torch.Generator) -> Tensor:
    """Random orders of the numbers below `count`, `(rows, count)`."""
    return torch.rand(rows, count, generator=generator).argsort(1)


def reversal(rows: int, generator: torch.Generator) -> Batch:
    """Thirty of 20 symbols, and the same in reverse."""
    source = torch.randint(FIRST, FIRST + 20, (rows, 30), generator=generator)
    return with_end(source), with_end(source.flip(1))


CELLS, VISITED = 12, 8


def chain(rows: int, generator: torch.Generator) -> Batch:
    """The cells in random order, one token for name and next name; and the letters from the cell of name 0 on."""
    path = torch.cat([torch.zeros(rows, 1, dtype=torch.long), orders(rows, CELLS - 1, generator) + 1], dim=1)
    cells = path * CELLS + path.roll(-1, 1)
    source = cells.gather(1, orders(rows, CELLS, generator))
    return with_end(source + FIRST), with_end(path[:, 1 : VISITED + 1] // 2 + FIRST)


ITEMS, KINDS = 16, 80


def inventory(rows: int, generator: torch.Generator) -> Batch:
    """Items of different kinds, two tokens each, and the same in another random order."""
    items = orders(rows, KINDS, generator)[:, :ITEMS]
    told = items.gather(1, orders(rows, ITEMS, generator))
    source, target = (torch.stack([one, KINDS + one], dim=2).flatten(1) + FIRST for one in (items, told))
    return with_end(source), with_end(target)


def exact(written: Tensor, target: Tensor) -> float:
    """The share of rows that are written without any mistake."""
    return written.eq(target).all(1).float().mean().item()


def repeated(written: Tensor, target: Tensor) -> float:
    """The share of the items, which are n-grams of two, that were written before."""
    items = written[:, : 2 * ITEMS].unflatten(1, (ITEMS, 2))
    seen = items.unsqueeze(1).eq(items.unsqueeze(2)).all(3).tril(-1).any(2)
    return seen.float().mean().item()


@dataclass(frozen=True)
class Task:
    """A task with its two sides.

    Attributes:
        make: makes a batch of so many rows.
        common: values of the configuration for both sides.
        sides: what each side has of its own, by its name.
        steps: of training.
        measure: of what was written and the targets.
        name: of the measure.
        most_is_best: whether a greater measure is a better one.
    """

    make: Callable[[int, torch.Generator], Batch]
    common: dict[str, Any]
    sides: dict[str, dict[str, Any]]
    steps: int
    measure: Callable[[Tensor, Tensor], float]
    name: str
    most_is_best: bool = True


SMALL: dict[str, Any] = {"embedding_size": 64, "dropout": 0.0, "decoder_layers": 1, "label_smoothing": 0.0}
TASKS = {
    "reversal": Task(
        reversal,
        {**SMALL, "vocab_size": FIRST + 20, "attention_type": "additive", "attention_layer": "top"},
        {
            "attention": {"hidden_size": 128},
            "none": {"hidden_size": 142, "attention_type": "none"},
        },
        1500,
        exact,
        "exact match",
    ),
    "chain": Task(
        chain,
        {
            **SMALL,
            "vocab_size": FIRST + CELLS**2,
            "attention_type": "additive",
            "attention_layer": "top",
            "bridge": "zero",
        },
        {
            "input feeding": {"hidden_size": 128, "input_feeding": True},
            "none": {"hidden_size": 140},
        },
        3000,
        exact,
        "exact match",
    ),
    "inventory": Task(
        inventory,
        {
            **SMALL,
            "vocab_size": FIRST + 2 * KINDS,
            "encoder_type": "embedding",
            "attention_layer": "top",
            "bridge": "zero",
            "hidden_size": 32,
        },
        {
            "coverage": {"attention_type": "coverage", "coverage_loss": 1.0},
            "none": {"attention_type": "additive"},
        },
        1500,
        repeated,
        "repeated items",
        most_is_best=False,
    ),
}


def build(task: Task, side: str) -> RnnS2SForConditionalGeneration:
    return RnnS2SForConditionalGeneration(RnnS2SConfig(**{**task.common, **task.sides[side]}))


class Run(NamedTuple):
    """One training of the benchmark."""

    task: str
    side: str
    rate: float
    seed: int


def train(task: Task, side: str, rate: float, seed: int, steps: int) -> RnnS2SForConditionalGeneration:
    """A model after so many batches of rows that were never seen before; the rate falls to 0 in a straight line."""
    torch.manual_seed(seed)
    model = build(task, side).train()
    model.skip_logits_in_training()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        source, target = task.make(ROWS, generator)
        model(source, labels=target.masked_fill(target.eq(PAD), IGNORED_LABEL)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


def score(task: Task, model: RnnS2SForConditionalGeneration, rows: int, seed: int) -> float:
    """The measure on rows that are made with a seed of their own."""
    source, target = task.make(rows, torch.Generator().manual_seed(seed))
    length = target.shape[1]
    written = model.generate(source, max_new_tokens=length, num_beams=1)[:, 1:]
    padded = torch.nn.functional.pad(written, (0, length - written.shape[1]), value=PAD)
    return task.measure(padded, target)


def measure(run: Run, steps: int, rows: int, work: Path) -> list[float]:
    """Validation and test measure of a run, which is made if its file is not there."""
    name, side, rate, seed = run
    path = work / f"{name}.{side.replace(' ', '-')}.{rate}.{seed}.{steps}.json"
    if not path.exists():
        torch.set_num_threads(1)
        model = train(TASKS[name], side, rate, seed, steps)
        measures = [score(TASKS[name], model, rows, number) for number in (10_001, 10_002)]
        path.write_text(json.dumps(measures), encoding="utf-8")
    measures = json.loads(path.read_text(encoding="utf-8"))
    print(f"{name}, {side}, rate {rate}, seed {seed}: {measures[0]:.4f} {measures[1]:.4f}", flush=True)
    return measures


def row_of(name: str, side: str, found: dict[str, Any], steps: int) -> tuple[str, dict[str, Any]]:
    """One side as a row of Markdown, and as a record."""
    task = TASKS[name]
    means = [statistics.mean(one) for one in found["validation"]]
    best = means.index((max if task.most_is_best else min)(means))
    tests, parameters = found["test"][best], build(task, side).num_parameters()
    mean = statistics.mean(tests)
    each = ", ".join(f"{one:.1%}" for one in tests)
    row = f"| `{name}` | {side} | {parameters:,} | {steps:,} | {RATES[best]} | {task.name} | {mean:.1%} ({each}) |"
    record = {"task": name, "side": side, "parameters": parameters, "rate": RATES[best], "test": tests}
    return row, {**record, "validation": found["validation"], "test_of_all": found["test"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the results of each run")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--processes", type=int, default=2, help="how many runs there are at once, a thread each")
    parser.add_argument("--quick", action="store_true", help="few steps, and figures that mean nothing")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    sides = [(name, side) for name in arguments.only for side in TASKS[name].sides]
    steps = {name: 2 if arguments.quick else TASKS[name].steps for name in arguments.only}
    runs = [Run(*side, rate, seed) for side in sides for rate in RATES for seed in SEEDS]
    rows = 10 if arguments.quick else 1000
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, spawn) as pool:
        waiting = {run: pool.submit(measure, run, steps[run.task], rows, arguments.work) for run in runs}
        measures = {run: one.result() for run, one in waiting.items()}
    records = []
    print("| Task | Side | Parameters | Steps | Learning rate | Measure | Test |\n|---|---|---|---|---|---|---|")
    for side in sides:
        found = {
            kind: [[measures[Run(*side, rate, seed)][place] for seed in SEEDS] for rate in RATES]
            for place, kind in enumerate(("validation", "test"))
        }
        row, record = row_of(*side, found, steps[side[0]])
        print(row)
        records.append(record)
    print(json.dumps({"benchmark": "toy_tasks", "rows": records}))


if __name__ == "__main__":
    main()
