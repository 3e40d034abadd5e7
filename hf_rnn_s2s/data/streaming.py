"""Training on a stream: its rows in random order, in batches of similar length, resumable at any step.

A stream is read in blocks of `shuffle_buffer_size` rows. Within a block everything is as for data that fits into
memory: the rows are shuffled, rows of similar length share a batch, and the tokens of a batch may be limited. Each
pass begins its blocks at other rows, and shuffles the shards of the source anew.

The state that a run needs to resume is small: the place in the source where each worker's block began, and how many
of its batches were trained on. The block is then read again and the same batches are made from it, since their order
follows from the seed, the pass and the number of the block. It depends on the source how it resumes in the middle:
the streams of `datasets` begin with the shard and skip its rows before the place.
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

Rows = list[dict[str, list[int]]]  # each with `input_ids` and `labels`


@dataclass(frozen=True)
class StreamBatching:
    """How the rows of a block become batches. A run can be resumed only with the same settings.

    Args:
        buffer_size: rows in a block, at least, except the first of a pass; each worker holds one block in memory.
        strategy: `"group_by_length"`, `"random"`, or `"sequential"` for the order of the source.
        batch_size: rows in a batch of one process.
        batch_tokens: most tokens in a batch of one process, used instead of `batch_size`; see `TokenBudgetBatches`.
        processes: number of training processes. All read the whole stream, and each takes its share of a step's rows.
        workers: reading processes of each training process; 0 reads in the training process itself.
        seed: seed of every random order.

    Raises:
        DataError: for any other strategy.
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
        """Whether the rows are put into another order than that of the source."""
        return self.strategy != "sequential" or self.batch_tokens is not None

    def seed_of(self, *numbers: int) -> int:
        """Derive a seed from these numbers, such as those of a pass, a worker and a block."""
        return int(np.random.SeedSequence([self.seed, *numbers]).generate_state(1)[0])

    def block_size(self, block: int, seed: int) -> int:
        """Rows in a block, a multiple of a step. A shorter first block shifts the others from pass to pass."""
        step_size = 1 if self.batch_tokens is not None else self.batch_size * self.processes
        steps = max(1, -(-self.buffer_size // step_size))
        if block == 0 and self.shuffles:
            steps = int(np.random.default_rng(seed).integers(-(-steps // 2), steps + 1))
        return steps * step_size

    def steps(self, rows: Rows, seed: int) -> Iterator[list[list[int]]]:
        """Yield the steps of a block: for each process the numbers of the rows in its batch."""
        sources, targets = ([len(row[column]) for row in rows] for column in ("input_ids", "labels"))
        if self.batch_tokens is not None:
            batches = iter(TokenBudgetBatches(sources, targets, self.batch_tokens, seed, lambda: 0, self.processes))
            while step := list(islice(batches, self.processes)):
                yield step
            return
        step_size = self.batch_size * self.processes
        order: list[int] = list(range(len(rows)))
        if self.strategy == "random":
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        elif self.strategy == "group_by_length":
            order = list(ShuffledLengthGroups(sources, targets, step_size, seed, lambda: 0))
        for first in range(0, len(order), step_size):
            step_rows = order[first : first + step_size]
            while len(step_rows) < self.processes:
                step_rows = (step_rows * 2)[: self.processes]
            yield [step_rows[process :: self.processes] for process in range(self.processes)]


@dataclass
class Place:
    """How far the rows of one worker were trained on.

    Attributes:
        state: state of the source at the beginning of the block; None at the beginning of a pass.
        block: number of the block within the pass.
        batches: how many of its batches were trained on.
        is_end: whether the worker has no more rows in this pass.
    """

    state: dict[str, Any] | None = None
    block: int = 0
    batches: int = 0
    is_end: bool = False


@dataclass
class _Position:
    """Where a run is in its stream: the pass, the place of each worker, and the worker whose turn it is."""

    pass_number: int
    places: list[Place]
    turn: int = 0

    @classmethod
    def at_beginning(cls, pass_number: int, workers: int) -> _Position:
        """The position before the first row of a pass."""
        return cls(pass_number, [Place() for _ in range(max(1, workers))])


class _Item(NamedTuple):
    """What a worker yields: a batch and the place after it, the place alone at its end, or nothing out of turn.

    `problem` says what is wrong with the data: an error raised in a worker would arrive with the worker's traceback.
    """

    place: Place | None = None
    batch: Any = None
    problem: str | None = None


class _WorkerBatches(torch.utils.data.IterableDataset):
    """A pass over the rows of each worker, as items; each further iteration is the next pass.

    `datasets` divides the shards of the source between the workers. A worker that has no more rows keeps yielding
    items that say so, since the `DataLoader` takes items from the workers in turn.

    Args:
        examples: a stream with the columns `input_ids` and `labels`.
        batching: how rows become batches.
        process: number of the training process.
        position: where the first pass begins.
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
    """An endless sequence of batches of a stream, one pass after another.

    Args:
        examples: a stream with the columns `input_ids` and `labels`.
        batching: how rows become batches.
        process: number of the training process.
        collate: turns rows into a batch.
        begin_pass: called with the number of each pass before its first batch is made; None for nothing.
        options: further arguments of the `DataLoader` that runs the workers. These are started once for all passes.
    """

    def __init__(
        self,
        examples: IterableDataset,
        batching: StreamBatching,
        process: int,
        collate: Callable[[Rows], Any],
        begin_pass: Callable[[int], None] | None = None,
        **options: Any,
    ) -> None:
        self.examples, self.batching, self.process = examples, batching, process
        self._collate, self._begin_pass, self._options = collate, begin_pass, options
        self._position = _Position.at_beginning(0, batching.workers)

    @property
    def finished_passes(self) -> int:
        """How many passes end with the last batch that was yielded, or before it."""
        return self._position.pass_number

    def state_dict(self) -> dict[str, Any]:
        """Where the run is after the last batch that was yielded, for JSON. It is the same in all processes."""
        return {"batching": asdict(self.batching), "position": asdict(self._position)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where a run was.

        Raises:
            DataError: if its batches were made with other settings, so that the rows it has seen cannot be found.
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
        """Yield batches without end.

        Raises:
            DataError: if the data cannot be used, or cannot be sent to workers that are started as new processes.
        """
        batches = _WorkerBatches(self.examples, self.batching, self.process, self._position)
        loader = DataLoader(
            batches,
            batch_size=None,
            num_workers=self.batching.workers,
            persistent_workers=self.batching.workers > 0,
            collate_fn=partial(_collate_item, self._collate),
            generator=torch.Generator(),  # else the workers' seeds would come from the generator that dropout uses
            **self._options,
        )
        while True:
            yield from self._one_pass(loader)

    def _one_pass(self, loader: DataLoader) -> Iterator[Any]:
        """Yield the rest of a pass. One batch is read ahead to know whether the current one is the last."""
        position = self._position
        is_fresh = position == _Position.at_beginning(position.pass_number, self.batching.workers)
        next_pass = _Position.at_beginning(position.pass_number + 1, self.batching.workers)
        upcoming = self._items(loader, position)
        current = next(upcoming, None)
        if current is None and is_fresh:
            raise DataError("The stream has no row to train on: each is empty or too long, or there is none.")
        if current is None:
            self._position = next_pass
        while current is not None:
            following = next(upcoming, None)
            worker, item = current
            position.places[worker] = item.place
            position.turn = (worker + 1) % len(position.places)
            if following is None:
                self._position = next_pass
            yield item.batch
            current = following

    def _items(self, loader: DataLoader, position: _Position) -> Iterator[tuple[int, Any]]:
        """Yield the batches of a pass, each with the number of its worker."""
        # An epoch above 0 makes `datasets` shuffle the shards. It lies in memory that all workers share, so it is set
        # here and not by each of them.
        self.examples.set_epoch(position.pass_number + 1 if self.batching.shuffles else 0)
        if self._begin_pass is not None:
            self._begin_pass(position.pass_number)
        ended: set[int] = set()
        for number, item in enumerate(_start_workers(loader)):
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


def _start_workers(loader: DataLoader) -> Iterator[_Item]:
    """Start the workers of a loader and return its items.

    Raises:
        DataError: if the stream or the collator cannot be sent to the workers.
    """
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
    """Makes the Trainer log, evaluate and save after each pass where the strategy is "epoch".

    To the Trainer an endless stream is a single epoch of `max_steps` steps.
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
        """Remember how many passes were finished before."""
        self._passes = train_dataloader.finished_passes

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Set the epoch, and after the last step of a pass what the Trainer does at the end of an epoch."""
        # The Trainer itself counts from the step at which it was resumed.
        state.epoch = state.global_step / state.max_steps
        if train_dataloader.finished_passes == self._passes or state.global_step >= state.max_steps:
            return
        self._passes = train_dataloader.finished_passes
        control.should_log |= args.logging_strategy == IntervalStrategy.EPOCH
        control.should_evaluate |= args.eval_strategy == IntervalStrategy.EPOCH
        control.should_save |= args.save_strategy == IntervalStrategy.EPOCH
