"""What the trainer does for speed and memory: batches by tokens, precision, clipping, errors that name a batch."""

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SForConditionalGeneration, RnnTranslationPipeline
from hf_rnn_s2s.training import arguments, trainer
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments

from ..two_processes import run_in_two_processes
from .test_trainer import make_trainer

BUDGET = 60


@pytest.fixture
def dataset() -> Dataset:
    lengths = [(1 + row % 20, 1 + (row * 7) % 23) for row in range(150)]
    rows = [
        {"source": "", "target": "", "input_ids": [5] * source, "labels": [6] * target} for source, target in lengths
    ]
    return Dataset.from_list(rows)


def test_batches_have_as_many_tokens_as_asked(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    made = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, per_device_train_batch_tokens=BUDGET)
    batches = list(made.get_train_dataloader())
    assert sum(len(batch["labels"]) for batch in batches) == len(dataset)
    sizes = [max(batch[side].numel() for side in ("input_ids", "labels")) for batch in batches]
    assert max(sizes) <= BUDGET
    assert sum(sizes) / len(sizes) > 0.75 * BUDGET
    output = made.train()
    assert output.global_step == 10 * len(batches)  # ten epochs
    assert output.metrics["target_tokens"] == 10 * sum(map(len, dataset["labels"]))


def test_a_resumed_run_goes_on_with_the_batches_that_are_left(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    seen: list[tuple[int, int, int]] = []
    collate = DataCollatorForSeq2Seq(tiny_tokenizer)

    def noted(rows: list[dict[str, Any]]) -> dict[str, Any]:
        seen.append((len(rows), sum(len(row["labels"]) for row in rows), sum(len(row["input_ids"]) for row in rows)))
        return collate(rows)

    def train(**options: Any) -> list[tuple[int, int, int]]:
        seen.clear()
        made = make_trainer(
            tiny_model,
            tiny_tokenizer,
            dataset,
            tmp_path,
            per_device_train_batch_tokens=BUDGET,
            num_train_epochs=2,
            save_strategy="steps",
            save_steps=20,
            save_total_limit=9,
        )
        made.data_collator = noted
        made.train(**options)
        return list(seen)

    whole = train()
    steps = len(whole) // 2
    assert sorted(whole[:steps]) != whole[:steps] != whole[steps:]
    for step in (20, 20 * (steps // 20 + 1)):  # within the first epoch and the second
        assert (
            train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))[-(2 * steps - step) :] == whole[step:]
        )


def test_a_budget_that_fits_no_example_is_refused_before_training(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    made = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, per_device_train_batch_tokens=20)
    with pytest.raises(
        ValueError, match="no room for the longest example, which has 23: raise per_device_train_batch"
    ):
        made.train()
    made.train_dataset = [dict(row) for row in dataset]
    with pytest.raises(ValueError, match="of the type list: set per_device_train_batch_size instead"):
        made.get_train_dataloader()
    with pytest.raises(ValueError, match="per_device_train_batch_tokens=0 must be at least 1"):
        RnnS2STrainingArguments(output_dir=str(tmp_path), per_device_train_batch_tokens=0)


def test_a_stream_has_batches_of_so_many_tokens_too(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    streamed = dataset.to_iterable_dataset()
    options = {"per_device_train_batch_tokens": 60, "max_steps": 5}
    loader = make_trainer(tiny_model, tiny_tokenizer, streamed, tmp_path, **options).get_train_dataloader()
    rows = 0
    for batch in loader:
        assert max(batch["labels"].numel(), batch["input_ids"].numel()) <= 60
        rows += len(batch["labels"])
        if loader.finished_passes:
            break
    assert rows == len(dataset)


TWO_PROCESSES = """
import json, sys, tempfile
import torch
from datasets import Dataset
from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer
from tests.conftest import TINY_TEXTS
from tests.training.test_trainer import make_trainer
from hf_rnn_s2s.training.processes import end_together
tokenizer = train_tokenizer(TINY_TEXTS, vocab_size=300)
torch.manual_seed(0)
model = RnnS2SForConditionalGeneration(RnnS2SConfig(vocab_size=300, embedding_size=16, hidden_size=16))
dataset = Dataset.from_list(json.loads(sys.argv[1]))
trainer = make_trainer(
    model, tokenizer, dataset, tempfile.mkdtemp(), per_device_train_batch_tokens=60, num_train_epochs=1
)
rows = [len(batch["labels"]) for batch in trainer.get_train_dataloader()]
metrics = trainer.train().metrics
total = sum(float(parameter.detach().double().sum()) for parameter in model.parameters())
with open(f"{sys.argv[2]}/{trainer.args.process_index}.json", "w") as file:
    json.dump({"rows": rows, "tokens": metrics["target_tokens"], "weights": total}, file)
end_together(trainer)
"""


def test_two_processes_have_equal_shares(dataset: Dataset, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES, encoding="utf-8")
    run_in_two_processes(script, json.dumps(list(dataset)), str(tmp_path))
    first, second = (json.loads((tmp_path / f"{process}.json").read_text()) for process in range(2))
    assert len(first["rows"]) == len(second["rows"])
    assert sum(first["rows"]) + sum(second["rows"]) == len(dataset)
    assert all(abs(one - other) <= 1 for one, other in zip(first["rows"], second["rows"], strict=True))
    assert first["tokens"] == second["tokens"] == sum(map(len, dataset["labels"]))
    assert first["weights"] == second["weights"]


@pytest.mark.parametrize(
    ("is_fast", "given", "chosen"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"bf16": False}, False),
        (False, {"bf16": True}, True),
        (True, {"bf16": True}, True),
    ],
)
def test_bfloat16_by_itself_where_it_is_fast(
    is_fast: bool,
    given: dict[str, bool],
    chosen: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(arguments, "has_fast_bfloat16", lambda device: is_fast)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)
    made = RnnS2STrainingArguments(output_dir=str(tmp_path), use_cpu=True, **given)
    assert made.bf16 is chosen
    warned = any("no units for bfloat16" in record.getMessage() for record in caplog.records)
    assert warned == (chosen and not is_fast)


def test_bfloat16_trains_float32_weights(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    """Ten steps in either precision end at nearly the same loss; a translation is that of the float32 weights."""
    losses = []
    for bf16 in (False, True):
        model = copy.deepcopy(tiny_model)
        made = make_trainer(model, tiny_tokenizer, dataset, tmp_path, bf16=bf16, max_steps=10, logging_steps=10)
        made.train()
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        losses.append(made.state.log_history[-1]["train_loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    examples = Dataset.from_list(
        [{"source": "a small dog", "target": "ein", "input_ids": [5, 6, 2], "labels": [7, 2]}]
    )
    ids = torch.tensor([[5, 6, 2]])
    expected = tiny_tokenizer.batch_decode(model.eval().generate(ids, max_length=12), skip_special_tokens=True)
    assert made.predict(examples).predictions == expected


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_gradients_are_clipped_as_by_torch(
    limit: float,
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    made = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, max_grad_norm=limit)
    tiny_model(input_ids=torch.tensor([[5, 6, 2]]), labels=torch.tensor([[7, 8, 2]])).loss.backward()
    expected_model = copy.deepcopy(tiny_model)
    for expected, parameter in zip(expected_model.parameters(), tiny_model.parameters(), strict=True):
        expected.grad = None if parameter.grad is None else parameter.grad.clone()
    expected_norm = torch.nn.utils.clip_grad_norm_(expected_model.parameters(), limit)
    torch.testing.assert_close(made._clip_grad_norm(tiny_model), expected_norm)
    for expected, parameter in zip(expected_model.parameters(), tiny_model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_a_run_on_a_cpu_keeps_its_memory(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    monkeypatch.setattr(trainer, "keep_freed_memory", lambda: calls.append(None))
    made = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, max_steps=1)
    assert not calls
    made.train()
    assert len(calls) == 1


CPU_ERROR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."
)
ERRORS = [
    RuntimeError(CPU_ERROR),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=["cpu", "cuda", "python"])
def test_a_lack_of_memory_names_the_batch_and_what_to_lower(
    error: Exception,
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    by_size = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, per_device_train_batch_size=150)
    by_tokens = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path, per_device_train_batch_tokens=BUDGET)
    monkeypatch.setattr(tiny_model.model.decoder, "read_at_once", fail)
    batch = "memory for a batch of 150 pairs with 20 source and 23 target tokens each"
    with pytest.raises(torch.OutOfMemoryError, match=f"{batch}.*: lower per_device_train_batch_size ") as raised:
        by_size.train()
    assert str(error) in str(raised.value)  # what accelerate's auto_find_batch_size looks for
    assert raised.value.__cause__ is error
    with pytest.raises(torch.OutOfMemoryError, match="lower per_device_train_batch_tokens "):
        by_tokens.train()
    with pytest.raises(torch.OutOfMemoryError, match="128 pairs .*: lower per_device_eval_batch_size, or the beams"):
        by_size.evaluate()
    translator = RnnTranslationPipeline(model=tiny_model, tokenizer=tiny_tokenizer, device="cpu", num_beams=3)
    with pytest.raises(
        torch.OutOfMemoryError, match="2 texts of up to .* tokens, with 3 beams each: lower batch_size"
    ):
        translator(["a small dog", "the cat"])


def test_another_error_stays_what_it_is(
    tiny_model: RnnS2SForConditionalGeneration,
    tiny_tokenizer: PreTrainedTokenizerFast,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("something else")

    made = make_trainer(tiny_model, tiny_tokenizer, dataset, tmp_path)
    monkeypatch.setattr(tiny_model.model.decoder, "read_at_once", fail)
    with pytest.raises(RuntimeError, match="^something else$"):
        made.train()
