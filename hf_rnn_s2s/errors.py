"""Errors without a fault in the program: mistakes of whoever started a run, and runs that cannot go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

SHOWN = 5  # numbers of inputs in an error


class UsageError(ValueError):
    """A run was given settings that are wrong.

    Args:
        problems: what is wrong, each with the way out.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return "\n".join([f"{len(self.problems)} things are wrong:", *(f"- {problem}" for problem in self.problems)])


class RunError(RuntimeError):
    """A run that began well cannot go on; the message says why, and what was saved."""


class ProcessError(RuntimeError):
    """Something went wrong in another process.

    Args:
        numbers: of the inputs at which it did.
        problem: what it was.
        unit: what an input is called.
    """

    def __init__(self, numbers: Sequence[int], problem: str, unit: str = "input") -> None:
        super().__init__(numbers, problem, unit)
        self._numbers, self._problem, self._unit = numbers, problem, unit

    def __str__(self) -> str:
        shown = ", ".join(map(str, self._numbers[:SHOWN]))
        more = f" and {len(self._numbers) - SHOWN} more" if len(self._numbers) > SHOWN else ""
        unit = self._unit.capitalize() + ("s" if len(self._numbers) > 1 else "")
        return f"{unit} {shown}{more}: {self._problem}"

    def renumbered(self, numbers: Sequence[int], unit: str = "input") -> ProcessError:
        """The same error, where input `n` is called `numbers[n]`."""
        return ProcessError(list(dict.fromkeys(numbers[one] for one in self._numbers)), self._problem, unit)


@contextmanager
def as_usage_error() -> Iterator[None]:
    """Turn a ValueError from a check of values that the user gave into a UsageError."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


@contextmanager
def ending_with_a_message(script: str) -> Iterator[None]:
    """End the process with a message in place of a traceback, which would be of no use to the user.

    Raises:
        SystemExit: with 2 for a mistake in the arguments, with 1 where it could not go on.
    """
    try:
        yield
    except UsageError as error:
        print(f"{script}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except (RunError, torch.OutOfMemoryError) as error:
        print(f"{script}: {error}", file=sys.stderr)
        raise SystemExit(1) from error
