"""Ctrl-C and SIGTERM: a command ends between two records, and not in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The command was told to end. It is no Exception, so that nothing on the way takes it for an error.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Interruption:
    """Raises `Interrupted` when one of `SIGNALS` arrives, and within `held()` only at its end.

    As a context manager it sets the handlers of the signals, and puts those that were there back. In another thread
    than the main one, which alone gets signals, it does nothing.
    """

    def __init__(self) -> None:
        self._is_held = False
        self._arrived: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._arrive) for number in SIGNALS}
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        self._arrived = number
        if not self._is_held:
            raise Interrupted(number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let what is inside come to its end before a signal counts."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._arrived is not None:
            raise Interrupted(self._arrived)
