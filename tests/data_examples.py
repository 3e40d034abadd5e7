"""Sentence pairs that are easy to get wrong, and the files, arguments and datasets that hold them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from datasets import Dataset

from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.data.columns import Examples

PAIRS = [
    {"source": "A dog runs.", "target": "Ein Hund läuft."},
    {"source": "None", "target": "NA"},
    {"source": "007", "target": "1.50"},
    {"source": 'He said "yes", twice.', "target": "„Ja“, sagte er,\tzweimal."},
    {"source": "one\u2028line\u0085still", "target": "eine\x0bZeile\x1cnoch"},
    {"source": " padded ", "target": "  "},
]
NO_TABS = [{side: text.replace("\t", " ") for side, text in pair.items()} for pair in PAIRS]
FULL_PAIRS = PAIRS[:-1]  # what is left for training: the last one has an empty side


def write_parallel(prefix: Path, pairs: list[dict[str, str]], *, newline: str = "\n") -> str:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    for language, side in (("en", "source"), ("de", "target")):
        text = "".join(pair[side] + newline for pair in pairs)
        prefix.with_name(f"{prefix.name}.{language}").write_bytes(text.encode())
    return str(prefix)


def write_table(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif path.suffix in (".json", ".jsonl"):
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def files(path: str, **options: Any) -> DataArguments:
    return DataArguments(train_file=path, validation_file=path, **options)


def parallel(path: str, **options: Any) -> DataArguments:
    return files(path, **{"source_lang": "en", "target_lang": "de", **options})


def rows(examples: Examples) -> list[dict[str, Any]]:
    return list(examples)


def pairs_dataset(streaming: bool = False) -> Examples:
    dataset = Dataset.from_list(FULL_PAIRS)
    return dataset.to_iterable_dataset() if streaming else dataset
