"""Writes a folder that runs as a Space of the Hub, or anywhere else: `python app.py`.

The package is in no registry, so that the folder carries it, and `requirements.txt` names what the package needs.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from huggingface_hub import SpaceCardData
from safetensors import SafetensorError

from ..commands.models import READS_RECORDINGS
from ..errors import UsageError
from .examples import CARD, summary_of
from .models import PageModel, load_model
from .serving import require_gradio

PACKAGE = Path(__file__).resolve().parent.parent
MODELS = "model"  # what the model's own folder is in
NEEDED = ("torch", "transformers", "tokenizers", "gradio")  # by the package and its page
APP = '''\
"""Shows a model of hf-rnn-s2s on a page."""

from pathlib import Path

from hf_rnn_s2s.errors import ending_with_a_message
from hf_rnn_s2s.page.serving import load_page, show, space_address

MODEL = {model}

with ending_with_a_message("app.py"):
    demo = load_page([MODEL])  # Spaces look for a page of this name
    if __name__ == "__main__":
        show(demo, *space_address())
'''
README = """\
---
{metadata}
---

# {title}

{summary}

Written by [hf-rnn-s2s](hf_rnn_s2s), which is in this folder. It runs as a Space after

```bash
hf upload your-name/your-space . --repo-type space
```

and on any other machine after

```bash
pip install -r requirements.txt
python app.py
```
"""


def write_space(folder: str | os.PathLike[str], model: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write a Space that shows a model.

    Of a model in a folder, what loading needs is copied, and its card; one on the Hub is referred to.

    Args:
        folder: where to write; it is made.
        model: a folder, or a name on the Hub.
        overwrite: whether files of a folder that is not empty may be replaced.

    Raises:
        UsageError: in one line, if the model is not there or of another kind, or the folder is not empty or cannot be
            written.
    """
    require_gradio()
    target = Path(folder)
    _require_room(target, Path(model), overwrite)
    loaded = load_model(model)
    try:
        location = _put_model(loaded, target)
        _put_package(target / PACKAGE.name)
        (target / "app.py").write_text(APP.format(model=location), encoding="utf-8")
        (target / "requirements.txt").write_text("\n".join([*_requirements(loaded), ""]), encoding="utf-8")
        (target / "README.md").write_text(_readme(loaded), encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise UsageError(f"The folder {target} cannot be written: {error}") from error


def _require_room(target: Path, model: Path, overwrite: bool) -> None:
    """Check that nothing is lost by writing to the folder.

    Raises:
        UsageError: if something would be.
    """
    whole = target.resolve()
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; name a folder for the Space.")
    if whole / PACKAGE.name == PACKAGE or PACKAGE in (whole, *whole.parents):
        raise UsageError(f"The folder {target} has the package hf_rnn_s2s itself; name another one.")
    if model.is_dir():
        of_model = model.resolve()
        if of_model in (whole, *whole.parents):
            raise UsageError(f"The folder {target} is that of the model, or within it; name another one.")
        if whole / MODELS in of_model.parents:
            raise UsageError(f"The model {model} is where the Space has its copy; name another folder than {target}.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise UsageError(f"The folder {target} is not empty; name another one, or ask for it to be overwritten.")


def _put_model(model: PageModel, target: Path) -> str:
    """Copy a model that is in a folder.

    Returns:
        Where `app.py` finds the model, as Python.
    """
    if (target / MODELS).is_dir():
        shutil.rmtree(target / MODELS)  # a file that another model left would be loaded with this one
    if not os.path.isdir(model.location):
        target.mkdir(parents=True, exist_ok=True)
        return repr(model.location)
    name = Path(model.location).resolve().name
    folder = target / MODELS / name
    model.pipeline.save_pretrained(str(folder), carry_code=False)
    if model.card:
        (folder / CARD).write_text(model.card, encoding="utf-8")
    return f"str(Path(__file__).parent / {MODELS!r} / {name!r})"


def _put_package(folder: Path) -> None:
    """Copy this package, with its licence where it is installed with one."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    licence = _licence()
    if licence is not None:
        (folder / "LICENSE").write_text(licence, encoding="utf-8")


def _licence() -> str | None:
    """The text of the package's licence: as it was installed, or beside the package in a clone or another Space."""
    for path in (PACKAGE.parent / "LICENSE", PACKAGE / "LICENSE"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    try:
        return distribution("hf-rnn-s2s").read_text("licenses/LICENSE")
    except PackageNotFoundError:
        return None


def _requirements(model: PageModel) -> Iterator[str]:
    """The packages with the versions that are installed here, and so known to run the model."""
    for name in (*NEEDED, *(READS_RECORDINGS if model.listens else ())):
        yield f"{name}=={version(name).partition('+')[0]}"  # behind a + stands a build, such as that for CPUs


def _readme(model: PageModel) -> str:
    is_on_hub = not os.path.isdir(model.location)
    title = model.name.rpartition("/")[2]
    metadata = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version=".".join(platform.python_version_tuple()[:2]),
        app_file="app.py",
        models=[model.location] if is_on_hub else None,
    )
    summary = summary_of(model.card) or f"{model.words.title} with {title}."
    return README.format(metadata=metadata.to_yaml().strip(), title=title, summary=summary)
