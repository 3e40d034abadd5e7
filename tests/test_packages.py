"""The packages look down only, and what travels with checkpoints needs nothing else of this package."""

import ast
import importlib
import inspect
import shutil
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import hf_rnn_s2s

PACKAGE = Path(hf_rnn_s2s.__file__).parent
# What each package may import beside itself. Modules that stand beside the packages are either below them, and may be
# imported by all that stays at home, or above, and may import everything.
MAY_IMPORT = {
    "model": set(),
    "decoding": {"model", "below"},
    "runtime": {"model", "decoding", "below"},
    "data": {"model", "below"},
    "training": {"model", "decoding", "runtime", "data", "below", "options"},
    "commands": {"model", "decoding", "runtime", "data", "training", "below", "options"},
    "page": {"model", "decoding", "training", "commands", "below"},
    "options": {"model"},
    "above": {"model", "decoding", "runtime", "data", "training", "page", "below", "options"},
    "below": set(),
}
BELOW = {"audio", "errors", "machine", "separators", "version", "visible_tokens"}
OPTIONS = {"options", "presets", "config_checks"}  # about the configuration alone
TRAVELS_WITH = {"torch", "tokenizers", "transformers"}
NAMES_FILES = ("model", "remote_code_rnn_s2s")  # whose imports for type checkers tell transformers what to carry


def modules(root: Path) -> dict[tuple[str, ...], ast.Module]:
    """Every module by its name within the package, such as `("model", "cache_rnn_s2s")`."""
    found = {}
    for path in root.rglob("*.py"):
        name = path.relative_to(root).with_suffix("").parts
        found[name[:-1] if name[-1] == "__init__" else name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imports_of(name: tuple[str, ...], tree: ast.Module, is_package: bool) -> Iterator[tuple[tuple[str, ...], int]]:
    """What a module imports, inside functions too: full names, and the level of relative ones (0: absolute)."""
    skipped: set[ast.AST] = set()
    if name == NAMES_FILES:
        blocks = [node for node in tree.body if isinstance(node, ast.If)]
        assert [ast.unparse(block.test) for block in blocks] == ["TYPE_CHECKING"]
        skipped = {node for block in blocks for node in ast.walk(block)}
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((tuple(alias.name.split(".")), 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = (PACKAGE.name, *name)[: len(name) + 1 + is_package - node.level] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            for alias in node.names:  # a module or a name in it
                yield (*module, alias.name), node.level


def arrows(root: Path) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Which modules of the package each of them imports."""
    trees = modules(root)
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = {name: set() for name in trees}
    for name, tree in trees.items():
        for imported, _ in imports_of(name, tree, (root.joinpath(*name)).is_dir()):
            if imported[0] == PACKAGE.name:
                inner = imported[1:]
                target = inner if inner in trees else inner[:-1]
                if target != name:
                    found[name].add(target)
    return found


def floor_of(name: tuple[str, ...]) -> str:
    if name and name[0] in ("model", "decoding", "runtime", "data", "training", "commands", "page"):
        return name[0]
    if name and name[0] in OPTIONS:
        return "options"
    return "below" if name and name[0] in BELOW else "above"


def wrong_arrows(root: Path) -> list[str]:
    """What `MAY_IMPORT` does not allow, in words."""
    return sorted(
        f"{'.'.join(name)} imports {'.'.join(target)}"
        for name, targets in arrows(root).items()
        for target in targets
        if floor_of(target) != floor_of(name) and floor_of(target) not in MAY_IMPORT[floor_of(name)]
    )


def circle(root: Path) -> list[tuple[str, ...]]:
    """The modules of one circle of imports; none if there is none."""
    # A package comes before what is in it. That a module of it is imported from inside is no circle.
    graph = {name: {one for one in targets if one != name[: len(one)]} for name, targets in arrows(root).items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def test_packages_look_down_only() -> None:
    assert wrong_arrows(PACKAGE) == []
    assert sum(map(len, arrows(PACKAGE).values())) > 100  # and there are arrows to look at


def test_of_the_training_the_page_takes_the_tasks_alone() -> None:
    """They need no extra: the page runs where nothing can be trained."""
    taken = {target for name, targets in arrows(PACKAGE).items() if name[0:1] == ("page",) for target in targets}
    assert {target[1] for target in taken if target[0] == "training"} == {"tasks"}


def test_there_is_no_circle() -> None:
    assert circle(PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("model/cache_rnn_s2s.py", "from ..errors import UsageError", "model.cache_rnn_s2s imports errors"),
        ("model/cache_rnn_s2s.py", "from ..decoding import guard", "model.cache_rnn_s2s imports decoding.guard"),
        ("data/rows.py", "    from hf_rnn_s2s.training.metrics import x", "data.rows imports training.metrics"),
        ("decoding/search.py", "from ..data import rows", "decoding.search imports data.rows"),
        ("training/metrics.py", "from .. import register", "training.metrics imports "),
        ("training/metrics.py", "from ..page import heat_map", "training.metrics imports page.heat_map"),
        ("page/models.py", "from ..data import rows", "page.models imports data.rows"),
    ],
)
def test_an_arrow_upwards_is_found(module: str, line: str, expected: str, tmp_path: Path) -> None:
    root = planted(tmp_path, module, f"def f():\n{line}\n" if line.startswith(" ") else f"{line}\n")
    assert wrong_arrows(root) == [expected]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("model/cells_rnn_s2s.py", "from .decoder_rnn_s2s import RnnS2SDecoder"),
        ("model/configuration_rnn_s2s.py", "from .modeling_rnn_s2s import RnnS2SModel"),
        ("data/rows.py", "from . import loading"),
    ],
)
def test_a_circle_is_found(module: str, line: str, tmp_path: Path) -> None:
    assert circle(planted(tmp_path, module, f"{line}\n"))


def planted(folder: Path, module: str, code: str) -> Path:
    """A copy of the package with more code in one of its modules."""
    root = folder / PACKAGE.name
    shutil.copytree(PACKAGE, root, ignore=shutil.ignore_patterns("__pycache__"))
    with (root / module).open("a", encoding="utf-8") as file:
        file.write(code)
    return root


def test_what_travels_imports_its_siblings_and_four_libraries() -> None:
    for name, tree in modules(PACKAGE).items():
        if name[:1] != ("model",) or len(name) == 1:
            continue
        for imported, level in imports_of(name, tree, is_package=False):
            if level:
                assert level == 1, name
                assert imported[1] == "model", name
                assert imported[2].endswith("_rnn_s2s"), name  # they lie beside the user's own files
            else:
                assert imported[0] in TRAVELS_WITH | sys.stdlib_module_names, (name, imported)


def test_every_public_method_says_what_it_does_itself_or_in_its_base_class() -> None:
    for path in sorted((PACKAGE / "model").glob("*_rnn_s2s.py")):
        module = importlib.import_module(f"hf_rnn_s2s.model.{path.stem}")
        for _, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ == module.__name__:
                for name, method in vars(kind).items():
                    if not name.startswith("_") and inspect.isfunction(method):
                        said = [vars(base).get(name).__doc__ for base in kind.__mro__ if name in vars(base)]
                        assert any(said), f"{kind.__name__}.{name}"
