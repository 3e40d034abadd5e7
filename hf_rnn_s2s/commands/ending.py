"""How a command ends when something goes wrong: one line of error, and an exit code that says whose turn it is."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ending_with_a_message
from .interruption import Interrupted

OF_SIGNALS = 128  # what shells add to the number of the signal that ended a program
STANDARD_OUTPUT = 1  # its file descriptor


@contextmanager
def ending(command: str) -> Iterator[None]:
    """End the process with a message in place of a traceback, as `errors.ending_with_a_message`, and for signals.

    Nothing is said where the reader of a pipe, such as `head`, wants no more.

    Args:
        command: what the message begins with.

    Raises:
        SystemExit: with 2 for mistakes of the user, 1 where it could not go on, and 128 and the number of the signal
            after one.
    """
    try:
        with ending_with_a_message(command):
            yield
    except Interrupted as interrupted:
        name = signal.Signals(interrupted.number).name
        print(f"{command}: ended by {name}; all that was written are whole records.", file=sys.stderr)
        raise SystemExit(OF_SIGNALS + interrupted.number) from None
    except BrokenPipeError:
        # Python flushes standard output once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), STANDARD_OUTPUT)
        raise SystemExit(OF_SIGNALS + signal.SIGPIPE) from None
    except OSError as error:  # of a file or the network, whose message says what
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(2) from error
