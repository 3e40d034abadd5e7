"""A run in several processes ends in all of them."""

import json
from pathlib import Path

from ..two_processes import run_in_two_processes

SCRIPT = """
import gc, json, sys, tempfile
import torch
from datasets import Dataset
from torch.nn.parallel import DistributedDataParallel
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer
from hf_rnn_s2s.training.processes import end_together
from tests.conftest import TINY_TEXTS
from tests.training.test_trainer import make_trainer

def wrappers():
    return sum(isinstance(one, DistributedDataParallel) for one in gc.get_objects())

tokenizer = train_tokenizer(TINY_TEXTS, vocab_size=300)
model = RnnS2SForConditionalGeneration(RnnS2SConfig(vocab_size=300, embedding_size=16, hidden_size=16))
rows = [{"source": text, "target": text, **tokenizer(text, text_target=text)} for text in TINY_TEXTS]
dataset = Dataset.from_list(rows)
trainer = make_trainer(model, tokenizer, dataset, tempfile.mkdtemp(), max_steps=2)
trainer.train()
trainer.evaluate()
counts, end = [wrappers()], trainer.accelerator.end_training

def counting():
    counts.append(wrappers())
    counts.append(torch.distributed.is_initialized())
    end()
    counts.append(torch.distributed.is_initialized())

trainer.accelerator.end_training = counting
process = trainer.args.process_index
end_together(trainer)
with open(f"{sys.argv[1]}/{process}.json", "w") as file:
    json.dump(counts, file)
"""


def test_what_wraps_the_model_goes_before_the_group_of_processes(tmp_path: Path) -> None:
    """Or a process may wait for a thread that waits for it."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    run_in_two_processes(script, str(tmp_path))
    for process in range(2):
        counts = json.loads((tmp_path / f"{process}.json").read_text(encoding="utf-8"))
        assert counts == [1, 0, True, False]
