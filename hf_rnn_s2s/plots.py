"""Pictures: attention heat maps and training curves, as matplotlib figures that the caller saves or shows.

Figures are made without pyplot, so nothing is kept alive, no window opens and a notebook's own settings are untouched.
"""

from __future__ import annotations

import importlib.util
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

__all__ = ["plot_attention", "plot_training_curves"]

_CJK_FONT_PACKAGE = "noto-cjk-sans-otc"
_HAN = re.compile(r"[\u2e80-\u2fdf\u3000-\u303f\u3100-\u312f\u31a0-\u31bf\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_KANA = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff]")
_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_VISIBLE_SPACES = str.maketrans({" ": "␣", "\t": "⇥", "\n": "↵", "\r": "↵"})
_LONGEST_LABEL = 20  # characters

_CELL = 0.3  # inches for one token
_SPEED_SUFFIXES = ("_runtime", "_per_second", "_time")


def plot_attention(source_tokens: Sequence[str], target_tokens: Sequence[str], attention: Any) -> Figure:
    """Draw an attention matrix as a heat map: source tokens along the top, target tokens down the side.

    Args:
        source_tokens: texts of the source tokens, `source` of them, without padding.
        target_tokens: texts of the target tokens, `target` of them.
        attention: weights `(target, source)`, an array, a nested list or a tensor of any device and number type.

    Raises:
        ValueError: the matrix has another shape than the tokens, no cell, or a weight that is not a finite number.
    """
    weights = _as_matrix(attention)
    if weights.shape != (len(target_tokens), len(source_tokens)) or weights.size == 0:
        raise ValueError(
            f"attention: shape {weights.shape} does not fit {len(target_tokens)} target and {len(source_tokens)} "
            "source tokens; give (target, source), at least one of each, without padding"
        )
    if not np.isfinite(weights).all():
        raise ValueError("attention: some weights are not finite numbers")
    figure = _new_figure()
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, aspect="auto", interpolation="nearest")
    color_axes = figure.add_axes((0.0, 0.0, 0.1, 1.0))
    figure.colorbar(image, cax=color_axes, label="attention weight")
    _name_cells(axes, list(map(_label, source_tokens)), list(map(_label, target_tokens)))
    _fit_attention(figure, axes, color_axes, weights.shape)
    return figure


def has_training_curves(log_history: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there is anything in the history for `plot_training_curves` to draw; a run may have logged nothing."""
    entries = [entry for entry in log_history if "step" in entry]
    return bool(_curve(entries, "loss") or _curve(entries, "eval_loss") or _metric_names(entries))


def plot_training_curves(log_history: Iterable[Mapping[str, Any]]) -> Figure:
    """Draw the losses in one panel and every evaluation metric in a panel of its own, over training steps.

    Args:
        log_history: `Trainer.state.log_history`. Entries need `step`; used are `loss` and every number called
            `eval_…`, except times and speeds.

    Raises:
        ValueError: there is neither a training loss nor an evaluation result in the history.
    """
    entries = [entry for entry in log_history if "step" in entry]
    losses = {"training": _curve(entries, "loss"), "evaluation": _curve(entries, "eval_loss")}
    losses = {label: curve for label, curve in losses.items() if curve}
    metrics = _metric_names(entries)
    if not has_training_curves(entries):
        raise ValueError("log_history: no entry has a step with a loss or an eval_… number, so there is no curve")
    panels: list[tuple[str, dict[str, list[tuple[float, float]]]]] = [("loss", losses)] if losses else []
    panels += [(name.removeprefix("eval_"), {"evaluation": _curve(entries, name)}) for name in metrics]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = _new_figure()
    figure.set_size_inches(4.2 * columns + 0.6, 3.2 * rows)
    figure.set_layout_engine("constrained")
    for position, (title, curves) in enumerate(panels, start=1):
        _draw_curves(figure.add_subplot(rows, columns, position), title, curves)
    return figure


def _new_figure() -> Figure:
    figure = Figure(dpi=120)
    FigureCanvasAgg(figure)
    return figure


def _as_matrix(attention: Any) -> np.ndarray:
    if hasattr(attention, "detach"):  # a tensor; numpy has no bfloat16
        attention = attention.detach().float().cpu().numpy()
    return np.asarray(attention, dtype=float)


def _label(token: str) -> str:
    """The token with its spaces visible, cut in the middle where it is long."""
    text = token.translate(_VISIBLE_SPACES)
    half = _LONGEST_LABEL // 2
    return text if len(text) <= _LONGEST_LABEL else f"{text[:half]}…{text[1 - half :]}"


def _name_cells(axes: Axes, source_labels: Sequence[str], target_labels: Sequence[str]) -> None:
    fonts = _fonts_for("".join((*source_labels, *target_labels)))
    # A token such as "$5$" is a text, not a formula.
    text_style: dict[str, Any] = {"fontfamily": fonts, "fontsize": 10, "parse_math": False}
    axes.set_xticks(range(len(source_labels)), source_labels, **text_style)
    axes.set_yticks(range(len(target_labels)), target_labels, **text_style)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source")
    axes.set_ylabel("target")
    axes.set_xticks(np.arange(0.5, len(source_labels) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(target_labels) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("lightgray")


def _fit_attention(figure: Figure, axes: Axes, color_axes: Axes, shape: tuple[int, ...]) -> None:
    """Give every token a square cell of one size and the labels the room they take, whatever their script."""
    rows, columns = shape
    top, left = (_widest(labels) / figure.dpi for labels in (axes.get_xticklabels(), axes.get_yticklabels()))
    if top > 0.9 * _CELL:
        axes.tick_params(axis="x", labelrotation=90)
    else:
        top = _CELL
    top, left = top + 0.4, left + 0.45  # the words "source" and "target"
    matrix_width, matrix_height = _CELL * columns, _CELL * rows
    scale_height = min(max(matrix_height, 1.4), 4.0)  # at least as long as its label
    width, height = left + matrix_width + 1.1, top + max(matrix_height, scale_height) + 0.15
    figure.set_size_inches(width, height)
    for each, x, box_width, box_height in (
        (axes, left, matrix_width, matrix_height),
        (color_axes, left + matrix_width + 0.2, 0.15, scale_height),
    ):
        bottom = height - top - box_height
        each.set_position((x / width, bottom / height, box_width / width, box_height / height))


def _widest(labels: Iterable[Text]) -> float:
    """In pixels."""
    return max(label.get_window_extent().width for label in labels)


def _fonts_for(text: str) -> list[str]:
    """Font families for a text, tried one after the other for each glyph."""
    fonts = ["DejaVu Sans"]  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew, …
    if not (_HAN.search(text) or _KANA.search(text) or _HANGUL.search(text)):
        return fonts
    families = _cjk_families()
    if not families:
        warnings.warn(
            "Chinese, Japanese and Korean characters need a font that matplotlib does not have; run: "
            f"pip install {_CJK_FONT_PACKAGE}",
            stacklevel=3,
        )
        return fonts
    # The same character looks different in each country; the other scripts in the text tell which is meant.
    region = "JP" if _KANA.search(text) else "KR" if _HANGUL.search(text) else "SC"
    return fonts + sorted(families, key=lambda family: not family.endswith(region))[:1]


@cache
def _cjk_families() -> tuple[str, ...]:
    """Names of the font families in the font package, told to matplotlib; none if it is not installed.

    Matplotlib before 3.11 sees only the first (Japanese) of them, which has the glyphs of all.
    """
    module = _CJK_FONT_PACKAGE.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        return ()
    path = str(files(module) / "NotoSansCJK-Regular.ttc")
    fontManager.addfont(path)
    return tuple(entry.name for entry in fontManager.ttflist if entry.fname == path)


def _curve(entries: Iterable[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    return [(entry["step"], entry[name]) for entry in entries if name in entry]


def _metric_names(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """The evaluation's numbers in the order they first appear, without its loss, times and speeds."""
    names = {
        name: None
        for entry in entries
        for name, value in entry.items()
        if name.startswith("eval_") and isinstance(value, (int, float))
    }
    return [name for name in names if name != "eval_loss" and not name.endswith(_SPEED_SUFFIXES)]


def _draw_curves(axes: Axes, title: str, curves: Mapping[str, list[tuple[float, float]]]) -> None:
    colors = {"training": "tab:blue", "evaluation": "tab:orange"}
    for label, points in curves.items():
        steps, values = zip(*points, strict=True)
        marker = "o" if len(points) <= 30 else None  # a single evaluation must show, a thousand must not clutter
        axes.plot(steps, values, color=colors[label], label=label, marker=marker, markersize=3.5, linewidth=1.5)
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(frameon=False)
