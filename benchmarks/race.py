"""Contenders take turns, each in a process of its own, so that a change of the machine's speed meets all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any


class Worker:
    """
    A contender in another process.

    Args:
        name: one of `CONTENDERS`.
        streams: arguments of `Streams`, as JSON can hold them, and the number of `threads`.
    """

    def __init__(self, name: str, streams: dict[str, Any]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", name, json.dumps(streams)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def call(self, method: str, **arguments: Any) -> Any:
        """What a method of the contender returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"The contender {self.name} ended with {self._process.wait()}; its error stands above.")
        return json.loads(line)


def race(workers: list[Worker], rounds: int, measure: Callable[[Worker], float]) -> dict[str, list[float]]:
    """A measurement of each contender in turn, A B A B, so many times."""
    results: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for _ in range(rounds):
        for worker in workers:
            results[worker.name].append(measure(worker))
    return results
