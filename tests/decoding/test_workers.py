"""Processes that compute for this one: order, what they share, what happens when they die, and how they end."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_rnn_s2s.decoding.workers import AHEAD, WorkerDied, Workers


def product(shared: Any, job: int) -> int:
    return int(shared["factor"]) * job


def in_turn(shared: Any, job: int) -> tuple[int, int]:
    """Job 0 waits until another process has begun with job 1, which leaves the file that is shared."""
    if job == 1:
        Path(shared).touch()
    deadline = time.monotonic() + 60
    while job == 0 and not Path(shared).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return job, os.getpid()


def settings(shared: Any, job: int) -> tuple[int, Any, bool]:
    interrupts = signal.getsignal(signal.SIGINT)
    return torch.get_num_threads(), interrupts, multiprocessing.current_process().daemon


def die_once(shared: Any, job: int) -> int:
    """At job 3 the process kills itself, unless the file is there that it leaves."""
    mark = Path(shared)
    if job == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def die_always(shared: Any, job: int) -> int:
    if job == 3:
        time.sleep(0.2)  # so that the jobs before it are done
        os.kill(os.getpid(), signal.SIGKILL)
    return job


class TwoParts(Exception):
    """An error that cannot be unpickled, since its constructor takes more than its message."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def fail(shared: Any, job: int) -> int:
    if job == 2:
        raise KeyError("two")
    if job == 3:
        raise TwoParts("three", "parts")
    return job


def mapped_files(shared: Any, job: int) -> tuple[float, str, bool]:
    is_one = shared["model"].one.weight is shared["model"].other.weight
    return float(shared["model"].one.weight.detach().sum()), Path("/proc/self/maps").read_text(), is_one


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(500, 500), nn.Linear(500, 500)
        self.other.weight = self.one.weight


@pytest.fixture(scope="module")
def workers() -> Workers:
    return Workers(2)


def is_alive(process: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # before the file is opened, and after
        return False


def wait_for_end(processes: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.02)


def test_results_are_in_order_and_few_jobs_are_read_ahead(workers: Workers, tmp_path: Path) -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    results = workers.run(in_turn, workers.share(str(tmp_path / "begun")), jobs())
    first, other = next(results), next(results)
    assert [first[0], other[0]] == [0, 1]
    assert first[1] != other[1]  # while one process did the first job, the other one did the second
    assert len(taken) <= 2 * AHEAD + 1
    assert [number for number, _ in results] == list(range(2, 50))


def test_processes_have_one_thread_and_leave_ctrl_c_to_the_first_one(workers: Workers) -> None:
    results = workers.run(settings, workers.share(None), range(4))
    assert list(results) == [(1, signal.SIG_IGN, False)] * 4


def test_what_a_dead_process_did_is_done_again(
    workers: Workers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = workers.run(die_once, workers.share(str(tmp_path / "mark")), range(20))
    assert list(results) == list(range(20))
    assert caplog.messages == ["A worker process has died. What it was doing is done again."]


def test_what_kills_every_process_is_named_and_the_next_call_works(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    results = workers.run(die_always, workers.share(None), range(20))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(WorkerDied) as caught:
        next(results)
    assert 0 in caught.value.places  # the next one, which was to be the fourth
    caplog.clear()
    assert list(workers.run(product, workers.share({"factor": 3}), range(5))) == [0, 3, 6, 9, 12]
    assert not caplog.messages


def test_a_slow_job_is_not_taken_for_one_that_kills(workers: Workers) -> None:
    done: list[int] = []
    with pytest.raises(WorkerDied) as caught:
        done.extend(workers.run(slow_then_die, workers.share(None), range(6)))
    assert 5 in [len(done) + place for place in caught.value.places]


def slow_then_die(shared: Any, job: int) -> int:
    if job == 0:
        time.sleep(1)
    if job == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def test_a_process_that_is_forked_begins_anew(workers: Workers) -> None:
    """It has no threads of the pool, and must not take away the file of the first process."""
    shared = workers.share({"factor": 2})
    assert list(workers.run(product, shared, [1])) == [2]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            workers.share({"factor": 3})
            gc.collect()
            code = 0 if workers._pool is None and list(workers.run(product, shared, [4])) == [8] else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shared.path.exists()
    assert list(workers.run(product, shared, [5])) == [10]


def test_a_part_of_a_tensor_comes_back_without_the_rest(workers: Workers) -> None:
    [part] = workers.run(first_row, workers.share(None), [0])
    assert torch.equal(part, torch.zeros(10))
    assert part.untyped_storage().nbytes() == 40


def first_row(shared: Any, job: int) -> torch.Tensor:
    return torch.zeros(100, 10)[job]


def test_errors_come_back_as_they_are_raised(workers: Workers) -> None:
    shared = workers.share(None)
    with pytest.raises(KeyError, match="two"):
        list(workers.run(fail, shared, range(3)))
    with pytest.raises(RuntimeError, match="TwoParts: three parts"):
        list(workers.run(fail, shared, [3]))
    assert list(workers.run(fail, shared, [0, 1])) == [0, 1]


def test_an_iterator_that_is_left_early_leaves_the_processes_usable(workers: Workers) -> None:
    for number in range(5):
        results = workers.run(product, workers.share({"factor": number}), iter(range(1000)))
        assert next(results) == 0
        results.close()
    assert list(workers.run(product, workers.share({"factor": 2}), [4])) == [8]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_that_dies_while_jobs_are_cancelled_loses_none_of_the_next(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of Python 3.11 stops then, and finishes nothing."""
    monkeypatch.setattr("hf_rnn_s2s.decoding.workers.PATIENCE", 1.0)
    abandoned = [workers.run(process_of, workers.share(None), [0.0, *[0.5] * 20]) for _ in range(2)]
    processes = [next(one) for one in abandoned]
    for one in abandoned:
        one.close()
    later = workers.run(product, workers.share({"factor": 3}), range(5))
    threading.Timer(0.2, os.kill, (processes[0], signal.SIGKILL)).start()
    assert list(later) == [0, 3, 6, 9, 12]


def test_a_pool_that_is_given_up_leaves_no_process() -> None:
    mine = Workers(2)
    processes = list(mine.run(process_of, mine.share(None), [0.1] * 4))
    assert mine._pool is not None
    mine._drop(mine._pool)
    wait_for_end(processes)
    assert list(mine.run(product, mine.share({"factor": 3}), range(5))) == [0, 3, 6, 9, 12]


def process_of(shared: Any, seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_a_changed_object_is_sent_anew_and_an_equal_one_is_not(workers: Workers) -> None:
    value: dict[str, Any] = {"factor": torch.tensor([2]), "other": nn.Parameter(torch.ones(3))}
    shared = workers.share(value)
    assert workers.share(value) is shared
    assert workers.share({"factor": torch.tensor([2]), "other": nn.Parameter(torch.ones(3))}) is shared
    value["factor"].data.fill_(5)  # which torch does not count
    assert workers.share(value) is not shared
    assert list(workers.run(product, workers.share(value), [2])) == [10]
    assert list(workers.run(product, shared, [2])) == [4]  # as it was
    path = shared.path
    del shared
    gc.collect()
    assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what is mapped")
def test_weights_are_mapped_and_not_copied(workers: Workers) -> None:
    model = Tied()
    shared = workers.share({"model": model})
    for total, maps, is_one in workers.run(mapped_files, shared, range(2)):
        assert total == float(model.one.weight.detach().sum())
        assert str(shared.path) in maps
        assert is_one


def test_what_cannot_be_sent_is_named(workers: Workers) -> None:
    with pytest.raises(ValueError, match="cannot be sent to another process: .*lambda"):
        workers.share({"function": lambda: None})
    with pytest.raises(ValueError, match="cannot be sent to another process: .*lambda"):
        list(workers.run(product, workers.share(None), [lambda: None]))


def test_a_daemon_process_is_told_that_it_may_start_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="processes=3 inside a daemon process"):
        Workers(3)


def test_processes_end_with_the_object(workers: Workers) -> None:
    mine = Workers(1)
    [process] = mine.run(process_of, mine.share(None), [0.0])
    copied = pickle.loads(pickle.dumps(mine))
    assert copied.count == 1
    assert copied._pool is None
    assert is_alive(process)
    del mine
    gc.collect()
    wait_for_end([process])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no such signal")
def test_processes_end_with_one_that_is_killed(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from hf_rnn_s2s.decoding.workers import Workers
from tests.decoding.test_workers import in_turn
workers = Workers(2)
print(*{process for _, process in workers.run(in_turn, workers.share(sys.argv[1]), range(4))}, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "begun")]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    processes = [int(one) for one in ended.stdout.split()]
    assert ended.returncode == -signal.SIGKILL
    assert len(processes) == 2
    wait_for_end(processes)
