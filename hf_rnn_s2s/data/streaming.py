"""
Training on a stream: its rows in random order, in batches of like length, from any step on.

A stream is read in blocks of `shuffle_buffer_size` rows. Within a block everything is as for data that fits into
memory: the rows are shuffled, those of like length come together, and a batch may be bounded by its tokens. From pass
to pass blocks begin elsewhere, and the shards of the source come in another order.

What a run has to remember to go on is small: the place in the source where each worker's block began, and how many
batches of it were trained on. The block is then read again, and its batches are made again, since their order follows
from the seed, the pass and the number of the block. Whether the source can begin in the middle is its own matter;
those of `datasets` begin with a shard, and pass over the rows before the place within it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import IterableDataset
from torch.utils.data import DataLoader, get_worker_info
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from .arguments import DataError
from .sampling import ShuffledLengthGroups, TokenBudgetBatches

__all__ = ["StreamBatching", "StreamLoader", "StreamPasses"]

Rows = list[dict[str, list[int]]]


@dataclass(frozen=True)
class StreamBatching:
    """
    How the rows of a block become batches. A run can be resumed only with the same.

    Args:
        buffer_size: rows in a block, at least; each worker has one in memory.
        strategy: `"group_by_length"`, `"random"`, or `"sequential"` for the order in which the rows come.
        batch_size: rows in a batch of one process.
        batch_tokens: most tokens in a batch of one process instead, as in `TokenBudgetBatches`.
        processes: how many train together. All read the whole stream, and each takes its share of the rows of a step.
        workers: processes that read for each of those; 0 reads in the training process itself.
        seed: of all orders.

    Raises:
        DataError: for another strategy.
    """

    buffer_size: int
    strategy: str
    batch_size: int
    batch_tokens: int | None
    processes: int
    workers: int
    seed: int

    def __post_init__(self) -> None:
        if self.strategy not in ("group_by_length", "random", "sequential"):
            raise DataError(
                f"train_sampling_strategy={self.strategy} is not for streams; choose group_by_length, random or "
                "sequential."
            )

    @property
    def shuffles(self) -> bool:
        """Whether rows come in another order than in the source."""
        return self.strategy != "sequential" or self.batch_tokens is not None

    def seed_of(self, *numbers: int) -> int:
        """A seed for what has these numbers."""
        return int(np.random.SeedSequence([self.seed, *numbers]).generate_state(1)[0])

    def block_size(self, block: int, seed: int) -> int:
        """Rows in a block: whole steps. The first block of a pass is shorter, so that blocks begin elsewhere."""
        of_step = 1 if self.batch_tokens is not None else self.batch_size * self.processes
        steps = max(1, -(-self.buffer_size // of_step))
        if block == 0 and self.shuffles:
            steps = int(np.random.default_rng(seed).integers(-(-steps // 2), steps + 1))
        return steps * of_step

    def steps(self, rows: Rows, seed: int) -> Iterator[list[list[int]]]:
        """The steps of a block: for each process the numbers of the rows in its batch."""
        sources, targets = ([len(row[column]) for row in rows] for column in ("input_ids", "labels"))
        if self.batch_tokens is not None:
            batches = iter(TokenBudgetBatches(sources, targets, self.batch_tokens, seed, lambda: 0, self.processes))
            while step := list(islice(batches, self.processes)):
                yield step
            return
        of_step = self.batch_size * self.processes
        order: list[int] = list(range(len(rows)))
        if self.strategy == "random":
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        elif self.strategy == "group_by_length":
            order = list(ShuffledLengthGroups(sources, targets, of_step, seed, lambda: 0))
        for first in range(0, len(order), of_step):
            of_all = order[first : first + of_step]
            while len(of_all) < self.processes:
                of_all = (of_all * 2)[: self.processes]
            yield [of_all[process :: self.processes] for process in range(self.processes)]


@dataclass
class Place:
    """
    How far the rows of one worker were trained on.

    Attributes:
        state: of the source, where the block begins; None at the beginning of a pass.
        block: its number within the pass.
        batches: how many of its batches were trained on.
        is_end: whether the worker has no more rows in this pass.
    """

    state: dict[str, Any] | None = None
    block: int = 0
    batches: int = 0
    is_end: bool = False


@dataclass
class _Position:
    """Where a run is in its stream."""

    pass_number: int
    places: list[Place]
    turn: int = 0

    @classmethod
    def at_beginning(cls, pass_number: int, workers: int) -> _Position:
        return cls(pass_number, [Place() for _ in range(max(1, workers))])


class _Item(NamedTuple):
    """
    What a worker hands over: a batch, and the place behind it; no batch, where it is not its turn or its end; or what
    is wrong with the data, of which an error raised here would tell with all that lies between.
    """

    place: Place | None = None
    batch: Any = None
    problem: str | None = None


class _WorkerBatches(torch.utils.data.IterableDataset):
    """
    A pass over the rows of each worker, as items, and a later pass each time that it is iterated over again.
    `datasets` shares the shards of the source out between workers. A worker that has no more rows goes on saying so,
    so that the next item is always that of the next worker.

    Args:
        examples: with the columns `input_ids` and `labels`.
        batching: see there.
        process: number of the training process.
        position: where the first of the passes begins.
    """

    def __init__(
        self,
        examples: IterableDataset,
        batching: StreamBatching,
        process: int,
        position: _Position,
    ) -> None:
        self.examples, self.batching, self.process = examples, batching, process
        self.position = _Position(position.pass_number, list(position.places), position.turn)

    def __iter__(self) -> Iterator[_Item]:
        position = self.position
        self.position = _Position.at_beginning(position.pass_number + 1, self.batching.workers)
        info = get_worker_info()
        worker = 0 if info is None else info.id
        if worker < position.turn:
            yield _Item()
        if not position.places[worker].is_end:
            try:
                yield from self._batches(worker, position.places[worker], position.pass_number)
            except DataError as error:
                yield _Item(problem=str(error))
        while True:
            yield _Item(Place(is_end=True))

    def _batches(self, worker: int, place: Place, pass_number: int) -> Iterator[_Item]:
        self.examples.load_state_dict(place.state)
        source = iter(self.examples)
        state, block, done = place.state, place.block, place.batches
        while True:
            seed = self.batching.seed_of(pass_number, worker, block)
            rows = list(islice(source, self.batching.block_size(block, seed)))
            if not rows:
                return
            for number, step in enumerate(self.batching.steps(rows, seed), start=1):
                if number > done:
                    yield _Item(Place(state, block, number), [rows[row] for row in step[self.process]])
            state, block, done = self.examples.state_dict(), block + 1, 0


class StreamLoader:
    """
    Batches of a stream without end, one pass after another.

    Args:
        examples: with the columns `input_ids` and `labels`.
        batching: see there.
        process: number of the training process.
        collate: makes a batch of rows.
        options: further ones of the `DataLoader` that runs the workers. They are started once and do all passes.

    Attributes:
        finished_passes: how many passes end with the last batch that was handed out, or before it.
    """

    def __init__(
        self,
        examples: IterableDataset,
        batching: StreamBatching,
        process: int,
        collate: Callable[[Rows], Any],
        **options: Any,
    ) -> None:
        self.examples, self.batching, self.process = examples, batching, process
        self._collate, self._options = collate, options
        self._position = _Position.at_beginning(0, batching.workers)

    @property
    def finished_passes(self) -> int:
        return self._position.pass_number

    def state_dict(self) -> dict[str, Any]:
        """Where the run is after the last batch that was handed out, for JSON. It is the same in all processes."""
        return {"batching": asdict(self.batching), "position": asdict(self._position)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Goes on where a run was.

        Raises:
            DataError: if its batches were made in another way, so that nobody can tell which rows they had.
        """
        now, then = asdict(self.batching), state["batching"]
        changed = [f"{name} was {then.get(name)} and is {now[name]}" for name in now if then.get(name) != now[name]]
        if changed:
            raise DataError(
                f"The stream cannot go on where the checkpoint left it: {'; '.join(changed)}. Resume with what it was "
                "made with, or begin the stream anew with --ignore_data_skip true."
            )
        position = state["position"]
        self._position = _Position(**{**position, "places": [Place(**place) for place in position["places"]]})

    def __iter__(self) -> Iterator[Any]:
        """
        Raises:
            DataError: if the data cannot be used, or cannot be sent to the workers where these are new processes.
        """
        batches = _WorkerBatches(self.examples, self.batching, self.process, self._position)
        loader = DataLoader(
            batches,
            batch_size=None,
            num_workers=self.batching.workers,
            persistent_workers=self.batching.workers > 0,
            collate_fn=partial(_collate_item, self._collate),
            generator=torch.Generator(),  # or the workers' seeds would be drawn from what dropout is drawn from
            **self._options,
        )
        while True:
            yield from self._one_pass(loader)

    def _one_pass(self, loader: DataLoader) -> Iterator[Any]:
        """The batches that are left of a pass. Of each, one looks ahead whether it is the last one."""
        position = self._position
        is_fresh = position == _Position.at_beginning(position.pass_number, self.batching.workers)
        after_it = _Position.at_beginning(position.pass_number + 1, self.batching.workers)
        upcoming = self._items(loader, position)
        current = next(upcoming, None)
        if current is None and is_fresh:
            raise DataError("The stream has no row to train on: each is empty or too long, or there is none.")
        if current is None:
            self._position = after_it
        while current is not None:
            following = next(upcoming, None)
            worker, item = current
            position.places[worker] = item.place
            position.turn = (worker + 1) % len(position.places)
            if following is None:
                self._position = after_it
            yield item.batch
            current = following

    def _items(self, loader: DataLoader, position: _Position) -> Iterator[tuple[int, Any]]:
        """The batches of a pass, each with the number of its worker."""
        # An epoch above 0 has `datasets` shuffle the shards. It lies in memory that all workers share, so they are not
        # to set it all at once.
        self.examples.set_epoch(position.pass_number + 1 if self.batching.shuffles else 0)
        ended: set[int] = set()
        for number, item in enumerate(_started(loader)):
            worker = number % len(position.places)
            if item.problem is not None:
                raise DataError(item.problem)
            if item.batch is not None:
                yield worker, item
            elif item.place is not None:
                position.places[worker] = item.place
                ended.add(worker)
                if len(ended) == len(position.places):
                    return


def _started(loader: DataLoader) -> Iterator[_Item]:
    """The loader's items, its workers being there."""
    try:
        return iter(loader)
    except (pickle.PicklingError, AttributeError) as error:
        raise DataError(
            f"dataloader_num_workers={loader.num_workers}: workers are new processes, to which the stream and the "
            f"collator are sent, and one of them cannot be: {error}. Use functions of a module in the place of "
            "lambdas and inner functions, or --dataloader_num_workers 0."
        ) from error


def _collate_item(collate: Callable[[Rows], Any], item: _Item) -> _Item:
    return item if item.batch is None else item._replace(batch=collate(item.batch))


class StreamPasses(TrainerCallback):
    """
    Has the Trainer do at the end of each pass what it does at the end of an epoch (`eval_strategy="epoch"` and its
    kin), since to the Trainer a stream without end is one epoch of `max_steps` steps.
    """

    def __init__(self) -> None:
        self._passes = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        self._passes = train_dataloader.finished_passes

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        # The Trainer counts from the step that it was resumed at.
        state.epoch = state.global_step / state.max_steps
        if train_dataloader.finished_passes == self._passes or state.global_step >= state.max_steps:
            return
        self._passes = train_dataloader.finished_passes
        control.should_log |= args.logging_strategy == IntervalStrategy.EPOCH
        control.should_evaluate |= args.eval_strategy == IntervalStrategy.EPOCH
        control.should_save |= args.save_strategy == IntervalStrategy.EPOCH
