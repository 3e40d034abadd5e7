"""Errors without a fault in the program: mistakes of whoever started a run, and runs that cannot go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
