"""`translate` and its kin: one record out for each that goes in, in every format, resumed to the same byte."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet, table
from transformers import BertConfig, BertForMaskedLM

from hf_rnn_s2s import RnnTranslationPipeline
from hf_rnn_s2s.separators import as_one_field
from hf_rnn_s2s.training.alignment import alignments_from_attention

from ..hub_server import HubServer
from .conftest import LONGEST, TEXTS, Run, written


def test_lines(run: Run, model_folder: Path, lines: Path, translator: RnnTranslationPipeline) -> None:
    outcome = run(["translate", "--model", model_folder, lines])
    assert outcome.code == 0
    assert outcome.error == ""
    assert outcome.out.splitlines() == written(translator, TEXTS)
    assert outcome.out.splitlines()[5:7] == ["", ""]
    assert len(set(outcome.out.splitlines())) > 4  # the model says something of its own to each


def test_a_setting_of_generate(run: Run, model_folder: Path, lines: Path, translator: RnnTranslationPipeline) -> None:
    arguments = ["--num-beams", 3, "--length-penalty", "-2.0", "--no-repeat-ngram-size=2"]
    outcome = run(["run", "-m", model_folder, lines, *arguments])
    expected = written(translator, TEXTS, num_beams=3, length_penalty=-2.0, no_repeat_ngram_size=2)
    assert outcome.out.splitlines() == expected
    assert expected != written(translator, TEXTS)


def test_forced_phrases(run: Run, model_folder: Path, lines: Path) -> None:
    arguments = ["--force-phrases", '["Hund"]', "--num-beams", 8, "--max-new-tokens", 30]
    outcome = run(["translate", "-m", model_folder, lines, *arguments])
    assert all("Hund" in line for line in outcome.out.splitlines() if line)


def test_sampling_is_repeatable_and_resumed(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source, first, second = tmp_path / "in.txt", tmp_path / "first.txt", tmp_path / "second.txt"
    source.write_text("a small dog runs\n" * 20, encoding="utf-8")
    command = ["translate", "-m", model_folder, source, "--do-sample", "--buffer-size", 4, "--seed", 3]
    assert run([*command, "-o", first]).code == 0
    content = first.read_bytes()
    assert len(set(content.splitlines())) > 5
    second.write_bytes(b"".join(content.splitlines(keepends=True)[:6]) + b"half a li")
    assert run([*command, "-o", second, "--resume"]).code == 0
    assert second.read_bytes() == content


def test_json_lines_with_n_best_scores_and_alignments(
    run: Run, model_folder: Path, tmp_path: Path, translator: RnnTranslationPipeline
) -> None:
    source = tmp_path / "in.jsonl"
    rows = [{"id": 7, "text": "the big cat"}, {"text": "", "extra": None}, {"text": "a small dog", "id": [1, 2]}]
    source.write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    outcome = run(["translate", "-m", model_folder, source, "--n-best", 2, "--scores", "--alignments"])
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert [list(record)[:2] for record in records] == [["id", "text"], ["text", "extra"], ["text", "id"]]
    assert records[0]["id"] == 7
    assert records[2]["id"] == [1, 2]
    settings = {"num_return_sequences": 2, "num_beams": 2, "return_scores": True}
    expected = translator([rows[0]["text"], rows[2]["text"]], **settings)
    for record, texts in zip((records[0], records[2]), expected, strict=True):
        assert record["translation"] == [one["translation_text"] for one in texts]
        assert record["translation_score"] == pytest.approx([one["translation_score"] for one in texts], abs=1e-5)
    assert records[1]["translation"] == ["", ""]
    assert records[1]["translation_score"] == [None, None]


def test_alignments_of_tokens_are_those_of_the_attention(
    run: Run, model_folder: Path, tmp_path: Path, translator: RnnTranslationPipeline
) -> None:
    source = tmp_path / "in.txt"
    source.write_text("the big cat\n", encoding="utf-8")
    command = ["translate", "-m", model_folder, source, "--output-format", "tsv", "--alignments"]
    outcome = run([*command, "--alignment-units", "tokens"])
    [row] = csv.DictReader(io.StringIO(outcome.out), delimiter="\t", quoting=csv.QUOTE_NONE)
    [result] = translator(["the big cat"], return_attentions=True)
    links = alignments_from_attention(result["attention"][:-1, :-1])
    assert row["translation_alignment"] == " ".join(f"{first}-{second}" for first, second in sorted(links))
    assert len(row["source_tokens"].split(" ")) == len(result["source_tokens"])
    assert row["translation_tokens"].split(" ") == [one.replace(" ", "▁") for one in result["target_tokens"]]


def test_alignments_of_words_link_words_that_are_there(
    run: Run, model_folder: Path, lines: Path, translator: RnnTranslationPipeline
) -> None:
    outcome = run(["translate", "-m", model_folder, lines, "--alignments"])
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert [row[0] for row in rows] == written(translator, TEXTS)
    for text, (translation, alignment) in zip(TEXTS, rows, strict=True):
        links = [tuple(map(int, link.split("-"))) for link in alignment.split()]
        assert all(first < len(text.split()) for first, _ in links)
        assert {second for _, second in links} == set(range(len(translation.split())))


def test_attentions_are_read_by_numpy(
    run: Run, model_folder: Path, lines: Path, tmp_path: Path, translator: RnnTranslationPipeline
) -> None:
    path = tmp_path / "attention.npz"
    assert run(["translate", "-m", model_folder, lines, "--attentions", path, "-o", tmp_path / "o.txt"]).code == 0
    with np.load(path) as arrays:
        expected = translator(TEXTS, return_attentions=True)
        for number, result in enumerate(expected):
            assert (f"attention_{number}" in arrays) == bool(TEXTS[number].strip())
            if TEXTS[number].strip():
                assert arrays[f"attention_{number}"].dtype == np.float32
                assert arrays[f"attention_{number}"] == pytest.approx(result["attention"].numpy(), abs=1e-5)
                assert arrays[f"source_tokens_{number}"].tolist() == result["source_tokens"]
                assert arrays[f"target_tokens_{number}"].tolist() == result["target_tokens"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_of_tables(
    suffix: str, run: Run, model_folder: Path, tmp_path: Path, translator: RnnTranslationPipeline
) -> None:
    """What one command writes the next one reads."""
    first, second = tmp_path / f"first.{suffix}", tmp_path / f"second.{suffix}"
    source = tmp_path / "in.parquet"
    content = {"number": [str(one) for one in range(len(TEXTS))], "en": TEXTS}
    parquet.write_table(table(content), source)
    assert run(["translate", "-m", model_folder, source, "-o", first]).code == 0
    command = ["translate", "-m", model_folder, first, "-o", second, "--output-column", "again", "--scores"]
    outcome = run([*command, "--keep-columns", "translation,number"])
    assert (outcome.code, outcome.error) == (0, "")
    command = ["run", "-m", model_folder, second, "--column", "number", "--output-column", "third"]
    records = [json.loads(line) for line in run([*command, "--output-format", "jsonl"]).out.splitlines()]
    expected = written(translator, TEXTS)
    assert [record["third"] for record in records] == written(translator, content["number"])
    assert [record["number"] for record in records] == content["number"]
    assert [record["again"] for record in records] == expected


def test_columns_of_the_output(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text('a,b\n"x, ""y""\nz",a dog\n', encoding="utf-8")
    command = ["translate", "-m", model_folder, source, "--column", "b"]
    outcome = run([*command, "--n-best", 2, "--scores", "--num-beams", 2])
    [row] = csv.DictReader(io.StringIO(outcome.out))
    names = ["translation", "translation_score", "translation_2", "translation_2_score"]
    assert list(row) == ["a", "b", *names, "warning"]
    assert row["a"] == 'x, "y"\nz'
    for arguments in (["--column", "b", "--output-column", "a"], []):
        outcome = run(["translate", "-m", model_folder, source, *arguments])
        assert outcome.code == 2
        assert outcome.out == ""
        said = "two columns 'a'" if arguments else "has the columns a, b: name the one to read, --column"
        assert said in outcome.error
    outcome = run([*command, "--keep-columns", "a,c"])
    assert "has no column 'c' (--keep-columns). It has a, b." in outcome.error


def test_a_record_of_json_that_has_the_new_column(run: Run, model_folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a dog"}\n{"text": "a cat", "translation": "eine Katze"}\n', encoding="utf-8")
    outcome = run(["translate", "-m", model_folder, source])
    assert outcome.code == 2
    assert "two columns 'translation'" in outcome.error
    outcome = run(["translate", "-m", model_folder, source, "--keep-columns", "text"])
    assert [list(json.loads(line)) for line in outcome.out.splitlines()] == [["text", "translation"]] * 2


@pytest.mark.parametrize("suffix", ["txt", "tsv", "csv", "jsonl"])
def test_a_resumed_file_is_the_same_to_the_byte(suffix: str, run: Run, model_folder: Path, tmp_path: Path) -> None:
    source, whole, part = (tmp_path / f"{name}.{suffix}" for name in ("source", "whole", "part"))
    texts = [f"{text} {number}" for number in range(4) for text in TEXTS]
    if suffix == "csv":
        source.write_text("".join(["text,more\n", *(f'{text},"a\n""{text}"\n' for text in texts)]), encoding="utf-8")
    elif suffix == "tsv":
        source.write_text("".join(["text\n", *(f"{text or 'x'}\n" for text in texts)]), encoding="utf-8")
    else:
        rows = texts if suffix == "txt" else [json.dumps({"text": text}) for text in texts]
        source.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    column = [] if suffix == "txt" else ["--column", "text"]
    command = ["translate", "-m", model_folder, source, *column, "--scores", "--buffer-size", 5]
    assert run([*command, "-o", whole]).code == 0
    content = whole.read_bytes()
    for end in range(0, len(content) + 1, 1 + len(content) // 9):
        part.write_bytes(content[:end])
        outcome = run([*command, "-o", part, "--resume"])
        assert (outcome.code, outcome.error) == (0, "")
        assert part.read_bytes() == content
    assert run([*command, "-o", part, "--resume"]).code == 0
    assert part.read_bytes() == content


def test_an_output_that_is_there(run: Run, model_folder: Path, lines: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.tsv"
    output.write_text("something\nelse\n", encoding="utf-8")
    command = ["translate", "-m", model_folder, lines, "-o", output]
    outcome = run(command)
    assert outcome.code == 2
    assert "exists: go on behind its last record with --resume, or replace it with --overwrite" in outcome.error
    outcome = run([*command, "--resume"])
    assert outcome.code == 2
    assert "has other columns than this command writes" in outcome.error
    assert output.read_text(encoding="utf-8") == "something\nelse\n"
    assert run([*command, "--overwrite"]).code == 0
    assert len(output.read_text(encoding="utf-8").splitlines()) == 1 + len(TEXTS)
    before = output.read_bytes()
    assert run([*command, "--overwrite", "--num-beams", "0"]).code == 2
    assert output.read_bytes() == before  # nothing is lost for a mistake
    more = before + b"a\tb\t\n"
    output.write_bytes(more)
    outcome = run([*command, "--resume"])
    assert f"The output has {len(TEXTS) + 1} records, more than {lines}" in outcome.error
    assert output.read_bytes() == more
    assert "which is the same file" in run(["run", "-m", model_folder, lines, "-o", lines, "--overwrite"]).error


def test_a_text_that_is_too_long(
    run: Run, model_folder: Path, tmp_path: Path, translator: RnnTranslationPipeline
) -> None:
    texts = ["a dog", "the big cat sleeps " * 2000, "a cat"]
    source = tmp_path / "in.txt"
    source.write_text("\n".join(texts), encoding="utf-8")
    length = len(translator.tokenizer(texts[1].strip(), verbose=False)["input_ids"])
    said = f"a text of {length} tokens is cut to {LONGEST}, the model_max_length of the tokenizer, "
    outcome = run(["translate", "-m", model_folder, source])
    assert outcome.error.startswith(f"{source}, record 2: {said}")
    assert outcome.error.count("\n") == 1
    assert outcome.out.splitlines() == written(translator, texts)
    outcome = run(["translate", "-m", model_folder, source, "--output-format", "jsonl"])
    assert outcome.error == ""
    records = [json.loads(line) for line in outcome.out.splitlines()]
    assert ["warning" in record for record in records] == [False, True, False]
    assert records[1]["warning"].startswith(said)
    outcome = run(["translate", "-m", model_folder, source, "--truncation", "false", "--max-new-tokens", 3])
    assert (outcome.code, outcome.error) == (0, "")


@pytest.mark.parametrize(
    ("suffix", "content", "expected"),
    [
        ("txt", b"", b""),
        ("jsonl", b"", b""),
        ("tsv", b"", b"translation\twarning\n"),
        ("csv", b"text\n", b"text,translation,warning\n"),
    ],
)
def test_an_empty_file(
    suffix: str, content: bytes, expected: bytes, run: Run, model_folder: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    source.write_bytes(content)
    assert run(["translate", "-m", model_folder, source, "-o", output]) == (0, "", "")
    assert output.read_bytes() == expected


@pytest.mark.parametrize(
    ("suffix", "content", "done", "said"),
    [
        ("txt", b"a dog\na \xff cat\nthe end\n", 1, "line 2: byte 3 of the line, 0xff, is not valid UTF-8"),
        ("txt", b"\x00\x89PNG\x0d\x0a\x1a\x0a", 0, "line 1: byte 2 of the line, 0x89, is not valid UTF-8"),
        ("jsonl", b'{"text": "a"}\n{"text": ', 1, "line 2 is not a JSON object"),
        ("jsonl", b'["a dog", "a cat"]\n', 0, "line 1 is not a JSON object but ['a dog', 'a cat']"),
        ("jsonl", b'{"text": 3}\n', 0, "record 1: text must be a text, not 3"),
        ("jsonl", b'{"text": "a"}\n{"test": "b"}\n', 1, "record 2 has no column 'text', only test"),
        ("csv", b"text,other\na,b\nc\n", 1, "line 3: 1 fields, but the first line names 2 columns"),
        ("csv", b"text,text\na,b\n", 0, "must name each column once"),
        ("tsv", b"one\ttwo\na\tb\n", 0, "has the columns one, two: name the one to read, --column"),
        ("parquet", b"no parquet", 0, "cannot be read as Parquet"),
    ],
)
def test_input_that_cannot_be_read(
    suffix: str, content: bytes, done: int, said: str, run: Run, model_folder: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / f"in.{suffix}", tmp_path / "out.jsonl"
    source.write_bytes(content)
    outcome = run(["translate", "-m", model_folder, source, "-o", output, "--buffer-size", 1])
    assert outcome.code == 2
    assert said in outcome.error
    assert outcome.error.startswith("hf-rnn-s2s translate: ")
    assert outcome.error.count("\n") == 1
    assert (len(output.read_bytes().splitlines()) if output.exists() else 0) == done


def test_lines_of_every_kind_are_one_record(
    run: Run, model_folder: Path, tmp_path: Path, translator: RnnTranslationPipeline
) -> None:
    source = tmp_path / "in.txt"
    source.write_bytes("\ufeffa dog\r\nthe\u2028cat\x0bsleeps\nrot".encode())
    outcome = run(["translate", "-m", model_folder, source])
    assert outcome.out.split("\n") == [*written(translator, ["a dog", "the cat sleeps", "rot"]), ""]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lenth-penalty", "1"], "There is no option --lenth-penalty. Did you mean --length-penalty"),
        (["--num-return-sequences", "2"], "There is no option --num-return-sequences"),
        (["--n-best", "0"], "--n-best 0 must be at least 1"),
        (["--num-beams", "0"], "num_beams=0 must be a whole number from 1"),
        (["--length-penalty", "much"], "length_penalty='much' must be a number"),
        (["--batch-size", "0"], "--batch-size 0 must be at least 1"),
        (["--output-format", "xml"], "--output-format xml: there are lines, tsv"),
        (["--output-format", "parquet"], "Parquet cannot be written to standard output"),
        (["--resume"], "--resume goes on with a file"),
        (["--alignments", "--alignment-units", "letters"], "there are words and tokens"),
        (["--document", "--scores"], "--document joins many sentences"),
        (["--device", "nowhere"], "--device nowhere cannot be used"),
        (["--dtype", "int3"], "--dtype int3: there are auto, float32"),
        (["-o", "no/such/folder/x"], "there is no folder no/such/folder"),
        (["-o", "."], ". is a folder; name a file"),
        (["--n-best"], "Option '--n-best' requires an argument"),
        (["another.txt", "third.txt"], "belongs to no option"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: list[str], said: str, run: Run, model_folder: Path, lines: Path
) -> None:
    outcome = run(["translate", "-m", model_folder, lines, *arguments])
    assert outcome.code == 2
    assert said in outcome.error
    assert outcome.out == ""
    assert "Traceback" not in outcome.error


def test_models_of_another_kind(run: Run, model_folder: Path, lines: Path, tmp_path: Path, hub: HubServer) -> None:
    def said(model: object, verb: str = "translate") -> str:
        outcome = run([verb, "-m", model, lines])
        assert outcome.code == 2
        assert outcome.error.count("\n") == 1
        return outcome.error

    assert "There is no model nobody/nothing" in said("nobody/nothing")
    assert "is a file; name the folder" in said(lines)
    assert "holds no model: it has no config.json" in said(tmp_path)
    assert "is a model for translation: use hf-rnn-s2s translate" in said(model_folder, "summarize")
    bert = BertForMaskedLM(BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1))
    bert.save_pretrained(tmp_path / "bert")
    assert "is a bert model, and no encoder-decoder" in said(tmp_path / "bert")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "no_such"}', encoding="utf-8")
    assert "cannot be loaded" in said(tmp_path / "odd")


def test_a_model_that_is_half_there(run: Run, model_folder: Path, lines: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (tmp_path / name).write_bytes((model_folder / name).read_bytes())
    outcome = run(["translate", "-m", tmp_path, lines])
    assert outcome.code == 2
    assert f"{tmp_path} cannot be loaded" in outcome.error
    (tmp_path / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:999])
    outcome = run(["translate", "-m", tmp_path, lines])
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{tmp_path} cannot be loaded" in outcome.error


def test_another_encoder_decoder(run: Run, lines: Path, tmp_path: Path, tiny_marian: Any, tiny_tokenizer: Any) -> None:
    tiny_marian.save_pretrained(tmp_path / "marian")
    tiny_tokenizer.save_pretrained(tmp_path / "marian")
    expected = RnnTranslationPipeline(model=tiny_marian, tokenizer=tiny_tokenizer)(TEXTS, max_new_tokens=5)
    outcome = run(["translate", "-m", tmp_path / "marian", lines, "--max-new-tokens", 5])
    assert outcome.out.splitlines() == [as_one_field(one["translation_text"]) for one in expected]


def test_weights_in_bfloat16(run: Run, model_folder: Path, lines: Path, translator: RnnTranslationPipeline) -> None:
    outcome = run(["translate", "-m", model_folder, lines, "--dtype", "bfloat16", "--device", "cpu"])
    assert (outcome.code, len(outcome.out.splitlines())) == (0, len(TEXTS))
    assert translator.model.dtype == torch.float32


DOCUMENT = """Animals

A small dog runs. The big cat sleeps.

- a red mat
- two dogs
"""


def test_a_file_is_one_document(
    run: Run, model_folder: Path, tmp_path: Path, translator: RnnTranslationPipeline
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text(DOCUMENT, encoding="utf-8")
    [expected] = translator([DOCUMENT], split_sentences=True)
    command = ["translate", "-m", model_folder, source, "--document"]
    assert run([*command, "-o", output]) == (0, "", "")
    assert output.read_text(encoding="utf-8") == expected["translation_text"]
    assert [line[:2] for line in expected["translation_text"].splitlines()[4:]] == ["- ", "- "]
    assert run(command).out == expected["translation_text"]
    record = json.loads(run([*command, "--output-format", "jsonl"]).out)
    assert record == {"source": DOCUMENT, "translation": expected["translation_text"]}
    assert "there is nothing to resume" in run([*command, "-o", output, "--resume"]).error
    source.write_text("", encoding="utf-8")
    assert run([*command, "-o", output, "--overwrite"]) == (0, "", "")
    assert output.read_bytes() == b""


def test_each_record_of_a_table_is_a_document(
    run: Run, model_folder: Path, tmp_path: Path, translator: RnnTranslationPipeline
) -> None:
    source = tmp_path / "in.jsonl"
    texts = [DOCUMENT, "", "One. Two.", "the cat, " * 40 + "the end."]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    outcome = run(["translate", "-m", model_folder, source, "--document", "--buffer-size", 2])
    records = [json.loads(line) for line in outcome.out.splitlines()]
    expected = translator(texts, split_sentences=True, return_warnings=True)
    assert [record["translation"] for record in records] == [one["translation_text"] for one in expected]
    assert ["warning" in record for record in records] == [False, False, False, True]
    assert records[3]["warning"] == expected[3]["warnings"][0]


def test_a_summary_of_a_long_document_says_what_was_left_out(run: Run, model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "task": "summarization"}), encoding="utf-8")
    source = tmp_path / "in.txt"
    source.write_text("the cat sleeps.\n\n" * 20 + "the end", encoding="utf-8")
    outcome = run(["summarize", "-m", folder, source, "--document", "--output-format", "jsonl"])
    record = json.loads(outcome.out)
    assert record["summary"]
    assert "What is left out begins with" in record["warning"]
    kept = record["warning"].split("begins with '")[1].removesuffix("'.")
    assert kept in "the cat sleeps. " * 3
    outcome = run(["summarize", "-m", folder, source])
    assert len(outcome.out.splitlines()) == 41  # without --document each line is one
    assert outcome.error == ""


def test_a_bar_where_errors_go_to_a_terminal(
    run: Run, model_folder: Path, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["translate", "-m", model_folder, lines, "-o", tmp_path / "out.txt"]
    assert run(command).error == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    error = run([*command, "--overwrite"]).error
    assert f"{len(TEXTS)}/{len(TEXTS)}" in error
    assert "records/s" in error
    (tmp_path / "out.txt").write_bytes(b"one\ntwo\n")
    assert f"{len(TEXTS)}/{len(TEXTS)}" in run([*command, "--resume"]).error
