"""The entropy of attention and alignment error rates: against loops, in the trainer, and from the command line."""

import contextlib
import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from hf_rnn_s2s import RnnS2SConfig, RnnS2SForConditionalGeneration, train_tokenizer
from hf_rnn_s2s.data.arguments import DataArguments, DataError
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.alignment import (
    alignment_error_rate,
    alignments_from_attention,
    parse_alignment,
    word_attention,
    words_of_tokens,
)
from hf_rnn_s2s.training.arguments import RnnS2STrainingArguments
from hf_rnn_s2s.training.attention_metrics import (
    EntropyMeter,
    attention_entropy,
    gold_alignments,
    require_alignable,
    score_alignments,
)
from hf_rnn_s2s.training.trainer import RnnS2STrainer

from ..two_processes import run_in_two_processes
from .test_train import ROOT, load_script

PAIRS = {
    "source": ["the dog", "one two three four", "a big red cat"],
    "target": ["der Hund läuft", "eins zwei", "eine Katze"],
}
train = load_script()


def build(tokenizer: Any, **values: Any) -> RnnS2SForConditionalGeneration:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer), "embedding_size": 16, "hidden_size": 16}
    config = RnnS2SConfig(**{**sizes, "initializer_range": 1.0, "num_attention_heads": 2, **values})
    return RnnS2SForConditionalGeneration(config).eval()


def rows_of(tokenizer: Any) -> Dataset:
    encoded = tokenizer(PAIRS["source"], text_target=PAIRS["target"])
    return Dataset.from_dict({"input_ids": encoded["input_ids"], "labels": encoded["labels"], **PAIRS})


def test_entropy_is_that_of_the_distribution() -> None:
    for count in (1, 2, 7):
        uniform = torch.full((count,), 1 / count, dtype=torch.float64)
        assert attention_entropy(uniform).item() == pytest.approx(math.log(count), abs=1e-12)
        assert attention_entropy(torch.eye(count)).eq(0).all()
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    expected = -sum(one * math.log(one) for one in (0.5, 0.3, 0.2))
    padded = torch.cat([torch.zeros(2, dtype=torch.float64), weights])
    for given in (weights, padded, 0.7 * weights):  # a local attention's weights do not sum to 1
        assert attention_entropy(given).item() == pytest.approx(expected, abs=1e-12)
    assert attention_entropy(torch.zeros(3)).item() == 0
    assert attention_entropy(weights.bfloat16()).dtype == torch.float32


def entropy_by_loops(model: Any, dataset: Dataset) -> dict[str, float]:
    """Of each row alone, over its target tokens and heads."""
    total = largest = tokens = 0.0
    for row in dataset:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            [layer] = model(input_ids=ids, labels=labels, output_attentions=True).cross_attentions
        for target in range(labels.shape[1]):
            heads = [-sum(w * math.log(w) for w in layer[0, head, target].tolist() if w > 0) for head in range(2)]
            total += sum(heads) / 2
            largest += math.log(ids.shape[1])
            tokens += 1
    return {"attention_entropy": total / tokens, "attention_entropy_share": total / largest}


def trainer_of(model: Any, tokenizer: Any, dataset: Dataset, folder: Path, **values: Any) -> RnnS2STrainer:
    arguments = RnnS2STrainingArguments(
        output_dir=str(folder),
        generation_max_length=6,
        sample_translations=0,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        **values,
    )
    return RnnS2STrainer(
        model,
        arguments,
        score=lambda *_: {},
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        eval_dataset=dataset,
    )


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_an_evaluation_tells_the_entropy_whatever_the_batches(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path, batch_size: int
) -> None:
    model, dataset = build(tiny_tokenizer), rows_of(tiny_tokenizer)
    trainer = trainer_of(model, tiny_tokenizer, dataset, tmp_path, per_device_eval_batch_size=batch_size)
    passes: list[Any] = []
    model.register_forward_pre_hook(lambda _, __, given: passes.append(given.get("labels")), with_kwargs=True)
    expected = entropy_by_loops(model, dataset)
    passes.clear()
    metrics = trainer.evaluate()
    for name, value in expected.items():
        assert metrics[f"eval_{name}"] == pytest.approx(value, rel=1e-5)
    assert 0 < metrics["eval_attention_entropy_share"] < 1
    assert len([labels for labels in passes if labels is not None]) == -(-3 // batch_size)  # no pass more than before
    predicted: Any = trainer.predict(dataset, metric_key_prefix="predict").metrics
    assert predicted["predict_attention_entropy"] == pytest.approx(metrics["eval_attention_entropy"])
    assert trainer.evaluate()["eval_attention_entropy"] == pytest.approx(metrics["eval_attention_entropy"])


def test_the_entropy_is_told_of_models_that_return_tuples(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model, dataset = build(tiny_tokenizer), rows_of(tiny_tokenizer)
    expected = trainer_of(model, tiny_tokenizer, dataset, tmp_path).evaluate()
    model.config.return_dict = False
    metrics = trainer_of(model, tiny_tokenizer, dataset, tmp_path).evaluate()
    assert metrics["eval_attention_entropy"] == expected["eval_attention_entropy"]
    assert metrics["eval_loss"] == expected["eval_loss"]


def test_a_model_without_attention_has_no_entropy(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = build(tiny_tokenizer, attention_type="none", num_attention_heads=1)
    metrics = trainer_of(model, tiny_tokenizer, rows_of(tiny_tokenizer), tmp_path).evaluate()
    assert "eval_loss" in metrics
    assert not [name for name in metrics if "attention" in name]
    assert EntropyMeter(lambda rows: rows).metrics() == {}


@pytest.mark.parametrize("separate", [False, True])
def test_alignments_of_a_split_are_those_of_its_rows(tiny_texts: list[str], separate: bool) -> None:
    """Row by row, by a forward pass over each pair alone; the last source is cut."""
    targets: dict[str, Any] = {"target_texts": tiny_texts[3:], "target_vocab_size": 290} if separate else {}
    tokenizer: Any = train_tokenizer(tiny_texts, 300, **targets)
    target_side = getattr(tokenizer, "target_tokenizer", tokenizer)
    model = build(tokenizer, decoder_vocab_size=len(target_side) if separate else None)
    dataset = rows_of(tokenizer)
    ids = dataset["input_ids"][:]
    ids[2] = [*ids[2][:5], 2]
    dataset = dataset.remove_columns("input_ids").add_column("input_ids", ids)
    gold = [parse_alignment(line) for line in ("0-0 1-1 1?2", "0-0 1-1", "0-0 3-1")]
    predicted = []
    for row in dataset:
        with torch.no_grad():
            labels = torch.tensor([row["labels"]])
            outputs = model(input_ids=torch.tensor([row["input_ids"]]), labels=labels, output_attentions=True)
        attention = outputs.cross_attentions[0][0].mean(0)
        words = []
        for side, one in (("source", tokenizer), ("target", target_side)):
            words.append(words_of_tokens(row[side], one(row[side], return_offsets_mapping=True)["offset_mapping"]))
        source_words = [*words[0][: len(row["input_ids"]) - 1], None]
        predicted.append(alignments_from_attention(word_attention(attention, source_words, words[1])))
    assert {target for _, target in predicted[0]} == {0, 1, 2}
    expected = alignment_error_rate(predicted, gold)
    found = score_alignments(model.train(), tokenizer, dataset, gold)  # dropout must not matter
    assert list(found.values()) == pytest.approx(list(expected))
    assert list(found) == ["aer", "alignment_precision", "alignment_recall"]
    assert model.training
    best = [alignment_error_rate([one], [parse_alignment(" ".join(f"{s}-{t}" for s, t in one))]) for one in predicted]
    assert all(scores.error_rate == 0 for scores in best)


def test_a_file_must_fit_the_test_split(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    test, path = Dataset.from_dict(PAIRS), tmp_path / "gold.txt"

    def gold(content: str, **values: Any) -> Any:
        path.write_text(content)
        return gold_alignments(test, DataArguments(alignment_file=str(path), **values))

    assert gold_alignments(test, DataArguments()) is None
    assert len(gold("0-0\n\n3-1\n")) == 3
    assert gold("1-1\n\n4-2\n", alignment_first_index=1) == gold("0-0\n\n3-1\n")
    with pytest.raises(DataError, match="has 2 lines for the 3 pairs of the test split"):
        gold("0-0\n1-1\n")
    with pytest.raises(DataError, match="line 2: 0-2 leaves the sentences, which have 4 source and 2 target words"):
        gold("0-0\n0?2\n0-0\n")
    with pytest.raises(DataError, match="line 3: 4-2 leaves.*has the number 1, set alignment_first_index=1"):
        gold("1-1\n\n4-2\n")
    with pytest.raises(DataError, match="about a test split, and the data has none"):
        gold_alignments(None, DataArguments(alignment_file=str(path)))
    with pytest.raises(DataError, match="alignment_first_index must be 0 or 1, not 2"):
        DataArguments(alignment_first_index=2)
    without = build(tiny_tokenizer, attention_type="none", num_attention_heads=1)
    require_alignable(without, tiny_tokenizer, DataArguments())
    with pytest.raises(UsageError, match="alignment_file is compared with the attention, but the model has attention"):
        require_alignable(without, tiny_tokenizer, DataArguments(alignment_file="x"))


RECIPE = ["--hidden_size", "16", "--embedding_size", "16", "--vocab_size", "420", "--demo_size", "60"]
RECIPE += ["--max_eval_samples", "5", "--max_predict_samples", "5", "--generation_max_length", "8", "--max_steps", "2"]
RECIPE += ["--report_to", "none", "--disable_tqdm", "true", "--sample_translations", "0"]
RECIPE += ["--per_device_eval_batch_size", "2"]


def run(*argv: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        train.main([str(ROOT / "recipes" / "demo.yaml"), *RECIPE, *argv])


def test_train_reports_both_from_the_command_line(tmp_path: Path) -> None:
    gold, folder = tmp_path / "gold.txt", tmp_path / "run"
    gold.write_text("0-0\n" * 5)
    run("--output_dir", str(folder), "--alignment_file", str(gold))
    results = json.loads((folder / "all_results.json").read_text())
    assert 0 <= results["predict_aer"] <= 1
    assert results["predict_alignment_recall"] <= 1
    assert 0 < results["predict_attention_entropy_share"] <= 1
    assert "| Alignment error rate of the attention |" in (folder / "README.md").read_text()
    again = tmp_path / "again"
    run(
        "--output_dir",
        str(again),
        "--alignment_file",
        str(gold),
        "--model_name_or_path",
        str(folder),
        "--do_train=false",
    )
    other = json.loads((again / "all_results.json").read_text())
    for name in ("predict_aer", "predict_alignment_precision", "predict_attention_entropy"):
        assert other[name] == pytest.approx(results[name], rel=1e-4)
    assert other["eval_attention_entropy"] > 0


def test_several_processes_tell_the_same(tmp_path: Path) -> None:
    """The last batch is filled up with rows of the first, which must not count twice."""
    gold, folder = tmp_path / "gold.txt", tmp_path / "run"
    gold.write_text("0-0\n" * 5)
    run("--output_dir", str(folder))
    options = [str(ROOT / "recipes" / "demo.yaml"), *RECIPE, "--do_train=false", "--model_name_or_path", str(folder)]
    options += ["--alignment_file", str(gold), "--bf16", "false", "--output_dir"]
    with contextlib.redirect_stdout(io.StringIO()):
        train.main([*options, str(tmp_path / "one")])
    run_in_two_processes(ROOT / "train.py", *options, str(tmp_path / "two"))
    one, two = (json.loads((tmp_path / name / "all_results.json").read_text()) for name in ("one", "two"))
    names = [name for name in one if "attention" in name or "align" in name or "aer" in name]
    assert len(names) == 7
    for name in names:
        assert two[name] == pytest.approx(one[name], rel=1e-5), name


def test_what_cannot_be_aligned_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    gold = tmp_path / "gold.txt"
    gold.write_text("0-0\n" * 5)
    options = ["--output_dir", str(tmp_path / "run"), "--alignment_file", str(gold)]
    for more, message in (
        (["--attention_type", "none"], "alignment_file is compared with the attention, but attention_type=none"),
        (["--do_predict", "false"], "alignment_file is compared with the attention on the test split, but do_predict"),
        (["--alignment_file", str(tmp_path / "none.txt")], "none.txt cannot be read"),
        (["--max_predict_samples", "6"], "has 5 lines for the 6 pairs of the test split"),
    ):
        with pytest.raises(UsageError, match=message):
            run(*options, *more)
    assert not list((tmp_path / "run").rglob("*.json"))  # no tokenizer, no configuration, no state


def test_an_encoder_with_other_positions_cannot_be_aligned(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    config, encoder = SimpleNamespace(attention_type="additive"), SimpleNamespace(keeps_length=False)
    model: Any = SimpleNamespace(config=config, get_encoder=lambda: encoder)
    with pytest.raises(UsageError, match="the encoder has other positions than these"):
        require_alignable(model, tiny_tokenizer, DataArguments(alignment_file="gold.txt"))
    encoder.keeps_length = True
    require_alignable(model, tiny_tokenizer, DataArguments(alignment_file="gold.txt"))
