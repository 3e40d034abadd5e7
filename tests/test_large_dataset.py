"""The example that translates a large dataset: resumed after a kill, by several machines, each record once."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from transformers import PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline

SCRIPT = Path(__file__).parent.parent / "examples" / "translate_dataset.py"
TEXTS = [" ".join(["a", "small", "dog", "runs", "fast"][number % 5 : 3 + number % 3]) for number in range(60)]


@pytest.fixture
def command(
    tiny_model: RnnS2SForConditionalGeneration, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> list[str]:
    pipeline = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    pipeline.save_pretrained(tmp_path / "model")
    for number in range(2):
        rows = {"number": list(range(30 * number, 30 * number + 30)), "en": TEXTS[30 * number : 30 * number + 30]}
        Dataset.from_dict(rows).to_parquet(tmp_path / f"part-{number}.parquet")
    return [
        *(
            sys.executable,
            str(SCRIPT),
            "--model",
            str(tmp_path / "model"),
            "--files",
            str(tmp_path / "part-*.parquet"),
        ),
        *("--column", "en", "--output", str(tmp_path / "out"), "--settings", '{"max_new_tokens": 6}'),
    ]


def run(command: list[str], *more: str) -> subprocess.CompletedProcess:
    return subprocess.run([*command, *more], capture_output=True, text=True, check=False)


def finished(folder: Path) -> dict[str, int]:
    """The shards that are there, and when they were written."""
    return {file.name: file.stat().st_mtime_ns for file in folder.glob("*.parquet")}


def test_each_record_once_after_a_kill_and_from_two_machines(
    command: list[str],
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    out, ours = tmp_path / "out", ["--shards", "6", "--processes", "2", "--machines", "2"]
    process = subprocess.Popen([*command, *ours, "--machine", "0"], start_new_session=True)
    while process.poll() is None and not finished(out):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # all its processes, as when a machine is lost
    process.wait()
    first = finished(out)
    assert set(first) < {"00000-of-00006.parquet", "00002-of-00006.parquet", "00004-of-00006.parquet"}
    for machine in ("0", "1"):
        outcome = run(command, *ours, "--machine", machine)
        assert outcome.returncode == 0, outcome.stderr
    assert len(finished(out)) == 6
    assert first.items() <= finished(out).items()  # what was there has not been written again
    result: Any = load_dataset("parquet", data_files=str(out / "*.parquet"), split="train")
    assert result["number"][:] == list(range(60))
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", max_new_tokens=6)
    assert result["translation"][:] == [one["translation_text"] for one in translator(TEXTS)]
    assert len(set(result["translation"])) > 5


def test_other_work_is_refused(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "work.json").write_text("{}")
    for words, said in (
        (["--shards", "6"], "work.json tells of other work"),
        (["--shards", "61"], "--shards 61, but there are 60 records"),
        (["--column", "fr"], "There is no column 'fr'"),
        (["--machine", "1"], "--machine 1: with --machines 1"),
        (["--files", "nothing*"], "--files names none that is there"),
    ):
        monkeypatch.setattr(sys, "argv", [*command[1:], *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        assert said in str(ended.value) + capsys.readouterr().err
