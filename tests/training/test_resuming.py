"""Runs of the training script that are cut off: killed, out of numbers, out of disk, or at the end of their time."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerState

from hf_rnn_s2s.errors import RunError, UsageError
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.checkpoints import find_checkpoint, last_whole_checkpoint, problem_with
from hf_rnn_s2s.training.finite import NotFiniteError, require_finite_weights
from hf_rnn_s2s.training.run_folder import own_folder
from hf_rnn_s2s.training.trainer import RnnS2STrainer

from ..two_processes import run_in_two_processes
from .test_train import ROOT, load_script

RECIPE = """
hidden_size: 16
embedding_size: 32
demo_size: 150
vocab_size: 420
per_device_train_batch_size: 32
max_eval_samples: 4
do_predict: false
eval_strategy: "no"
load_best_model_at_end: false
save_strategy: steps
save_steps: 3
save_total_limit: null
max_steps: 9
learning_rate: 1e-2
generation_max_length: 16
sample_translations: 0
report_to: [none]
disable_tqdm: true
"""
# Runs the script until it has written the state of a trainer for the second time.
KILLED = """
import os, signal, runpy, sys
from transformers import TrainerState

save, count = TrainerState.save_to_json, [0]

def save_and_die(self, path):
    save(self, path)
    count[0] += 1
    if count[0] == 2:
        os.kill(os.getpid(), signal.SIGKILL)

TrainerState.save_to_json = save_and_die
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

train = load_script()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return str(path)


def run(*argv: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        train.main(argv)


def start(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command], check=False, env=environment, capture_output=True, text=True, cwd=ROOT
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def require_same(one: Path, other: Path) -> None:
    expected = weights(other)
    for name, weight in weights(one).items():
        assert torch.equal(weight, expected[name]), name


def test_a_run_killed_with_its_last_checkpoint_just_written_goes_on_exactly(recipe: str, tmp_path: Path) -> None:
    averaging = ["--ema_decay", "0.5"]
    run(recipe, *averaging, "--output_dir", str(tmp_path / "whole"))
    killed = start("-c", KILLED, str(ROOT / "train.py"), recipe, *averaging, "--output_dir", str(tmp_path / "killed"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert sorted(path.name for path in (tmp_path / "killed").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    run(recipe, *averaging, "--output_dir", str(tmp_path / "killed"), "--resume_from_checkpoint", "true")
    require_same(tmp_path / "killed", tmp_path / "whole")


STREAM = ["--streaming", "true", "--shuffle_buffer_size", "64", "--max_steps", "12"]


@pytest.mark.parametrize("batches", [[], ["--per_device_train_batch_tokens", "900"]])
def test_a_stream_is_resumed_exactly_in_a_later_pass(recipe: str, tmp_path: Path, batches: list[str]) -> None:
    options = [*STREAM, *batches, "--max_source_length", "60", "--max_target_length", "60"]
    run(recipe, *options, "--output_dir", str(tmp_path / "whole"))
    state = json.loads((tmp_path / "whole" / "checkpoint-9" / "stream_state.json").read_text())
    assert state["position"]["pass_number"] >= 1
    for step in (3, 9):
        again = tmp_path / f"from-{step}"
        checkpoint = tmp_path / "whole" / f"checkpoint-{step}"
        run(recipe, *options, "--output_dir", str(again), "--resume_from_checkpoint", str(checkpoint))
        require_same(again, tmp_path / "whole")
    with pytest.raises(UsageError, match="batch_size was 32 and is 16"):
        run(
            *(recipe, *options, "--output_dir", str(tmp_path / "other"), "--resume_from_checkpoint", str(checkpoint)),
            *("--per_device_train_batch_size", "16"),
        )


def test_two_processes_with_workers_resume_a_stream_exactly(recipe: str, tmp_path: Path) -> None:
    options = [recipe, *STREAM, "--max_steps", "6", "--dataloader_num_workers", "1"]
    run_in_two_processes(ROOT / "train.py", *options, "--output_dir", str(tmp_path / "whole"))
    state = json.loads((tmp_path / "whole" / "checkpoint-3" / "stream_state.json").read_text())
    assert state["position"]["pass_number"] == 1
    resume = ["--resume_from_checkpoint", str(tmp_path / "whole" / "checkpoint-3")]
    run_in_two_processes(ROOT / "train.py", *options, "--output_dir", str(tmp_path / "again"), *resume)
    require_same(tmp_path / "again", tmp_path / "whole")


def test_a_run_ends_where_its_numbers_do(recipe: str, tmp_path: Path) -> None:
    """The learning rate rises from 0 to one that no weight survives."""
    folder = tmp_path / "run"
    wild = ["--learning_rate", "1e38", "--warmup_steps", "4", "--max_grad_norm", "0", "--save_steps", "1"]
    with pytest.raises(RunError) as error:
        run(recipe, "--output_dir", str(folder), *wild, "--bf16", "false")
    message = str(error.value)
    [step] = re.findall(r"The loss of step (\d+) is nan, at a learning rate of [2-9]\.?\d*e\+37", message)
    last = folder / f"checkpoint-{int(step) - 1}"
    assert f"The last good checkpoint, {last}, stays the result" in message
    assert message.count(" -> ") == 8
    assert not (folder / "model.safetensors").exists()
    for checkpoint in folder.glob("checkpoint-*"):
        assert all(torch.isfinite(weight).all() for weight in weights(checkpoint).values())
    assert find_checkpoint(RnnS2STrainingArguments(output_dir=str(folder), resume_from_checkpoint="true")) == str(last)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    require_finite_weights(model, tmp_path)
    model.bias.data[1] = torch.inf
    with pytest.raises(NotFiniteError, match=r"infinite or not numbers \(bias\), so it is not saved. No checkpoint"):
        require_finite_weights(model, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_is_named_and_leaves_the_checkpoint_before_it(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def full_at_the_second(content: Any, file: Any, *arguments: Any, **options: Any) -> None:
        save(content, "/dev/full" if "checkpoint-6" in str(file) else file, *arguments, **options)

    monkeypatch.setattr(torch, "save", full_at_the_second)
    with pytest.raises(RunError, match="could not be written: the disk is full"):
        run(recipe, "--output_dir", str(tmp_path / "run"))
    monkeypatch.undo()
    run(recipe, "--output_dir", str(tmp_path / "run"), "--resume_from_checkpoint", "true")
    run(recipe, "--output_dir", str(tmp_path / "whole"))
    require_same(tmp_path / "run", tmp_path / "whole")


def test_a_run_does_not_begin_in_the_folder_of_one_that_goes_on(recipe: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with (
        own_folder(RnnS2STrainingArguments(output_dir=str(folder))),
        pytest.raises(UsageError, match="Another run is writing into output_dir"),
    ):
        run(recipe, "--output_dir", str(folder))
    run(recipe, "--output_dir", str(folder))
    shutil.rmtree(folder)


def test_mistakes_end_with_a_message_and_nothing_heavy_is_loaded_for_them(recipe: str, tmp_path: Path) -> None:
    options = [
        recipe,
        "--output_dir",
        str(tmp_path / "new"),
        "--hiden_size",
        "5",
        "--tokenizer_name",
        "no/such/one",
    ]
    wrong = start(str(ROOT / "train.py"), *options)
    assert wrong.returncode == 2
    lines = wrong.stderr.strip().splitlines()
    assert lines[-3] == "train.py: 2 things are wrong:"
    assert lines[-2].startswith("- unknown argument 'hiden_size' on the command line; did you mean hidden_size")
    assert lines[-1].startswith("- tokenizer_name no/such/one: there is no such folder")
    assert "Traceback" not in wrong.stderr
    code = (
        "import sys, train, hf_rnn_s2s.errors\n"
        "try:\n"
        "    train.main(sys.argv[1:])\n"
        "except hf_rnn_s2s.errors.UsageError:\n"
        "    print(sorted({'datasets', 'evaluate', 'sacrebleu', 'matplotlib', 'pandas'} & set(sys.modules)))\n"
    )
    assert start("-c", code, *options).stdout.strip() == "[]"


def test_a_name_that_nothing_has_is_not_answered_with_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It might be one of the Hub, so it is asked for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    missing = ["--model_name_or_path", "outputs/nowhere", "--output_dir", str(tmp_path / "new"), "--demo_size", "20"]
    with pytest.raises(UsageError, match="model_name_or_path outputs/nowhere cannot be loaded: there is no such"):
        run(*missing)
    assert not (tmp_path / "new").exists()


def test_a_state_that_was_written_is_one_that_can_be_read(recipe: str, tmp_path: Path) -> None:
    run(recipe, "--output_dir", str(tmp_path / "run"), *STREAM, "--eval_strategy", "epoch", "--save_strategy", "epoch")
    state = TrainerState.load_from_json(str(tmp_path / "run" / "trainer_state.json"))
    evaluated = [entry["step"] for entry in state.log_history if "eval_loss" in entry]
    assert evaluated == [5, 10, 12]  # at the end of each pass of 150 rows in steps of 32, and of the run
    assert sorted(int(path.name[11:]) for path in (tmp_path / "run").glob("checkpoint-*")) == [5, 10, 12]


def test_a_finished_run_is_not_trained_on(recipe: str, tmp_path: Path) -> None:
    """Neither in the middle of a pass over data that has an end, nor of a stream."""
    for name, options in (("data", []), ("stream", STREAM[:-2])):
        folder = tmp_path / name
        constant = ["--lr_scheduler_type", "constant", "--max_steps", "7", "--save_steps", "7"]
        arguments = [recipe, *options, *constant, "--output_dir", str(folder)]
        run(*arguments)
        before = weights(folder)
        run(*arguments, "--resume_from_checkpoint", "true")
        after = weights(folder)
        assert all(weight.equal(before[key]) for key, weight in after.items())
        assert TrainerState.load_from_json(str(folder / "trainer_state.json")).global_step == 7
        assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-7"]


def test_a_checkpoint_that_is_written_over_is_not_whole_in_between(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    run(recipe, "--output_dir", str(folder), "--max_steps", "6")

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RnnS2STrainer, "_save_optimizer_and_scheduler", fail)
    resumed = [recipe, "--output_dir", str(folder), "--max_steps", "6"]
    with pytest.raises(KeyboardInterrupt):
        run(*resumed, "--resume_from_checkpoint", str(folder / "checkpoint-3"))
    assert problem_with(folder / "checkpoint-6") == "it has no trainer_state.json, which is written last"
    assert last_whole_checkpoint(folder) == folder / "checkpoint-3"
