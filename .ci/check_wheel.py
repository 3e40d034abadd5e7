"""Run where only the wheel is installed: trains a tokenizer, saves a model, and uses both the ordinary way."""

import importlib.util
import tempfile

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

import hf_rnn_s2s

assert importlib.util.find_spec("datasets") is None, "the wheel alone needs none of the training extras"
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
print(f"hf-rnn-s2s {hf_rnn_s2s.__version__} works from the wheel alone")
