"""The folder that a run writes into: its own, for as long as it runs, and with room on its disk."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import RunError, UsageError
from .arguments import RnnS2STrainingArguments

__all__ = ["LOCK_FILE", "naming_a_full_disk", "own_folder"]

LOCK_FILE = "_run.lock"  # what begins with an underscore is not uploaded to the Hub
# What the libraries say that write weights and states, instead of passing on what the system said.
WRITE_FAILURES = ("No space left on device", "inline_container", "PytorchStreamWriter", "iostream error")


@contextmanager
def own_folder(arguments: RnnS2STrainingArguments) -> Iterator[None]:
    """
    Keeps other runs out of `output_dir`, which is made if there is none. The first process of a run holds a lock for
    all of them; the system lets go of it when the process ends, however it ends. A folder in which nothing was left is
    taken away again.

    Raises:
        UsageError: if another run is at work there, or if the folder cannot be made.
    """
    if arguments.process_index != 0:
        yield
        return
    folder = Path(str(arguments.output_dir))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UsageError(
            f"Another run is writing into output_dir {folder} at this moment: wait for it, or choose another "
            "--output_dir."
        ) from error
    except OSError as error:
        raise UsageError(f"output_dir {folder} cannot be written to: {error}.") from error
    try:
        yield
    finally:
        try:
            # Before the lock is let go of, or it might be another run's.
            (folder / LOCK_FILE).unlink(missing_ok=True)
        finally:
            lock.release()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """
    Raises:
        RunError: where something could not be written for want of room.
    """
    try:
        yield
    except Exception as error:
        if not _is_full_disk(error):
            raise
        there = next(place for place in (folder, *folder.resolve().parents) if place.exists())
        free = shutil.disk_usage(there).free // 2**20
        raise RunError(
            f"{folder} could not be written: the disk is full, or nearly so ({free:,} MB are free). Make room, and go "
            f"on from the last checkpoint that was written to its end by --resume_from_checkpoint true.\n{error}"
        ) from error


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(failure in str(error) for failure in WRITE_FAILURES)
