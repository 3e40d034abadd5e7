"""
Copying words that the vocabulary lacks: the pointer-generator beside the same model without copying.

    python -m benchmarks.copying --work DIR

Sentences are rearranged, as "qzaw wrote to lomib about kre" into "letter to lomib about kre from qzaw". The words of
the patterns are the vocabulary. Names are random letters, and each belongs to one pair of sentences, so that the test
split has none of those of the training. They can only be copied, and each at its place: all names of a sentence are
the same unknown token to the encoder, and only where they stand tells them apart.

`train.py` trains both models, with the same settings and for as many steps; the pipeline then translates the test
split. A name is right if the word at its place in the translation is that name.
"""

import argparse
import json
import random
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

from transformers import pipeline

import hf_rnn_s2s  # noqa: F401, for pipeline("translation")

ROOT = Path(__file__).parents[1]
PATTERNS = (
    ("call {0}", "phone {0}"),
    ("book a table for {0} in {1}", "table in {1} : {0}"),
    ("move {0} behind {1}", "behind {1} put {0}"),
    ("{0} wrote to {1} about {2}", "letter to {1} about {2} from {0}"),
    ("tell {0} that {1} and {2} are late", "late : {2} and {1} ( for {0} )"),
    ("{0} , {1} and {2} met {3}", "{3} was met by {0} , {1} , {2}"),
)
WORDS = frozenset(word for pattern in PATTERNS for side in pattern for word in side.split() if "{" not in word)
SPLITS = {"train": 8000, "val": 200, "test": 1000}
# The sizes of the paper's model, halved, and as many slots as a sentence can need
SETTINGS: dict[str, Any] = {
    "preset": "pointer-generator2017",
    "tokenizer_kind": "word",
    "vocab_size": len(WORDS) + 4,  # and the special tokens
    "embedding_size": 64,
    "hidden_size": 128,
    "encoder_direction_size": 64,
    "attention_hidden_size": 128,
    "readout_size": 64,
    "coverage_loss": 0.0,
    "learning_rate": 3e-3,
    "num_train_epochs": 8,
    "seed": 1,
    "source_lang": "en",
    "target_lang": "de",
    "do_predict": "false",
    "report_to": "none",
    "disable_tqdm": "true",
    "sample_translations": 0,
}
MODELS: dict[str, dict[str, Any]] = {
    "with copying": {"copy_slots": 4},
    "without": {"copy_slots": 0, "head_type": "vocabulary"},
}


def write_corpus(folder: Path, seed: int, share: float) -> None:
    """The three splits, `share` of their usual sizes, in files of two languages, as any corpus has them."""
    draw, used = random.Random(seed), set(WORDS)

    def name() -> str:
        while True:
            letters = "".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 9)))
            if letters not in used:
                used.add(letters)
                return letters

    for split, count in SPLITS.items():
        pairs = []
        for _ in range(max(1, round(count * share))):
            names = [name() for _ in range(4)]
            pairs.append([side.format(*names) for side in draw.choice(PATTERNS)])
        for number, language in enumerate(("en", "de")):
            text = "".join(f"{pair[number]}\n" for pair in pairs)
            (folder / f"{split}.{language}").write_text(text, encoding="utf-8")


def train(folder: Path, run: Path, values: dict[str, Any]) -> None:
    files = {"train_file": folder / "train", "validation_file": folder / "val", "output_dir": run}
    options = [f"--{name}={value}" for name, value in {**SETTINGS, **values, **files}.items()]
    subprocess.run([sys.executable, str(ROOT / "train.py"), *options], check=True, cwd=ROOT)


def right_names(translations: list[str], references: list[str]) -> tuple[int, int]:
    """How many of the names in the references stand at their place in the translations, and how many there are."""
    right = total = 0
    for translation, reference in zip(translations, references, strict=True):
        written = translation.split()
        for place, word in enumerate(reference.split()):
            if word not in WORDS:
                total += 1
                right += place < len(written) and written[place] == word
    return right, total


def measure(folder: Path, run: Path) -> dict[str, Any]:
    sources, references = (
        (folder / f"test.{language}").read_text(encoding="utf-8").splitlines() for language in ("en", "de")
    )
    translator: Any = pipeline("translation", model=str(run))  # type: ignore[call-overload]
    translations = [record["translation_text"] for record in translator(sources)]
    right, total = right_names(translations, references)
    exact = sum(one == other for one, other in zip(translations, references, strict=True))
    return {
        "parameters": translator.model.num_parameters(),
        "steps": json.loads((run / "trainer_state.json").read_text(encoding="utf-8"))["global_step"],
        "names": right / total,
        "sentences": exact / len(references),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the corpus and the models")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus")
    parser.add_argument("--quick", action="store_true", help="a small corpus, and figures that mean nothing")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    write_corpus(work, arguments.seed, 0.01 if arguments.quick else 1.0)
    found = {}
    for name, values in MODELS.items():
        run = work / name.replace(" ", "-")
        shutil.rmtree(run, ignore_errors=True)
        train(work, run, values)
        found[name] = measure(work, run)
    print("| Model | Parameters | Steps | Names right | Sentences right |\n|---|---|---|---|---|")
    for name, one in found.items():
        figures = f"{one['parameters']:,} | {one['steps']:,} | {one['names']:.1%} | {one['sentences']:.1%}"
        print(f"| {name} | {figures} |")
    print(json.dumps({"benchmark": "copying", **found}))


if __name__ == "__main__":
    main()
