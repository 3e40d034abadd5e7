"""
Words to phones in the languages of SIGMORPHON 2020 task 1 (Gorman et al. 2020): the recipe, and ensembles of it.

    python -m benchmarks.pronunciations --data data/sigmorphon2020 --work FOLDER

For each language `train.py recipes/g2p-sigmorphon2020.yaml --ensemble_size 5` trains the models into a folder of
--work. What is there already is only counted, so that languages can be added, and a run that was stopped goes on. Of
Korean both Unicode forms are trained: NFC, in which a syllable is a symbol, and NFD, in which it is two or three. The
one with the lower error rate in validation counts; the other one is printed as well.

The table has the share of wrong test words with 5 beams: of single models the mean of the first three and of all
seeds, of the ensemble, and of the tuned LSTM encoder-decoder with attention that the organisers of the task published.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes" / "g2p-sigmorphon2020.yaml"
SEED, RESULTS = 42, "all_results.json"
# Of each language of the task its code, for the model card, and the published word error rate
LANGUAGES = {
    "ady": ("ady", 28.00),
    "arm": ("hy", 14.67),
    "bul": ("bg", 31.11),
    "dut": ("nl", 16.44),
    "fre": ("fr", 6.22),
    "geo": ("ka", 26.44),
    "gre": ("el", 18.89),
    "hin": ("hi", 6.67),
    "hun": ("hu", 5.33),
    "ice": ("is", 10.00),
    "jpn": ("ja", 7.56),
    "kor": ("ko", 46.89),
    "lit": ("lt", 19.11),
    "rum": ("ro", 10.67),
    "vie": ("vi", 4.67),
}
FORMS = {"kor": ("NFC", "NFD")}  # Unicode forms to compare; of the other languages NFC is taken
SPLITS = {"train": "train", "validation": "dev", "test": "test"}  # and what the tables are called


@dataclass
class Outcome:
    """Of one language in one Unicode form.

    Attributes:
        form: "NFC" or "NFD".
        singles: word error rates in percent on the test words, one for each seed.
        validation: the mean of the same on the validation words.
        ensemble: word error rate of all of them together.
        minutes: of training, the longest of the models, evaluations included.
    """

    form: str
    singles: list[float]
    validation: float
    ensemble: float
    minutes: float


def run(language: str, form: str, arguments: argparse.Namespace) -> Outcome:
    """Trains the models of a language that are not there, and reads what became of them."""
    folder = arguments.work / f"{language}-{form}"
    singles = [folder / f"seed-{SEED + number}" for number in range(arguments.seeds)]
    together = folder / "ensemble"
    if not all((one / RESULTS).is_file() for one in [*singles, together]):
        _train(language, form, folder, arguments)
    results = [_results(one) for one in singles]
    return Outcome(
        form=form,
        singles=[one["predict_wer"] for one in results],
        validation=mean(one["eval_wer"] for one in results),
        ensemble=_results(together)["predict_wer"],
        minutes=max(one["train_runtime"] for one in results) / 60,
    )


def _train(language: str, form: str, folder: Path, arguments: argparse.Namespace) -> None:
    options = {
        **{f"{split}_file": arguments.data / f"{language}_{file}.tsv" for split, file in SPLITS.items()},
        "language": LANGUAGES[language][0],
        "unicode_normalization": form,
        "output_dir": folder,
        "seed": SEED,
        "ensemble_size": arguments.seeds,
        **({"resume_from_checkpoint": "true"} if folder.is_dir() else {}),
    }
    given = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    subprocess.run([sys.executable, str(ROOT / "train.py"), str(RECIPE), *given], check=True)


def _results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RESULTS).read_text(encoding="utf-8"))


def main() -> None:
    """Prints the table, the means of all languages below it."""
    arguments = _arguments()
    chosen: dict[str, Outcome] = {}
    for language in arguments.languages:
        outcomes = [run(language, form, arguments) for form in FORMS.get(language, ("NFC",))]
        chosen[language] = min(outcomes, key=lambda outcome: outcome.validation)
        if len(outcomes) > 1:
            for one in outcomes:
                rates = f"validation {one.validation:.2f}, test {mean(one.singles):.2f}, ensemble {one.ensemble:.2f}"
                print(f"{language} in {one.form}: {rates}")
    print(table(chosen))
    print(json.dumps({"benchmark": "pronunciations", "outcomes": {name: vars(one) for name, one in chosen.items()}}))


def table(outcomes: dict[str, Outcome]) -> str:
    """One row for each language, and the mean of all."""
    seeds = len(next(iter(outcomes.values())).singles)
    heads = ["Language", "first 3 seeds", f"all {seeds} seeds", "ensemble", "published LSTM", "minutes a model"]
    rows = [
        [mean(one.singles[:3]), mean(one.singles), one.ensemble, LANGUAGES[name][1], one.minutes]
        for name, one in outcomes.items()
    ]
    rows.append([mean(column) for column in zip(*rows, strict=True)])
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, row in zip([*outcomes, "mean"], rows, strict=True):
        cells = [*(f"{value:.2f}" for value in row[:-1]), f"{row[-1]:.1f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ice_train.tsv, ice_dev.tsv and so on")
    parser.add_argument("--work", type=Path, required=True, help="folder for the models")
    parser.add_argument("--languages", nargs="+", choices=list(LANGUAGES), help="by default those of --data")
    parser.add_argument("--seeds", type=int, default=5, help="models of a language")
    arguments = parser.parse_args()
    if arguments.languages is None:
        arguments.languages = [one for one in LANGUAGES if (arguments.data / f"{one}_train.tsv").is_file()]
    if not arguments.languages:
        raise SystemExit(f"There is no table such as ice_train.tsv in --data {arguments.data}.")
    for language in arguments.languages:
        for split in SPLITS.values():
            if not (path := arguments.data / f"{language}_{split}.tsv").is_file():
                raise SystemExit(f"There is no {path}.")
    if arguments.seeds < 2:
        raise SystemExit(f"--seeds {arguments.seeds}: an ensemble has two models at least.")
    return arguments


if __name__ == "__main__":
    main()
