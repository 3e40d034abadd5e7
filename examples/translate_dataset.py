"""Translate a column of a large dataset: on all cores, on several machines, and every record exactly once.

    python examples/translate_dataset.py --model outputs/my-model --files "corpus/*.parquet" --column en --output out

`datasets` reads the files without holding them in memory and runs the processes. The work is divided into shards, each
a range of records and a file of its own in the output folder, which gets its name when it is complete. Whatever ends
a run, the same command goes on with the shards that are not there. Machines that share the folder take some of them
each: `--machines 4 --machine 0` to `--machine 3`. examples/large_datasets.md says more.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import glob
import json
import os
import uuid
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_caching, load_dataset
from transformers import pipeline

import hf_rnn_s2s  # noqa: F401 - makes transformers know the model


def main() -> None:
    """Translate the shards that are not there yet."""
    options = read_options()
    kind = Path(options.files[0]).suffix.lstrip(".").replace("jsonl", "json")
    dataset = load_dataset(kind, data_files=options.files, split="train")
    output = Path(options.output)
    remember(dataset, options, output)
    disable_caching()  # what is finished is in the output folder
    for number in range(options.machine, options.shards, options.machines):
        file = output / f"{number:05}-of-{options.shards:05}.parquet"
        if file.exists():
            continue
        shard = dataset.shard(options.shards, number, contiguous=True)
        translated = shard.map(
            translate,
            fn_kwargs={"model": options.model, "column": options.column, "settings": options.settings},
            batched=True,
            batch_size=1024,
            num_proc=options.processes,
        )
        part = output / f"{file.stem}.{uuid.uuid4()}.part"
        translated.to_parquet(part)
        part.replace(file)
        for left in (*output.glob(f"{file.stem}.*.part"), *(one["filename"] for one in translated.cache_files)):
            Path(left).unlink(missing_ok=True)  # of runs that were killed, and what `map` has kept of this shard
        print(f"{file} has {len(translated):,} records", flush=True)


def read_options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder, or a name on the Hub")
    parser.add_argument("--files", required=True, nargs="+", help="Parquet, JSON lines or CSV")
    parser.add_argument("--column", required=True, help="of the texts")
    parser.add_argument("--output", required=True, help="a folder")
    parser.add_argument("--shards", type=int, default=100, help="in how many parts the work is done")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="on this machine")
    parser.add_argument("--machines", type=int, default=1, help="how many share the work")
    parser.add_argument("--machine", type=int, default=0, help="which of them this is, from 0 on")
    parser.add_argument("--settings", type=json.loads, default={}, help="""of generate(): '{"num_beams": 5}'""")
    options = parser.parse_args()
    if not 0 <= options.machine < options.machines:
        parser.error(f"--machine {options.machine}: with --machines {options.machines} it is one from 0 on, and less.")
    options.files = sorted(file for pattern in options.files for file in glob.glob(pattern))
    kinds = {Path(file).suffix for file in options.files}
    if not options.files:
        parser.error("--files names none that is there.")
    if len(kinds) > 1 or not kinds <= {".parquet", ".jsonl", ".json", ".csv"}:
        parser.error(f"--files must all be .parquet, .jsonl, .json or .csv, and not {', '.join(sorted(kinds))}.")
    if min(options.shards, options.processes) < 1:
        parser.error("--shards and --processes must be at least 1.")
    return options


def remember(dataset: Dataset, options: argparse.Namespace, output: Path) -> None:
    """Keep what the shards are made of beside them. Shards of other work would not fit together."""
    if options.column not in dataset.column_names:
        raise SystemExit(
            f"There is no column {options.column!r} in {options.files}: there are {dataset.column_names}."
        )
    if "translation" in dataset.column_names:
        raise SystemExit("There is a column 'translation' already, which would be lost: rename it.")
    if options.shards > len(dataset):
        raise SystemExit(f"--shards {options.shards}, but there are {len(dataset)} records: ask for fewer.")
    files = {Path(file).name: os.path.getsize(file) for file in options.files}
    asked = {name: getattr(options, name) for name in ("model", "column", "shards", "settings")}
    work = json.dumps({**asked, "records": len(dataset), "files": files}, indent=2)
    output.mkdir(parents=True, exist_ok=True)
    file, new = output / "work.json", output / f"work.{uuid.uuid4()}.part"
    new.write_text(work, encoding="utf-8")
    with contextlib.suppress(FileExistsError):  # several machines may begin at once: the first one's stays
        os.link(new, file)
    new.unlink()
    if file.read_text(encoding="utf-8") != work:
        raise SystemExit(f"{file} tells of other work than is asked for now: name another --output.\n{work}")


def translate(batch: dict[str, list[Any]], model: str, column: str, settings: dict[str, Any]) -> dict[str, list[str]]:
    """Translate a batch of records, in a process of `datasets`."""
    records = translator(model)([text or "" for text in batch[column]], batch_size=64, **settings)
    return {"translation": [record["translation_text"] for record in records]}


@functools.cache
def translator(model: str) -> Any:
    """The pipeline, loaded once in each process, which computes with one thread."""
    torch.set_num_threads(1)
    made: Any = pipeline
    return made("translation", model=model, device="cpu")


if __name__ == "__main__":
    main()
