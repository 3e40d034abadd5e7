"""The output folder of a run: locked against other runs, and with clear errors when its disk is full."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import RunError, UsageError
from .arguments import RnnS2STrainingArguments

LOCK_FILE = "_run.lock"  # files that begin with an underscore are not uploaded to the Hub
# Parts of the messages of libraries that fail to write weights or states and hide the error of the system
WRITE_FAILURES = ("No space left on device", "inline_container", "PytorchStreamWriter", "iostream error")


@contextmanager
def own_folder(arguments: RnnS2STrainingArguments) -> Iterator[None]:
    """Lock `output_dir` against other runs, and make it if it does not exist.

    The first process of a run holds the lock for all of them; the system releases it when the process ends, however it
    ends. A folder that is left empty is removed.

    Raises:
        UsageError: if another run is writing there, or if the folder cannot be made.
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
            # Before the lock is released: after that the file may be another run's.
            (folder / LOCK_FILE).unlink(missing_ok=True)
        finally:
            lock.release()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def naming_a_full_disk(folder: Path) -> Iterator[None]:
    """Explain errors in writing to a full disk.

    Raises:
        RunError: instead of the original error, if the disk is full.
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
