"""Every task from its data to its pipeline, and a task that only this test knows."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForSeq2SeqLM, pipeline

from hf_rnn_s2s import train_tokenizer
from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.data.loading import load_examples
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.argument_checks import CHECKS
from hf_rnn_s2s.training.command_line import parse_arguments
from hf_rnn_s2s.training.tasks import TASKS
from hf_rnn_s2s.training.tasks.base import MetricInfo, Score, Task, Words

from ...data_examples import write_table
from ..test_train import results, rows, run

make_pipeline: Any = pipeline
WORDS = ["abba", "caba", "bac", "cab", "acca", "bb", "cabba", "aab"]
SIZES = ("--hidden_size=16", "--embedding_size=16", "--num_train_epochs=2", "--report_to=none", "--disable_tqdm=true")


def write(folder: Path, table: list[dict[str, Any]]) -> list[str]:
    """The table as a file for every split, as options."""
    path = write_table(folder / "rows.jsonl", table)
    return [f"--{split}_file={path}" for split in ("train", "validation", "test")]


def mails(count: int = 24) -> list[dict[str, Any]]:
    days = ("Monday", "Tuesday", "Friday", "Sunday", "May 1", "May 2")
    pairs = [(name, day) for name in ("Ann", "Bob", "Cy", "Di") for day in days]
    texts = [f"Dear {name}, the meeting on {day} is moved to room {room}." for room, (name, day) in enumerate(pairs)]
    return [
        {"body": text, "subject": f"Room {number}", "more": None if number % 3 else [f"Meeting {number}", "moved"]}
        for number, text in enumerate(["Call.", *texts[:count]])
    ]


def words(count: int = 16) -> list[dict[str, Any]]:
    names = (WORDS * 3)[:count]
    return [
        {"source": word, "target": " ".join(word.upper()), "features": "N;PL" if number % 2 else "N;SG"}
        for number, word in enumerate(names)
    ]


def test_summarization_from_data_to_pipeline(tmp_path: Path) -> None:
    """Long documents are cut and not left out, any number of references per row is scored, and the card says so."""
    options = ["--text_column=body", "--summary_column=subject", "--reference_columns", "more", "--language=en"]
    folder = tmp_path / "model"
    printed = run(
        "--task=summarization", *write(tmp_path, mails()), *options, *SIZES, "--vocab_size=300",
        "--max_source_length=12", "--max_target_length=20", "--preset=pointer-generator2017", "--copy_slots=0",
        "--readout_size=16", "--do_lower_case=true",
        "--attention_hidden_size=16", "--encoder_direction_size=16", f"--output_dir={folder}",
    )  # fmt: skip
    scores = results(folder)
    assert {"predict_rouge1", "predict_rouge2", "predict_rougeL"} <= set(scores)
    assert scores["train_samples_per_second"] * scores["train_runtime"] == pytest.approx(50, rel=0.02)
    assert len(rows(folder)) == 26
    assert 'summarizer = pipeline("summarization"' in printed
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "summarization"
    assert card.data.metrics == ["rouge1", "rouge2", "rougeL"]
    assert "the one with the highest `rouge2`" in card.text
    assert card.data.tags[0] == "summarization"
    assert "Summarizes text in English." in card.text
    assert "translat" not in card.text.lower()
    config = json.loads((folder / "config.json").read_text())
    assert config["task"] == "summarization"
    assert list(config["custom_pipelines"]) == ["summarization"]
    for name in ("training_curves.png", "attention.png"):
        assert (folder / name).stat().st_size > 1000
    summarizer = make_pipeline("summarization", str(folder), device="cpu")
    text = mails()[5]["body"]
    written = rows(folder)[6][2]
    assert summarizer(text)[0]["summary_text"] == written
    assert summarizer(text.upper())[0]["summary_text"] == written


def test_transduction_with_features_from_data_to_pipeline(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "model"
    table = words()
    files = write(tmp_path, table)
    test = write_table(tmp_path / "test.jsonl", [*table[:4], {"source": "xa", "target": "A", "features": "N;DU"}])
    with caplog.at_level(logging.WARNING):
        run(
            "--task=transduction", *files, f"--test_file={test}", "--feature_column=features", *SIZES,
            "--decoder_tokenizer_kind=symbol", f"--output_dir={folder}",
        )  # fmt: skip
    assert any("test split: 5 symbols of the source texts" in record.getMessage() for record in caplog.records)
    scores = results(folder)
    assert {"predict_wer", "predict_ser"} <= set(scores)
    assert rows(folder)[1][0] == "<N><SG>abba"
    transducer = make_pipeline(model=str(folder), task="text2text-generation", device="cpu")
    tokenizer = transducer.tokenizer
    assert tokenizer.tokenize("<N><PL>cab") == ["<N>", "<PL>", "c", "a", "b"]
    assert sorted(tokenizer.get_vocab()) == sorted(
        ["<pad>", "<s>", "</s>", "<unk>", "a", "b", "c", "<N>", "<PL>", "<SG>"]
    )
    assert transducer("<N><SG>abba")[0]["generated_text"] == rows(folder)[1][2]
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "text2text-generation"
    assert card.data.tags[:2] == ["transduction", "text2text-generation"]
    assert card.data.metrics == ["wer"]
    assert "the one with the lowest `wer`" in card.text
    assert AutoModelForSeq2SeqLM.from_pretrained(folder).config.task == "transduction"


class Reversal(Task):
    """Nothing of the package names this task."""

    name = "reversal"
    metrics = {"same_length": MetricInfo("Same length", 2, greater_is_better=True)}
    defaults = {"tokenizer_kind": "char", "metric_for_best_model": "same_length"}
    words = Words("Reversal", "reverser", "reversal", "reversed", "reversing words", ("None.",), "Counted by hand.")

    def score(self, config: Any, tokenizer: Any) -> Score:
        def score(predictions: list[str], references: list[Any]) -> dict[str, Any]:
            equal = [len(one) == len(other) for one, other in zip(predictions, references, strict=True)]
            return {"same_length": sum(equal) / len(equal)}

        return score

    def summary(self, languages: tuple[str | None, str | None]) -> str:
        return "Reverses words."


def test_a_task_is_a_class_and_a_line_of_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "reversal", Reversal)
    table = [{"source": word, "target": word[::-1]} for word in WORDS]
    folder = tmp_path / "model"
    run("--task=reversal", *write(tmp_path, table), *SIZES, f"--output_dir={folder}")
    assert 0 <= results(folder)["predict_same_length"] <= 1
    card = ModelCard.load(folder / "README.md")
    assert "Reverses words. Trained with hf-rnn-s2s" in card.text
    assert "| Same length |" in card.text
    assert card.data.metrics == ["same_length"]
    assert "the one with the highest `same_length`" in card.text
    reverser = make_pipeline(model=str(folder), task="text2text-generation", device="cpu")
    assert reverser("abba")[0]["generated_text"] == rows(folder)[1][2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task=summarisation"], "there is no task 'summarisation'; did you mean summarization?"),
        (["--task", "x"], "there is no task 'x'; there are translation, summarization, transduction"),
        (["--task=summarization"], "The task summarization has no embedded corpus: name data"),
        (["--text_column=a"], "'text_column' on the command line; it belongs to --task summarization"),
        (["--language=en"], "it belongs to --task summarization and --task transduction"),
        (["--task=summarization", "--train_file={file}", "--source_column=a"], "source_column is not read in"),
        (["--task=summarization", "--train_file={file}"], "rows.jsonl has no column 'text' or 'document'"),
        (["--task=summarization", "--train_file={file}"], "for the summary; name one with summary_column"),
        (
            ["--task=transduction", "--train_file={file}", "--metric_for_best_model=bleu"],
            "metric_for_best_model=bleu is no metric of transduction; it has wer, ser and loss",
        ),
        (
            ["--task=transduction", "--train_file={file}", "--source_column=body", "--target_column=subject",
             "--feature_column=form"],
            "has no column 'form' \\(feature_column\\). It has body, subject, more",
        ),
        (["--train_file={file}", "--column_names", "a", "b"], "names its columns by itself: leave column_names out"),
        (["--train_file={file}", "--column_names", "a", "a"], "column_names must name each column once"),
        (["--column_names", "a", "b"], "column_names says how to read data, but no data is named"),
        (
            ["--task=summarization", "--train_file={file}", "--text_column=body", "--summary_column=subject",
             "--validation_file={file}", "--reference_columns", "gold"],
            "has no column 'gold' \\(reference_columns\\)",
        ),
        (["--task=summarization", "--do_train=false", "--model_name_or_path=a/b"], "no embedded corpus: name data"),
        (["--task=speech-recognition", "--encoder_type=bidirectional"], "recordings need encoder_type=pyramidal"),
        (["--task=speech-recognition", "--head_type=copying"], "copies tokens of the source, and a recording"),
        (["--task=speech-recognition", "--decoder_vocab_size=50"], "decoder_vocab_size: a recording has no tokens"),
        (["--task=speech-recognition", "--streaming=true", "--max_steps=3"], "recordings are not streamed"),
        (["--task=speech-recognition", "--word_dropout=0.1"], "word_dropout changes the tokens of the source"),
        (["--task=speech-recognition", "--demo_locales", "de", "en"], "the demo of speech is in English"),
        (["--encoder_type=pyramidal"], "encoder_type=pyramidal reads speech, not text: set --task speech-recognition"),
        (["--dataset_name=a/b", "--column_names", "x", "y"], "column_names is for .csv and .tsv files; a data set"),
        (["--tokenizer_kind=bpe", "--unicode_normalization=NFD"], "needs a tokenizer_kind without subwords: char"),
        (["--tokenizer_kind=char", "--vocab_size=4"], "vocab_size=4 must be at least 5"),
        (
            ["--tokenizer_kind=char", "--decoder_tokenizer_kind=bpe", "--decoder_vocab_size=20"],
            "decoder_vocab_size=20 must be at least 274",
        ),
        (["--head_type=copying", "--decoder_tokenizer_kind=char"], "leave decoder_tokenizer_kind out"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_task_is_told_before_anything_is_loaded(
    options: list[str], message: str, tmp_path: Path
) -> None:
    file = write_table(tmp_path / "rows.jsonl", mails(3))
    with pytest.raises(UsageError, match=message):
        parse_arguments(
            [*(option.format(file=file) for option in options), f"--output_dir={tmp_path}/model"], None, CHECKS
        )


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    files = write(tmp_path, words())
    run("--task=transduction", *files, *SIZES, "--decoder_tokenizer_kind=symbol", f"--output_dir={tmp_path}/model")
    with pytest.raises(UsageError, match="is for transduction, and this run for translation: set --task transduction"):
        run(*files, *SIZES, f"--model_name_or_path={tmp_path}/model", f"--output_dir={tmp_path}/other")


def test_a_table_without_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("".join(f"{row['source']}\t{row['target']}\n" for row in words(5)), encoding="utf-8")
    arguments = ["--task=transduction", f"--train_file={path}", "--validation_split_percentage=20"]
    common = [*arguments, f"--output_dir={tmp_path}/model"]
    _, data, _, task = parse_arguments([*common, "--column_names", "source", "target"], None, CHECKS)
    examples = load_examples(data, task.layout(data))
    assert sorted([*examples["train"]["source"], *examples["validation"]["source"]]) == sorted(WORDS[:5])
    with pytest.raises(UsageError, match="line 1: 2 fields, but column_names gives 3 columns: a, b, c"):
        parse_arguments([*common, "--column_names", "a", "b", "c"], None, CHECKS)
    with pytest.raises(UsageError, match="It has abba, A B B A"):
        parse_arguments(common, None, CHECKS)
    path.write_text("source\ttarget\na\tb\n", encoding="utf-8")
    with pytest.raises(UsageError, match="the first line names the columns: leave column_names out"):
        parse_arguments([*common, "--column_names", "source", "target"], None, CHECKS)


def test_bleu_needs_as_many_references_for_every_row(tmp_path: Path) -> None:
    table = [{"source": "a", "target": "b", "more": ["c"]}, {"source": "d", "target": "e", "more": None}]
    path = write_table(tmp_path / "rows.jsonl", table)
    data = DataArguments(train_file=path, validation_file=path, reference_columns=["more"])
    task = TASKS["translation"]()
    examples = load_examples(data, task.layout(data))
    assert list(examples["validation"]["references"]) == [["b", "c"], ["e"]]
    with pytest.raises(UsageError, match="validation split, row 2: 1 different references, but row 1 has 2"):
        task.check_examples(examples)
    TASKS["summarization"]().check_examples(examples)


def test_swapped_columns_of_summarization_are_noticed(tmp_path: Path) -> None:
    path = write_table(tmp_path / "rows.jsonl", mails(6))
    data = DataArguments(train_file=path, validation_file=path)
    arguments = TASKS["summarization"].arguments_class
    task = TASKS["summarization"](arguments(text_column="subject", summary_column="body"))
    with pytest.raises(UsageError, match="The train split: .* Are text_column and summary_column swapped"):
        task.check_examples(load_examples(data, task.layout(data)))
    task = TASKS["summarization"](arguments(text_column="body", summary_column="subject"))
    task.check_examples(load_examples(data, task.layout(data)))


def test_equal_references_count_as_several_for_bleu(tmp_path: Path) -> None:
    table = [{"source": "a", "target": "b", "more": "b"}, {"source": "d", "target": "e", "more": "f"}]
    path = write_table(tmp_path / "rows.jsonl", table)
    data = DataArguments(train_file=path, validation_file=path, reference_columns=["more"])
    task = TASKS["translation"]()
    examples = load_examples(data, task.layout(data))
    task.check_examples(examples)
    assert list(examples["validation"]["references"]) == [["b", "b"], ["e", "f"]]
    assert "references" not in examples["train"].column_names


def test_features_that_could_not_be_told_from_the_word(tmp_path: Path) -> None:
    task = TASKS["transduction"](TASKS["transduction"].arguments_class(feature_column="features"))
    for word, features in (("walk", "V>3"), ("<b>x", "V"), (" <x", "")):
        path = write_table(tmp_path / "rows.jsonl", [{"source": word, "target": "y", "features": features}])
        data = DataArguments(train_file=path, validation_file=path)
        with pytest.raises(UsageError, match="rows.jsonl, row 1: features are written <V><PST>walk"):
            load_examples(data, task.layout(data))
    path = write_table(
        tmp_path / "rows.jsonl", [{"source": " walk", "target": "y", "features": "V ; \u0065\u0301  x"}]
    )
    data = DataArguments(train_file=path, validation_file=path)
    assert load_examples(data, task.layout(data))["train"]["source"][:] == ["<V><é x>walk"]


def test_a_row_without_a_reference_keeps_its_empty_target(tmp_path: Path) -> None:
    """It is scored as wrong, and does not end a run after its training."""
    table = [{"source": "a", "target": "", "more": [" "]}, {"source": "b", "target": "c", "more": ["c", "d"]}]
    path = write_table(tmp_path / "rows.jsonl", table)
    data = DataArguments(train_file=path, validation_file=path, reference_columns=["more"])
    task = TASKS["transduction"]()
    rows_of_split = load_examples(data, task.layout(data))["validation"]
    assert list(rows_of_split["references"]) == [[""], ["c", "c", "d"]]
    score = task.score(None, train_tokenizer(["a b"], 100, kind="symbol"))
    assert score(["x", "d"], list(rows_of_split["references"]))["wer"] == 50


def test_the_file_and_row_of_a_wrong_value_are_named(tmp_path: Path) -> None:
    for column, value, message in (
        ("more", ["c", 7], "rows.jsonl, row 2: 'more' is not text but 7"),
        ("features", None, "rows.jsonl, row 2: 'features' is missing"),
        ("target", None, "rows.jsonl, row 2: 'target' is missing"),
    ):
        table = [{"source": "a", "target": "b", "more": ["c"], "features": "V"} for _ in range(3)]
        table[1][column] = value
        path = write_table(tmp_path / "rows.jsonl", table)
        data = DataArguments(train_file=path, validation_file=path, reference_columns=["more"])
        layout = TASKS["transduction"](TASKS["transduction"].arguments_class(feature_column="features")).layout(data)
        with pytest.raises(UsageError, match=message):
            load_examples(data, layout)
