"""
One contender in a process of its own: reads calls as JSON lines, answers them as JSON lines. Nobody types this; the
benchmarks start it, so that contenders share neither memory nor caches, and can take turns.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from benchmarks.contenders import contender_class
from benchmarks.race import Answers
from benchmarks.streams import Streams


def main() -> None:
    """`python -m benchmarks.worker NAME STREAMS`, where STREAMS are the arguments of `Streams` as JSON."""
    answers = Answers(is_loud=True)
    name, settings = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(settings.pop("threads"))
    streams = Streams(Path(settings.pop("data")), Path(settings.pop("work")), **settings)
    the_class, arguments = contender_class(name)
    contender = the_class(streams, **arguments)
    answers.give(contender)


if __name__ == "__main__":
    main()
