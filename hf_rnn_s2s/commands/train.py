"""The command `train`: the script `train.py`, which a checkout has at its top and the wheel in `hf_rnn_s2s/script`."""

from __future__ import annotations

import difflib
import importlib.util
import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from ..errors import UsageError

PACKAGE = Path(__file__).parents[1]
# A checkout comes first: where it is installed for editing, the files that the wheel would have may be old.
PLACES = (PACKAGE.parent, PACKAGE / "script")
SCRIPT, CARD, RECIPES = "train.py", "model_card.md", "recipes"
SENTENCE_END = re.compile(r"(?<=\.)\s+(?=[A-Z])")
NEEDED = ("accelerate", "datasets", "evaluate", "sacrebleu")  # of the extra, as far as every task needs them


def script_folder() -> Path:
    """The folder with `train.py`, the template of the model card and the recipes.

    Raises:
        UsageError: if it is not there.
    """
    for folder in PLACES:
        if all((folder / name).exists() for name in (SCRIPT, CARD, RECIPES)):
            return folder
    raise UsageError(f"This installation has no {SCRIPT}: install the wheel or a checkout of the repository again.")


def recipe_paths() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    paths = {path.stem: path for path in (script_folder() / RECIPES).glob("*.yaml")}
    return dict(sorted(paths.items()))


def recipe_descriptions() -> list[str]:
    """A line for each recipe: its name, and the first sentence of the comment at its top."""
    lines = []
    for name, path in recipe_paths().items():
        above = itertools.takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        comment = " ".join(line.lstrip("# ") for line in above)
        lines.append(f"{name:<20} {SENTENCE_END.split(comment)[0].rstrip('.')}")
    return lines


def resolve_recipe(name: str) -> Path:
    """The file of a recipe: one that the package has, or one of the user's.

    Raises:
        UsageError: if there is neither.
    """
    own = recipe_paths()
    if name in own:
        return own[name]
    if Path(name).is_file():
        return Path(name)
    similar = difflib.get_close_matches(name, own, n=1)
    hint = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(own)}, or the path of a file of yours."
    raise UsageError(f"There is no recipe {name}; {hint}")


def train(arguments: Sequence[str], recipe: str | None = None) -> None:
    """Run `train.py` with these arguments, behind those of a recipe.

    Raises:
        UsageError: if something that training needs is not installed, or an argument is wrong.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f'Training needs {", ".join(missing)}: install this package with its extra "train", as in '
            '`pip install "PATH_OR_WHEEL[train]"`.'
        )
    before = [] if recipe is None else [str(resolve_recipe(recipe))]
    load_script().main([*before, *arguments])


def load_script() -> ModuleType:
    """Import `train.py` under a name of its own."""
    path = script_folder() / SCRIPT
    specification = importlib.util.spec_from_file_location("hf_rnn_s2s_train_script", path)
    if specification is None or specification.loader is None:
        raise UsageError(f"{path} cannot be imported.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # where its classes and functions are looked up
    specification.loader.exec_module(module)
    return module
