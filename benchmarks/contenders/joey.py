"""JoeyNMT 2.3.0; README.md says how to install it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from joeynmt.batch import Batch
from joeynmt.model import build_model
from joeynmt.search import search
from joeynmt.vocabulary import Vocabulary

from benchmarks.streams import END, PAD, START, UNKNOWN, Streams, padded

from .base import DROPOUT, EMBEDDING, HIDDEN, LEARNING_RATE, LONGEST, SMOOTHING, IdTranslator, until_the_end


class Joey(IdTranslator):
    """The RNN of its tutorial: Bahdanau attention and input feeding."""

    has_buckets = False

    def __init__(self, streams: Streams, precision: str, has_buckets: bool | None = None) -> None:
        super().__init__(streams, precision, has_buckets)
        specials = SimpleNamespace(
            pad_token="<pad>", pad_id=PAD, bos_token="<s>", bos_id=START, eos_token="</s>", eos_id=END,
            unk_token="<unk>", unk_id=UNKNOWN, sep_token=None, sep_id=None, lang_tags=[],
        )  # fmt: skip
        vocabulary = Vocabulary.__new__(Vocabulary)
        names = ["<pad>", "<s>", "</s>", "<unk>"]
        vocabulary.specials, vocabulary.lang_tags = ["<unk>", "<pad>", "<s>", "</s>"], []
        vocabulary._itos = names + [f"token{number}" for number in range(streams.vocabulary - len(names))]
        vocabulary._stoi = {token: number for number, token in enumerate(vocabulary._itos)}
        vocabulary.pad_index, vocabulary.bos_index = specials.pad_id, specials.bos_id
        vocabulary.eos_index, vocabulary.unk_index, vocabulary.sep_index = specials.eos_id, specials.unk_id, None
        embeddings = {"embedding_dim": EMBEDDING, "scale": False}
        part = {"type": "recurrent", "rnn_type": "lstm", "embeddings": embeddings, "num_layers": 1, "dropout": DROPOUT}
        configuration = {
            "initializer": "xavier_uniform",
            "bias_initializer": "zeros",
            "embed_initializer": "normal",
            "embed_init_weight": 0.1,
            "encoder": {**part, "hidden_size": HIDDEN // 2, "bidirectional": True},
            "decoder": {
                **part,
                "hidden_size": HIDDEN,
                "hidden_dropout": DROPOUT,
                "attention": "bahdanau",
                "input_feeding": True,
                "init_hidden": "bridge",
            },
        }
        self.model: Any = build_model(configuration, vocabulary, vocabulary)
        self.model.loss_function = ("crossentropy", SMOOTHING)
        self.optimizer = torch.optim.Adam(self.model.parameters(), LEARNING_RATE)

    def batch(self, rows: list[int]) -> Any:
        pairs = [self.streams.pairs[row] for row in rows]
        return self._batch([pair[0] for pair in pairs], [[START, *pair[1]] for pair in pairs])

    def train_step(self, batch: Any) -> float:
        batch.sort_by_src_length()
        with self._autocast():
            loss, _, _, _ = self.model(return_type="loss", **vars(batch))
        return self._update(batch.normalize(loss, normalization="tokens"))

    def translate_ids(self, sources: list[list[int]], beams: int) -> list[list[int]]:
        batch = self._batch(sources, None)
        back = batch.sort_by_src_length()
        # By itself it leaves autocast between the encoder and the search, and then types do not fit.
        with self._autocast():
            output, _, _ = search(
                model=self.model,
                batch=batch,
                max_output_length=LONGEST,
                beam_size=beams,
                beam_alpha=1.0 if beams > 1 else -1,
                n_best=1,
                autocast={"device_type": "cpu", "enabled": self.precision == "bfloat16", "dtype": torch.bfloat16},
            )
        return [until_the_end([int(token) for token in output[position]]) for position in back]

    def _batch(self, sources: list[list[int]], targets: list[list[int]] | None) -> Batch:
        return Batch(
            src=torch.tensor(padded(sources, PAD)),
            src_length=torch.tensor([len(source) for source in sources]),
            src_prompt_mask=None,
            trg=None if targets is None else torch.tensor(padded(targets, PAD)),
            trg_prompt_mask=None,
            indices=torch.arange(len(sources)),
            device=torch.device("cpu"),
            pad_index=PAD,
            eos_index=END,
            is_train=targets is not None,
        )


THE_CONTENDER = Joey
