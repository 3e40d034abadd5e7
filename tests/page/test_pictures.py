"""The script that takes the pictures of the README."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from .browser import chromium
from .saved import EXAMPLES, save_model

SCRIPT = Path(__file__).parents[2] / "examples" / "make_pictures.py"


def test_a_wide_picture_and_that_of_a_phone_are_small_files(tmp_path: Path) -> None:
    with chromium():  # or there is nothing to take them with
        pass
    model = save_model(tmp_path / "model", examples=EXAMPLES)
    outcome = subprocess.run(
        [sys.executable, SCRIPT, "--model", model, "--output", tmp_path / "pictures"],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [(path.name, Image.open(path).width) for path in pictures] == [("page-phone.png", 390), ("page.png", 1000)]
    for path in pictures:
        colours = Image.open(path).convert("RGB").getcolors(10_000)
        assert colours is not None
        assert len(colours) > 20  # there is something on it
        assert path.stat().st_size < 60_000
