"""The command line of `train.py`: reads recipes and arguments, and reports all errors in them at once."""

import difflib
import json
from argparse import ArgumentError, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import yaml
from transformers import HfArgumentParser

from ..data.arguments import DataArguments
from ..errors import UsageError
from ..model.configuration_rnn_s2s import PRESETS
from .arguments import OF_THE_RUN, ModelArguments, RnnS2STrainingArguments
from .tasks import TASKS
from .tasks.base import Task

USAGE = "train.py [recipes/NAME.yaml] [--argument value ...]"  # what --help shows
# Arguments that replace the demo's data or model, so that its recipe is not used
NON_DEMO_ARGUMENTS = {"task", "dataset_name", "train_file", "model_name_or_path", "tokenizer_name"}
# Former names of arguments, and their names now
RENAMED = {"label_smoothing": "label_smoothing_factor"}


class Arguments(NamedTuple):
    """The arguments of a run. While they are checked, each may be a namespace with the attributes of its class.

    The task has its own arguments, `task.arguments`.
    """

    model: ModelArguments
    data: DataArguments
    training: RnnS2STrainingArguments
    task: Task


GROUPS = [ModelArguments, DataArguments, RnnS2STrainingArguments]  # of every task, in this order

Check = Callable[[Arguments], Iterable[str]]  # returns what is wrong with the arguments


def parse_arguments(argv: Sequence[str], demo_recipe: Path | None = None, checks: Sequence[Check] = ()) -> Arguments:
    """Read `[recipe] [--argument value ...]`.

    The recipe, a YAML file that maps arguments to values, comes first if there is one. Values on the command line
    override those of the recipe.

    Args:
        argv: the command line without the name of the script.
        demo_recipe: the recipe to use if the command line has none and names neither data nor a model to start from.
        checks: further checks, whose findings are reported together with those of the parser.

    Raises:
        UsageError: with everything that is wrong: a recipe that cannot be read, unknown arguments, values that are
            invalid or contradict each other.
        SystemExit: after `--help`.
    """
    options = list(argv)
    problems: list[str] = []
    if demo_recipe is not None and _asks_for_the_demo(options):
        options.insert(0, str(demo_recipe))
    path = options.pop(0) if options and not options[0].startswith("-") else None
    recipe = {} if path is None else _read_recipe(path)
    task_class = _task_of(recipe, options)
    groups = [*GROUPS, task_class.arguments_class]
    parser = _Parser(
        cast(Any, groups),
        usage=USAGE,
        description=f"Trains a model for {task_class.name} and leaves it in output_dir with its scores, pictures and "
        f"model card. --task chooses among {', '.join(TASKS)}.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.set_defaults(**task_class.defaults)
    if path is not None:
        recipe_options, problems = _as_options(parser, recipe, path)
        options = _without_fields_of_preset(recipe_options, options) + options
    namespace, option_problems = _parse(parser, options)
    problems += option_problems
    model, data, training, own = (_build_group(group, namespace, problems) for group in groups)
    arguments = Arguments(model, data, training, task_class(own))
    for check in checks:
        problems += check(arguments)
    if problems:
        raise UsageError(*dict.fromkeys(problems))
    return arguments


class _Parser(HfArgumentParser):
    """Raises an error where `argparse` would end the process."""

    def error(self, message: str) -> NoReturn:
        """Raise `message` as a `UsageError`."""
        raise UsageError(message)


def _parse(parser: HfArgumentParser, options: list[str]) -> tuple[Namespace, list[str]]:
    """Parse the options; return the values and what is wrong with the options that had to be left out."""
    problems: list[str] = []
    while True:
        try:
            namespace, unknown = parser.parse_known_args(options)
        except ArgumentError as error:
            problems.append(str(error))
            without = _without_option(options, str(error.argument_name).split("/"))
            if len(without) == len(options):
                raise UsageError(*problems) from error
            options = without
        else:
            return namespace, problems + list(_explain_unknown(parser, unknown))


def _without_option(options: list[str], names: list[str]) -> list[str]:
    """The options without the one that has these names, and without its values."""
    kept, drops = [], False
    for option in options:
        if option.startswith("--"):
            drops = option.split("=")[0] in names
        if not drops:
            kept.append(option)
    return kept


def _without_fields_of_preset(recipe_options: list[str], options: list[str]) -> list[str]:
    """The options of a recipe that a preset on the command line does not set: what is typed counts for more."""
    for place, option in enumerate(options):
        name, _, value = option.partition("=")
        if name == "--preset":
            value = value or "".join(options[place + 1 : place + 2])
            fields_of_preset = PRESETS[value]() if value in PRESETS else {}  # an unknown one is explained later
            return _without_option(recipe_options, [f"--{one}" for one in fields_of_preset if one not in OF_THE_RUN])
    return recipe_options


def _build_group(group: type, namespace: Namespace, problems: list[str]) -> Any:
    """Make the arguments of one class; if they are invalid, add the problems and return the plain values."""
    given = {argument.name: getattr(namespace, argument.name) for argument in fields(group) if argument.init}
    try:
        return group(**given)
    except UsageError as error:
        problems += error.problems
    return Namespace(**given)


def _asks_for_the_demo(options: Sequence[str]) -> bool:
    if options and not options[0].startswith("-"):
        return False
    given = {option.lstrip("-").split("=")[0].replace("-", "_") for option in options if option.startswith("--")}
    return not given & NON_DEMO_ARGUMENTS


def _read_recipe(path: str) -> dict[Any, Any]:
    """Read a recipe.

    Raises:
        UsageError: if it cannot be read.
    """
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no recipe {path!r}; a recipe is a YAML file such as recipes/demo.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"the recipe {path} cannot be read: {error}") from error
    if not isinstance(recipe, dict):
        raise UsageError(f"the recipe {path} must map arguments to values, one `argument: value` a line")
    return recipe


def _task_of(recipe: dict[Any, Any], options: list[str]) -> type[Task]:
    """The task of a run, which says what other arguments there are.

    Raises:
        UsageError: if there is none of that name.
    """
    name = recipe.get("task", DataArguments.task)
    for place, option in enumerate(options):
        if option.split("=")[0] == "--task":
            name = option.partition("=")[2] or "".join(options[place + 1 : place + 2])
    if name not in TASKS:
        similar = difflib.get_close_matches(str(name), TASKS, n=1, cutoff=0.5)
        hint = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(TASKS)}"
        raise UsageError(f"there is no task {name!r}; {hint}")
    return TASKS[name]


def _as_options(parser: HfArgumentParser, recipe: dict[Any, Any], path: str) -> tuple[list[str], list[str]]:
    """A recipe as command-line options, and what is wrong with the names in it.

    As options its values are checked like those of the command line.
    """
    options, problems = [], []
    for name, value in recipe.items():
        if name not in _names(parser):
            problems.append(_explain_name(parser, str(name), f"in the recipe {path}"))
        elif value is None:
            parser.set_defaults(**{name: None})
        elif value == []:
            problems.append(f"the recipe {path} gives {name} an empty list; leave the line out, or say null or [none]")
        elif isinstance(value, list):
            options += [f"--{name}", *map(str, value)]
        else:
            options.append(f"--{name}={json.dumps(value) if isinstance(value, dict) else value}")
    return options, problems


def _explain_unknown(parser: HfArgumentParser, options: list[str]) -> Iterator[str]:
    """Explain options that belong to no argument. What follows an unknown name counts as its value."""
    is_value = False
    for option in options:
        if option.startswith("-"):
            yield _explain_name(parser, option.lstrip("-").split("=")[0], "on the command line")
            is_value = "=" not in option
        elif not is_value:
            yield f"{option!r} belongs to no argument; a recipe must be the first thing after train.py"


def _explain_name(parser: HfArgumentParser, name: str, place: str) -> str:
    name = name.replace("-", "_")
    if name in RENAMED:
        return f"unknown argument {name!r} {place}; it is called {RENAMED[name]} now"
    of_tasks = [task.name for task in TASKS.values() if name in _fields(task.arguments_class)]
    if of_tasks:
        return f"unknown argument {name!r} {place}; it belongs to --task {' and --task '.join(of_tasks)}"
    similar = difflib.get_close_matches(name, _names(parser), n=3)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "--help lists all of them"
    return f"unknown argument {name!r} {place}; {hint}"


def _names(parser: HfArgumentParser) -> list[str]:
    return [name for group in parser.dataclass_types for name in _fields(group)]


def _fields(group: Any) -> list[str]:
    return [argument.name for argument in fields(group) if argument.init]
