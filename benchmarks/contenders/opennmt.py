"""OpenNMT-py 3.5.1; README.md says how to install it."""

from __future__ import annotations

from typing import Any

import pyonmttok
import torch
from onmt.model_builder import build_model
from onmt.opts import train_opts, translate_opts
from onmt.translate import GNMTGlobalScorer
from onmt.translate.translator import Translator
from onmt.utils.loss import LossCompute
from onmt.utils.optimizers import Optimizer
from onmt.utils.parse import ArgumentParser

from benchmarks.streams import END, PAD, START, UNKNOWN, Streams, padded

from .base import CLIP, DROPOUT, EMBEDDING, HIDDEN, LEARNING_RATE, LONGEST, SMOOTHING, IdTranslator

SPECIALS = {UNKNOWN: "<unk>", PAD: "<blank>", START: "<s>", END: "</s>"}


class OpenNMT(IdTranslator):
    """The `brnn` model with general attention, with or without input feeding."""

    def __init__(self, streams: Streams, precision: str, input_feed: int) -> None:
        super().__init__(streams, precision)
        parser = ArgumentParser()
        train_opts(parser)
        options = {
            "word_vec_size": EMBEDDING,
            "encoder_type": "brnn",
            "enc_layers": 1,
            "dec_layers": 1,
            "hidden_size": HIDDEN,
            "rnn_type": "LSTM",
            "input_feed": input_feed,
            "global_attention": "general",
            "dropout": DROPOUT,
            "optim": "adam",
            "learning_rate": LEARNING_RATE,
            "max_grad_norm": CLIP,
            "label_smoothing": SMOOTHING,
            "data": "{}",
            "src_vocab": "unused",
        }
        flags = [
            part for name, value in options.items() for part in (f"-{name}", *([] if value is None else [str(value)]))
        ]
        self.options = parser.parse_args(flags)
        ArgumentParser.update_model_opts(self.options)
        vocabulary = pyonmttok.build_vocab_from_tokens(
            [f"token{number}" for number in range(streams.vocabulary - len(SPECIALS))],
            maximum_size=0,
            special_tokens=list(SPECIALS.values()),
        )
        vocabularies = {
            "src": vocabulary,
            "tgt": vocabulary,
            "data_task": "seq2seq",
            "decoder_start_token": "<s>",
        }
        self.model = build_model(self.options, self.options, vocabularies, None, -1)
        self.loss = LossCompute.from_opts(self.options, self.model, vocabulary)
        self.optimizer = Optimizer.from_opt(self.model, self.options)
        self.vocabularies = vocabularies
        self._translators: dict[int, Translator] = {}
        self._theirs = list(range(streams.vocabulary))
        for ours, token in SPECIALS.items():
            self._theirs[ours] = vocabulary[token]
        self._ours = [0] * streams.vocabulary
        for ours, theirs in enumerate(self._theirs):
            self._ours[theirs] = ours

    def batch(self, rows: list[int]) -> Any:
        pairs = sorted((self.streams.pairs[row] for row in rows), key=lambda pair: -len(pair[0]))
        batch = self._sources([pair[0] for pair in pairs])
        targets = padded([[START, *pair[1]] for pair in pairs], PAD)
        return {**batch, "tgt": self._tensor(targets)}

    def train_step(self, batch: Any) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        outputs, attention = self.model(batch["src"], batch["tgt"], batch["srclen"])
        loss, statistics = self.loss(batch, outputs, attention)
        self.optimizer.backward(loss / statistics.n_words)
        self.optimizer.step()
        return loss.item()

    def set_learning_rate(self, rate: float) -> None:
        self.optimizer._learning_rate = rate

    def translate_ids(self, sources: list[list[int]], beams: int) -> list[list[int]]:
        batch = self._sources(sources)
        if beams not in self._translators:
            self._translators[beams] = self._translator(beams)
        predictions = self._translators[beams].translate_batch(batch, attn_debug=False)["predictions"]
        end = self._theirs[END]
        return [[self._ours[token] for token in best[0].tolist() if token != end] for best in predictions]

    def _translator(self, beams: int) -> Translator:
        parser = ArgumentParser()
        translate_opts(parser)
        flags = ["-model", "unused", "-src", "unused", "-beam_size", str(beams)]
        flags += ["-max_length", str(LONGEST), "-max_length_ratio", "0"]
        options = parser.parse_args(flags)
        return Translator.from_opt(
            self.model,
            self.vocabularies,
            options,
            self.options,
            global_scorer=GNMTGlobalScorer.from_opt(options),
            report_score=False,
        )

    def _sources(self, sources: list[list[int]]) -> dict[str, torch.Tensor]:
        lengths = torch.tensor([len(source) for source in sources])
        return {
            "src": self._tensor(padded(sources, PAD)),
            "srclen": lengths,
            "ind_in_bucket": torch.arange(len(sources)),
        }

    def _tensor(self, rows: list[list[int]]) -> torch.Tensor:
        return torch.tensor([[self._theirs[token] for token in row] for row in rows]).unsqueeze(2)


THE_CONTENDER = OpenNMT
