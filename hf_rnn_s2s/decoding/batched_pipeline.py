"""How the pipeline writes: batch by batch, in this process, or in several that do the batches between them."""

from __future__ import annotations

import copy
import functools
import multiprocessing
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers.utils import logging

from ..errors import ProcessError
from ..machine import usable_cores
from .batching import batches_in_order, batches_of_like_length
from .document_pipeline import DocumentPipeline
from .phrases import PhrasesOfRows
from .reading import DEFAULT_BATCH_TOKENS, Encoded
from .text import require_text

if TYPE_CHECKING:
    from .workers import Workers

logger = logging.get_logger(__name__)

# Arguments of generate() that are functions of the caller's, which may depend on the position of a text in its batch.
MAY_COUNT_ROWS = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")
# A call that takes so many seconds takes longer than it takes to start other processes.
WORTH_PROCESSES = 10.0
MOST_HINTED = 16  # processes that a hint speaks of; each takes memory
DIED = (
    "a worker process died at one of them, and one died again when its work was done once more. If the system ended "
    "them for want of memory, lower batch_size, batch_tokens or processes. If none could start at all, put what your "
    'script does under `if __name__ == "__main__":`, since each of them reads the script.'
)

# Some texts, and the number of the first of them among all inputs
Texts = tuple[list[str], int]


class Call(NamedTuple):
    """What one call of the pipeline was given for each of its three stages, and the most texts of a batch."""

    batch_size: int
    preprocess: dict[str, Any]
    forward: dict[str, Any]
    postprocess: dict[str, Any]

    @property
    def processes(self) -> int:
        """How many processes write."""
        return self.preprocess.get("processes") or 1


class _Batch(NamedTuple):
    """Texts that go through the model together.

    Attributes:
        numbers: of these texts among all inputs.
        encoded: what is read of them.
        phrases: the arguments that may have phrases for each text.
        seed: of what is drawn for them in another process; None where nothing is drawn.
    """

    numbers: list[int]
    encoded: Encoded
    phrases: dict[str, PhrasesOfRows]
    seed: int | None = None

    def only(self, row: int) -> _Batch:
        """The batch of one of these texts."""
        phrases = {name: one.only([row]) for name, one in self.phrases.items()}
        return self._replace(numbers=[self.numbers[row]], encoded=self.encoded.only([row]), phrases=phrases)


class BatchedPipeline(DocumentPipeline):
    """Writes in batches of like length; see `RnnText2TextGenerationPipeline` in `pipeline.py`."""

    _workers: Workers | None = None  # of the last call with processes

    def _write_all(self, call: Call, chunks: Iterable[Texts]) -> Iterator[Any]:
        """The records of all texts, in order; those of a chunk are encoded together."""
        if call.preprocess.get("split_sentences"):
            self._check_documents(call.forward, call.postprocess)
            for texts, first in chunks:
                _require_texts(texts, first)
                yield from self._documents(call, texts, first)
            return
        planned: deque[_Chunk] = deque()

        def batches() -> Iterator[_Batch]:
            for texts, first in chunks:
                planned.append(self._plan(call, texts, first))
                yield from planned[-1].batches

        for records in self._write_batches(call, batches()):
            planned[0].take(records)
            if planned[0].is_complete:
                yield from planned.popleft().records

    def _documents(self, call: Call, texts: list[str], first: int) -> list[Any]:
        """The records of documents."""

        def translate(arguments: dict[str, Any], sentences: list[str]) -> list[Any]:
            return list(self._write_all(call._replace(preprocess=arguments), [(sentences, 0)]))

        return self._translate_documents(translate, call.preprocess, call.postprocess, texts, first)

    def _plan(self, call: Call, texts: list[str], first: int) -> _Chunk:
        """Encode texts and put them into batches."""
        _require_texts(texts, first)
        encoded = self._encode(texts, first, **call.preprocess)
        if _may_count_rows(call.forward):
            batches = batches_in_order(len(texts), call.batch_size)
        else:
            tokens = call.preprocess.get("batch_tokens", DEFAULT_BATCH_TOKENS)
            batches = batches_of_like_length([len(row) for row in encoded.ids], call.batch_size, tokens)
        own = [name for name, value in call.forward.items() if isinstance(value, PhrasesOfRows)]
        return _Chunk(
            [
                _Batch(
                    [first + row for row in rows],
                    encoded.only(rows),
                    {name: call.forward[name].only([first + row for row in rows]) for name in own},
                )
                for rows in batches
            ],
            first,
        )

    def _write_batches(self, call: Call, batches: Iterator[_Batch]) -> Iterator[list[Any]]:
        """The records of each batch, in order."""
        given = {name: value for name, value in call.forward.items() if not isinstance(value, PhrasesOfRows)}
        if call.processes == 1:
            return (self._write(batch, given, call.postprocess) for batch in batches)
        return self._write_in_processes(call, given, batches)

    def _write_in_processes(self, call: Call, given: dict[str, Any], batches: Iterator[_Batch]) -> Iterator[list[Any]]:
        from .workers import WorkerDied, Workers  # what Python has for processes takes time to import

        if self.device.type != "cpu":
            raise ValueError(
                f"processes={call.processes} share the cores of a CPU, and the model is on {self.device}: leave "
                "processes out, or build the pipeline with device='cpu'."
            )
        workers = self._workers
        if workers is None or workers.count != call.processes:
            workers = self._workers = Workers(call.processes)
        shared = workers.share((self._to_send(), given, call.postprocess))
        handed_over: deque[_Batch] = deque()

        def jobs() -> Iterator[_Batch]:
            draws = bool(self._settings(given).get("do_sample"))
            for batch in batches:
                seed = int(torch.randint(2**62, ())) if draws else None
                handed_over.append(batch._replace(seed=seed))
                yield handed_over[-1]

        results = workers.run(_write_in_worker, shared, jobs())
        try:
            for records in results:
                handed_over.popleft()
                yield records
        except WorkerDied as error:
            doing = [number for place in error.places for number in sorted(handed_over[place].numbers)]
            raise ProcessError(doing, DIED) from error

    def _to_send(self) -> BatchedPipeline:
        """This pipeline for another process, without what it has found out or counted in this one."""
        runtime = getattr(self.model, "runtime", None)
        if runtime is not None and runtime.serves(self.model):
            runtime.table()  # so that the processes share it
        other = copy.copy(self)
        for name in ("_workers", "_token_texts", "_model_settings"):
            vars(other).pop(name, None)
        other.call_count = 0
        return other

    def _write(self, batch: _Batch, forward: dict[str, Any], postprocess: dict[str, Any]) -> list[Any]:
        """The records of one batch."""
        rows = range(len(batch.numbers))
        phrases = {name: one.select(rows) for name, one in batch.phrases.items()}
        outputs = self.forward(self._collate(batch.encoded, list(rows)), **forward, **phrases)
        return [
            self.postprocess({name: value[row : row + 1] for name, value in outputs.items()}, **postprocess)
            for row in rows
        ]

    def _hinting_at_processes(self, call: Call, records: Iterator[Any]) -> Iterator[Any]:
        """The same records; in the end a hint, once, where several processes would have been faster."""
        began = time.monotonic()
        yield from records
        is_told = call.preprocess.get("processes") is not None
        cores = min(usable_cores(), MOST_HINTED)
        if is_told or cores == 1 or self.device.type != "cpu" or multiprocessing.current_process().daemon:
            return
        if time.monotonic() - began >= WORTH_PROCESSES:
            logger.warning_once(
                f"One process has written this. processes={cores} (--processes {cores} in a command) shares the work "
                "among the cores of this machine, which is mostly faster. With processes=1 this hint does not come."
            )


class _Chunk:
    """Texts that were encoded together, and the records of those batches that are written.

    Args:
        batches: of these texts.
        first: the number of the first text among all inputs.
    """

    def __init__(self, batches: list[_Batch], first: int) -> None:
        self.batches, self._first, self._taken = batches, first, 0
        self.records: list[Any] = [None] * sum(len(batch.numbers) for batch in batches)

    @property
    def is_complete(self) -> bool:
        """Whether all batches are written."""
        return self._taken == len(self.batches)

    def take(self, records: list[Any]) -> None:
        """Put the records of the next batch in their places."""
        for number, record in zip(self.batches[self._taken].numbers, records, strict=True):
            self.records[number - self._first] = record
        self._taken += 1


def _write_in_worker(shared: Any, batch: _Batch) -> list[Any]:
    """The records of one batch, in a process of the pool."""
    pipeline, forward, postprocess = shared
    if batch.seed is not None:
        torch.manual_seed(batch.seed)
    write = functools.partial(pipeline._write, forward=forward, postprocess=postprocess)
    try:
        return write(batch)
    except Exception as error:
        number = None if isinstance(error, torch.OutOfMemoryError) else _failing(write, batch)
        if number is None:
            raise
        problem = f"it fails, and not all others of its batch do: {type(error).__name__}: {error}"
        raise ProcessError([number], problem) from error


def _failing(write: Any, batch: _Batch) -> int | None:
    """The number of the first text that cannot be written by itself; None if none can be, or all."""
    failed = []
    for row, number in enumerate(batch.numbers):
        try:
            write(batch.only(row))
        except Exception:  # the one that is reported is that of the batch
            failed.append(number)
    return failed[0] if 0 < len(failed) < len(batch.numbers) else None


def _require_texts(texts: list[str], first: int) -> None:
    for number, text in enumerate(texts, start=first):
        require_text(text, f"input {number}")


def _may_count_rows(arguments: Mapping[str, Any]) -> bool:
    """Whether an argument of `generate()` may depend on the position of a text in its batch."""
    return any(arguments.get(name) is not None for name in MAY_COUNT_ROWS) or any_tensor(arguments)


def any_tensor(arguments: Mapping[str, Any]) -> bool:
    """Whether there is a tensor among the arguments of `generate()`, such as a prompt for the decoder."""
    return any(isinstance(value, Tensor) for value in arguments.values())
