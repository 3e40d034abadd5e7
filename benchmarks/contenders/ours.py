"""hf_rnn_s2s."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from benchmarks.streams import PAD, START, Streams, padded
from hf_rnn_s2s import (
    RnnS2SConfig,
    RnnS2SForConditionalGeneration,
    RnnTranslationPipeline,
    Shortlist,
    quantize_int8,
)
from hf_rnn_s2s.machine import clip_gradients, keep_freed_memory
from hf_rnn_s2s.stepping_rnn_s2s import Stepper

from .base import CLIP, DROPOUT, EMBEDDING, HIDDEN, LEARNING_RATE, LONGEST, SMOOTHING, Contender


class Ours(Contender):
    """
    The default architecture with one decoder layer, as the others have.

    Args:
        streams, precision: as for all.
        saving: how it translates with less work: `"shortlist"`, `"int8"`, or None for neither.
    """

    model: RnnS2SForConditionalGeneration

    def __init__(self, streams: Streams, precision: str, saving: str | None = None) -> None:
        super().__init__(streams, precision)
        keep_freed_memory()
        self.saving = saving
        self._translator: RnnTranslationPipeline | None = None
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
            loss = self.model(**batch).loss
        loss.backward()
        clip_gradients(self.model, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def set_learning_rate(self, rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = rate

    def translate_ids(self, sources: list[list[int]], beams: int) -> list[list[int]]:
        raise NotImplementedError("The pipeline translates.")

    def translate_texts(self, texts: list[str], beams: int, batch_size: int) -> list[str]:
        if self._translator is None:
            self._translator = self._pipeline()
        records = self._translator(texts, num_beams=beams, batch_size=batch_size)
        return [record["translation_text"] for record in records]

    def search_and_model(self, sentences: int, beams: int, batch_size: int) -> list[float]:
        """
        Seconds of `generate()`; of calling the model alone: the encoder once, and the forward pass as often as the
        search needed it, with all rows of the batch, with a cache, and without choosing any tokens; and the median of
        a step of the search with all rows, choosing included.
        """
        if self._translator is None:
            self._translator = self._pipeline()
        model = self._translator.model
        sources = self.streams.tokenizer(self.streams.texts("test_2016_flickr", "en")[:sentences])["input_ids"]
        sources.sort(key=len, reverse=True)
        in_search = alone = 0.0
        full_steps: list[float] = []
        with torch.no_grad():
            for first in range(0, sentences, batch_size):
                input_ids = torch.tensor(padded(sources[first : first + batch_size], PAD))
                inputs = {"input_ids": input_ids, "attention_mask": input_ids.ne(PAD)}
                steps: list[tuple[int, float]] = []
                with _noted_steps(steps):
                    start = time.perf_counter()
                    model.generate(**inputs, num_beams=beams, max_new_tokens=LONGEST)
                    in_search += time.perf_counter() - start
                full_steps += [
                    later - earlier
                    for (rows, earlier), (_, later) in itertools.pairwise(steps)
                    if rows == len(input_ids) * beams
                ]
                start = time.perf_counter()
                encoded = model.get_encoder()(**inputs)
                encoded.rows_per_source = beams
                token = torch.full((len(input_ids) * beams, 1), START)
                cache = None
                for _ in steps:
                    output = model(encoder_outputs=encoded, decoder_input_ids=token, past_key_values=cache)
                    cache = output.past_key_values
                alone += time.perf_counter() - start
        return [in_search, alone, median(full_steps)]

    def _pipeline(self) -> RnnTranslationPipeline:
        model = copy.deepcopy(self.model).eval()
        if self.precision == "bfloat16":
            model = model.bfloat16()
        options: dict[str, Any] = {"max_new_tokens": LONGEST}
        if self.saving == "int8":
            model = quantize_int8(model)
        if self.saving == "shortlist":
            sources, targets = zip(*self.streams.pairs, strict=True)
            options["shortlist"] = Shortlist.from_pairs(sources, targets, self.streams.vocabulary)
        return RnnTranslationPipeline(model=model, tokenizer=self.streams.tokenizer, device="cpu", **options)


@contextmanager
def _noted_steps(notes: list[tuple[int, float]]) -> Iterator[None]:
    """Notes the rows of each step of a search, and when it began."""
    step = Stepper.step

    def noted(self: Stepper, token_ids: torch.Tensor) -> torch.Tensor:
        notes.append((len(token_ids), time.perf_counter()))
        return step(self, token_ids)

    Stepper.step = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        Stepper.step = step  # type: ignore[method-assign]


THE_CONTENDER = Ours
