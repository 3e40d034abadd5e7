"""
Five classes that no file of the package knows, each registered by name.

What they compute, train, save and search is what their equations say. Coverage needs steps and has a state, and that
of the attention to the decoder's past grows. Input feeding is another wiring of the decoder. The encoder reads
features and has fewer outputs than inputs. The head copies.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSeq2SeqLM, Pipeline, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, register
from hf_rnn_s2s.model import modeling_rnn_s2s as plain
from hf_rnn_s2s.model.decoder_rnn_s2s import RnnS2SDecoder

from ..random_models import logits_in_chunks
from . import copying, coverage, feeding, halving, past, references

ROOT = Path(__file__).parents[2]
START, END, VOCABULARY, LENGTH = 1, 2, 7, 3
TOKENS = torch.tensor([[4, 5, 6, 3, 2], [6, 4, 2, 0, 0], [3, 3, 5, 2, 0]])
FRAMES = torch.randn(3, 7, halving.FEATURES, generator=torch.Generator().manual_seed(0))
FRAMES_MASK = torch.arange(7) < torch.tensor([[7], [3], [4]])


class Plugin(NamedTuple):
    """A plug-in, the configuration that names it, and its reference."""

    values: dict[str, Any]
    reference: Callable[[Any, Any], Callable[[list[int]], torch.Tensor]]


PLUGINS = {
    "coverage": Plugin({"attention_type": "own_coverage", "decoder_layers": 1}, references.coverage),
    "past": Plugin({"attention_type": "past", "decoder_layers": 1}, references.past),
    "feeding": Plugin({"decoder_type": "feeding", "decoder_layers": 2}, references.feeding),
    "halving": Plugin({"encoder_type": "halving", "bridge": "zero", "decoder_layers": 2}, references.halving),
    "copying": Plugin({"head_type": "own_copying", "decoder_layers": 1}, references.copying),
}
every_plugin = pytest.mark.parametrize("name", PLUGINS)


def build(name: str, dropout: float = 0.0) -> RnnS2SForConditionalGeneration:
    torch.manual_seed(4)
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "embedding_size": 8, "hidden_size": 12}
    config = RnnS2SConfig(**sizes, unk_token_id=None, initializer_range=1.0, dropout=dropout, **PLUGINS[name].values)
    model = RnnS2SForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # those that begin at zero, too
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def inputs_of(name: str) -> dict[str, torch.Tensor]:
    if name == "halving":
        return {"input_features": FRAMES, "attention_mask": FRAMES_MASK.long()}
    return {"input_ids": TOKENS, "attention_mask": TOKENS.ne(0).long()}


def source_of(name: str, row: int) -> Any:
    """One source without padding, for a reference."""
    inputs = inputs_of(name)
    return next(iter(inputs.values()))[row][inputs["attention_mask"][row].bool()].tolist()


@every_plugin
def test_logits_are_those_of_the_equations(name: str) -> None:
    model = build(name).double()
    target = torch.tensor([[START, 4, 6, 3], [START, 5, 5, 2], [START, 3, 4, 5]])
    inputs = {key: one.double() if one.is_floating_point() else one for key, one in inputs_of(name).items()}
    logits = model(**inputs, decoder_input_ids=target).logits
    for row in range(3):
        reference = PLUGINS[name].reference(model, source_of(name, row))
        expected = torch.cat([reference(target[row].tolist())])
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=1e-10 if name != "halving" else 1e-6)


@every_plugin
@torch.no_grad()
def test_chunks_with_a_cache_are_a_full_pass(name: str) -> None:
    model, inputs = build(name), inputs_of(name)
    target = torch.tensor([[START, 4, 6, 3, 5]] * 3)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])  # prompts are padded on the left
    whole = model(**inputs, decoder_input_ids=target, decoder_attention_mask=mask).logits
    for sizes in ([1, 1, 1, 1, 1], [2, 3], [4, 1]):
        joined = logits_in_chunks(model, inputs, target, mask, sizes)
        torch.testing.assert_close(joined[mask.bool()], whole[mask.bool()], rtol=0, atol=1e-5)


def stripped(sequence: torch.Tensor) -> list[int]:
    target = sequence.tolist()[1:]
    return target[: target.index(END) + 1] if END in target else target


@every_plugin
@pytest.mark.parametrize("is_fast", [True, False], ids=["fast search", "transformers"])
def test_searches_are_those_of_brute_force(name: str, is_fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = build(name), inputs_of(name)
    if not is_fast:
        monkeypatch.setattr(RnnS2SForConditionalGeneration, "generate", plain.RnnS2SForConditionalGeneration.generate)
    greedy = model.generate(**inputs, max_new_tokens=LENGTH)
    beams = model.generate(
        **inputs,
        max_new_tokens=LENGTH,
        num_beams=3 * VOCABULARY**2,
        num_return_sequences=4,
        early_stopping="never",
    )
    for row in range(3):
        best, first = by_brute_force(name, row)
        assert stripped(greedy[row]) == best
        assert [stripped(one) for one in beams.view(3, 4, -1)[row]] == first


@cache
def by_brute_force(name: str, row: int) -> tuple[list[int], list[list[int]]]:
    """The outcome of greedy search, and the best four of all complete targets."""
    logits = PLUGINS[name].reference(build(name), source_of(name, row))
    return greedy_of(logits), all_targets(logits)[:4]


def greedy_of(logits: Callable[[list[int]], torch.Tensor]) -> list[int]:
    target: list[int] = []
    while len(target) < LENGTH and END not in target:
        target.append(int(logits([START, *target])[-1].argmax()))
    return target


def all_targets(logits: Callable[[list[int]], torch.Tensor]) -> list[list[int]]:
    """Every complete target, the best first, by the mean of its log-probabilities."""
    others, scored = [token for token in range(VOCABULARY) if token != END], []
    for inner in range(LENGTH + 1):
        for tokens in product(others, repeat=inner):
            target = [*tokens, *([] if inner == LENGTH else [END])]
            rows = logits([START, *target[:-1]]).log_softmax(-1)
            total = sum(float(row[token]) for row, token in zip(rows, target, strict=True))
            scored.append((total / len(target), target))
    return [target for _, target in sorted(scored, reverse=True)]


@every_plugin
def test_a_row_does_not_change_with_its_batch(name: str) -> None:
    model, inputs = build(name), inputs_of(name)
    together = model.generate(**inputs, num_beams=3, max_new_tokens=9)
    for row in range(3):
        alone = {key: one[row : row + 1] for key, one in inputs.items()}
        assert stripped(model.generate(**alone, num_beams=3, max_new_tokens=9)[0]) == stripped(together[row])


TARGETS = [[5, 4, 2], [3, 2], [6, 6, 2]]


class Learned(NamedTuple):
    """What became of one plug-in: the losses of training, what its model wrote, and what a fresh process loaded."""

    losses: list[float]
    written: list[list[int]]
    reloaded: list[list[int]]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Learned]:
    """All plug-ins, each trained and saved; one fresh process loads them all."""
    folder = tmp_path_factory.mktemp("learned")
    here = {name: train(name, folder / name) for name in PLUGINS}
    code = (
        "import json, sys, torch, tests.plugins.test_plugins as plugins\n"
        "from hf_rnn_s2s import RnnS2SForConditionalGeneration\n"
        "found = {}\n"
        "for name in plugins.PLUGINS:\n"
        "    model = RnnS2SForConditionalGeneration.from_pretrained(f'{sys.argv[1]}/{name}/model')\n"
        "    found[name] = model.generate(**plugins.inputs_of(name), num_beams=2, max_new_tokens=5).tolist()\n"
        "print(json.dumps(found))\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    found = json.loads(outcome.stdout.splitlines()[-1])
    return {name: Learned(*both, found[name]) for name, both in here.items()}


@every_plugin
def test_it_learns_with_a_plain_trainer(name: str, learned: dict[str, Learned]) -> None:
    losses = learned[name].losses
    assert losses[-1] < 0.5 * losses[0]
    assert [stripped(torch.tensor(row)) for row in learned[name].written] == TARGETS


@every_plugin
def test_it_loads_in_a_fresh_process(name: str, learned: dict[str, Learned]) -> None:
    assert learned[name].reloaded == learned[name].written


def train(name: str, folder: Path) -> tuple[list[float], list[list[int]]]:
    """Trains a plug-in and saves its model; the losses, and what it writes then."""
    model = build(name, dropout=0.1)
    inputs = {key: one.tolist() for key, one in inputs_of(name).items()}
    losses = []

    class Trainer(Seq2SeqTrainer):
        def log(self, logs: dict[str, float], *args: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])
            super().log(logs, *args)

    arguments = Seq2SeqTrainingArguments(
        output_dir=str(folder / "run"),
        max_steps=60,
        learning_rate=0.02,
        per_device_train_batch_size=3,
        logging_steps=20,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    dataset = Dataset.from_dict({**inputs, "labels": TARGETS})
    Trainer(model, arguments, train_dataset=dataset, data_collator=collate).train()
    model.save_pretrained(folder / "model")
    written = model.eval().generate(**inputs_of(name), num_beams=2, max_new_tokens=5)
    return losses, written.tolist()


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["labels"]) for row in rows)
    labels = [row["labels"] + [-100] * (longest - len(row["labels"])) for row in rows]
    sources = {name: torch.tensor([row[name] for row in rows]) for name in rows[0] if name != "labels"}
    return {**sources, "labels": torch.tensor(labels)}


class FramesPipeline(Pipeline):
    """Frames in, token ids out."""

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return {}, kwargs, {}

    def preprocess(self, input_: Any, **kwargs: Any) -> dict[str, Any]:
        return {"input_features": input_.unsqueeze(0)}

    def _forward(self, input_tensors: dict[str, Any], **kwargs: Any) -> Any:
        return {"ids": self.model.generate(**input_tensors, **kwargs)}

    def postprocess(self, model_outputs: Any, **kwargs: Any) -> list[int]:
        return stripped(model_outputs["ids"][0])


def test_an_encoder_of_features_works_in_a_pipeline() -> None:
    model = build("halving")
    assert model.main_input_name == model.get_encoder().main_input_name == "input_features"
    recognizer = FramesPipeline(model, device="cpu")
    found = [recognizer(torch.tensor(source_of("halving", row)), max_new_tokens=9, num_beams=3) for row in range(3)]
    together = model.generate(**inputs_of("halving"), max_new_tokens=9, num_beams=3)
    assert found == [stripped(one) for one in together]


def test_inputs_of_another_kind_are_refused() -> None:
    target = torch.tensor([[START]])
    with pytest.raises(ValueError, match="input_ids was passed, but the encoder of this model reads input_features"):
        build("halving")(input_ids=TOKENS[:1], decoder_input_ids=target)
    with pytest.raises(ValueError, match="input_features was passed, but the encoder of this model reads input_ids"):
        build("coverage")(input_features=FRAMES[:1], decoder_input_ids=target)


def test_contradictions_are_refused_when_the_model_is_built() -> None:
    values: dict[str, Any] = {"vocab_size": 20, "hidden_size": 12, "encoder_type": "halving"}
    with pytest.raises(
        ValueError, match="bridge='dense' reads the encoder's final states, but encoder_type='halving'"
    ):
        RnnS2SForConditionalGeneration(RnnS2SConfig(**values))
    with pytest.raises(ValueError, match="context_fusion='add' adds contexts of 24 numbers.* to states of 12"):
        RnnS2SForConditionalGeneration(RnnS2SConfig(**values, bridge="zero", context_fusion="add"))
    with pytest.raises(
        ValueError, match="attention_type='coverage_of_others' is not known; allowed are .* own_coverage"
    ):
        RnnS2SConfig(attention_type="coverage_of_others")


def test_a_class_of_ones_own_does_not_travel(tmp_path: Path) -> None:
    """The code that goes with a checkpoint is that of the package."""
    model = build("coverage")
    model.config.carry_code()
    with pytest.raises(ValueError, match="attention_type='own_coverage' means a class of your own"):
        model.save_pretrained(tmp_path)
    assert not (tmp_path / "config.json").exists()
    model.config.drop_code()
    model.save_pretrained(tmp_path)
    assert isinstance(AutoModelForSeq2SeqLM.from_pretrained(tmp_path), RnnS2SForConditionalGeneration)


def test_registering() -> None:
    register("attention_type", "own_coverage", coverage.CoverageAttention)  # once more
    for name in ("own_coverage", "dot", "none"):
        with pytest.raises(ValueError, match=f"attention_type='{name}' means another class already"):
            register("attention_type", name, RnnS2SDecoder)
    with pytest.raises(ValueError, match="kind='attention' is not known; allowed are encoder_type, decoder_type"):
        register("attention", "other", RnnS2SDecoder)


def test_plug_ins_are_short() -> None:
    for module in (copying, coverage, feeding, halving, past):
        assert len(Path(str(module.__file__)).read_text(encoding="utf-8").splitlines()) <= 80
