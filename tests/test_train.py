"""The training script, run for real on a few sentences: what it leaves, what it refuses, how it resumes."""

import contextlib
import csv
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_rnn_s2s import RnnTranslationPipeline
from hf_rnn_s2s.arguments import ModelArguments, RnnS2STrainingArguments, parse_arguments
from hf_rnn_s2s.data_arguments import DataArguments
from hf_rnn_s2s.metrics import TranslationMetric
from hf_rnn_s2s.reports import SEPARATORS

from .hub_server import HubServer

ROOT = Path(__file__).parent.parent
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
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            str(ROOT / "train.py"),
            recipe,
            "--output_dir",
            str(folder),
            "--num_train_epochs",
            "1",
        ],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
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
    with pytest.raises(ValueError, match="is not a checkpoint"):
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


def test_a_checkpoint_of_another_model_type_is_refused(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    other = tmp_path / "other"
    AutoTokenizer.from_pretrained(folder).save_pretrained(other)
    (other / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    with pytest.raises(ValueError, match="is a 't5' model"):
        run("--output_dir", str(tmp_path / "new"), "--model_name_or_path", str(other), "--demo_size", "20")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("hiden_size: 5", [], "unknown argument 'hiden_size' in the recipe"),
        (
            "hidden_size: 5",
            ["--hiden_size", "6"],
            "unknown argument 'hiden_size' on the command line; did you mean hidden",
        ),
        ("hidden_size: big", [], "--hidden_size/--hidden-size: invalid int value: 'big'"),
        ("cell_type: rnn", [], "invalid choice: 'rnn' (choose from"),
        ("- hidden_size", [], "must map arguments to values"),
        ("a: [", [], "cannot be read"),
        ("seed: 1", ["other.yaml"], "'other.yaml' belongs to no argument; a recipe must be the first"),
    ],
)
def test_a_wrong_recipe_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, options: list[str], message: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SystemExit):
        parse_arguments([str(path), *options])
    assert message in capsys.readouterr().err


def test_recipes_take_every_kind_of_value(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "demo_locales: [de, fr]\nsave_total_limit: null\nload_best_model_at_end: false\nlearning_rate: 1e-4\n"
        "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 0.5}\nmax_steps: -1\n",
        encoding="utf-8",
    )
    _, data, training = parse_arguments([str(path), "--demo_locales", "en", "fr"])
    assert data.demo_locales == ["en", "fr"]
    assert training.save_total_limit is None
    assert training.load_best_model_at_end is False
    assert training.learning_rate == 1e-4
    assert training.lr_scheduler_kwargs == {"min_lr": 0.5}


def test_the_demo_recipe_is_taken_where_nothing_else_is_asked_for() -> None:
    def hidden_size(*argv: str) -> int | None:
        return parse_arguments(argv, ROOT / "recipes" / "demo.yaml")[0].hidden_size

    recipe = hidden_size(str(ROOT / "recipes" / "demo.yaml"))
    assert recipe is not None
    assert hidden_size() == recipe
    assert hidden_size("--demo_locales", "en", "de", "--num_train_epochs=1") == recipe
    assert hidden_size("--hidden_size", "10") == 10
    assert hidden_size("--model_name_or_path", "somewhere") is None
    assert hidden_size(str(ROOT / "recipes" / "multi30k-en-de.yaml")) is None
    assert parse_arguments([])[0].hidden_size is None
    text = ["--source_lang", "en", "--target_lang", "de", "--validation_split_percentage", "5"]
    assert hidden_size("--train-file=data/train", *text) is None


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_understood(path: Path) -> None:
    _, _, training = parse_arguments([str(path)])
    assert training.output_dir == f"outputs/{path.stem}"


@pytest.mark.parametrize("group", [ModelArguments, DataArguments, RnnS2STrainingArguments])
def test_every_argument_is_explained(group: type) -> None:
    for field in fields(group):
        assert not field.init or len(field.metadata.get("help", "")) > 15, field.name


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name in ["--attention_type", "--train_file", "--early_stopping_patience", "--learning_rate"]:
        assert name in shown
