"""The page itself: what is on it, and what happens when somebody uses it. This module needs `gradio`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr
import torch
from gradio.events import Dependency

from ..errors import UsageError
from . import heat_map, n_best
from .examples import examples_of, summary_of
from .models import PageModel
from .writing import transcribe, write

MOST_BEAMS = 10
DEFAULT_BEAMS = 5  # where the model's own setting is greedy search, which has no n-best list
AT_ONE_TIME = 2  # runs of the models; further ones wait
MOST_WAITING = 32  # and yet others are told to come back later
ONE_GROUP = "models"  # the runs that are counted together
HOUR = 3600  # seconds; how often recordings are looked through, and how old those are that go
# Whole columns on a wide screen; on a narrow one they stand below each other
LEAST_WIDTH = 300


def build_page(models: Sequence[PageModel]) -> gr.Blocks:
    """Put the page together; `launch` of `serving.py` shows it. The examples are those of the first model's card.

    Args:
        models: one, or two side by side.

    Raises:
        UsageError: if there are more or fewer models, or one reads text and the other recordings.
    """
    if not 1 <= len(models) <= 2:
        raise UsageError(f"The page shows one model, or two side by side; {len(models)} were given.")
    first = models[0]
    if any(model.listens != first.listens for model in models):
        raise UsageError("One model reads text and the other one recordings; side by side they need the same input.")
    are_two = len(models) > 1
    title = " and ".join(model.name for model in models)
    heading = f"{title}: {first.words.title}"
    with gr.Blocks(title=heading, analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gr.HTML(_heading("h1", title, first.words.title if are_two else summary_of(first.card) or first.words.title))
        with gr.Row():
            with gr.Column(scale=2, min_width=LEAST_WIDTH):
                given: Any = _recording() if first.listens else _text(first)
                button = gr.Button(first.words.verb.capitalize(), variant="primary")
            with gr.Column(scale=1, min_width=LEAST_WIDTH):
                settings = _settings(first)
        examples = [] if first.listens else examples_of(first.card)
        chosen = _examples(examples, given) if examples else None
        with gr.Row():
            for number, model in enumerate(models, start=1):
                with gr.Column(min_width=LEAST_WIDTH):
                    if are_two:
                        gr.HTML(_heading("h2", model.name, summary_of(model.card)))
                    name = first.words.verb + (f"_{number}" if are_two else "")
                    _column(model, name, [given, *settings], button, chosen)
    page.queue(max_size=MOST_WAITING, api_open=False)
    return page


def _heading(tag: str, title: str, sentence: str) -> str:
    below = f"<p>{escape(sentence)}</p>" if sentence else ""
    return f"<{tag}>{escape(title)}</{tag}>{below}"


def _text(model: PageModel) -> gr.Textbox:
    """Where a text is typed; Enter is for its lines, so that Shift and Enter begin."""
    return gr.Textbox(
        label=model.words.source.capitalize(),
        placeholder=f"Type here, then press {model.words.verb.capitalize()} or Shift+Enter",
        lines=3,
        max_lines=12,
    )


def _examples(examples: Sequence[str], given: gr.Textbox) -> Dependency:
    """Texts that a click puts into the box; and that event."""
    shown = gr.Examples([[one] for one in examples], [given])
    chosen: Dependency = shown.load_input_event
    return chosen


def _recording() -> gr.Audio:
    return gr.Audio(label="Recording", sources=["microphone", "upload"], type="filepath", format="wav", buttons=[])


def _settings(model: PageModel) -> list[gr.Slider]:
    """The beam size and the length penalty, as the model has them at first."""
    own = model.pipeline.model.generation_config
    beams = own.num_beams if (own.num_beams or 1) > 1 else DEFAULT_BEAMS
    return [
        gr.Slider(1, MOST_BEAMS, min(beams, MOST_BEAMS), step=1, precision=0, label="Beam size", buttons=["reset"]),
        gr.Slider(
            0,
            2,
            1.0 if own.length_penalty is None else own.length_penalty,
            step=0.1,
            label="Length penalty",
            info="Above 1 for longer results, below 1 for shorter ones, with a beam size above 1.",
            buttons=["reset"],
        ),
    ]


def _column(model: PageModel, name: str, inputs: list[Any], button: gr.Button, chosen: Dependency | None) -> None:
    """What one model writes, and what makes it write.

    Args:
        model: the model.
        name: of the endpoint in the page's interface for programs.
        inputs: what is given, beam size and length penalty.
        button: begins, as does Shift+Enter in a text.
        chosen: the choice of an example, which begins as well; None without examples.
    """
    best = gr.Textbox(
        label=model.words.result.capitalize(), lines=2, interactive=False, buttons=["copy"], elem_classes="result"
    )
    outputs: list[Any] = [best]
    if not model.listens:
        outputs.append(gr.HTML(css_template=n_best.STYLE, js_on_load=None, apply_default_css=False))
    if model.has_attention and not model.listens:
        outputs.append(gr.HTML(css_template=heat_map.STYLE, js_on_load=heat_map.SCRIPT, apply_default_css=False))
    run = _transcription(model) if model.listens else _writing(model)
    limits: dict[str, Any] = {"concurrency_limit": AT_ONE_TIME, "concurrency_id": ONE_GROUP}
    begins = [button.click] if model.listens else [button.click, inputs[0].submit]
    gr.on(begins, run, inputs, outputs, api_name=name, **limits)
    if chosen is not None:
        chosen.then(run, inputs, outputs, api_visibility="private", **limits)


def _writing(model: PageModel) -> Callable[[str | None, int, float], Any]:
    """The function behind the column of a model that reads text."""

    def run(text: str | None, num_beams: int, length_penalty: float) -> Any:
        """The likeliest text, the n-best list as HTML and, where there is an attention, its heat map as HTML."""
        with errors_as_messages():
            written = write(model, text or "", num_beams, length_penalty)
            best = written.candidates[0].text if written.candidates else ""
            table = n_best.n_best_table(written.candidates, model.words.result, written.note)
            shown = [best, table if written.candidates else ""]
            if model.has_attention:
                shown.append(heat_map.heat_map(*written.alignment) if written.alignment else "")
            return shown

    return run


def _transcription(model: PageModel) -> Callable[[str | None, int, float], str]:
    """The function behind the column of a model that listens."""

    def run(recording: str | None, num_beams: int, length_penalty: float) -> str:
        """The text of a recording."""
        with errors_as_messages():
            return transcribe(model, recording, num_beams, length_penalty) if recording else ""

    return run


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Show what an input is refused for on the page, and no stack anywhere."""
    try:
        yield
    except (ValueError, torch.OutOfMemoryError) as error:
        # The page takes a message for HTML, and part of it may be the input.
        raise gr.Error(escape(str(error)), print_exception=False) from error


def theme() -> gr.themes.Base:
    """The colours and the fonts of the page. The fonts are those of the reader's system: none is fetched."""
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    )
