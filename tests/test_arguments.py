"""How `train.py` is told what to do: recipes, command lines, and what is wrong with them."""

from dataclasses import fields
from pathlib import Path

import pytest

from hf_rnn_s2s.arguments import ModelArguments, RnnS2STrainingArguments, parse_arguments
from hf_rnn_s2s.data_arguments import DataArguments

ROOT = Path(__file__).parent.parent


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


def test_the_best_perplexity_is_the_lowest() -> None:
    for name, greater in (("perplexity", False), ("eval_ter", False), ("bleu", True), ("loss", False)):
        *_, arguments = parse_arguments(["--output_dir", "x", "--metric_for_best_model", name], None)
        assert arguments.greater_is_better is greater, name
