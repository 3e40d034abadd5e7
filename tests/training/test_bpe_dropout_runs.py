"""Training runs with BPE-dropout: what the model reads, that evaluations stay, and that a run goes on exactly."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s.data.arguments import DataArguments, DataError
from hf_rnn_s2s.data.bpe_dropout import training_collator
from hf_rnn_s2s.data.tokens import tokenize_examples
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.trainer import RnnS2STrainer

from ..random_models import build
from .test_resuming import RECIPE, STREAM, require_same
from .test_train import load_script

DROPOUT = ["--bpe_dropout", "0.3", "--vocab_size", "600"]
LIMITS = ["--max_source_length", "60", "--max_target_length", "60"]
train = load_script()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return str(path)


def run(*argv: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        train.main(argv)


def trained(
    tokenizer: Any, folder: Path, texts: list[str], model: Any = None, **values: Any
) -> tuple[RnnS2STrainer, list[dict[str, list[list[str]]]]]:
    """A run of three passes over a few pairs, and the tokens of each batch in training."""
    batches: list[dict[str, list[list[str]]]] = []

    def note(module: Any, _: Any, given: dict[str, Any]) -> None:
        if module.training:
            ids = {name: given[name].masked_fill(given[name] == -100, 0) for name in ("input_ids", "labels")}
            rows = {name: one.tolist() for name, one in ids.items()}
            batches.append({name: list(map(tokenizer.convert_ids_to_tokens, one)) for name, one in rows.items()})

    model = build(vocab_size=len(tokenizer)) if model is None else model
    model.register_forward_pre_hook(note, with_kwargs=True)
    pairs = Dataset.from_dict({"source": texts, "target": texts[::-1]})
    arguments = RnnS2STrainingArguments(
        output_dir=str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=len(texts),
        save_strategy="no",
        load_best_model_at_end=False,
        generation_max_length=8,
        sample_translations=0,
        report_to="none",
        disable_tqdm=True,
        **{"bpe_dropout": 0.4, **values},
    )
    trainer = RnnS2STrainer(
        model,
        arguments,
        score=lambda *_: {},
        processing_class=tokenizer,
        data_collator=training_collator(tokenizer, DataArguments(), arguments),
        train_dataset=tokenize_examples(pairs, tokenizer, DataArguments(), True, with_units=True),
        eval_dataset=Dataset.from_dict({**tokenizer(texts, text_target=texts), "source": texts, "target": texts}),
    )
    return trainer, batches


@pytest.mark.parametrize(
    "values", [{}, {"per_device_train_batch_tokens": 2000}, {"train_sampling_strategy": "random"}]
)
def test_every_pass_reads_other_pieces_of_the_same_words(
    tiny_texts: list[str], tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, values: dict[str, Any]
) -> None:
    trainer, batches = trained(tiny_tokenizer, tmp_path, tiny_texts, **values)
    plain = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert len(batches) == 3
    for name in ("input_ids", "labels"):
        passes = [sorted(batch[name]) for batch in batches]
        assert passes[0] != passes[1] != passes[2] != passes[0]
        words = [sorted("".join(row[: row.index("</s>")]) for row in one) for one in passes]
        assert words[0] == words[1] == words[2]
    assert len(trainer.state.log_history) > 3
    other, _ = trained(tiny_tokenizer, tmp_path, tiny_texts, bpe_dropout=0.0, **values)
    assert other.evaluate()["eval_loss"] == plain  # of the same new model: an evaluation reads the ordinary pieces


def test_what_can_be_copied_has_the_pieces_of_the_source(
    tiny_texts: list[str], tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = build(vocab_size=len(tiny_tokenizer), head_type="copying")
    seen: list[Any] = []
    head = model.output_head.loss

    def loss(linear: Any, output: Any, sources: Any, *arguments: Any) -> Any:
        seen.append(sources.ids)
        return head(linear, output, sources, *arguments)

    model.output_head.loss = loss
    given: list[Any] = []
    trainer, _ = trained(tiny_tokenizer, tmp_path, tiny_texts, model, eval_strategy="no")
    model.register_forward_pre_hook(lambda _, __, inputs: given.append(inputs["input_ids"]), with_kwargs=True)
    trainer.train()
    assert len(given) == len(seen) == 3
    assert all(torch.equal(one, other) for one, other in zip(given, seen, strict=True))
    assert not torch.equal(given[0], given[1])


def test_a_run_is_repeatable_and_goes_on_exactly(recipe: str, tmp_path: Path) -> None:
    """From the middle of the second pass, and with a worker that lives through all passes.

    The model itself draws nothing here: a worker that lives on changes how often torch draws the seeds of workers.
    """
    plain = ["--dropout", "0", *DROPOUT]
    worker = ["--dataloader_num_workers", "1", "--dataloader_persistent_workers", "true"]
    run(recipe, *plain, "--output_dir", str(tmp_path / "whole"))
    run(recipe, *plain, *worker, "--output_dir", str(tmp_path / "again"))
    require_same(tmp_path / "again", tmp_path / "whole")
    checkpoint = tmp_path / "whole" / "checkpoint-6"
    assert 1 < json.loads((checkpoint / "trainer_state.json").read_text())["epoch"] < 2
    resume = ["--resume_from_checkpoint", str(checkpoint)]
    run(recipe, *plain, *worker, "--output_dir", str(tmp_path / "resumed"), *resume)
    require_same(tmp_path / "resumed", tmp_path / "whole")
    run(recipe, *plain, "--bpe_dropout", "0", "--output_dir", str(tmp_path / "without"))
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "without"))
    assert any(not torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_stream_goes_on_exactly_with_two_vocabularies(recipe: str, tmp_path: Path, workers: str) -> None:
    options = [*DROPOUT, *STREAM, *LIMITS, "--decoder_vocab_size", "500", "--dataloader_num_workers", workers]
    run(recipe, *options, "--output_dir", str(tmp_path / "whole"))
    checkpoint = tmp_path / "whole" / "checkpoint-9"
    assert json.loads((checkpoint / "stream_state.json").read_text())["position"]["pass_number"] >= 1
    again = ["--output_dir", str(tmp_path / "again"), "--resume_from_checkpoint", str(checkpoint)]
    run(recipe, *options, *again)
    require_same(tmp_path / "again", tmp_path / "whole")


def test_what_cannot_be_done_is_refused(
    recipe: str, tmp_path: Path, tiny_texts: list[str], tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    for more, message in (
        (["--bpe_dropout", "1.5"], "bpe_dropout=1.5 must be from 0 to 1"),
        (
            ["--bpe_dropout", "0.1", "--tokenizer_kind", "unigram"],
            "bpe_dropout leaves out merges.*kind=unigram",
        ),
        (["--bpe_dropout", "0.1", "--tokenizer_kind", "word"], "bpe_dropout leaves out merges.*kind=word"),
    ):
        with pytest.raises(UsageError, match=message):
            run(recipe, "--output_dir", str(tmp_path / "run"), *more)
    run(recipe, "--output_dir", str(tmp_path / "unigram"), "--tokenizer_kind", "unigram", "--max_steps", "1")
    loaded = ["--model_name_or_path", str(tmp_path / "unigram"), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(DataError, match="this tokenizer is of the kind Unigram"):
        run(recipe, *loaded, "--bpe_dropout", "0.1")
    trainer, _ = trained(tiny_tokenizer, tmp_path, tiny_texts)
    collate, trainer.data_collator = trainer.data_collator, DataCollatorForSeq2Seq(tiny_tokenizer)
    with pytest.raises(ValueError, match="pass data_collator=training_collator"):
        trainer.train()
    trainer.data_collator = collate
    trainer.train_dataset = trainer.train_dataset.remove_columns("label_units")  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="tokenize the training data with_units=True"):
        trainer.train()
