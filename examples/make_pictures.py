"""Takes the pictures of the demo page that the README shows: on a wide screen, and on a phone.

    python examples/make_pictures.py --model outputs/demo --output DIR

It needs what the tests need, and Chromium: that of the system, or `playwright install chromium`.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from hf_rnn_s2s.page.examples import examples_of, read_card
from hf_rnn_s2s.page.serving import ANY_PORT, launch, load_page

SCREENS: dict[str, dict[str, Any]] = {
    "page.png": {"viewport": {"width": 1000, "height": 700}},
    "page-phone.png": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
}
COLOURS = 96  # of a picture, whose file is small then
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><include ignore_missing="yes">/etc/fonts/fonts.conf</include><dir>{folder}</dir></fontconfig>"""


def main() -> None:
    """Serve the model, use the page in a browser, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a model with attention, or its name on the Hub")
    parser.add_argument("--output", required=True, type=Path, help="folder for the pictures")
    parser.add_argument("--text", help="what is typed; by default the longest example of the model's card")
    arguments = parser.parse_args()
    text = arguments.text or max(examples_of(read_card(arguments.model)), key=len)
    arguments.output.mkdir(parents=True, exist_ok=True)
    page = load_page([arguments.model])
    address = launch(page, port=ANY_PORT)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else [],
            env={**os.environ, **_fonts(Path(folder))},
        )
        for name, screen in SCREENS.items():
            _save(_picture(browser, address, text, screen), arguments.output / name)
    page.close(verbose=False)


def _fonts(folder: Path) -> dict[str, str]:
    """Let the browser find the Chinese, Japanese and Korean glyphs that come with the extra `train`."""
    found = importlib.util.find_spec("noto_cjk_sans_otc")
    if found is None or not found.submodule_search_locations:
        return {}
    path = folder / "fonts.conf"
    path.write_text(FONTS.format(folder=found.submodule_search_locations[0]), encoding="utf-8")
    return {"FONTCONFIG_FILE": str(path)}


def _picture(browser: Browser, address: str, text: str, screen: dict[str, Any]) -> bytes:
    """The whole page, as a PNG, with a text typed and a cell of the heat map pointed at."""
    view: Page = browser.new_context(**screen).new_page()
    view.goto(address)
    view.locator("textarea").first.fill(text)
    view.locator("button.primary").click()
    rows = view.locator(".heat-map tbody tr")
    rows.first.wait_for()
    row = rows.nth(rows.count() // 2)
    weights = [float(cell) for cell in row.locator("td").all_text_contents()]
    cell = row.locator("td").nth(weights.index(max(weights)))
    cell.scroll_into_view_if_needed()
    cell.tap() if screen.get("has_touch") else cell.hover()
    return view.screenshot(full_page=True, animations="disabled")


def _save(picture: bytes, path: Path) -> None:
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    small = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path}: {image.width} by {image.height}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
