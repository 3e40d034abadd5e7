"""What an earlier revision has saved loads here, and writes what it wrote there."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from benchmarks import revisions

EARLIER = "26fd858"  # the last one with all modules in one folder
SHAPES: list[dict[str, Any]] = [
    {},
    {"cell_type": "gru", "attention_type": "additive", "attention_layer": "top", "encoder_layers": 2},
    {"attention_type": "cosine", "context_fusion": "add", "bridge": "copy", "decoder_layers": 3},
    {"attention_type": "none", "tie_word_embeddings": False, "bridge": "copy"},
    {"attention_type": "scaled_dot", "bridge": "zero", "share_encoder_decoder_embeddings": False},
]
TEXTS = ["a small dog runs fast", "the cat"]

SAVE = """
import json, sys, torch, hf_rnn_s2s
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, RnnTranslationPipeline, train_tokenizer

folder, shapes, texts = json.loads(sys.argv[1])
tokenizer = train_tokenizer(texts, vocab_size=300)
answers = []
for number, shape in enumerate(shapes):
    torch.manual_seed(number)
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 12, "hidden_size": 12, "initializer_range": 1.0}
    model = RnnS2SForConditionalGeneration(RnnS2SConfig(**sizes, **shape)).eval()
    tokenizer.save_pretrained(f"{folder}/plain-{number}")
    model.save_pretrained(f"{folder}/plain-{number}")
    translator = RnnTranslationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    translator.save_pretrained(f"{folder}/code-{number}")
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch, decoder_input_ids=batch["input_ids"]).logits
    torch.save(logits, f"{folder}/logits-{number}.pt")
    beams = model.generate(**batch, num_beams=3, num_return_sequences=2, max_new_tokens=9)
    written = [one["translation_text"] for one in translator(texts, num_beams=3, max_new_tokens=9)]
    answers.append({"beams": beams.tolist(), "texts": written})
print(json.dumps([hf_rnn_s2s.__file__, answers]))
"""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder with what was saved, and what the models wrote there."""
    folder = tmp_path_factory.mktemp("earlier")
    try:
        revisions.unpack(EARLIER, folder / "checkout")
    except (OSError, SystemExit) as error:
        pytest.skip(f"there is no revision {EARLIER} here: {error}")
    order = json.dumps([str(folder), SHAPES, TEXTS])
    outcome = subprocess.run(
        [sys.executable, "-c", SAVE, order], cwd=folder / "checkout", capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    file, answers = json.loads(outcome.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(folder / "checkout")
    return folder, answers


@pytest.mark.parametrize("kind", ["plain", "code"])
@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_logits_beams_and_texts_are_equal(number: int, kind: str, earlier: tuple[Path, list[dict[str, Any]]]) -> None:
    """Of checkpoints without and with the code of that time, which is not used where the package is imported."""
    folder, answers = earlier
    path = folder / f"{kind}-{number}"
    assert bool(list(path.glob("*.py"))) == (kind == "code")
    model = AutoModelForSeq2SeqLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch, decoder_input_ids=batch["input_ids"]).logits
    expected = torch.load(folder / f"logits-{number}.pt", weights_only=True)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    beams = model.generate(**batch, num_beams=3, num_return_sequences=2, max_new_tokens=9)
    assert beams.tolist() == answers[number]["beams"]
    translator: Any = pipeline("translation", model=str(path), device="cpu")
    written = [one["translation_text"] for one in translator(TEXTS, num_beams=3, max_new_tokens=9)]
    assert written == answers[number]["texts"]
