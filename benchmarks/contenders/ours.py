"""hf_rnn_s2s."""

from __future__ import annotations

import copy
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.streams import PAD, START, Streams, padded
from hf_rnn_s2s import (
    RnnS2SConfig,
    RnnS2SForConditionalGeneration,
    RnnTranslationPipeline,
    Shortlist,
    export_model,
)
from hf_rnn_s2s.decoding.stepper import Stepper
from hf_rnn_s2s.machine import clip_gradients

from .base import (
    CLIP,
    DROPOUT,
    EMBEDDING,
    HIDDEN,
    LEARNING_RATE,
    LONGEST,
    SMOOTHING,
    FastestSetting,
    Setting,
)

# The first translation of a fresh process: folder, text, beams and threads are its arguments
PROGRAM = """
import sys
import torch
import hf_rnn_s2s
from transformers import pipeline
torch.set_num_threads(int(sys.argv[4]))
translator = pipeline("translation", model=sys.argv[1], device="cpu")
print(translator(sys.argv[2], num_beams=int(sys.argv[3]))[0]["translation_text"])
"""


class Ours(FastestSetting):
    """
    The default architecture with one decoder layer, as the others have.

    Args:
        streams, precision: as for all.
        saving: how it translates with less work: `"shortlist"`, `"int8"`, or both with a hyphen between them.
    """

    model: RnnS2SForConditionalGeneration

    def __init__(self, streams: Streams, precision: str, saving: str = "") -> None:
        super().__init__(streams, precision)
        self.saving = saving
        self._translator: RnnTranslationPipeline | None = None
        self._exported: tempfile.TemporaryDirectory[str] | None = None
        config = RnnS2SConfig(
            vocab_size=streams.vocabulary,
            decoder_vocab_size=streams.vocabulary,
            embedding_size=EMBEDDING,
            hidden_size=HIDDEN,
            decoder_layers=1,
            dropout=DROPOUT,
            label_smoothing=SMOOTHING,
        )
        self.model = RnnS2SForConditionalGeneration(config)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), LEARNING_RATE, weight_decay=0.0, fused=True)

    def batch(self, rows: list[int]) -> Any:
        sources, targets = zip(*(self.streams.pairs[row] for row in rows), strict=True)
        input_ids = torch.tensor(padded(list(sources), PAD))
        return {
            "input_ids": input_ids,
            "attention_mask": input_ids.ne(PAD),
            "labels": torch.tensor(padded(list(targets), -100)),
        }

    def train_step(self, batch: Any) -> float:
        with self._autocast():
            loss = self.model(**batch, return_logits=False).loss
        loss.backward()
        clip_gradients(self.model, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def translate_with(self, setting: Setting, texts: list[str], beams: int, batch_size: int) -> list[str]:
        if self._translator is None:
            self._translator = self._pipeline()
        processes, threads = setting
        torch.set_num_threads(threads)
        try:
            records = self._translator(texts, num_beams=beams, batch_size=batch_size, processes=processes)
        finally:
            torch.set_num_threads(self.threads)
        return [record["translation_text"] for record in records]

    def save(self, folder: str) -> list[str]:
        """Saves what translates; a program that loads it and translates a text, and the folder."""
        if self._translator is None:
            self._translator = self._pipeline()
        shutil.rmtree(folder, ignore_errors=True)
        self._translator.save_pretrained(folder)
        return [PROGRAM, folder]

    def search_and_model(self, sentences: int, beams: int, batch_size: int) -> dict[str, float]:
        """
        Seconds of `generate()`; of calling the model alone, that is its encoder once and its forward pass, with a
        cache and all rows of the batch, as often as the search needed it; and of the search's own steps alone, with
        the rows that it had each time, moved as it moved them. Neither of the latter two chooses any tokens. Also the
        median of a step of the search with all rows, and the median length of their sources.
        """
        if self._translator is None:
            self._translator = self._pipeline()
        sources = self.streams.tokenizer(self.streams.texts("test_2016_flickr", "en")[:sentences])["input_ids"]
        sources.sort(key=len, reverse=True)
        seconds = {"generate": 0.0, "model": 0.0, "steps": 0.0}
        full_steps: list[float] = []
        lengths: list[int] = []
        with torch.no_grad():
            for first in range(0, sentences, batch_size):
                input_ids = torch.tensor(padded(sources[first : first + batch_size], PAD))
                inputs = {"input_ids": input_ids, "attention_mask": input_ids.ne(PAD)}
                notes: list[_Note] = []
                with _noted(notes):
                    start = time.perf_counter()
                    self._translator.model.generate(**inputs, num_beams=beams, max_new_tokens=LONGEST)
                    seconds["generate"] += time.perf_counter() - start
                steps = [note for note in notes if note.moves is None]
                of_full = [
                    later.began - earlier.began
                    for earlier, later in itertools.pairwise(steps)
                    if earlier.rows == batch_size * beams
                ]
                full_steps += of_full
                lengths += [input_ids.shape[1]] * len(of_full)
                seconds["model"] += self._model_seconds(inputs, beams, len(steps))
                seconds["steps"] += self._step_seconds(inputs, notes)
        return {**seconds, "full_step": median(full_steps), "source": median(lengths)}

    def _model_seconds(self, inputs: dict[str, torch.Tensor], beams: int, steps: int) -> float:
        model = self._translator.model  # type: ignore[union-attr]
        start = time.perf_counter()
        encoded = model.get_encoder()(**inputs)
        encoded.rows_per_source = beams
        token = torch.full((len(inputs["input_ids"]) * beams, 1), START)
        cache = None
        for _ in range(steps):
            output = model(encoder_outputs=encoded, decoder_input_ids=token, past_key_values=cache)
            cache = output.past_key_values
        return time.perf_counter() - start

    def _step_seconds(self, inputs: dict[str, torch.Tensor], notes: list[_Note]) -> float:
        model = self._translator.model  # type: ignore[union-attr]
        start = time.perf_counter()
        stepper = Stepper(model.model.decoder, model.output_head, model.lm_head, model.get_encoder()(**inputs), None)
        for note in notes:
            if note.moves is None:
                stepper.step(torch.full((note.rows, 1), START))
            elif note.moves:
                stepper.reorder(*note.moves)
            else:
                stepper.restart()
        return time.perf_counter() - start

    def _pipeline(self) -> RnnTranslationPipeline:
        model = copy.deepcopy(self.model).eval()
        if self.precision == "bfloat16":
            model = model.bfloat16()
        options: dict[str, Any] = {"max_new_tokens": LONGEST}
        if "int8" in self.saving:
            self._exported = tempfile.TemporaryDirectory()
            export_model(model, self._exported.name, "int8")
            model = RnnS2SForConditionalGeneration.from_pretrained(self._exported.name)
        if "shortlist" in self.saving:
            sources, targets = zip(*self.streams.pairs, strict=True)
            options["shortlist"] = Shortlist.from_pairs(sources, targets, self.streams.vocabulary)
        return RnnTranslationPipeline(model=model, tokenizer=self.streams.tokenizer, device="cpu", **options)


class _Note(NamedTuple):
    """What a search did with its stepper: a step with so many rows, moves between rows, or none: it began anew."""

    began: float
    rows: int
    moves: tuple[Any, ...] | None


@contextmanager
def _noted(notes: list[_Note]) -> Iterator[None]:
    """Notes what a search does."""
    step, reorder, restart = Stepper.step, Stepper.reorder, Stepper.restart

    def noted_step(self: Stepper, token_ids: torch.Tensor) -> torch.Tensor:
        notes.append(_Note(time.perf_counter(), len(token_ids), None))
        return step(self, token_ids)

    def noted_moves(self: Stepper, *moves: Any) -> None:
        notes.append(_Note(time.perf_counter(), len(moves[0]), moves))
        reorder(self, *moves)

    def noted_restart(self: Stepper) -> None:
        notes.append(_Note(time.perf_counter(), 0, ()))
        restart(self)

    Stepper.step, Stepper.reorder = noted_step, noted_moves  # type: ignore[method-assign, assignment]
    Stepper.restart = noted_restart  # type: ignore[method-assign]
    try:
        yield
    finally:
        Stepper.step, Stepper.reorder, Stepper.restart = step, reorder, restart  # type: ignore[method-assign]


THE_CONTENDER = Ours
