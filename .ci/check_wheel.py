"""Run where only the wheel is installed: trains a tokenizer, saves a model, uses both in Python and in the shell."""

import importlib.util
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

import hf_rnn_s2s

assert importlib.util.find_spec("datasets") is None, "the wheel alone needs none of the training extras"


def command(*arguments: str, text: str = "") -> str:
    """What the console script writes."""
    script = Path(sys.executable).with_name("hf-rnn-s2s")
    return subprocess.run([script, *arguments], input=text, capture_output=True, text=True, check=True).stdout


texts = ["a small dog runs", "ein kleiner Hund läuft"]
tokenizer = hf_rnn_s2s.train_tokenizer(texts, vocab_size=300)
config = hf_rnn_s2s.RnnS2SConfig(vocab_size=len(tokenizer), embedding_size=16, hidden_size=16)
model = hf_rnn_s2s.RnnS2SForConditionalGeneration(config).eval()
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(folder)
    inputs = AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", padding=True)
    for beams in (1, 3):
        arguments = {"num_beams": beams, "max_new_tokens": 10}
        assert loaded.generate(**inputs, **arguments).equal(model.generate(**inputs, **arguments))
        expected = tokenizer.batch_decode(loaded.generate(**inputs, **arguments), skip_special_tokens=True)
        translated = pipeline("translation", model=folder)(texts, **arguments)
        assert [one["translation_text"] for one in translated] == expected
    written = command("translate", "--model", folder, "--output-format", "jsonl", text="\n".join(texts))
    assert len(written.splitlines()) == len(texts)
    assert "parameters: " in command("info", "--model", folder)
assert "multi30k-en-de" in command("train", "--list-recipes")
assert "translate" in command("--help")
for name in ("page/heat_map.css", "page/heat_map.js", "page/n_best.css", "script/train.py", "script/model_card.md"):
    assert files("hf_rnn_s2s").joinpath(name).is_file(), name
print(f"hf-rnn-s2s {hf_rnn_s2s.__version__} works from the wheel alone")
