"""The command line of `train.py`: recipes and arguments, and all that can be found wrong with them at once."""

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
from .arguments import ModelArguments, RnnS2STrainingArguments

__all__ = ["Arguments", "Check", "parse_arguments"]

USAGE = "train.py [recipes/NAME.yaml] [--argument value ...]"
# Whoever gives one of these wants something else than the demo.
NOT_THE_DEMO = {"dataset_name", "train_file", "model_name_or_path", "tokenizer_name"}
# Arguments that had another name once
RENAMED = {"label_smoothing": "label_smoothing_factor"}


class Arguments(NamedTuple):
    """What a run is told. While it is being checked, each may be a namespace with the attributes of its class."""

    model: ModelArguments
    data: DataArguments
    training: RnnS2STrainingArguments


GROUPS = [ModelArguments, DataArguments, RnnS2STrainingArguments]

Check = Callable[[Arguments], Iterable[str]]
"""Looks at what was given, and says what is wrong with it."""


def parse_arguments(argv: Sequence[str], demo_recipe: Path | None = None, checks: Sequence[Check] = ()) -> Arguments:
    """
    Reads `[recipe] [--argument value ...]`. The recipe, a YAML file that maps arguments to values, comes first if
    there is one; what the command line says wins over it.

    Args:
        argv: the command line without the name of the script.
        demo_recipe: the recipe of a command line that has none and names neither data nor a model to go on from.
        checks: further looks at what was given, the findings of which are told together with those of the parser.

    Raises:
        UsageError: with everything that is wrong: a recipe that cannot be read, unknown arguments, values that do not
            fit, alone or beside others.
        SystemExit: after `--help`.
    """
    parser = _Parser(
        cast(Any, GROUPS),
        usage=USAGE,
        description="Trains a translation model and leaves it in output_dir with its scores, pictures and model card.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    options = list(argv)
    problems: list[str] = []
    if demo_recipe is not None and _asks_for_the_demo(options):
        options.insert(0, str(demo_recipe))
    if options and not options[0].startswith("-"):
        of_recipe, problems = _read_recipe(parser, options.pop(0))
        options = of_recipe + options
    namespace, of_options = _parse(parser, options)
    problems += of_options
    arguments = Arguments(*(_built(group, namespace, problems) for group in GROUPS))
    for check in checks:
        problems += check(arguments)
    if problems:
        raise UsageError(*dict.fromkeys(problems))
    return arguments


class _Parser(HfArgumentParser):
    """Raises what is wrong, where `argparse` would end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parse(parser: HfArgumentParser, options: list[str]) -> tuple[Namespace, list[str]]:
    """The values, and what is wrong with the options, which are left out then."""
    problems: list[str] = []
    while True:
        try:
            namespace, unknown = parser.parse_known_args(options)
        except ArgumentError as error:
            problems.append(str(error))
            without = _without(options, str(error.argument_name).split("/"))
            if len(without) == len(options):
                raise UsageError(*problems) from error
            options = without
        else:
            return namespace, problems + list(_explain_unknown(parser, unknown))


def _without(options: list[str], names: list[str]) -> list[str]:
    """The options but one, its values included."""
    kept, drops = [], False
    for option in options:
        if option.startswith("--"):
            drops = option.split("=")[0] in names
        if not drops:
            kept.append(option)
    return kept


def _built(group: type, namespace: Namespace, problems: list[str]) -> Any:
    """The arguments of one class; if something is wrong with them, their bare values, and that among the problems."""
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
    return not given & NOT_THE_DEMO


def _read_recipe(parser: HfArgumentParser, path: str) -> tuple[list[str], list[str]]:
    """
    The recipe as command-line options, so that its values are checked as those of the command line are, and what is
    wrong with its names.

    Raises:
        UsageError: if it cannot be read at all.
    """
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        parser.error(f"there is no recipe {path!r}; a recipe is a YAML file such as recipes/demo.yaml")
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        parser.error(f"the recipe {path} cannot be read: {error}")
    if not isinstance(recipe, dict):
        parser.error(f"the recipe {path} must map arguments to values, one `argument: value` a line")
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
    """What is to be said of options that belong to no argument; what follows the name of an unknown one is its."""
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
    similar = difflib.get_close_matches(name, _names(parser), n=3)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "--help lists all of them"
    return f"unknown argument {name!r} {place}; {hint}"


def _names(parser: HfArgumentParser) -> list[str]:
    return [argument.name for group in parser.dataclass_types for argument in fields(group) if argument.init]
