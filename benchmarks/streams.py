"""The sentence pairs that every contender gets, as the same token ids in the same order."""

from __future__ import annotations

import random
from functools import cached_property
from pathlib import Path

from hf_rnn_s2s import RnnS2STokenizer, train_tokenizer

Pair = tuple[list[int], list[int]]
PAD, START, END, UNKNOWN = 0, 1, 2, 3
SIDES = ("en", "de")


class Streams:
    """
    Args:
        data: folder with `train.en`, `train.de`, `test_2016_flickr.en` and `test_2016_flickr.de`, one sentence a line.
        work: folder for the tokenizer, which is trained once.
        vocabulary: tokens of each side.
        batch_size: sentences in a batch.
        seed: of the order of the batches.
    """

    def __init__(self, data: Path, work: Path, vocabulary: int = 8000, batch_size: int = 64, seed: int = 0) -> None:
        require_data(data)
        self.data, self.vocabulary, self.batch_size, self.seed = data, vocabulary, batch_size, seed
        self.tokenizer = self._tokenizer(work / f"tokenizer-{vocabulary}")

    @cached_property
    def pairs(self) -> list[Pair]:
        """Ids of the training pairs, each with its end token."""
        encoded = self.tokenizer(self.texts("train", "en"), text_target=self.texts("train", "de"))
        return list(zip(encoded["input_ids"], encoded["labels"], strict=True))

    @cached_property
    def batches(self) -> list[list[int]]:
        """Rows of `pairs`: batches of like length, the target's before the source's, in random order."""
        rows = sorted(range(len(self.pairs)), key=lambda row: (len(self.pairs[row][1]), len(self.pairs[row][0])))
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        random.Random(self.seed).shuffle(batches)
        return batches

    @cached_property
    def mixed_batches(self) -> list[list[int]]:
        """The same number of batches as `batches`, without regard to length: as toolkits without buckets make them."""
        rows = list(range(len(self.pairs)))
        random.Random(self.seed).shuffle(rows)
        return [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]

    def texts(self, split: str, side: str) -> list[str]:
        """The sentences of one side of a split."""
        return (self.data / f"{split}.{side}").read_text(encoding="utf-8").split("\n")[:-1]

    def target_tokens(self, batch: list[int]) -> int:
        """End tokens counted, padding not."""
        return sum(len(self.pairs[row][1]) for row in batch)

    def _tokenizer(self, folder: Path) -> RnnS2STokenizer:
        if not folder.is_dir():
            tokenizer = train_tokenizer(
                self.texts("train", "en"),
                self.vocabulary,
                "bpe",
                target_texts=self.texts("train", "de"),
                target_vocab_size=self.vocabulary,
            )
            tokenizer.save_pretrained(folder)
        return RnnS2STokenizer.from_pretrained(folder)


def require_data(data: Path) -> None:
    """Ends the program, and says what is missing, unless the training pairs are there."""
    for side in SIDES:
        if not (data / f"train.{side}").is_file():
            raise SystemExit(
                f"There is no {data / f'train.{side}'}. The benchmarks read Multi30k, one sentence a line, from "
                "the folder --data; https://github.com/multi30k/dataset has it."
            )


def padded(rows: list[list[int]], value: int) -> list[list[int]]:
    """Rows of one length."""
    longest = max(map(len, rows))
    return [row + [value] * (longest - len(row)) for row in rows]
