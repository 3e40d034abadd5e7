"""Recordings: where they are found, how they are read, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..audio import read_samples
from .arguments import DataError

Recording = dict[str, Any]  # `path` and `bytes`, of which one may be None, as `datasets.Audio(decode=False)` gives it


def recording_of(value: Any, origin: str, number: int, column: str, folder: Path | None) -> Recording:
    """What a row has in its column of recordings, as a path or as the content of a file.

    Args:
        value: a path, which may be relative to the folder, or what `datasets.Audio(decode=False)` gives.
        origin: what messages call the table.
        number: of the row.
        column: of the recordings.
        folder: of the table; None where paths are relative to nothing.

    Raises:
        DataError: if it is neither, or there is no such file; the message names the row.
    """
    place = f"{origin}, row {number}: {column!r}"
    if isinstance(value, dict) and value.get("bytes"):
        return {"path": value.get("path"), "bytes": value["bytes"]}
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str) or not path.strip():
        wrong = "is missing" if path is None or path == "" else f"is no path of a recording but {path!r:.50}"
        raise DataError(f"{place} {wrong}. Mend the row or take it out.")
    found = Path(path) if folder is None else folder / path
    if not found.is_file():
        raise DataError(f"{place}: there is no file {found}. Paths are relative to the folder of the table.")
    return {"path": str(found), "bytes": None}


def name_of(recording: Recording, number: int) -> str:
    """What a recording is called in tables: the name of its file, or the number of its row."""
    return Path(recording["path"]).name if recording["path"] else f"recording {number}"


def read_recording(recording: Recording, sampling_rate: int, place: str) -> np.ndarray:
    """The samples of a recording, float32 `(samples,)`: the mean of its channels, at the given rate in hertz.

    Raises:
        DataError: if it is no recording that can be read, or has no samples or some that are no numbers; the message
            names the `place`.
    """
    content = recording["bytes"]
    try:
        samples = read_samples(recording["path"] if content is None else content, sampling_rate)
    except (OSError, RuntimeError, TypeError) as error:  # the last one of a file without a header
        raise DataError(f"{place} cannot be read as a recording: {error} WAV, FLAC, OGG and MP3 files can.") from error
    if not len(samples):
        raise DataError(f"{place} has no samples: its length is 0. Take the row out.")
    if not np.isfinite(samples).all():
        raise DataError(f"{place} has samples that are no finite numbers. Mend the file, or take the row out.")
    return samples
