"""The page as people see it, in Chromium: type, translate, look at the heat map, point at it; on a phone as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from hf_rnn_s2s.page.app import build_page
from hf_rnn_s2s.page.models import PageModel, load_model
from hf_rnn_s2s.page.n_best import log_probability
from hf_rnn_s2s.page.serving import ANY_PORT, launch
from hf_rnn_s2s.page.writing import Written, write

from ..speech import write_tones
from .browser import PHONE, WIDE, chromium, visited
from .saved import EXAMPLES, save_listener, save_model

TEXT = "one red cat sleeps on the big mat"
LONG = " ".join([TEXT] * 5)


@contextmanager
def served(*models: PageModel) -> Iterator[str]:
    page = build_page(models)
    try:
        yield launch(page, port=ANY_PORT)
    finally:
        page.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PageModel:
    """With two heads, so that there is a choice of views."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return load_model(save_model(folder, num_attention_heads=2, examples=[*EXAMPLES, LONG]))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> PageModel:
    return load_model(save_model(tmp_path_factory.mktemp("models") / "other", seed=1))


@pytest.fixture(scope="module")
def address(browser: Browser, model: PageModel) -> Iterator[str]:
    with served(model) as where:
        yield where


def best(written: Written) -> str:
    return written.candidates[0].text


def facts(written: Written, row: int, column: int, view: str = "mean of the heads") -> dict[str, str]:
    """What is to be seen of a cell, from what the pipeline gave."""
    assert written.alignment is not None
    return {
        "source": written.alignment.source_tokens[column],
        "target": written.alignment.target_tokens[row],
        "weight": f"{float(written.alignment.views[view][row, column]):.3f}",
    }


def test_type_translate_look_and_point(browser: Browser, address: str, model: PageModel) -> None:
    expected = write(model, TEXT, 3, 1.0)
    with visited(browser, address, WIDE) as visit:
        assert visit.translate(TEXT) == best(expected)
        table = visit.page.locator(".n-best tbody tr").all_inner_texts()
        assert [row.split("\t")[:3] for row in table] == [
            [str(rank), candidate.text, log_probability(candidate.score)]
            for rank, candidate in enumerate(expected.candidates, start=1)
        ]
        assert visit.pointed() == {}
        for row, column in ((0, 0), (5, 3), (2, 8)):
            visit.cell(row, column).hover()
            assert visit.pointed() == facts(expected, row, column)
        bubble, cell = (visit.page.locator(one).bounding_box() for one in (".facts", "td.pointed"))
        assert bubble is not None and cell is not None  # noqa: PT018 - both for the types
        assert bubble["y"] + bubble["height"] <= cell["y"]  # it stands above
        visit.page.mouse.move(1, 1)
        assert visit.pointed() == {}


def test_beam_size_and_length_penalty_are_those_of_the_sliders(
    browser: Browser, address: str, model: PageModel
) -> None:
    with visited(browser, address, WIDE) as visit:
        visit.page.get_by_label("number input for Beam size").fill("5")
        visit.page.get_by_label("number input for Length penalty").fill("0")
        expected = write(model, TEXT, 5, 0.0)
        assert visit.translate(TEXT) == best(expected)
        assert visit.page.locator(".n-best td.text").all_inner_texts() == [one.text for one in expected.candidates]


def test_the_heads_can_be_looked_at(browser: Browser, address: str, model: PageModel) -> None:
    first, second = write(model, TEXT, 3, 1.0), write(model, "the dog runs", 3, 1.0)
    assert first.alignment is not None and second.alignment is not None  # noqa: PT018 - both for the types
    with visited(browser, address, WIDE) as visit:
        visit.translate(TEXT)
        choice = visit.page.get_by_label("View")
        assert choice.locator("option").all_inner_texts() == list(first.alignment.views)
        visit.cell(3, 2).hover()
        choice.select_option("layer 1, head 2")
        visit.cell(3, 2).hover()
        assert visit.pointed() == facts(first, 3, 2, "layer 1, head 2")
        visit.translate("the dog runs")  # the choice stays
        visit.wait_for_map(second.alignment.source_tokens)
        visit.cell(1, 3).hover()
        assert visit.pointed() == facts(second, 1, 3, "layer 1, head 2")
        visit.page.get_by_label("View").select_option("mean of the heads")
        visit.cell(2, 0).hover()
        assert visit.pointed() == facts(second, 2, 0)


def test_the_arrow_keys_lead_through_the_map(browser: Browser, address: str, model: PageModel) -> None:
    expected = write(model, TEXT, 3, 1.0)
    assert expected.alignment is not None
    last = len(expected.alignment.source_tokens) - 1
    with visited(browser, address, WIDE) as visit:
        visit.translate(TEXT)
        visit.page.get_by_label("View").focus()
        visit.page.keyboard.press("Tab")
        assert visit.pointed() == facts(expected, 0, 0)
        ways = [("ArrowDown", 1, 0), ("ArrowRight", 1, 1), ("End", 1, last), ("ArrowRight", 1, last),
                ("ArrowUp", 0, last), ("ArrowUp", 0, last), ("Home", 0, 0), ("ArrowLeft", 0, 0)]  # fmt: skip
        for key, row, column in ways:
            visit.page.keyboard.press(key)
            assert visit.pointed() == facts(expected, row, column), key
        visit.page.keyboard.press("Tab")
        assert visit.pointed() == {}


def test_an_example_is_written_and_translated(browser: Browser, address: str, model: PageModel) -> None:
    with visited(browser, address, WIDE) as visit:
        visit.page.get_by_role("button", name=EXAMPLES[0]).click()
        assert visit.next_result("") == best(write(model, EXAMPLES[0], 3, 1.0))
        assert visit.page.get_by_role("textbox", name="Text").input_value() == EXAMPLES[0]


def test_shift_and_enter_begin(browser: Browser, address: str, model: PageModel) -> None:
    with visited(browser, address, WIDE) as visit:
        visit.page.get_by_role("textbox", name="Text").fill(TEXT)
        visit.page.keyboard.press("Shift+Enter")
        assert visit.next_result("") == best(write(model, TEXT, 3, 1.0))


def test_an_empty_text_empties_the_page(browser: Browser, address: str) -> None:
    with visited(browser, address, WIDE) as visit:
        visit.translate(TEXT)
        assert visit.translate("") == ""
        for part in (".n-best", ".heat-map"):
            visit.page.locator(part).wait_for(state="detached")
        assert visit.messages() == []


def test_too_long_a_text_is_refused_on_the_page(browser: Browser, address: str, model: PageModel) -> None:
    with visited(browser, address, WIDE) as visit:
        assert "The text has 1,048,576 characters, and this page takes at most 20,000." in visit.translate("x" * 2**20)
        visit.page.locator(".toast-close").click()
        visit.page.locator(".toast-body").wait_for(state="detached")
        assert visit.translate(TEXT) == best(write(model, TEXT, 3, 1.0))


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, address: str, model: PageModel) -> None:
    with visited(browser, address, PHONE) as visit:
        assert visit.widths() == [390, 390]
        visit.translate(LONG)
        assert visit.widths() == [390, 390]
        frame = visit.page.locator(".heat-map .scroll")
        assert frame.evaluate("it => it.scrollWidth > it.clientWidth")  # a long text scrolls within the map
        expected = write(model, LONG, 3, 1.0)
        assert expected.alignment is not None
        last = len(expected.alignment.source_tokens) - 1
        visit.cell(2, last).tap()
        assert visit.pointed() == facts(expected, 2, last)
        bubble = visit.page.locator(".heat-map .facts").bounding_box()
        assert bubble is not None
        assert 0 <= bubble["x"] <= bubble["x"] + bubble["width"] <= 390
        heads = visit.page.locator(".heat-map tbody th").first.bounding_box()
        assert heads is not None
        assert heads["x"] >= 0  # the pieces of the target stay where they can be seen
        assert visit.widths() == [390, 390]


def columns(boxes: list[Any]) -> list[tuple[float, float]]:
    return [(box["x"], box["y"]) for box in boxes]


@pytest.mark.parametrize("screen", [WIDE, PHONE], ids=["wide", "phone"])
def test_two_models_side_by_side(browser: Browser, model: PageModel, other: PageModel, screen: dict[str, Any]) -> None:
    with served(model, other) as where, visited(browser, where, screen) as visit:
        assert visit.translate(TEXT) == best(write(model, TEXT, 3, 1.0))
        boxes = visit.page.locator(".result textarea")
        second = write(other, TEXT, 3, 1.0)
        visit.page.locator(".heat-map").nth(1).wait_for()
        assert boxes.nth(1).input_value() == best(second) != boxes.nth(0).input_value()
        assert visit.page.locator("h2").all_inner_texts() == ["tiny", "other"]
        assert visit.cell(4, 1, 1).text_content() == facts(second, 4, 1)["weight"]
        left, right = (boxes.nth(number).bounding_box() for number in (0, 1))
        assert left is not None and right is not None  # noqa: PT018 - both for the types
        if screen is WIDE:
            assert left["y"] == right["y"]
            assert left["x"] + left["width"] < right["x"]
        else:
            assert left["x"] == right["x"]
            assert left["y"] + left["height"] < right["y"]
        assert visit.widths()[0] <= visit.widths()[1]


class Listening:
    """A pipeline that remembers what it heard and what it wrote, and numbers its texts, so that no two are alike."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.written: list[tuple[bytes, dict[str, Any], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.pipeline, name)

    def __call__(self, recording: str, **arguments: Any) -> Any:
        record = self.pipeline(recording, **arguments)
        self.written.append((Path(recording).read_bytes(), arguments, record["text"]))
        return {**record, "text": f"{len(self.written)}: {record['text']}"}


def test_a_model_listens_to_the_microphone_and_to_files(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    listener = load_model(save_listener(tmp_path / "listener"))
    pipeline = Listening(listener.pipeline)
    recording = write_tones(tmp_path / "tones.wav", ["low", "mid"])
    with served(listener._replace(pipeline=pipeline)) as where, visited(browser, where, PHONE) as visit:
        button, play, stop = (
            visit.page.get_by_role("button", name=name, exact=True) for name in ("Transcribe", "Play", "Stop")
        )

        def transcribed() -> tuple[bytes, dict[str, Any], str]:
            """What the model hears and writes when the button is pressed; the page shows it."""
            visit.wait_until(play.is_visible)
            before = visit.result.input_value()
            button.click()
            shown = visit.next_result(before)
            heard, arguments, text = pipeline.written[-1]
            assert shown == f"{len(pipeline.written)}: {text}"
            return heard, arguments, text

        assert visit.widths() == [390, 390]
        visit.page.get_by_role("button", name="Record", exact=True).click()
        stop.first.wait_for()
        visit.page.wait_for_timeout(1200)  # beeps come every half second or so
        stop.first.click()
        heard, arguments, text = transcribed()
        assert text
        assert arguments == {"num_beams": 5, "length_penalty": 1.0}
        assert heard[:4] == b"RIFF"

        visit.page.get_by_role("button", name="Clear").click()
        visit.page.get_by_role("button", name="Upload file").click()
        visit.page.locator("input[type=file]").set_input_files(recording)
        heard, _, text = transcribed()
        assert heard == recording.read_bytes()
        assert text == listener.pipeline(str(recording), **arguments)["text"]
        assert len(pipeline.written) == 2
        assert visit.widths() == [390, 390]
