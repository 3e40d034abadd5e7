"""
What ROUGE says of summaries that take no model: a model is worth something only above these.

    python -m benchmarks.trivial_summaries data/aeslc/train.jsonl data/aeslc/dev.jsonl

1. The first eight words of the text.
2. Four of the first words that the text has often and few texts of the training have (by tf-idf), in their order:
   names and topics, which make up a good part of a subject line, and no phrase.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from pathlib import Path

from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.data.loading import load_examples
from hf_rnn_s2s.errors import ending_with_a_message
from hf_rnn_s2s.training.rouge import RougeMetric
from hf_rnn_s2s.training.tasks.summarization import Summarization

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help='table with "text" and "summary"')
    parser.add_argument("test", type=Path, help="such a table, too")
    arguments = parser.parse_args()
    with ending_with_a_message("trivial_summaries"):
        data = DataArguments(train_file=str(arguments.train), validation_file=str(arguments.test))
        examples = load_examples(data, Summarization().layout(data))
    train, test = (list(examples[split]) for split in ("train", "validation"))
    texts_with: Counter[str] = Counter(word for row in train for word in set(words_of(row["source"])))
    summaries = {
        f"first {FIRST_WORDS} words": [" ".join(row["source"].split()[:FIRST_WORDS]) for row in test],
        f"{RARE_WORDS} rare words": [
            " ".join(rare_words(words_of(row["source"])[:RARE_AMONG], texts_with, len(train))) for row in test
        ],
    }
    for name, predictions in summaries.items():
        scores = RougeMetric().compute(predictions=predictions, references=[row["target"] for row in test])
        assert scores is not None
        print(f"{name:16}" + " / ".join(f"{scores[kind]:.2f}" for kind in ("rouge1", "rouge2", "rougeL")))


if __name__ == "__main__":
    main()
