"""
The architectures of the literature beside the default one, at one shape and with the depth of their papers.

    python -m benchmarks.presets --data data/multi30k --work DIR [--only NAME ...] [--parts speed quality table]

`speed`: each preset and the default take training steps in turn, and then translate in turn, in one process, with
random weights and texts of fixed length; what is reported are ratios of medians. `quality`: `train.py` trains each for
a number of epochs of Multi30k English-German, with two learning rates, of which the better one counts; BLEU of the
validation split, greedy. `table` writes what is there into the README, between its two marks. Every part of every
preset leaves a file in DIR, so that a run can be interrupted.

The shape is that of the default: embeddings of 256, layers of 512 (256 each way), 8,000 tokens for both sides.
The hybrid adds positions to its embeddings, which are 512 wide therefore. The pretrained encoder is a BERT of four
layers of 256 that was not trained before: what it shows is the speed, and the least that it can do.
"""

import argparse
import functools
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer
from hf_rnn_s2s.model.configuration_rnn_s2s import PRESETS

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- presets: begin, written by benchmarks.presets -->", "<!-- presets: end -->"
ROWS, SOURCE, TARGET = 64, 14, 15  # of a batch, about as in Multi30k
SHAPE: dict[str, Any] = {"embedding_size": 256, "hidden_size": 512, "dropout": 0.2}
OF_CHARACTERS = ("wu2019-hard",)  # presets for vocabularies much smaller than the common one
NAMES = ["default", *(name for name in PRESETS if name not in OF_CHARACTERS)]
RATES = (1e-3, 2e-3)
# What a preset has of its paper's sizes, and where it cannot have the common ones
OF_PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "bahdanau2015": {"encoder_direction_size": 256, "readout_size": 256},
    "luong2015": {"readout_size": 512},  # as wide as its layers
    "luong2015-local": {"readout_size": 512},
    "gnmt2016": {"encoder_direction_size": 256},
    "rnmt-plus2018": {"encoder_direction_size": 256, "encoder_projection_size": 512},
    "nematus-conditional-gru": {"encoder_direction_size": 256, "attention_hidden_size": 512},
    "self-attentive": {"encoder_direction_size": 256, "attention_hidden_size": 512},
    "hybrid": {"embedding_size": 512, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048},
    "pointer-generator2017": {
        "encoder_direction_size": 256,
        "attention_hidden_size": 512,
        "readout_size": 256,
        "copy_slots": 0,
        "coverage_loss": 0.0,  # which the paper adds for the very last steps only
    },
}


def overrides(name: str) -> dict[str, Any]:
    return {**SHAPE, **OF_PRESETS.get(name, {})}


def small_bert() -> BertConfig:
    sizes: dict[str, Any] = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    return BertConfig(vocab_size=8000, intermediate_size=1024, max_position_embeddings=128, **sizes)


def build(name: str) -> RnnS2SForConditionalGeneration:
    values = {**overrides(name), "vocab_size": 8000, "decoder_vocab_size": None}
    if name == "pretrained-encoder":
        values |= {"encoder_config": small_bert()}
    config = RnnS2SConfig(**values) if name == "default" else RnnS2SConfig.from_preset(name, **values)
    torch.manual_seed(0)
    return RnnS2SForConditionalGeneration(config)


def in_turn(rounds: int, first: Callable[[], Any], second: Callable[[], Any]) -> float:
    """How much faster the second one is than the first one: the ratio of the medians of both."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for place, work in enumerate((first, second)):
            begin = time.perf_counter()
            work()
            if number:  # the first round warms up
                times[place].append(time.perf_counter() - begin)
    return statistics.median(times[0]) / statistics.median(times[1])


def training_step(model: RnnS2SForConditionalGeneration) -> Callable[[], None]:
    model.train()
    model.skip_logits_in_training()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-3, fused=True)
    source, labels = torch.randint(4, 8000, (ROWS, SOURCE)), torch.randint(4, 8000, (ROWS, TARGET))

    def step() -> None:
        model(source, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def translation(model: RnnS2SForConditionalGeneration) -> Callable[[], Any]:
    model.eval()
    source = torch.randint(4, 8000, (ROWS, SOURCE))
    settings: dict[str, Any] = {"num_beams": 5, "min_new_tokens": TARGET, "max_new_tokens": TARGET}
    return lambda: model.generate(source, **settings)


def speed(name: str, rounds: int) -> dict[str, Any]:
    model, default = build(name), build("default")
    return {
        "parameters": sum(one.numel() for one in model.parameters()),
        "training": in_turn(rounds, training_step(default), training_step(model)),
        "decoding": in_turn(rounds, translation(default), translation(model)),
    }


def quality(name: str, rate: float, data: Path, work: Path, epochs: float) -> dict[str, Any]:
    """BLEU of the validation split after so many epochs."""
    values = {**overrides(name), "vocab_size": 8000}
    if name != "default":
        values["preset"] = name
    if name == "pretrained-encoder":
        values["encoder_name"] = str(untrained_encoder(data, work / f"encoder-{rate}"))
        values["decoder_vocab_size"] = 8000
    folder = work / f"run-{name}-{rate}"
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was interrupted
    files = {"train_file": data / "train", "validation_file": data / "val", "source_lang": "en", "target_lang": "de"}
    settings: dict[str, Any] = {
        "num_train_epochs": epochs,
        "learning_rate": rate,
        "seed": 1,
        "do_predict": "false",
        "eval_strategy": "epoch",
        "save_strategy": "no",
        "load_best_model_at_end": "false",
        "output_dir": folder,
        "report_to": "none",
        "disable_tqdm": "true",
        "sample_translations": 0,
    }
    options = [f"--{key}={value}" for key, value in {**values, **files, **settings}.items()]
    subprocess.run([sys.executable, str(ROOT / "train.py"), *options], check=True, cwd=ROOT)
    history = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    evaluations = [entry for entry in history if "eval_bleu" in entry]
    return {"bleu": evaluations[-1]["eval_bleu"], "loss": evaluations[-1]["eval_loss"], "rate": rate, "epochs": epochs}


def untrained_encoder(data: Path, folder: Path) -> Path:
    """A small BERT with random weights in a folder, with a tokenizer of the training sources."""
    if not folder.exists():
        texts = (data / "train.en").read_text(encoding="utf-8").splitlines()
        tokenizer = train_tokenizer(texts, 8000, model_max_length=128)
        tokenizer.save_pretrained(folder)
        config = small_bert()
        config.vocab_size = len(tokenizer)
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


def table(work: Path, epochs: float) -> str:
    """What is there, as rows of Markdown."""
    rows = [
        "| Preset | Parameters | Training | Decoding | BLEU | Learning rate |",
        "|---|---|---|---|---|---|",
    ]
    for name in NAMES:
        speeds, qualities = (
            [json.loads(path.read_text(encoding="utf-8")) for path in work.glob(f"{name}.{part}.json")]
            for part in ("speed", f"{epochs:g}.*.quality")
        )
        if not speeds:
            continue
        [one] = speeds
        best = max(qualities, key=lambda each: each["bleu"], default=None)
        bleu = " | " if best is None else f"{best['bleu']:.1f} | {best['rate']:g}"
        figures = f"{one['parameters'] / 1e6:.1f} M | {one['training']:.2f} | {one['decoding']:.2f} | {bleu}"
        rows.append(f"| `{name}` | {figures} |")
    return "\n".join(rows)


def write_table(work: Path, epochs: float) -> None:
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"README.md has no place for the table: put {BEGIN} and {END} there.")
    before, rest = text.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{table(work, epochs)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/multi30k"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument(
        "--parts", nargs="+", choices=("speed", "quality", "table"), default=["speed", "quality", "table"]
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument(
        "--rates", type=float, nargs="+", default=RATES, help="learning rates, of which the best counts"
    )
    arguments = parser.parse_args()
    data, work = arguments.data.resolve(), arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        if "speed" in arguments.parts:
            keep(work / f"{name}.speed.json", functools.partial(speed, name, arguments.rounds))
        for rate in arguments.rates if "quality" in arguments.parts else ():
            path = work / f"{name}.{arguments.epochs:g}.{rate}.quality.json"
            keep(path, functools.partial(quality, name, rate, data, work, arguments.epochs))
    if "table" in arguments.parts:
        write_table(work, arguments.epochs)


def keep(path: Path, make: Callable[[], dict[str, Any]]) -> None:
    """Write a result into its file, unless it is there."""
    if not path.exists():
        path.write_text(json.dumps(make()), encoding="utf-8")
    print(f"{path.stem}: {path.read_text(encoding='utf-8')}", flush=True)


if __name__ == "__main__":
    main()
