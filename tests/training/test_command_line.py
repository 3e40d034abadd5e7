"""How `train.py` is told what to do: recipes, command lines, and what is wrong with them."""

from dataclasses import fields
from pathlib import Path

import pytest

from hf_rnn_s2s.data.arguments import DataArguments
from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.training.argument_checks import CHECKS
from hf_rnn_s2s.training.arguments import ModelArguments, RnnS2STrainingArguments
from hf_rnn_s2s.training.command_line import parse_arguments
from hf_rnn_s2s.training.tasks import TASKS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("report_to: []", [], "gives report_to an empty list; leave the line out"),
        ("metric_for_best_model: bleux", [], "metric_for_best_model 'bleux' cannot choose; there are loss, "),
        (
            "seed: 1",
            ["--metric_for_best_model", "length_ratio"],
            "metric_for_best_model 'length_ratio' cannot choose",
        ),
        ("hiden_size: 5", [], "unknown argument 'hiden_size' in the recipe"),
        (
            "hidden_size: 4",
            ["--hiden_size", "6"],
            "unknown argument 'hiden_size' on the command line; did you mean hidden",
        ),
        (
            "label_smoothing: 0.1",
            [],
            "unknown argument 'label_smoothing' in the recipe {path}; it is called label_smoothing_factor now",
        ),
        ("seed: 1", ["--label_smoothing=0.1"], "on the command line; it is called label_smoothing_factor now"),
        ("hidden_size: big", [], "--hidden_size/--hidden-size: invalid int value: 'big'"),
        ("cell_type: rnn", [], "invalid choice: 'rnn' (choose from"),
        ("- hidden_size", [], "must map arguments to values"),
        ("a: [", [], "cannot be read"),
        ("seed: 1", ["other.yaml"], "'other.yaml' belongs to no argument; a recipe must be the first"),
    ],
)
def test_a_wrong_recipe_is_explained(tmp_path: Path, content: str, options: list[str], message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        parse_arguments([str(path), *options])
    assert message.replace("{path}", str(path)) in str(error.value)
    assert len(error.value.problems) == 1


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    recipe, table = tmp_path / "wrong.yaml", tmp_path / "train.csv"
    recipe.write_text("hiden_size: 5\ncell_type: rnn\nlearning_rate: fast\n", encoding="utf-8")
    table.write_text("english,german\na,b\n", encoding="utf-8")
    options = [
        "--train_file",
        str(table),
        "--source_column",
        "inglish",
        "--target_column",
        "german",
        "--ema_decay",
        "2",
    ]
    options += ["--nonsense", "5", "--model_name_or_path", str(tmp_path / "no" / "model"), "--max_source_length", "0"]
    options += ["--predict_with_generate", "false", "--vocab_size", "5", "--streaming", "true"]
    with pytest.raises(UsageError) as error:
        parse_arguments([str(recipe), *options], None, CHECKS)
    found = "\n".join(error.value.problems)
    for part in (
        "unknown argument 'hiden_size' in the recipe",
        "--cell_type/--cell-type: invalid choice: 'rnn'",
        "--learning_rate/--learning-rate: invalid float value: 'fast'",
        "unknown argument 'nonsense' on the command line",
        "vocab_size=5 must be at least",
        "needs a validation_file",
        "max_source_length must be at least 1",
        "ema_decay=2.0 must lie between 0 and 1",
        "predict_with_generate=False: this trainer scores complete translations",
        f"model_name_or_path {tmp_path / 'no' / 'model'}: there is no such folder",
        "train.csv has no column 'inglish' for the source text",
        "say how long to train, with --max_steps",
    ):
        assert part in found, part
    assert len(error.value.problems) == 12
    assert str(error.value).startswith("12 things are wrong:\n- ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--do_train", "false", "--demo_size", "5"], "do_train=false: name the model"),
        (["--do_train", "false", "--model_name_or_path", "a/b", "--push_to_hub"], "push_to_hub goes with training"),
        (["--test_file", "{folder}/t.csv"], "nothing to train on, only test_file"),
        (["--streaming", "--max_steps", "5", "--per_device_train_batch_tokens", "9"], "max_source_length=128"),
        (["--output_dir", "{folder}"], "output_dir .* is not empty"),
        (["--tokenizer_name", "{folder}/x"], "tokenizer_name .*x: there is no such folder"),
        (["--demo_size", "9", "--report_to", "nosuch"], "report_to: nosuch is not supported, only"),
        (["--demo_size", "9", "--report_to", "trackio"], "report_to: .* requires trackio to be installed"),
        (["--demo_size", "9", "--accelerator_config", "{folder}/x.json"], "No such file .*x.json"),
        (["--demo_size", "9", "--lr_scheduler_kwargs", "power"], "lr_scheduler_kwargs 'power' is no JSON object"),
        (
            ["--demo_size", "9", "--per_device_train_batch_size", "0"],
            "per_device_train_batch_size=0 must be at least 1",
        ),
        (["--demo_size", "9", "--per_device_eval_batch_size", "0"], "per_device_eval_batch_size=0 must be at least 1"),
        (["--demo_size", "9", "--gradient_accumulation_steps", "0"], "gradient_accumulation_steps=0 must be"),
        (["--demo_size", "9", "--sample_translations", "-1"], "sample_translations=-1 must be at least 0"),
        (["--demo_size", "9", "--num_train_epochs", "0"], "num_train_epochs=0.0 is no training"),
        (["--train_file", "{folder}/t", "--validation_split_percentage", "5"], "name its two languages"),
    ],
)
def test_what_cannot_be_done_is_found_before_anything_is_loaded(
    tmp_path: Path, options: list[str], message: str
) -> None:
    (tmp_path / "t.csv").write_text("source,target\na,b\n", encoding="utf-8")
    given = [option.replace("{folder}", str(tmp_path)) for option in options]
    with pytest.raises(UsageError, match=message) as error:
        parse_arguments(["--output_dir", str(tmp_path / "new"), *given], None, CHECKS)
    assert len(error.value.problems) == 1
    assert not (tmp_path / "new").exists()


def test_recipes_take_every_kind_of_value(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "demo_locales: [de, fr]\nsave_total_limit: null\nload_best_model_at_end: false\nlearning_rate: 1e-4\n"
        "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 0.5}\nmax_steps: -1\n",
        encoding="utf-8",
    )
    _, data, training, _ = parse_arguments([str(path), "--demo_locales", "en", "fr"])
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


@pytest.mark.parametrize("preset", [["--preset", "luong2015"], ["--preset=luong2015"]])
def test_a_preset_that_is_typed_counts_for_more_than_a_recipe(preset: list[str]) -> None:
    demo = ROOT / "recipes" / "demo.yaml"
    for argv in (preset, [str(demo), *preset]):
        model, data, training, _ = parse_arguments([*argv, "--decoder_layers", "2"], demo)
        assert (model.hidden_size, model.decoder_layers, model.encoder_layers) == (None, 2, None)
        assert (model.architecture()["hidden_size"], model.architecture()["encoder_layers"]) == (1000, 4)
        assert model.vocab_size == 450  # which is the run's
        assert training.learning_rate == 3e-3
        assert data.demo_locales == ["en", "zh"]
    with pytest.raises(UsageError, match="There is no preset 'luong'"):
        parse_arguments(["--preset", "luong"], demo)


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_understood(path: Path) -> None:
    _, _, training, _ = parse_arguments([str(path)])
    assert training.output_dir == f"outputs/{path.stem}"


OF_TASKS = [task.arguments_class for task in TASKS.values()]


@pytest.mark.parametrize("group", [ModelArguments, DataArguments, RnnS2STrainingArguments, *OF_TASKS])
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


@pytest.mark.parametrize("value", [-0.1, 1.0])
def test_label_smoothing_is_a_share(value: float) -> None:
    with pytest.raises(ValueError, match=f"label_smoothing_factor={value} must be at least 0 and below 1"):
        RnnS2STrainingArguments(output_dir="x", label_smoothing_factor=value)


def test_recipes_train_as_they_did() -> None:
    smoothing = {
        path.stem: parse_arguments([str(path)])[2].label_smoothing_factor for path in (ROOT / "recipes").glob("*.yaml")
    }
    assert {"demo": None, "multi30k-en-de": 0.1}.items() <= smoothing.items()


def test_the_best_perplexity_is_the_lowest() -> None:
    for name, greater in (("perplexity", False), ("eval_ter", False), ("bleu", True), ("loss", False)):
        _, _, arguments, _ = parse_arguments(["--output_dir", "x", "--metric_for_best_model", name], None)
        assert arguments.greater_is_better is greater, name
