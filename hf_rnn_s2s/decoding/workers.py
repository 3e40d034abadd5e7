"""Processes that compute for this one, one thread each.

A second thread inside a process gains little in a search, whose steps are small; a second process may double it. The
pool is that of `concurrent.futures`. Where the system can, its processes are forked from a server that has imported
this package already: they start in no time, and share the memory of what it imported.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import signal
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for_jobs
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import torch
from transformers.utils import logging

from .saved_objects import SavedObject, load_saved, picklable

logger = logging.get_logger(__name__)

PATIENCE = 10.0  # seconds until a pool is asked whether it is still there
AHEAD = 3  # jobs for each process that are handed over before the first of them is done
PRELOADED = ("hf_rnn_s2s", "transformers.pipelines")
IMPORTED_IN = os.getpid()  # another process than this one was forked from it

# From a shared object and what is to be done with it to a result
Compute = Callable[[Any, Any], Any]


class WorkerDied(RuntimeError):
    """A process ended while it worked, and another one when the work was done again.

    Args:
        places: of the jobs that they may have ended at, among those whose results are still to come.
    """

    def __init__(self, places: list[int]) -> None:
        super().__init__(places)
        self.places = places


class _Pool(ProcessPoolExecutor):
    """A pool whose processes can be ended, also those that begin while it notices that another one has ended.

    Args:
        count: how many processes.
        context: how they are started.
        settings: what `_begin` is told.
    """

    def __init__(self, count: int, context: Any, *settings: Any) -> None:
        end, self._held_open = context.Pipe(duplex=False)
        super().__init__(count, context, _begin, (end, *settings))

    def end_processes(self) -> None:
        """End all of them, whatever they do."""
        self._held_open.close()


class _Pending(NamedTuple):
    """A job that was handed over."""

    content: bytes
    future: Future[bytes]
    pool: _Pool


class Workers:
    """Some processes, which are started when there is work for them, and end with this object or this process.

    Threads may share them; but a job that ends every process that does it ends the work of other threads, too. A copy
    has none of the processes, nor has a process that was forked from this one.

    Args:
        count: how many processes.

    Raises:
        ValueError: inside a daemon process, which may have no children.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._begin_anew()

    def _begin_anew(self) -> None:
        if multiprocessing.current_process().daemon:
            raise ValueError(
                f"processes={self.count} inside a daemon process, such as a worker of a DataLoader or of "
                "multiprocessing.Pool, which may not start any: leave processes out there, or in concurrent.futures."
            )
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._pool: _Pool | None = None
        self._saved: SavedObject | None = None  # the last one that was shared

    def _require_own(self) -> None:
        """In a process that was forked, leave the pool alone, whose threads are in the first one."""
        if self._owner != os.getpid():
            self._begin_anew()

    def share(self, value: Any) -> SavedObject:
        """An object for the processes, as it is now. The file is written only where it has changed.

        Raises:
            ValueError: if it cannot be pickled.
        """
        self._require_own()
        with self._lock:
            if self._saved is None or not self._saved.is_like(value):
                self._saved = SavedObject(value)
            return self._saved

    def run(self, compute: Compute, shared: SavedObject, jobs: Iterable[Any]) -> Iterator[Any]:
        """The results of jobs, in order. A few jobs more are taken from the iterable than results were.

        If a process dies, what it was doing is done again by another one.

        Args:
            compute: a function at the top of a module, called with the shared object and a job.
            shared: what `share` returned.
            jobs: of anything that can be pickled.

        Raises:
            ValueError: if a job cannot be pickled.
            WorkerDied: if a process dies again before any other job is done.
            Exception: whatever `compute` raises.
        """
        self._require_own()
        pending: deque[_Pending] = deque()
        source, done, done_at_death = iter(jobs), 0, -1
        try:
            while True:
                for job in _up_to(AHEAD * self.count - len(pending), source):
                    pending.append(self._hand_over(compute, shared, picklable(job, "a text, or an argument of it")))
                if not pending:
                    return
                try:
                    result = _result(pending[0])
                except BrokenProcessPool as error:
                    broken = pending[0].pool
                    self._drop(broken)
                    lost = _lost(pending, broken)
                    if done_at_death == done + len(pending) - len(lost):
                        raise WorkerDied(lost[: self.count]) from error
                    done_at_death = done + len(pending) - len(lost)
                    logger.warning("A worker process has died. What it was doing is done again.")
                    for place in lost:
                        pending[place] = self._hand_over(compute, shared, pending[place].content)
                    continue
                pending.popleft()
                done += 1
                yield pickle.loads(result)
        finally:
            for one in pending:
                one.future.cancel()

    def _hand_over(self, compute: Compute, shared: SavedObject, content: bytes) -> _Pending:
        pool = self._running()
        try:
            return _Pending(content, pool.submit(_work, compute, shared.path, content), pool)
        except BrokenProcessPool:  # a process ended since the last call, or other work has ended it
            self._drop(pool)
            pool = self._running()
            return _Pending(content, pool.submit(_work, compute, shared.path, content), pool)

    def _drop(self, pool: _Pool) -> None:
        """Use a pool no more, in which a process has ended."""
        pool.end_processes()
        with self._lock:
            if self._pool is pool:
                self._pool = None

    def _running(self) -> _Pool:
        with self._lock:
            if self._pool is None:
                settings = logging.get_verbosity(), torch.get_float32_matmul_precision()
                self._pool = _Pool(self.count, _context(), *settings)
                weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
            return self._pool

    def __reduce__(self) -> tuple[type[Workers], tuple[int]]:
        return type(self), (self.count,)


def _result(pending: _Pending) -> bytes:
    """The result of a job.

    A pool may never finish a job, where a process ends while it takes the job, or while others are cancelled: before
    Python 3.13 it does not look out for that. It takes no further jobs then.

    Raises:
        BrokenProcessPool: if a process ended before the job was done.
        Exception: whatever the job raises.
    """
    while not wait_for_jobs([pending.future], PATIENCE).done:
        pending.pool.submit(_nothing)  # refused by a pool in which a process has ended
    return pending.future.result()


def _nothing() -> None:
    """A job that shows that there is somebody to do it."""


def _lost(pending: Iterable[_Pending], broken: _Pool) -> list[int]:
    """The places of the jobs that were not done since a process of this pool ended.

    All of its jobs come to an end then, but for those that it has forgotten.
    """
    places = {place: one.future for place, one in enumerate(pending) if one.pool is broken}
    done = wait_for_jobs(places.values(), PATIENCE).done
    return [
        place
        for place, future in places.items()
        if future not in done or isinstance(future.exception(), BrokenProcessPool)
    ]


def _up_to(count: int, source: Iterator[Any]) -> Iterator[Any]:
    for _ in range(count):
        try:
            yield next(source)
        except StopIteration:
            return


def _context() -> Any:
    """How processes are started: forked from a server, or anew. A fork of this process would have no threads."""
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    if not has_server or os.getpid() != IMPORTED_IN:  # a server belongs to the process that has started it
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))  # without effect if the server is running already
    return context


def _begin(end: Connection, verbosity: int, matmul_precision: str) -> None:
    """Prepare a new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(matmul_precision)
    logging.set_verbosity(verbosity)
    threading.Thread(target=_end_with_parent, args=(end,), daemon=True).start()


def _end_with_parent(end: Connection) -> None:
    """End this process when the pool is, or when the process is gone that it works for, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    wait([parent.sentinel, end])
    os._exit(1)


def _work(compute: Compute, path: Any, content: bytes) -> bytes:
    """Do a job in a process of the pool. Tensors in the result are copied, so that no process waits for another."""
    try:
        shared, job = load_saved(path), pickle.loads(content)
    except AttributeError as error:
        raise ValueError(
            f"Another process does not find something: {error}. Put what a model or an argument is made of into a "
            "module, and not into a notebook."
        ) from None
    try:
        written = io.BytesIO()
        _Pickler(written).dump(compute(shared, job))
        return written.getvalue()
    except Exception as error:
        if _travels(error):
            raise
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


class _Pickler(pickle.Pickler):
    """Pickles tensors that are a part of another one without the rest of it."""

    def reducer_override(self, value: Any) -> Any:
        """How a tensor of this kind is pickled; anything else as usual."""
        if type(value) is torch.Tensor and value.untyped_storage().nbytes() > value.nbytes:
            return value.clone().__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return NotImplemented


def _travels(error: Exception) -> bool:
    """Whether an error can be sent to another process, where one that cannot would look like a process that died."""
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # which one depends on the class of the error
        return False
