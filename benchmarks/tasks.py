"""
Words to phones beside yoyodyne, the toolkit that people use for this: its attentive LSTM and ours, of one size.

    python -m benchmarks.tasks --peer PYTHON --data FOLDER --work FOLDER

PYTHON is the interpreter of an environment of its own, made by

    pip install yoyodyne torch==2.13.0
    pip uninstall torchvision torchaudio

FOLDER of the data has the tables of SIGMORPHON 2020 task 1, `ice_train.tsv` and so on. Every measurement is a process
of its own, in turns. Both sides read the same files, in batches of as many words, with as many threads. Each trains
through its own trainer, in float32 and with products in bfloat16, and decodes greedily from a file to text. The
figures are words per second, then the share of test words that are wrong. For these, each has its own schedule:
yoyodyne a constant learning rate, by default that of its Adam, ours that of the recipe; both keep the epoch that was
best in validation.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hf_rnn_s2s.training.error_rates import TransductionMetric

from .race import race
from .report import report

THEIR_SIZES = {"embedding": 128, "encoder": 256, "encoder_layers": 2, "decoder": 256}
COMMON = {"batch": 64, "dropout": 0.3, "label_smoothing": 0.1, "seed": 1}
# Ours have the architecture of yoyodyne, or that of the recipe, whose decoder also reads its last attentional vector
OURS = ("ours", "ours-float32", "ours-recipe")
THEIRS = ("yoyodyne", "yoyodyne-bfloat16")
EPOCHS_OF_A_ROUND = 3


class Contender:
    """One of `OURS` and `THEIRS`, each of whose calls is a process."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name, self.arguments = name, arguments

    def call(self, do: str, language: str, **more: Any) -> dict[str, Any]:
        """What the worker answers: see `transduction_worker` and `yoyodyne_worker`."""
        data, given = self.arguments.data, self.arguments
        folder = given.work / f"{self.name}-{language}-{'timed' if 'epochs' in more and 'val' not in more else 'best'}"
        order = {
            **COMMON,
            "do": do,
            "train": str(data / f"{language}_train.tsv"),
            "test": str(data / f"{language}_test.tsv"),
            "folder": str(folder.absolute()),
            "threads": given.threads,
            **(self._of_ours() if self.name in OURS else self._of_theirs()),
            **more,
        }
        if do == "train":
            shutil.rmtree(folder, ignore_errors=True)  # else it would be gone on with
        is_ours = self.name in OURS
        python = sys.executable if is_ours else given.peer
        module = "transduction_worker" if is_ours else "yoyodyne_worker"
        done = subprocess.run(
            [python, "-W", "ignore", "-m", f"benchmarks.{module}", json.dumps(order)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(given.threads)},
        )
        if done.returncode:
            raise SystemExit(f"{self.name} failed to {do}:\n{done.stderr[-3000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    def _of_ours(self) -> dict[str, Any]:
        return {
            "precision": "float32" if self.name.endswith("float32") else "bfloat16",
            "learning_rate": 3e-3,
            "unicode_normalization": "NFC",
            "options": {} if self.name == "ours-recipe" else {"input_feeding": False},
        }

    def _of_theirs(self) -> dict[str, Any]:
        return {
            "precision": "bf16-mixed" if self.name.endswith("bfloat16") else "32-true",
            "learning_rate": self.arguments.learning_rate,
            "sizes": THEIR_SIZES,
        }


def rows_of(path: Path) -> list[list[str]]:
    """Source and target of each row."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def main() -> None:
    arguments = _arguments()
    contenders = [Contender(name, arguments) for name in (*OURS, *THEIRS)]
    language = arguments.languages[0]
    words = len(rows_of(arguments.data / f"{language}_train.tsv"))
    parameters: dict[str, int] = {}

    def trained_words(contender: Contender) -> float:
        answer = contender.call("train", language, epochs=EPOCHS_OF_A_ROUND)
        parameters[contender.name] = answer["parameters"]
        return EPOCHS_OF_A_ROUND * words / answer["seconds"]

    speeds = race(contenders, arguments.rounds, trained_words)
    report("training", "words per second", speeds, parameters=parameters, threads=arguments.threads)
    _compare_errors(contenders, arguments)
    _compare_decoding(contenders, arguments, language)


def _compare_errors(contenders: list[Contender], arguments: argparse.Namespace) -> None:
    """Trains each contender to the end for each language, and prints the shares of wrong test words."""
    errors: dict[str, list[float]] = {}
    minutes: dict[str, float] = {}
    for contender in contenders:
        if contender.name in arguments.without_quality:
            continue
        for language in arguments.languages:
            val = str(arguments.data / f"{language}_dev.tsv")
            trained = contender.call("train", language, epochs=arguments.epochs, val=val)
            outputs = contender.call("decode", language, rounds=0)["outputs"]
            references = [target for _, target in rows_of(arguments.data / f"{language}_test.tsv")]
            scores = TransductionMetric().compute(predictions=outputs, references=references)
            assert scores is not None
            errors.setdefault(contender.name, []).append(scores["wer"])
            minutes[contender.name] = minutes.get(contender.name, 0.0) + trained["seconds"] / 60
            print(f"{contender.name}, {language}: WER {scores['wer']:.2f}, {trained['seconds']:.0f} s", flush=True)
    print("\nWER, greedy, mean of", ", ".join(arguments.languages))
    for name, rates in errors.items():
        print(f"  {name:18} {sum(rates) / len(rates):6.2f}   {minutes[name]:6.1f} minutes")
    print(json.dumps({"benchmark": "wer", "languages": arguments.languages, "errors": errors, "minutes": minutes}))


def _compare_decoding(contenders: list[Contender], arguments: argparse.Namespace, language: str) -> None:
    """Decodes the test words of one language with the models of `_compare_errors`, in turns."""
    trained = [one for one in contenders if one.name not in arguments.without_quality]
    words = len(rows_of(arguments.data / f"{language}_test.tsv"))
    symbols: dict[str, int] = {}

    def decoded_words(contender: Contender) -> float:
        answer = contender.call("decode", language, rounds=5)
        symbols[contender.name] = sum(len(text.split()) for text in answer["outputs"])
        return words / sorted(answer["seconds"])[2]

    speeds = race(trained, arguments.rounds, decoded_words)
    report("decoding", "words per second", speeds, symbols=symbols, threads=arguments.threads)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="interpreter of the environment with yoyodyne")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the models")
    parser.add_argument("--languages", nargs="+", default=["ice", "geo"], help="speed is measured with the first one")
    parser.add_argument("--epochs", type=int, default=30, help="of the models whose errors are counted")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="of yoyodyne")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--without_quality", nargs="*", default=["ours-float32"], help="contenders that are only timed in training"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    main()
