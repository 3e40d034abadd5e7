"""What holds for every task: a run that is resumed, two processes, and the Trainer of transformers by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments, pipeline

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer
from hf_rnn_s2s.data.speech import SpeechCollator, features_of
from hf_rnn_s2s.training.tasks import TASKS

from ...data_examples import write_table
from ...speech import BINS, TONES, processor, tones, write_tones
from ...two_processes import run_with_torchrun
from ..test_train import ROOT, results, rows, run

make_pipeline: Any = pipeline
COMMON = [
    "--embedding_size=16", "--hidden_size=16", "--num_train_epochs=2", "--per_device_train_batch_size=4",
    "--per_device_eval_batch_size=4", "--learning_rate=1e-2", "--dropout=0.2", "--report_to=none",
    "--disable_tqdm=true", "--sample_translations=1", "--num_beams=2", "--max_target_length=20", "--seed=3",
]  # fmt: skip
NAMES = ["anna", "bob", "otto", "ada", "hannah", "eve", "abba", "noon", "level", "kayak", "civic", "radar"]


class Run(NamedTuple):
    """How a task is run on a dozen rows: its rows, its options, and the key of a result."""

    rows: Callable[[Path], list[dict[str, Any]]]
    options: list[str]
    key: str
    metric: str


def pairs(folder: Path) -> list[dict[str, Any]]:
    return [{"source": f"my name is {name}", "target": f"{name} is my name"} for name in NAMES]


def mails(folder: Path) -> list[dict[str, Any]]:
    return [{"text": f"Dear {name}, we meet at noon. Best, {name}", "summary": f"Meet {name}"} for name in NAMES]


def words(folder: Path) -> list[dict[str, Any]]:
    return [{"source": name, "target": " ".join(reversed(name))} for name in NAMES]


def recordings(folder: Path) -> list[dict[str, Any]]:
    table = []
    for number in range(12):
        names = [list(TONES)[(number + place) % 3] for place in range(1 + number % 3)]
        write_tones(folder / f"{number}.wav", names)
        table.append({"audio": f"{number}.wav", "text": " ".join(names)})
    return table


RUNS = {
    "translation": Run(pairs, ["--vocab_size=300"], "translation_text", "bleu"),
    "summarization": Run(mails, ["--vocab_size=300", "--head_type=copying"], "summary_text", "rouge2"),
    "transduction": Run(words, ["--decoder_tokenizer_kind=symbol"], "generated_text", "wer"),
    "speech-recognition": Run(
        recordings,
        ["--num_mel_bins=12", "--stacked_frames=3", "--encoder_layers=2", "--apply_spec_augment=true"],
        "text",
        "wer",
    ),
}
every_task = pytest.mark.parametrize("task", RUNS)


def options(task: str, folder: Path) -> list[str]:
    path = write_table(folder / "rows.jsonl", RUNS[task].rows(folder))
    files = [f"--{split}_file={path}" for split in ("train", "validation", "test")]
    return [f"--task={task}", *files, *RUNS[task].options, *COMMON]


def test_all_tasks_are_here() -> None:
    assert set(RUNS) == set(TASKS)


@every_task
def test_a_run_leaves_its_files_and_resumed_it_goes_on_exactly(task: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    given = options(task, tmp_path)
    run(*given, f"--output_dir={whole}", "--save_total_limit=5")
    files = {"README.md", "attention.png", "training_curves.png", "predictions.tsv", "all_results.json", "config.json"}
    assert files <= {path.name for path in whole.iterdir()}
    assert f"predict_{RUNS[task].metric}" in results(whole)
    card = ModelCard.load(whole / "README.md")
    assert card.data.pipeline_tag == TASKS[task]().pipeline_name
    assert f'= pipeline("{TASKS[task]().pipeline_name}", model=' in card.text
    assert ("| Metric | Value | Signature |" in card.text) == (task == "translation")
    assert "| Metric | Value |" in card.text
    # The pipeline writes what the run wrote.
    writer = make_pipeline(TASKS[task]().pipeline_name, str(whole), device="cpu")
    sources = [row[0] for row in rows(whole)[1:]]
    given_to = [str(tmp_path / source) for source in sources] if task == "speech-recognition" else sources
    written = [one[0] if isinstance(one, list) else one for one in (writer(source) for source in given_to)]
    assert [one[RUNS[task].key].split() for one in written] == [row[2].split() for row in rows(whole)[1:]]

    (whole / "checkpoint-6").rename(tmp_path / "finished")
    resumed = ["--resume_from_checkpoint", str(whole / "checkpoint-3"), "--save_total_limit=5"]
    run(*given, f"--output_dir={whole}", *resumed)
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tmp_path / "finished", whole / "checkpoint-6")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@every_task
def test_two_processes_leave_the_same_rows(task: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_with_torchrun(ROOT / "train.py", *options(task, tmp_path), f"--output_dir={folder}")
    table = RUNS[task].rows(tmp_path)
    target = "target" if "target" in table[0] else "summary" if "summary" in table[0] else "text"
    assert [row[1] for row in rows(folder)[1:]] == [row[target] for row in table]
    assert results(folder)["epoch"] == 2.0


def features(task: str) -> tuple[Any, Any, list[dict[str, Any]]]:
    """A tokenizer, a configuration and inputs, as somebody makes them who does not use `train.py`."""
    sizes = {"embedding_size": 16, "hidden_size": 16, "task": task}
    if task == "speech-recognition":
        one = processor()
        config = RnnS2SConfig(vocab_size=len(one.tokenizer), encoder_type="pyramidal", num_mel_bins=BINS, **sizes)
        inputs = [
            {
                "input_features": features_of(tones([name]), one.feature_extractor),
                "labels": one.tokenizer(name)["input_ids"],
            }
            for name in TONES
        ]
        return one.tokenizer, config, inputs
    tokenizer: Any = train_tokenizer(NAMES, 100, "char", target_texts=NAMES, target_kind="symbol")
    config = RnnS2SConfig(vocab_size=len(tokenizer), decoder_vocab_size=len(tokenizer.target_tokenizer), **sizes)
    return tokenizer, config, [dict(tokenizer(name, text_target=name)) for name in NAMES]


@every_task
def test_the_trainer_of_transformers_is_enough(task: str, tmp_path: Path) -> None:
    tokenizer, config, inputs = features(task)
    torch.manual_seed(0)
    model = RnnS2SForConditionalGeneration(config)
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, disable_tqdm=True, report_to="none", max_steps=30, learning_rate=0.02,
        per_device_train_batch_size=4, predict_with_generate=True, generation_max_length=6, save_strategy="no",
    )  # fmt: skip
    collator = SpeechCollator() if task == "speech-recognition" else DataCollatorForSeq2Seq(tokenizer)
    trainer = Seq2SeqTrainer(
        model, arguments, train_dataset=inputs, eval_dataset=inputs, data_collator=collator, processing_class=tokenizer
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    output = trainer.predict(inputs)
    assert output.metrics["test_loss"] < before / 2
    assert np.asarray(output.predictions).shape[0] == len(inputs)
