"""What can go wrong without a fault in the program: mistakes of whoever started a run, and runs that cannot go on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["RunError", "UsageError", "as_usage_error", "ending_with_a_message"]


class UsageError(ValueError):
    """
    A run was told something that cannot be.

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
    """For checks of values that the user gave: what is wrong with them is the user's to mend."""
    try:
        yield
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error


@contextmanager
def ending_with_a_message(script: str) -> Iterator[None]:
    """
    Ends the process with a message in the place of a stack of calls, where the stack would tell nobody anything.

    Raises:
        SystemExit: with 2 for a mistake in what the run was told, with 1 where it could not go on.
    """
    try:
        yield
    except UsageError as error:
        print(f"{script}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    except (RunError, torch.OutOfMemoryError) as error:
        print(f"{script}: {error}", file=sys.stderr)
        raise SystemExit(1) from error
