"""
What ROUGE says of summaries that take no model: a model is worth something only above these.

    python -m benchmarks.trivial_summaries data/aeslc/train.jsonl data/aeslc/dev.jsonl

1. The first eight words of the text.
2. Four of the first words that the text has often and few texts of the training have (by tf-idf), in their order:
   names and topics, which make up a good part of a subject line, and no phrase.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections import Counter
from pathlib import Path

from hf_rnn_s2s.training.rouge import RougeMetric

FIRST_WORDS, RARE_WORDS, RARE_AMONG = 8, 4, 25  # the last one: the words at the beginning that are looked at
WORD = re.compile(r"[^\W\d_]\w*")


def words_of(text: str) -> list[str]:
    """Words in lower case."""
    return WORD.findall(text.lower())


def rare_words(words: list[str], texts_with: Counter[str], texts: int) -> list[str]:
    """The words with the greatest tf-idf, each once, in the order of the text; not those of one text alone."""
    counts = Counter(word for word in words if texts_with[word] > 1)
    chosen = sorted(counts, key=lambda word: -counts[word] * math.log(texts / texts_with[word]))[:RARE_WORDS]
    return [word for word in counts if word in chosen]


def read_rows(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """The rows of a file of JSON lines; ends the program where one lacks a column."""
    if not path.is_file():
        raise SystemExit(f"There is no file {path}.")
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    for number, row in enumerate(rows, start=1):
        if missing := [name for name in columns if not isinstance(row.get(name), str)]:
            raise SystemExit(f"{path}, row {number} has no text in {', '.join(missing)}.")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help='JSON lines with "text"')
    parser.add_argument("test", type=Path, help='JSON lines with "text" and "summary"')
    arguments = parser.parse_args()
    train, test = read_rows(arguments.train, ["text"]), read_rows(arguments.test, ["text", "summary"])
    texts_with: Counter[str] = Counter(word for row in train for word in set(words_of(row["text"])))
    summaries = {
        f"first {FIRST_WORDS} words": [" ".join(row["text"].split()[:FIRST_WORDS]) for row in test],
        f"{RARE_WORDS} rare words": [
            " ".join(rare_words(words_of(row["text"])[:RARE_AMONG], texts_with, len(train))) for row in test
        ],
    }
    for name, predictions in summaries.items():
        scores = RougeMetric().compute(predictions=predictions, references=[row["summary"] for row in test])
        assert scores is not None
        print(f"{name:16}" + " / ".join(f"{scores[kind]:.2f}" for kind in ("rouge1", "rouge2", "rougeL")))


if __name__ == "__main__":
    main()
