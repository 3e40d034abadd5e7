"""What is on the page, and what its functions answer."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from hf_rnn_s2s.errors import UsageError
from hf_rnn_s2s.page.app import DEFAULT_BEAMS, MOST_BEAMS, build_page, theme
from hf_rnn_s2s.page.heat_map import heat_map
from hf_rnn_s2s.page.models import load_model
from hf_rnn_s2s.page.n_best import n_best_table
from hf_rnn_s2s.page.writing import write

from .saved import EXAMPLES, save_listener, save_model

TEXT = "one red cat sleeps"


def of_kind(page: gr.Blocks, kind: Any) -> list[Any]:
    return [block for block in page.blocks.values() if type(block) is kind]


def function(page: gr.Blocks, name: str) -> Any:
    """What an endpoint calls."""
    [found] = [one.fn for one in page.fns.values() if one.api_name == name]
    return found


def endpoints(page: gr.Blocks) -> list[Any]:
    return [one.api_name for one in page.fns.values() if one.api_visibility == "public"]


def test_the_page_of_a_model(tmp_path: Path) -> None:
    model = load_model(save_model(tmp_path / "my-model", num_attention_heads=2))
    page = build_page([model])
    assert page.title == "my-model: Translation"
    assert not page.analytics_enabled
    assert build_page([model._replace(name="<b>", card="")]).title == "<b>: Translation"
    assert of_kind(build_page([model._replace(name="<b>", card="")]), gr.HTML)[0].value == (
        "<h1>&lt;b&gt;</h1><p>Translation</p>"
    )
    assert of_kind(page, gr.HTML)[0].value == "<h1>my-model</h1><p>Translates English to German.</p>"
    assert [box.label for box in of_kind(page, gr.Textbox)] == ["Text", "Translation"]
    assert [button.value for button in of_kind(page, gr.Button)] == ["Translate"]
    assert [dataset.samples for dataset in of_kind(page, gr.Dataset)] == [[[example] for example in EXAMPLES]]
    assert endpoints(page) == ["translate"]
    written = write(model, TEXT, 3, 1.0)
    assert written.alignment is not None
    assert function(page, "translate")(TEXT, 3, 1.0) == [
        written.candidates[0].text,
        n_best_table(written.candidates, "translation"),
        heat_map(*written.alignment),
    ]
    for blank in ("", None):
        assert function(page, "translate")(blank, 3, 1.0) == ["", "", ""]


def test_the_settings_are_those_of_the_model_at_first(tmp_path: Path) -> None:
    def settings(model: Any) -> list[float]:
        return [slider.value for slider in of_kind(build_page([model]), gr.Slider)]

    model = load_model(save_model(tmp_path / "a"))
    assert settings(model) == [3, 1.0]
    model.pipeline.model.generation_config.update(num_beams=1, length_penalty=0.6)
    assert settings(model) == [DEFAULT_BEAMS, 0.6]
    model.pipeline.model.generation_config.update(num_beams=50, length_penalty=None)
    assert settings(model) == [MOST_BEAMS, 1.0]


def test_two_models_have_a_column_each(tmp_path: Path) -> None:
    first = load_model(save_model(tmp_path / "one"))
    second = load_model(save_model(tmp_path / "two", seed=1, attention_type="none"))
    page = build_page([first, second._replace(card="")])
    assert page.title == "one and two: Translation"
    assert [part.value for part in of_kind(page, gr.HTML) if part.value] == [
        "<h1>one and two</h1><p>Translation</p>", "<h2>one</h2><p>Translates English to German.</p>", "<h2>two</h2>"
    ]  # fmt: skip
    assert [box.label for box in of_kind(page, gr.Textbox)] == ["Text", "Translation", "Translation"]
    assert endpoints(page) == ["translate_1", "translate_2"]
    results = [function(page, name)(TEXT, 2, 1.0) for name in endpoints(page)]
    assert [len(result) for result in results] == [3, 2]  # without attention there is no map
    assert [result[0] for result in results] == [
        write(one, TEXT, 2, 1.0).candidates[0].text for one in (first, second)
    ]
    assert results[0][0] != results[1][0]


def test_a_model_that_listens_has_a_microphone(tmp_path: Path) -> None:
    page = build_page([load_model(save_listener(tmp_path / "a"))])
    [recording] = of_kind(page, gr.Audio)
    assert recording.sources == ["microphone", "upload"]
    assert [box.label for box in of_kind(page, gr.Textbox)] == ["Transcript"]
    assert function(page, "transcribe")(None, 3, 1.0) == ""


def test_what_is_refused_comes_as_a_message_without_a_stack(tmp_path: Path) -> None:
    page = build_page([load_model(save_model(tmp_path / "a"))])
    with pytest.raises(gr.Error) as refusal:
        function(page, "translate")("x" * 2**20, 3, 1.0)
    assert refusal.value.message.startswith("The text has 1,048,576 characters, and this page takes at most 20,000.")
    assert not refusal.value.print_exception
    listening = build_page([load_model(save_listener(tmp_path / "b"))])
    with pytest.raises(gr.Error) as refusal:
        function(listening, "transcribe")("<b>.wav", 3, 1.0)
    assert refusal.value.message == "There is no recording &#x27;&lt;b&gt;.wav&#x27;."  # a message is read as HTML


def test_models_that_cannot_stand_side_by_side(tmp_path: Path) -> None:
    reader, listener = load_model(save_model(tmp_path / "a")), load_model(save_listener(tmp_path / "b"))
    with pytest.raises(UsageError, match="One model reads text and the other one recordings"):
        build_page([reader, listener])
    for count in (0, 3):
        with pytest.raises(UsageError, match=f"one model, or two side by side; {count} were given"):
            build_page([reader] * count)


def test_the_fonts_are_those_of_the_system() -> None:
    names = f"{theme().font}, {theme().font_mono}".replace("'", "").split(", ")
    assert names == ["system-ui", "sans-serif", "ui-monospace", "monospace"]
