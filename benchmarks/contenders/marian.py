"""MarianMT of transformers, with as many parameters as ours: two encoder and two decoder layers."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import MarianConfig, MarianMTModel

from benchmarks.streams import END, PAD, START, Streams, padded

from .base import DROPOUT, EMBEDDING, LEARNING_RATE, LONGEST, SMOOTHING, IdTranslator, until_the_end

LAYERS = 2


def marian_config(vocabulary: int, layers: int, width: int, **more: Any) -> MarianConfig:
    """With so many layers on each side, and vocabularies of their own on both."""
    return MarianConfig(
        vocab_size=vocabulary,
        decoder_vocab_size=vocabulary,
        share_encoder_decoder_embeddings=False,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
        forced_eos_token_id=None,
        **more,
    )


class Marian(IdTranslator):
    """A Transformer as wide as the embeddings of the others."""

    def __init__(self, streams: Streams, precision: str, layers: int = LAYERS) -> None:
        super().__init__(streams, precision)
        config = marian_config(streams.vocabulary, layers, EMBEDDING, dropout=DROPOUT / 3, scale_embedding=True)
        self.model: Any = MarianMTModel(config)
        self._translating: Any = None
        self.optimizer = torch.optim.AdamW(self.model.parameters(), LEARNING_RATE, weight_decay=0.0, fused=True)

    def batch(self, rows: list[int]) -> Any:
        sources, targets = zip(*(self.streams.pairs[row] for row in rows), strict=True)
        input_ids = torch.tensor(padded(list(sources), PAD))
        labels = torch.tensor(padded(list(targets), -100))
        return {
            "input_ids": input_ids,
            "attention_mask": input_ids.ne(PAD).long(),
            "labels": labels,
            "decoder_input_ids": self.model.prepare_decoder_input_ids_from_labels(labels),
        }

    def train_step(self, batch: Any) -> float:
        labels = batch["labels"]
        with self._autocast():
            # Not the labels, of which it would make a loss of its own, without label smoothing
            logits = self.model(
                batch["input_ids"], batch["attention_mask"], decoder_input_ids=batch["decoder_input_ids"]
            ).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=SMOOTHING
        )
        return self._update(loss)

    def translate_ids(self, sources: list[list[int]], beams: int) -> list[list[int]]:
        if self._translating is None:
            self._translating = copy.deepcopy(self.model).eval()
            if self.precision == "bfloat16":
                self._translating = self._translating.bfloat16()
        input_ids = torch.tensor(padded(sources, PAD))
        generated = self._translating.generate(
            input_ids, attention_mask=input_ids.ne(PAD).long(), num_beams=beams, max_new_tokens=LONGEST
        )
        return [until_the_end(row[1:]) for row in generated.tolist()]


THE_CONTENDER = Marian
