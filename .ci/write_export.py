"""Run where the extra `export` is installed: exports a small model, and writes beside it what it translates."""

import json
import sys
from pathlib import Path

import torch

import hf_rnn_s2s

TEXTS = ["a small dog runs", "ein kleiner Hund läuft", "runs", ""]

folder = Path(sys.argv[1])
torch.manual_seed(0)
tokenizer = hf_rnn_s2s.train_tokenizer(TEXTS, vocab_size=300)
sizes = {"vocab_size": len(tokenizer), "embedding_size": 32, "hidden_size": 64, "initializer_range": 1.0}
model = hf_rnn_s2s.RnnS2SForConditionalGeneration(hf_rnn_s2s.RnnS2SConfig(**sizes)).eval()
hf_rnn_s2s.export_model(model, folder, "int8", tokenizer=tokenizer)
exported = hf_rnn_s2s.RnnS2SForConditionalGeneration.from_pretrained(folder)
translator = hf_rnn_s2s.RnnTranslationPipeline(model=exported, tokenizer=tokenizer, device="cpu", max_new_tokens=9)
written = {beams: [one["translation_text"] for one in translator(TEXTS, num_beams=beams)] for beams in (1, 3)}
(folder / "expected.json").write_text(json.dumps({"texts": TEXTS, "written": written}), encoding="utf-8")
