"""BPE-dropout (Provilkov et al. 2020): in training, a word is spelled in other subwords in every pass.

Byte-pair encoding begins with characters and merges pairs of neighbours, the one that was learned first before the
others. With dropout, each pair is passed over with a probability whenever it could be merged (algorithm 1), so that
words often stay in smaller pieces, and the model learns what these have in common.

The `tokenizers` library can do so, too, but each of its threads draws from a generator that takes no seed: a run could
not be repeated, or resumed exactly. Here what is drawn for a text follows from the seed, the pass and the text's own
tokens, whatever the order, the batch, the worker or the process; where a text stands twice, both are segmented alike.

It begins with the tokens of the ordinary segmentation: a merge that is taken apart gives back the pieces it was made
of, down to characters, bytes or whatever the tokenizer begins with.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase

from .arguments import DataArguments, DataError

# The columns with the unit of each token, beside those of its ids
UNITS = {"input_ids": "input_units", "labels": "label_units"}
NO_UNIT = -1  # of tokens that stand for themselves, such as end tokens


class BpeDropout:
    """Segments what a byte-pair tokenizer has segmented anew, leaving out merges at random.

    Args:
        backend: the tokenizer.
        probability: of each possible merge to be passed over. 0 gives the ordinary segmentation, 1 single characters.

    Raises:
        DataError: for a tokenizer that merges nothing, such as a unigram language model.
    """

    def __init__(self, backend: Tokenizer, probability: float) -> None:
        model = json.loads(backend.to_str())["model"]
        if model["type"] != "BPE":
            raise DataError(
                "bpe_dropout leaves out merges of byte-pair encoding, but this tokenizer is of the kind "
                f"{model['type']}, which has none: leave bpe_dropout out, or train one with tokenizer_kind=bpe."
            )
        self.probability = probability
        # Of a pair of token ids: the rank of its merge, the lowest first, and what it becomes
        self._merges: dict[tuple[int, int], tuple[int, int]] = {}
        self._parts: dict[int, tuple[int, int]] = {}  # what a token was merged from
        vocabulary, prefix = model["vocab"], model.get("continuing_subword_prefix") or ""
        added = backend.get_added_tokens_decoder()
        for rank, (left, right) in enumerate(model["merges"]):
            pair, product = (vocabulary[left], vocabulary[right]), vocabulary[left + right[len(prefix) :]]
            self._merges[pair] = rank, product
            if product not in added:  # which a text has in one piece
                self._parts.setdefault(product, pair)

    def segment(self, ids: list[int], units: list[int], seed: str) -> list[int]:
        """The token ids of a text in another segmentation, the same one for the same seed.

        Args:
            ids: of the ordinary segmentation.
            units: for each of them the number of its unit, which no token crosses, such as a word; see `units_of`.
            seed: of what is left out.
        """
        draw = random.Random(seed).random
        segmented: list[int] = []
        pieces: list[int] = []  # of the current unit
        current = NO_UNIT
        for one, unit in zip(ids, units, strict=True):
            if unit != current or unit == NO_UNIT:
                segmented += self._merged(pieces, draw)
                pieces, current = [], unit
            self._take_apart(one, pieces)
        return segmented + self._merged(pieces, draw)

    def _take_apart(self, token: int, pieces: list[int]) -> None:
        """Append what a token was merged from, from left to right."""
        waiting = [token]
        while waiting:
            one = waiting.pop()
            parts = self._parts.get(one)
            if parts is None:
                pieces.append(one)
            else:
                waiting += reversed(parts)

    def _merged(self, pieces: list[int], draw: Callable[[], float]) -> list[int]:
        """Merge pieces of a unit until no merge is left, or all that are possible are passed over."""
        while len(pieces) > 1:
            best = place = None
            for number in range(len(pieces) - 1):
                merge = self._merges.get((pieces[number], pieces[number + 1]))
                # What would not be chosen need not be drawn for: each pair is passed over independently of the others.
                if merge is not None and (best is None or merge < best) and draw() >= self.probability:
                    best, place = merge, number
            if best is None or place is None:
                break
            pieces[place : place + 2] = [best[1]]
        return pieces


class BpeDropoutCollator:
    """Segments training rows anew on their way into a batch, wherever that is made: here, or in a worker.

    Rows without the columns of `UNITS`, such as those of an evaluation, stay as they are. So does a text that would
    become longer than its limit.

    Args:
        collate: makes a batch of rows.
        tokenizer: of the rows; one for both sides, or with a `target_tokenizer`.
        probability: as in `BpeDropout`.
        seed: of the run.
        limits: the most tokens of `input_ids` and `labels`; None for any number.

    Raises:
        DataError: as `BpeDropout`, for either side.
    """

    def __init__(
        self,
        collate: Callable[[list[dict[str, Any]]], Any],
        tokenizer: PreTrainedTokenizerBase,
        probability: float,
        seed: int,
        limits: dict[str, int | None],
    ) -> None:
        if not tokenizer.is_fast:
            raise DataError(f"bpe_dropout needs a fast tokenizer, which {type(tokenizer).__name__} is not.")
        sides: list[Any] = [tokenizer, getattr(tokenizer, "target_tokenizer", tokenizer)]
        self._sides = {
            name: BpeDropout(side.backend_tokenizer, probability) for name, side in zip(UNITS, sides, strict=True)
        }
        self._collate, self._seed, self._limits = collate, seed, limits
        # In memory that workers share, since they may live longer than a pass
        self._pass = torch.zeros((), dtype=torch.long).share_memory_()

    def begin_pass(self, number: int) -> None:
        """Segment in the way of this pass from now on; to be called before its first batch is made."""
        self._pass.fill_(number)

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        """Make a batch of rows."""
        return self._collate([self._segmented(row) for row in rows])

    def _segmented(self, row: dict[str, Any]) -> dict[str, Any]:
        row = dict(row)
        for name, column in UNITS.items():
            units = row.pop(column, None)
            if units is not None:
                ids, limit = list(row[name]), self._limits.get(name)
                other = self._sides[name].segment(ids, units, f"{self._seed} {int(self._pass)} {ids}")
                row[name] = ids if limit is not None and len(other) > limit else other
        return row


def units_of(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """For each token of each text the number of its unit within the text; -1 for tokens that are added to it."""
    encodings = tokenizer(texts, return_attention_mask=False, verbose=False).encodings
    return [[NO_UNIT if unit is None else unit for unit in encoding.word_ids] for encoding in encodings]


def training_collator(tokenizer: PreTrainedTokenizerBase, data: DataArguments, training: Any) -> Callable[[Any], Any]:
    """What makes batches of rows: it pads them, and with `bpe_dropout` segments those of the training anew.

    Raises:
        DataError: if the tokenizer is none for BPE-dropout.
    """
    collate = DataCollatorForSeq2Seq(tokenizer)
    if not (training.bpe_dropout and training.do_train):
        return collate
    limits = {"input_ids": data.max_source_length, "labels": data.max_target_length}
    seed = training.seed if training.data_seed is None else training.data_seed
    return BpeDropoutCollator(collate, tokenizer, training.bpe_dropout, seed, limits)
