"""The command line that all benchmarks share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import installed, racers
from benchmarks.streams import require_data


def parser(description: str | None) -> argparse.ArgumentParser:
    """With the options of every benchmark; each adds its own."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--data", type=Path, default=Path("data/multi30k"), help="folder with Multi30k")
    options.add_argument("--work", type=Path, default=Path("outputs/benchmarks"), help="folder for what is kept")
    options.add_argument("--threads", type=int, default=2, help="of every contender")
    options.add_argument("--vocabulary", type=int, default=8000, help="tokens of each side")
    options.add_argument("--batch-size", type=int, default=64, help="sentences in a batch")
    options.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    options.add_argument("--quick", action="store_true", help="two minutes at most; not to be quoted")
    return options


def add_contenders(options: argparse.ArgumentParser, way: str) -> None:
    """Adds the choice of contenders, by default all that are installed; for `way` see `racers`."""
    names = racers(way)
    usual = [name for name in names if installed(name)]
    options.add_argument("--contenders", nargs="+", choices=names, default=usual)


def parse(options: argparse.ArgumentParser) -> argparse.Namespace:
    """Reads the command line. What this process itself computes, such as the floor, has the threads of a contender."""
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def streams(options: argparse.Namespace) -> dict[str, Any]:
    """What a worker is told of them; ends the program if there is no data."""
    require_data(options.data)
    return {
        "data": str(options.data),
        "work": str(options.work),
        "threads": options.threads,
        "vocabulary": options.vocabulary,
        "batch_size": options.batch_size,
    }
