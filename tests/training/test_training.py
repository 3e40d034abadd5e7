"""Every option learns a little on a copy task, and a fresh process gets from the saved model what this one gets."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration
from hf_rnn_s2s.model.configuration_rnn_s2s import BUILT_IN

END, FIRST_WORD, VOCABULARY = 2, 4, 12
STEPS = 40
ASKED = torch.tensor([[5, 7, 9, END, 0], [11, 4, 6, 8, END]])

LOADER = """
import json, sys, torch, hf_rnn_s2s
from transformers import AutoModelForSeq2SeqLM

asked = torch.tensor(json.loads(sys.argv[1]))
labels = asked.masked_fill(asked == 0, -100)
answers = {}
with torch.no_grad():
    for folder in sys.argv[2:]:
        model = AutoModelForSeq2SeqLM.from_pretrained(folder)
        generated = [model.generate(asked, max_new_tokens=6, num_beams=beams).tolist() for beams in (1, 3)]
        as_loaded = model(asked, labels=labels).logits.tolist()
        # Where a tensor begins in a file decides where it begins in memory, and with that the order in which a matrix
        # product adds up: a difference of one rounding, gone when torch itself places the weights.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        answers[folder] = {"as_loaded": as_loaded, "logits": model(asked, labels=labels).logits.tolist()}
        answers[folder]["generated"] = generated
print(json.dumps(answers))
"""


def options() -> list[dict[str, str]]:
    """Every attention type with a cell that has a fused kernel and one that has none; the rest in turn."""
    cells, attentions = BUILT_IN["cell_type"], BUILT_IN["attention_type"]
    pairs = [(cell, attention) for place, attention in enumerate(attentions) for cell in cells[place % 2 :: 2]]
    chosen = []
    for index, (cell, attention) in enumerate(pairs):
        unseen = ("zero", "backward") if attention == "none" else ()
        bridges = [bridge for bridge in BUILT_IN["bridge"] if bridge not in unseen]
        fusions = BUILT_IN["context_fusion"]
        is_hard = attention.startswith("hard")
        chosen.append(
            {
                "cell_type": cell,
                "attention_type": attention,
                "head_type": "marginal" if is_hard else "vocabulary",
                "context_fusion": fusions[0 if is_hard else index % len(fusions)],
                "bridge": bridges[index % len(bridges)],
                "attention_layer": BUILT_IN["attention_layer"][index // 2 % 2],
            }
        )
    return chosen


def copy_batch() -> torch.Tensor:
    """Random words and an end token, `(16, 5)`, shorter rows padded."""
    words = torch.randint(FIRST_WORD, VOCABULARY, (16, 5))
    lengths = torch.randint(2, 5, (16, 1))
    position = torch.arange(5)
    return words.masked_fill(position == lengths, END).masked_fill(position > lengths, 0)


def train(values: dict[str, str]) -> tuple[RnnS2SForConditionalGeneration, list[float]]:
    torch.manual_seed(0)
    config = RnnS2SConfig(vocab_size=VOCABULARY, embedding_size=16, hidden_size=32, dropout=0.0, **values)
    model = RnnS2SForConditionalGeneration(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(STEPS):
        batch = copy_batch()
        loss = model(batch, labels=batch.masked_fill(batch == 0, -100)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model.eval(), losses


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Each option's model, losses and folder, and what a fresh process computed with what is in the folder."""
    folder = tmp_path_factory.mktemp("trained")
    results: dict[str, Any] = {}
    for values in options():
        model, losses = train(values)
        place = folder / "-".join(values.values())
        model.save_pretrained(place)
        results["-".join(values.values())] = {"model": model, "losses": losses, "folder": str(place)}
    folders = [result["folder"] for result in results.values()]
    command = [sys.executable, "-c", LOADER, json.dumps(ASKED.tolist()), *folders]
    root = Path(__file__).parents[2]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    reloaded = json.loads(answer.stdout.splitlines()[-1])
    for result in results.values():
        result["reloaded"] = reloaded[result["folder"]]
    return results


NAMES = ["-".join(values.values()) for values in options()]


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_falls(trained: dict[str, Any], name: str) -> None:
    losses = trained[name]["losses"]
    assert losses[0] > 2.0
    assert sum(losses[-5:]) / 5 < 0.8 * losses[0]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_fresh_process_gets_the_same(trained: dict[str, Any], name: str) -> None:
    model, reloaded = trained[name]["model"], trained[name]["reloaded"]
    logits = model(ASKED, labels=ASKED.masked_fill(ASKED == 0, -100)).logits
    assert torch.equal(torch.tensor(reloaded["logits"]), logits)
    torch.testing.assert_close(torch.tensor(reloaded["as_loaded"]), logits, rtol=0, atol=1e-6)
    generated = [model.generate(ASKED, max_new_tokens=6, num_beams=beams).tolist() for beams in (1, 3)]
    assert reloaded["generated"] == generated


def test_the_articles_attention_learns_to_copy() -> None:
    """Cosine scores and an added context, trained until they are right."""
    torch.manual_seed(1)
    config = RnnS2SConfig(
        vocab_size=VOCABULARY,
        embedding_size=16,
        hidden_size=48,
        decoder_layers=1,
        attention_type="cosine",
        context_fusion="add",
        dropout=0.0,
    )
    model = RnnS2SForConditionalGeneration(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(500):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 500)
        batch = copy_batch()
        model(batch, labels=batch.masked_fill(batch == 0, -100)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    asked = torch.cat([copy_batch() for _ in range(4)])
    generated = model.generate(asked, max_new_tokens=5)[:, 1:]
    wanted = torch.nn.functional.pad(asked, (0, max(0, generated.shape[1] - 5)))[:, : generated.shape[1]]
    assert (generated == wanted).all(1).float().mean() > 0.95
