"""
Contenders take turns, each in a process of its own, so that a change of the machine's speed meets all of them.

This file needs nothing but the standard library, since both ends of a process import it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar


class Worker:
    """
    A contender in another process.

    Args:
        name: what it is called in tables.
        command: what Python is started with, a file or a module and its arguments; the last one is written as JSON.
        environment: variables of the process beside those of this one.
    """

    def __init__(self, name: str, command: Sequence[Any], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command[:-1], json.dumps(command[-1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self._answer()

    @classmethod
    def of(cls, name: str, streams: dict[str, Any]) -> Worker:
        """One of `CONTENDERS`; `streams` are arguments of `Streams` and the number of `threads`."""
        return cls(name, ["-m", "benchmarks.worker", name, streams])

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


class Answers:
    """The other end of a `Worker`: reads calls as JSON lines, answers them as JSON lines.

    What anything else prints goes elsewhere from now on, so that it does not stand between the answers.

    Args:
        is_loud: whether it goes to where errors go; else it is dropped.
    """

    def __init__(self, is_loud: bool = False) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2 if is_loud else os.open(os.devnull, os.O_WRONLY), 1)

    def give(self, contender: object) -> None:
        """Calls the methods that are asked for, until nobody asks any more."""
        self._write("ready")
        for line in sys.stdin:
            call, arguments = json.loads(line)
            self._write(getattr(contender, call)(**arguments))

    def _write(self, answer: Any) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)


class Named(Protocol):
    """What takes part in a race."""

    name: str


AnyContender = TypeVar("AnyContender", bound=Named)


def race(
    contenders: Sequence[AnyContender], rounds: int, measure: Callable[[AnyContender], float]
) -> dict[str, list[float]]:
    """A measurement of each contender in turn, A B A B, so many times."""
    results: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            results[contender.name].append(measure(contender))
    return results
