"""
Words to phones beside yoyodyne, the toolkit that people use for this: its attentive LSTM, and ours of like sizes.

    python -m benchmarks.tasks --peer PYTHON --data FOLDER --work FOLDER

PYTHON is the interpreter of an environment of its own, made by

    pip install yoyodyne==0.5.27 torch==2.13.0
    pip uninstall -y torchvision torchaudio

FOLDER of the data has the tables of SIGMORPHON 2020 task 1, `ice_train.tsv` and so on. Every measurement is a process
of its own, in turns. Both sides read the same files, in batches of as many words, with as many threads. Each trains
through its own trainer, in float32 and with products in bfloat16, and decodes greedily from a file to text.

`ours` has soft attention, and as many layers and parameters as yoyodyne's, but asks with the state after the token, so
that training takes no loop over the steps. `ours-recipe` is what the recipe trains, with hard attention, and
`ours-as-yoyodyne` the architecture of yoyodyne: additive attention that the previous state asks, a context that the
LSTM reads, an output layer that reads the state alone.

The figures are words per second of training, the share of test words that are wrong, and words per second of decoding.
For the errors each does as it usually does: yoyodyne has a constant learning rate, by default that of its Adam, and
keeps the epoch that was best in validation; ours follows the recipe, whose model is the mean of the last checkpoints.
--parts says what to measure; the models of the errors, which decode, stay in --work.
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
from statistics import median
from typing import Any

from hf_rnn_s2s.training.error_rates import TransductionMetric

from .race import race
from .report import report

THEIR_SIZES = {"embedding": 128, "encoder": 256, "encoder_layers": 2, "decoder": 256}
COMMON = {"batch": 64, "dropout": 0.3, "label_smoothing": 0.1, "seed": 1}
SOFT = {"attention_type": "general", "head_type": "vocabulary"}
LIKE_THEIRS = {
    **SOFT,
    "attention_type": "additive",
    "attention_query": "previous",
    "context_layers": "all",
    "readout": "state",
    "bridge": "zero",
    "tie_word_embeddings": False,
}
# Of each contender, what its worker is told. `options` are what ours change of the recipe.
OURS: dict[str, dict[str, Any]] = {
    "ours": {"precision": "bfloat16", "options": SOFT},
    "ours-float32": {"precision": "float32", "options": SOFT},
    "ours-recipe": {"precision": "bfloat16", "options": {}},
    "ours-as-yoyodyne": {"precision": "bfloat16", "options": LIKE_THEIRS},
}
THEIRS: dict[str, dict[str, Any]] = {
    "yoyodyne": {"precision": "32-true", "sizes": THEIR_SIZES},
    "yoyodyne-bfloat16": {"precision": "bf16-mixed", "sizes": THEIR_SIZES},
}
PARTS = ("training", "errors", "decoding")
EPOCHS_OF_A_ROUND = 3
COPIES = 10  # of the test words in a turn of decoding, beside which starting to decode takes little


class Process:
    """One of `OURS` and `THEIRS`, each of whose calls is a process."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name, self.arguments = name, arguments

    def call(self, do: str, language: str, model: str, **more: Any) -> dict[str, Any]:
        """What the worker answers: see `transduction_worker` and `yoyodyne_worker`.

        Args:
            do: "train" or "decode".
            language: of the tables.
            model: a name for what is trained, and decodes.
            more: what else the worker is told.
        """
        given = self.arguments
        folder = (given.work / f"{self.name}-{language}-{model}").absolute()
        order = {
            **COMMON,
            "do": do,
            "train": str(given.data / f"{language}_train.tsv"),
            "test": str(given.data / f"{language}_test.tsv"),
            "folder": str(folder),
            "threads": given.threads,
            "learning_rate": given.learning_rate,  # of theirs; ours is that of the recipe
            **{**OURS, **THEIRS}[self.name],
            **more,
        }
        if do == "train":
            shutil.rmtree(folder, ignore_errors=True)  # else it would be gone on with
        elif not folder.is_dir():
            raise SystemExit(f"{self.name} has no model for {language} in --work yet: ask for the part errors first.")
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


def rows_of(path: Path) -> list[list[str]]:
    """Source and target of each row."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def main() -> None:
    """Races the contenders in training, counts their errors, and races what was trained in decoding."""
    arguments = _arguments()
    contenders = [Process(name, arguments) for name in (*OURS, *THEIRS)]
    learners = [one for one in contenders if one.name in arguments.learners]
    if "training" in arguments.parts:
        _compare_training(contenders, arguments)
    if "errors" in arguments.parts:
        _compare_errors(learners, arguments)
    if "decoding" in arguments.parts:
        _compare_decoding(learners, arguments)


def _compare_training(contenders: list[Process], arguments: argparse.Namespace) -> None:
    """Trains all of them for a few epochs of one language, in turns."""
    language = arguments.languages[0]
    words = len(rows_of(arguments.data / f"{language}_train.tsv"))
    parameters: dict[str, int] = {}

    def trained_words(contender: Process) -> float:
        answer = contender.call("train", language, "timed", epochs=EPOCHS_OF_A_ROUND)
        parameters[contender.name] = answer["parameters"]
        return EPOCHS_OF_A_ROUND * words / answer["seconds"]

    speeds = race(contenders, arguments.rounds, trained_words)
    print("parameters: " + ", ".join(f"{name} {number:,}" for name, number in parameters.items()))
    report("training", "words per second", speeds, parameters=parameters, threads=arguments.threads)


def _compare_errors(contenders: list[Process], arguments: argparse.Namespace) -> None:
    """Trains each contender to the end for each language, and prints the shares of wrong test words."""
    errors: dict[str, list[float]] = {}
    minutes: dict[str, float] = {}
    for contender in contenders:
        for language in arguments.languages:
            val = str(arguments.data / f"{language}_dev.tsv")
            trained = contender.call("train", language, "whole", epochs=arguments.epochs, val=val)
            minutes[contender.name] = minutes.get(contender.name, 0.0) + trained["seconds"] / 60
            references = [target for _, target in rows_of(arguments.data / f"{language}_test.tsv")]
            outputs = contender.call("decode", language, "whole", rounds=0)["outputs"]
            scores = TransductionMetric().compute(predictions=outputs, references=references)
            assert scores is not None
            errors.setdefault(contender.name, []).append(scores["wer"])
            print(f"{contender.name}, {language}: WER {scores['wer']:.2f}, {trained['seconds']:.0f} s", flush=True)
    print("\nWER, greedy, mean of", ", ".join(arguments.languages))
    for name, rates in errors.items():
        print(f"  {name:20} {sum(rates) / len(rates):6.2f}   {minutes[name]:6.1f} minutes")
    print(json.dumps({"benchmark": "wer", "languages": arguments.languages, "errors": errors, "minutes": minutes}))


def _compare_decoding(contenders: list[Process], arguments: argparse.Namespace) -> None:
    """Decodes the test words of one language with the models of `_compare_errors`, in turns."""
    language = arguments.languages[0]
    once = (arguments.data / f"{language}_test.tsv").read_text(encoding="utf-8")
    words = len(rows_of(arguments.data / f"{language}_test.tsv"))
    copies = (arguments.work / f"{language}_test_many.tsv").absolute()
    copies.write_text((once.rstrip("\n") + "\n") * COPIES, encoding="utf-8")
    symbols: dict[str, int] = {}

    def decoded_words(contender: Process) -> float:
        answer = contender.call("decode", language, "whole", rounds=3, test=str(copies))
        symbols[contender.name] = sum(len(text.split()) for text in answer["outputs"]) // COPIES
        return COPIES * words / median(answer["seconds"])

    speeds = race(contenders, arguments.rounds, decoded_words)
    print("symbols written: " + ", ".join(f"{name} {number:,}" for name, number in symbols.items()))
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
    names = [*OURS, *THEIRS]
    usual = [name for name in names if name != "ours-float32"]
    parser.add_argument("--learners", nargs="+", choices=names, default=usual, help="who learns to the end")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    arguments = parser.parse_args()
    for language in arguments.languages:
        for split in ("train", "dev", "test"):
            path = arguments.data / f"{language}_{split}.tsv"
            if not path.is_file():
                raise SystemExit(
                    f"There is no {path}: --data is the folder with the tables of SIGMORPHON 2020 task 1."
                )
            if wrong := next((number for number, row in enumerate(rows_of(path), 1) if len(row) != 2), None):
                raise SystemExit(f"{path}, row {wrong} has not two columns, a word and its phones.")
    if not arguments.peer.is_file():
        raise SystemExit(f"--peer {arguments.peer} is no file: give the interpreter, such as environment/bin/python.")
    found = subprocess.run([arguments.peer, "-c", "import yoyodyne"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{arguments.peer} cannot import yoyodyne: {found.stderr[-500:]}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    return arguments


if __name__ == "__main__":
    main()
