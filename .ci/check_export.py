"""Run where the wheel is installed with the extra `runtime` alone: loads an export, and translates with its graphs."""

import importlib.util
import json
import sys
from pathlib import Path

from transformers import AutoModelForSeq2SeqLM, pipeline

import hf_rnn_s2s

for name in ("datasets", "accelerate", "onnxscript", "sacrebleu"):
    assert importlib.util.find_spec(name) is None, f"the extra runtime does not need {name}"


def main() -> None:
    """Check what both ways to load it give."""
    folder = Path(sys.argv[1])
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert isinstance(model, hf_rnn_s2s.RnnS2SForConditionalGeneration)
    assert model.runtime.serves(model)
    translator = pipeline("translation", model=str(folder), device="cpu", max_new_tokens=9)
    for beams, texts in expected["written"].items():
        for processes in (1, 2):
            records = translator(expected["texts"], num_beams=int(beams), processes=processes)
            assert [one["translation_text"] for one in records] == texts, (beams, processes)
    print("an export translates where only the extra runtime is installed")


if __name__ == "__main__":
    main()
