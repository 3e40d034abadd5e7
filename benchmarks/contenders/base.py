"""What every contender can be asked for."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.streams import END, Streams
from hf_rnn_s2s.machine import keep_freed_memory

# The shape of all models: what a toolkit calls its parts is in its own file.
EMBEDDING, HIDDEN, DROPOUT, SMOOTHING, LEARNING_RATE, CLIP = 256, 512, 0.3, 0.1, 1e-3, 1.0
TRIED = 1000  # sentences to find the fastest setting with
TURNS = 2  # of each setting
WARM_STEPS = 200  # until the learning rate is what it should be
LONGEST = 80  # tokens of a translation; the longest reference has 59


# Processes or other workers, and threads of each: how cores can be shared out
Setting = tuple[int, int]


def possible_settings(batch_size: int, threads: int) -> list[Setting]:
    """With N threads: N workers with one each, one worker with N, one with one. A single sentence has one worker."""
    return sorted({(1, 1), (1, threads)} | ({(threads, 1)} if batch_size > 1 else set()))


class Contender(ABC):
    """
    A model of the common shape, with the toolkit's own training step.

    Args:
        streams: what to train on and to translate.
        precision: `"float32"` or `"bfloat16"`, of the products.
        has_buckets: in the place of what the toolkit does by itself.
    """

    model: torch.nn.Module
    optimizer: Any
    has_buckets = True  # whether the toolkit puts sentences of like length into a batch

    def __init__(self, streams: Streams, precision: str, has_buckets: bool | None = None) -> None:
        torch.manual_seed(0)
        self.streams, self.precision = streams, precision
        if has_buckets is not None:
            self.has_buckets = has_buckets
        self._prepared: dict[tuple[int, int], list[Any]] = {}
        self._budget: Budget | None = None

    @abstractmethod
    def batch(self, rows: list[int]) -> Any:
        """The pairs in these rows, as the toolkit's training step takes them."""

    @abstractmethod
    def train_step(self, batch: Any) -> float:
        """Forward, backward, clipping and update; the loss, so that nothing is left for later."""

    def _update(self, loss: torch.Tensor) -> float:
        """Backward, clipping and update, the plain way; the loss."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def set_learning_rate(self, rate: float) -> None:
        """For the next steps."""
        self.optimizer.param_groups[0]["lr"] = rate

    # What the benchmarks call, by name, in a process of the contender's own

    def parameters(self) -> int:
        """Numbers that training changes."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def prepare(self, first: int, count: int) -> int:
        """
        Makes batches, so that training is timed without that; their target tokens. Memory is kept as the Trainer of
        this package keeps it, for every contender.
        """
        keep_freed_memory()
        batches = self._batches()[first : first + count]
        self._prepared[first, count] = [self.batch(rows) for rows in batches]
        return sum(self.streams.target_tokens(rows) for rows in batches)

    def train(self, first: int, count: int) -> float:
        """Trains on prepared batches; seconds."""
        self.model.train()
        start = time.perf_counter()
        for batch in self._prepared[first, count]:
            self.train_step(batch)
        return time.perf_counter() - start

    def learn(self, epochs: float, path: str) -> float:
        """Trains until translations end where they should, and saves the weights; loads them, if they are there."""
        if Path(path).is_file():
            torch.nn.Module.load_state_dict(self.model, torch.load(path))
            return 0.0
        self.model.train()
        batches = [self.batch(rows) for rows in self._batches()]
        steps, start = round(epochs * len(batches)), time.perf_counter()
        for step in range(steps):
            if step % len(batches) == 0:
                random.Random(step).shuffle(batches)
            self.set_learning_rate(LEARNING_RATE * min((step + 1) / WARM_STEPS, 1, 2 * (1 - step / steps)))
            self.train_step(batches[step % len(batches)])
        self.keep(path)
        return time.perf_counter() - start

    def keep(self, path: str) -> None:
        """Saves the weights for another contender's `learn`."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.model.state_dict(), file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)

    def learn_within(self, budget: float, rate: float, turn: float) -> dict[str, float]:
        """Trains on, a turn of so many seconds, until the budget of all turns is spent; seconds and steps until now.

        The learning rate goes from `rate` to 0 over the second half of the budget.
        """
        if self._budget is None:
            keep_freed_memory()
            self._budget = Budget([self.batch(rows) for rows in self._batches()])
        state, start, spent = self._budget, time.perf_counter(), self._budget.seconds
        self.model.train()
        while state.seconds < min(budget, spent + turn):
            left = 1 - state.seconds / budget
            self.set_learning_rate(rate * min((state.steps + 1) / WARM_STEPS, 1, 2 * left))
            self.train_step(state.next_batch())
            state.seconds = spent + time.perf_counter() - start
        return {"seconds": state.seconds, "steps": state.steps}

    def peak_memory(self) -> float:
        """Megabytes that the process has held at most."""
        return peak_megabytes()

    def _batches(self) -> list[list[int]]:
        return self.streams.batches if self.has_buckets else self.streams.mixed_batches

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16")


@dataclass
class Budget:
    """How far a contender is that learns within a time."""

    batches: list[Any]
    seconds: float = 0.0
    steps: int = 0

    def next_batch(self) -> Any:
        """Each one once, in random order; then again, in another order."""
        place = self.steps % len(self.batches)
        if place == 0:
            random.Random(self.steps).shuffle(self.batches)
        self.steps += 1
        return self.batches[place]


class Translator(Contender):
    """One that translates, too, with the toolkit's own search."""

    @abstractmethod
    def translate_texts(self, texts: list[str], beams: int, batch_size: int) -> list[str]:
        """From text to text, in batches of like length; the translations in the order of the texts."""

    def translate(
        self, sentences: int, beams: int, batch_size: int, split: str = "test_2016_flickr"
    ) -> dict[str, Any]:
        """Translates test sentences from text to text, longest first; seconds and texts in their order."""
        texts = self.streams.texts(split, "en")[:sentences]
        self.model.eval()
        start = time.perf_counter()
        translations = self.translate_texts(texts, beams, batch_size)
        return {"seconds": time.perf_counter() - start, "texts": translations}

    def translate_one_by_one(self, sentences: int, beams: int, split: str = "test_2016_flickr") -> dict[str, Any]:
        """Translates test sentences in calls of their own; the seconds of each call, and the texts."""
        texts = self.streams.texts(split, "en")[:sentences]
        self.model.eval()
        seconds, translations = [], []
        for text in texts:
            start = time.perf_counter()
            translations += self.translate_texts([text], beams, 1)
            seconds.append(time.perf_counter() - start)
        return {"seconds": sum(seconds), "texts": translations, "each": seconds}


class FastestSetting(Translator):
    """One that finds out with how many processes or workers it is fastest, and with how many threads each has."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.threads = torch.get_num_threads()  # now, since a translator may set them
        self._fastest: dict[tuple[int, int], Setting] = {}

    @abstractmethod
    def translate_with(self, setting: Setting, texts: list[str], beams: int, batch_size: int) -> list[str]:
        """From text to text with these workers and threads."""

    def translate_texts(self, texts: list[str], beams: int, batch_size: int) -> list[str]:
        return self.translate_with(self.setting(beams, batch_size), texts, beams, batch_size)

    def setting(self, beams: int, batch_size: int) -> Setting:
        """Workers and threads of each that are the fastest for a search; the first call finds them."""
        if (beams, batch_size) not in self._fastest:
            settings = possible_settings(batch_size, self.threads)
            seconds = {setting: self._seconds(setting, beams, batch_size) for setting in settings}
            self._fastest[beams, batch_size] = min(seconds, key=seconds.__getitem__)
        return self._fastest[beams, batch_size]

    def _seconds(self, setting: Setting, beams: int, batch_size: int) -> float:
        """The least that a turn takes. With a batch size of 1 each sentence has a call of its own."""
        texts = self.streams.texts("test_2016_flickr", "en")[: TRIED if batch_size > 1 else TRIED // 8]
        calls = [texts] if batch_size > 1 else [[text] for text in texts]
        turns = []
        for _ in range(TURNS):
            start = time.perf_counter()
            for call in calls:
                self.translate_with(setting, call, beams, batch_size)
            turns.append(time.perf_counter() - start)
        return min(turns)


class IdTranslator(Translator):
    """One whose search takes ids and gives ids."""

    @abstractmethod
    def translate_ids(self, sources: list[list[int]], beams: int) -> list[list[int]]:
        """Ids of a batch of translations, without start and end."""

    def translate_texts(self, texts: list[str], beams: int, batch_size: int) -> list[str]:
        tokenizer = self.streams.tokenizer
        sources = tokenizer(texts)["input_ids"]
        order = sorted(range(len(sources)), key=lambda row: -len(sources[row]))
        translations = [""] * len(texts)
        with torch.no_grad():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                ids = self.translate_ids([sources[row] for row in rows], beams)
                for row, text in zip(rows, tokenizer.batch_decode(ids, skip_special_tokens=True), strict=True):
                    translations[row] = text
        return translations


def peak_megabytes() -> float:
    """
    What this process has held at most. The figure of `getrusage` is no use for that: a process begins with its
    parent's.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        raise SystemExit("Peak memory is read from /proc/self/status, which is there on Linux only.")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def until_the_end(ids: list[int]) -> list[int]:
    """What stands before the end token."""
    return ids[: ids.index(END)] if END in ids else ids
