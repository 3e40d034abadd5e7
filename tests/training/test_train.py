"""The training script, run for real on a few sentences: what it leaves, what it refuses, how it resumes."""

import contextlib
import csv
import importlib.util
import io
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_rnn_s2s import RnnTranslationPipeline, train_tokenizer
from hf_rnn_s2s.data.loading import load_examples
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.separators import SEPARATORS
from hf_rnn_s2s.training.command_line import parse_arguments
from hf_rnn_s2s.training.metrics import TranslationMetric

from ..hub_server import HubServer
from ..two_processes import run_in_two_processes

ROOT = Path(__file__).parents[2]
RECIPE = """
hidden_size: 16
embedding_size: 32
demo_size: 150
vocab_size: 420
per_device_train_batch_size: 32
per_device_eval_batch_size: 4
num_train_epochs: 2
learning_rate: 1e-2     # YAML reads this as text, the parser as a number
max_eval_samples: 6
max_predict_samples: 13
generation_max_length: 16
num_beams: 2
sample_translations: 2
ema_decay: 0.5
report_to: [none]
disable_tqdm: true
"""


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


train = load_script()


def run(*argv: str) -> str:
    """What `train.py` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        train.main(argv)
    return printed.getvalue()


def rows(folder: Path) -> list[list[str]]:
    with (folder / "predictions.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def results(folder: Path) -> dict[str, float]:
    content: dict[str, float] = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    return content


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def finished(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished run, and what the run printed. The command line overrides the recipe."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    return folder, run(recipe, "--output_dir", str(folder), "--embedding_size", "8")


def test_the_model_loads_and_translates_as_in_the_table(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert model.config.hidden_size == 16  # of the recipe
    assert model.config.embedding_size == 8  # of the command line
    assert (model.generation_config.num_beams, model.generation_config.max_length) == (2, 16)
    header, *table = rows(folder)
    assert header == ["source", "reference", "hypothesis"]
    assert len(table) == 13
    # One by one: neither the batches of the script nor its order by length may show.
    translator = RnnTranslationPipeline(model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    for source, _, hypothesis in table:
        assert SEPARATORS.sub(" ", translator(source)[0]["translation_text"]) == hypothesis


def test_the_folder_carries_the_code(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for reference in config["auto_map"].values():
        assert (folder / f"{reference.split('.')[0]}.py").is_file()
    assert "translation" in config["custom_pipelines"]


def test_the_tokenizer_knows_how_long_the_sources_were(
    finished: tuple[Path, str], recipe: str, tmp_path: Path
) -> None:
    folder, _ = finished
    assert AutoTokenizer.from_pretrained(folder).model_max_length == 128
    shorter = ["--model_name_or_path", str(folder), "--embedding_size", "8", "--max_source_length", "40"]
    quick = ["--max_steps", "1", "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    run(recipe, "--output_dir", str(tmp_path / "run"), *shorter, *quick, "--do_predict", "false")
    assert AutoTokenizer.from_pretrained(tmp_path / "run").model_max_length == 40


def test_the_model_is_exported_at_the_end(finished: tuple[Path, str], recipe: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    quick = ["--max_steps", "1", "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    options = [recipe, "--output_dir", str(tmp_path), *quick, "--export", "float32"]
    with pytest.raises(UsageError, match="head_type='marginal' cannot be exported"):
        run(*options, "--attention_type", "hard", "--head_type", "marginal")
    assert not list(tmp_path.glob("*.safetensors"))
    run(*options)
    translate = {
        folder: RnnTranslationPipeline(
            model=AutoModelForSeq2SeqLM.from_pretrained(folder), tokenizer=AutoTokenizer.from_pretrained(folder)
        )
        for folder in (tmp_path, tmp_path / "float32")
    }
    assert translate[tmp_path / "float32"].model.runtime is not None
    texts = [source for source, *_ in rows(tmp_path)[1:]]
    assert translate[tmp_path](texts) == translate[tmp_path / "float32"](texts)
    assert "onnx" in (tmp_path / "float32" / "README.md").read_text(encoding="utf-8")


def test_results(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    values, table = results(folder), rows(folder)[1:]
    assert values["train_runtime"] > 0
    assert values["target_tokens_per_second"] == pytest.approx(values["target_tokens"] / values["train_runtime"])
    assert values["predict_perplexity"] == pytest.approx(torch.tensor(values["predict_loss"]).exp().item(), rel=1e-4)
    scores = TranslationMetric().compute(
        predictions=[row[2] for row in table], references=[row[1] for row in table], target_lang="zh"
    )
    assert scores is not None
    for name, score in scores.items():
        assert values[f"predict_{name}"] == (pytest.approx(score) if isinstance(score, float) else score)
    assert "tok:zh" in str(values["predict_bleu_signature"])


def test_evaluations_are_logged_with_scores_and_samples(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    evaluations = [entry for entry in state["log_history"] if "eval_loss" in entry]
    assert [entry["epoch"] for entry in evaluations] == [1.0, 2.0]
    assert all(0 <= entry["eval_exact_match"] <= 1 and entry["eval_chrf"] >= 0 for entry in evaluations)
    assert printed.count("hypothesis  ") == 2 * 2 + 5  # two at each evaluation, five at the end
    assert printed.rstrip().endswith(f'pipeline("translation", "{folder}", trust_remote_code=True)')


def test_pictures_and_card(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    for name in ["training_curves.png", "attention.png"]:
        picture = (folder / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 5000
    card = ModelCard.load(folder / "README.md")
    measured = card.data.to_dict()["model-index"][0]["results"][0]["metrics"]
    metrics = {metric["type"]: metric["value"] for metric in measured}
    assert metrics["chrf"] == round(results(folder)["predict_chrf"], 1)
    assert "| test | 13 |" in card.text


def test_a_resumed_run_ends_as_an_uninterrupted_one(finished: tuple[Path, str], recipe: str, tmp_path: Path) -> None:
    folder, _ = finished
    copy = tmp_path / "resumed"
    shutil.copytree(folder, copy)
    first, last = sorted((path.name for path in folder.glob("checkpoint-*")), key=lambda name: int(name[11:]))
    shutil.rmtree(copy / last)
    run(recipe, "--output_dir", str(copy), "--embedding_size", "8", "--resume_from_checkpoint", "true")
    state = json.loads((copy / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["global_step"] == int(last[11:])
    again, once = (load_file(path / last / "model.safetensors") for path in (copy, folder))
    before = load_file(folder / first / "model.safetensors")
    for name, weight in once.items():
        assert not torch.equal(weight, before[name]), name
        torch.testing.assert_close(again[name], weight, rtol=0, atol=0)
    trained_again = results(copy)["target_tokens"]
    assert trained_again * 2 == results(folder)["target_tokens"]


def test_the_folder_of_another_run_is_refused_and_stays_as_it_is(finished: tuple[Path, str], recipe: str) -> None:
    folder, _ = finished
    before = snapshot(folder)
    with pytest.raises(ValueError, match=r"not empty.*--resume_from_checkpoint true"):
        run(recipe, "--output_dir", str(folder))
    assert snapshot(folder) == before


def test_a_run_that_resumes_from_elsewhere_leaves_other_folders_alone(
    finished: tuple[Path, str], recipe: str, tmp_path: Path
) -> None:
    folder, _ = finished
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"of another run")
    with pytest.raises(ValueError, match="not empty"):
        run(recipe, "--output_dir", str(other), "--resume_from_checkpoint", str(next(folder.glob("checkpoint-*"))))
    assert list(snapshot(other)) == [str(other / "model.safetensors")]


def test_evaluating_without_training(finished: tuple[Path, str], recipe: str, tmp_path: Path) -> None:
    folder, _ = finished
    options = ["--do_train", "false", "--output_dir", str(tmp_path / "scores")]
    printed = run(recipe, "--model_name_or_path", str(folder), "--embedding_size", "8", *options)
    assert rows(tmp_path / "scores") == rows(folder)
    scores, expected = results(tmp_path / "scores"), results(folder)
    names = {"predict_bleu", "predict_chrf", "predict_ter", "predict_exact_match", "predict_loss"}
    assert {name: scores[name] for name in names} == {name: expected[name] for name in names}
    assert "eval_loss" in scores
    assert "train_loss" not in scores
    assert not {"model.safetensors", "README.md"} & {path.name for path in (tmp_path / "scores").iterdir()}
    assert f'pipeline("translation", "{folder}"' in printed
    options = ["--do_train", "false", "--output_dir", str(tmp_path / "new")]
    with pytest.raises(ValueError, match="do_train=false: name the model"):
        run(recipe, *options)
    with pytest.raises(ValueError, match="push_to_hub goes with training"):
        run(recipe, "--model_name_or_path", str(folder), "--embedding_size", "8", *options, "--push_to_hub", "true")
    assert not (tmp_path / "new").exists()


def test_evaluating_on_another_file_needs_no_further_option(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    test_file = tmp_path / "test.jsonl"
    test_file.write_text('{"de": "two hours", "en": "2 h"}\n{"de": "3 dogs", "en": "3"}\n', encoding="utf-8")
    options = ["--do_train", "false", "--model_name_or_path", str(folder), "--output_dir", str(tmp_path / "scores")]
    run(*options, "--test_file", str(test_file), "--source_lang", "de", "--target_lang", "en")
    scores = results(tmp_path / "scores")
    assert "tok:13a" in str(scores["predict_bleu_signature"])
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)  # with its own number of beams
    translator = RnnTranslationPipeline(model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    expected = [record["translation_text"] for record in translator(["two hours", "3 dogs"])]
    assert [row[2] for row in rows(tmp_path / "scores")[1:]] == [SEPARATORS.sub(" ", text) for text in expected]
    with pytest.raises(ValueError, match="nothing to do without training"):
        run(
            *options[:-1],
            str(tmp_path / "new"),
            "--test_file",
            str(test_file),
            "--source_lang",
            "de",
            "--target_lang",
            "en",
            "--do_predict",
            "false",
        )


def test_the_languages_are_those_of_the_model(
    finished: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluating with them swapped warns; where a run does not say, the scores are for the language of the model."""
    monkeypatch.setattr(logging.getLogger("hf_rnn_s2s"), "propagate", True)
    folder, _ = finished
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["source_lang"], config["target_lang"]) == ("en", "zh")
    (tmp_path / "test.jsonl").write_text('{"source": "2 hours", "target": "2小时"}\n', encoding="utf-8")
    (tmp_path / "swapped.jsonl").write_text('{"zh": "2小时", "en": "2 hours"}\n', encoding="utf-8")
    options = ["--do_train", "false", "--model_name_or_path", str(folder), "--report_to", "none"]
    for name, arguments, tokenization in (
        ("test", [], "tok:zh"),
        ("swapped", ["--source_lang", "zh", "--target_lang", "en"], "tok:13a"),
    ):
        assert not [message for message in caplog.messages if "translates" in message]
        output = ["--output_dir", str(tmp_path / name), "--test_file", str(tmp_path / f"{name}.jsonl")]
        run(*options, *output, *arguments)
        assert tokenization in str(results(tmp_path / name)["predict_bleu_signature"])
    (warning,) = [message for message in caplog.messages if "translates" in message]
    assert "English 'en' to Chinese 'zh', but the data of this run is Chinese 'zh' to English 'en'" in warning


def test_a_run_without_logs_and_without_a_translation_of_the_test_split(recipe: str, tmp_path: Path) -> None:
    quiet = [
        "--logging_strategy",
        "no",
        "--logging_first_step",
        "false",
        "--eval_strategy",
        "no",
        "--save_strategy",
        "no",
    ]
    options = [*quiet, "--load_best_model_at_end", "false", "--do_predict", "false", "--max_steps", "2"]
    run(recipe, "--output_dir", str(tmp_path / "run"), *options)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not list((tmp_path / "run").glob("*.png"))
    assert not (tmp_path / "run" / "predictions.tsv").exists()
    assert "training_curves.png" not in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_other_architectures_data_and_vocabularies(recipe: str, tmp_path: Path) -> None:
    """A stream, a vocabulary for each side, no attention and thus no picture of it."""
    options = ["--streaming", "true", "--max_steps", "3", "--decoder_vocab_size", "400", "--attention_type", "none"]
    run(
        recipe,
        "--output_dir",
        str(tmp_path / "run"),
        *options,
        "--cell_type",
        "gru",
        "--eval_strategy",
        "steps",
        "--save_strategy",
        "steps",
        "--eval_steps",
        "3",
        "--save_steps",
        "3",
        "--early_stopping_patience",
        "2",
    )
    config = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run").config
    assert (config.attention_type, config.cell_type) == ("none", "gru")
    assert config.vocab_size <= 420
    assert config.decoder_vocab_size <= 400
    assert len(rows(tmp_path / "run")) == 14
    assert not (tmp_path / "run" / "attention.png").exists()
    assert "attention.png" not in (tmp_path / "run" / "README.md").read_text(encoding="utf-8")


def test_two_processes_leave_the_same_files_once(recipe: str, finished: tuple[Path, str], tmp_path: Path) -> None:
    """13 test examples in batches of 4 for 2 processes: the last batches are filled up with examples already seen."""
    folder = tmp_path / "run"
    run_in_two_processes(
        ROOT / "train.py", recipe, "--output_dir", str(folder), "--num_train_epochs", "1", "--logging_steps", "1"
    )
    alone, _ = finished
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        path.name for path in alone.iterdir() if path.is_file()
    }
    table = rows(folder)
    assert [row[:2] for row in table] == [row[:2] for row in rows(alone)]
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    translator = RnnTranslationPipeline(model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    for source, _, hypothesis in table[1:]:
        assert SEPARATORS.sub(" ", translator(source)[0]["translation_text"]) == hypothesis


def test_two_processes_share_a_stream(recipe: str, tmp_path: Path) -> None:
    """The 150 rows of a pass in steps of 2 times 32."""
    folder, strategies = tmp_path / "run", ["--eval_strategy", "no", "--save_strategy", "no"]
    options = ["--streaming", "true", "--max_steps", "3", "--load_best_model_at_end", "false", "--do_predict", "false"]
    run_in_two_processes(ROOT / "train.py", recipe, "--output_dir", str(folder), *options, *strategies)
    corpus = load_examples(parse_arguments([recipe, "--streaming", "true"])[1])["train"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = sum(len(tokenizer(text_target=pair["target"])["input_ids"]) for pair in corpus)
    assert results(folder)["target_tokens"] == expected  # each example once


def test_push_to_hub(recipe: str, tmp_path: Path) -> None:
    """At the end the Hub has what the folder has, our card and the pictures included, and no checkpoints."""
    folder = tmp_path / "tiny"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    push = ["--push_to_hub", "true", "--hub_model_id", "lab/tiny"]
    with HubServer() as hub:
        process = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), recipe, "--output_dir", str(folder), *push],
            env={
                **inherited,
                "HF_HOME": str(tmp_path / "hf"),
                "HF_ENDPOINT": hub.url,
                "HF_HUB_DISABLE_XET": "1",
                "HF_TOKEN": "hf_token",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert process.returncode == 0, process.stderr[-4000:]
    repository = hub.repositories["lab/tiny"]
    local = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    pushed = repository.head.files
    assert pushed == local
    assert {"model.safetensors", "modeling_rnn_s2s.py", "attention.png", "all_results.json"} <= set(pushed)
    card = pushed["README.md"].decode()
    assert "| test | 13 |" in card
    assert "generated_from_trainer" not in card  # the tag of the Trainer's own draft


# Bad input, found before anything is trained or written


def test_resuming_needs_a_checkpoint(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint to resume from"):
        run(recipe, "--output_dir", str(tmp_path / "new"), "--resume_from_checkpoint", "true")
    with pytest.raises(ValueError, match="is not a whole checkpoint: it has no trainer_state"):
        run(recipe, "--output_dir", str(tmp_path / "new"), "--resume_from_checkpoint", str(tmp_path))
    assert not (tmp_path / "new").exists()


def test_a_stream_needs_max_steps(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--max_steps"):
        run(recipe, "--output_dir", str(tmp_path / "new"), "--streaming")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hidden_size", "15"], "hidden_size=15 must be even"),
        (["--attention_type", "none", "--bridge", "zero"], "attention_type='none' contradicts bridge='zero'"),
        (["--ema_decay", "1"], "ema_decay=1.0 must lie between 0 and 1"),
        (["--vocab_size", "5"], "vocab_size"),
        (["--max_target_length", "1"], "training pairs are longer"),
        (["--num_beams", "0"], "num_beams=0 must be at least 1"),
        (["--generation_max_length", "1"], "generation_max_length=1 leaves no room"),
        (["--dataloader_drop_last", "true"], "dataloader_drop_last=True: this trainer scores complete translations"),
        (["--remove_unused_columns", "false"], "remove_unused_columns=False"),
    ],
)
def test_wrong_values_leave_no_folder_behind(recipe: str, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(recipe, "--output_dir", str(tmp_path / "new"), *options)
    assert not (tmp_path / "new").exists()


def test_an_architecture_must_be_that_of_the_checkpoint(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    options = ["--output_dir", str(tmp_path / "new"), "--model_name_or_path", str(folder), "--demo_size", "20"]
    with pytest.raises(ValueError, match=r"hidden_size=32, but the checkpoint .* has hidden_size=16"):
        run(*options, "--hidden_size", "32")


def test_a_vocabulary_must_be_that_of_the_model(
    finished: tuple[Path, str], recipe: str, tiny_texts: list[str], tmp_path: Path
) -> None:
    folder, _ = finished
    separate = tmp_path / "separate"
    train_tokenizer(tiny_texts, 280, target_texts=tiny_texts).save_pretrained(separate)
    base = [
        recipe,
        "--embedding_size",
        "8",
        "--output_dir",
        str(tmp_path / "new"),
        "--model_name_or_path",
        str(folder),
    ]
    with pytest.raises(
        ValueError, match="The tokenizer has .* but the model .*use the tokenizer that belongs to the model"
    ):
        run(*base, "--tokenizer_name", str(separate))
    with pytest.raises(ValueError, match="decoder_vocab_size=300 asks for a vocabulary of the target's own"):
        run(*base, "--decoder_vocab_size", "300")
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_another_model_type_is_refused(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    other = tmp_path / "other"
    AutoTokenizer.from_pretrained(folder).save_pretrained(other)
    (other / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    with pytest.raises(ValueError, match="is a 't5' model"):
        run("--output_dir", str(tmp_path / "new"), "--model_name_or_path", str(other), "--demo_size", "20")
