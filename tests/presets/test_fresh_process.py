"""A fresh process gets from a saved preset what this one gets: with the package, and with the carried code alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .small import ALL, TARGETS, build, inputs

ROOT = Path(__file__).parents[2]
LOADER = """
import json, sys, torch
from transformers import AutoModelForSeq2SeqLM

with_package, given, target, folder = json.loads(sys.argv[1])
if with_package:
    import hf_rnn_s2s
else:
    sys.modules["hf_rnn_s2s"] = None
answers = {}
for name, inputs in given.items():
    inputs = {key: torch.tensor(one) for key, one in inputs.items()}
    arguments = {} if with_package else {"trust_remote_code": True}
    model = AutoModelForSeq2SeqLM.from_pretrained(f"{folder}/{name}", **arguments).double().eval()
    with torch.no_grad():
        logits = model(**inputs, decoder_input_ids=torch.tensor(target)).logits
    answers[name] = {
        "module": type(model).__module__,
        "logits": logits.tolist(),
        "beams": model.generate(**inputs, num_beams=3, max_new_tokens=6).tolist(),
    }
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("presets")
    for name in ALL:
        model = build(name)
        model.config.carry_code()
        model.save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize("with_package", [True, False], ids=["with the package", "with the carried code"])
@torch.no_grad()
def test_a_fresh_process_gets_the_same(with_package: bool, saved: Path, tmp_path: Path) -> None:
    given = {name: {key: one.tolist() for key, one in inputs(name).items()} for name in ALL}
    order = json.dumps([with_package, given, TARGETS.tolist(), str(saved)])
    outcome = subprocess.run(
        [sys.executable, "-c", LOADER, order],
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        cwd=ROOT if with_package else tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    answers: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])
    for name, answer in answers.items():
        model = build(name).double()
        assert answer["module"].startswith("hf_rnn_s2s" if with_package else "transformers_modules.")
        logits = torch.tensor(answer["logits"], dtype=torch.float64)
        expected = model(**inputs(name), decoder_input_ids=TARGETS).logits
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")
        assert answer["beams"] == model.generate(**inputs(name), num_beams=3, max_new_tokens=6).tolist()
