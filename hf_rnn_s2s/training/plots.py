"""Attention heat maps and training curves, as matplotlib figures that the caller saves or shows.

Figures are made without pyplot, so none is kept in memory, no window opens and a notebook's settings stay unchanged.
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
from matplotlib.ticker import FuncFormatter, MaxNLocator, ScalarFormatter

from ..visible_tokens import token_label

_CJK_FONT_PACKAGE = "noto-cjk-sans-otc"  # its name on PyPI
# Characters of the Chinese, Japanese and Korean scripts
_HAN = re.compile(r"[\u2e80-\u2fdf\u3000-\u303f\u3100-\u312f\u31a0-\u31bf\u3400-\u9fff\uf900-\ufaff\uff00-\uffef]")
_KANA = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff]")
_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_CELL_SIZE = 0.3  # inches for one token
_TITLE_SIZE = 0.3  # inches for the title of a panel

# Titles of the panels. The other metrics of an evaluation have none: perplexity follows from the loss, and the length
# ratio is part of BLEU.
_PANELS = {
    "loss": "Loss (nats per target token)",
    "bleu": "BLEU (higher is better)",
    "chrf": "chrF2++ (higher is better)",
    "ter": "TER (lower is better)",
    "exact_match": "Exact match (share of sentences)",
}
TRANSLATION_METRICS = ("bleu", "chrf", "ter", "exact_match")  # metrics drawn by default
_SAME_CURVE = {"perplexity": "loss", "token_loss": "loss"}  # metrics that are best at the same step as another one
_COLORS = {"training": "tab:blue", "evaluation": "tab:orange"}  # of the curves
_ROUNDING_ERROR = 1e-9  # a value of at most this counts as 0
_MAX_DOTS = 30  # a curve of more points has no dot at each of them

Curve = dict[int, float]  # a value for each step, NaN where it was not finite


def plot_attention(source_tokens: Sequence[str], target_tokens: Sequence[str], attention: Any) -> Figure:
    """Draw an attention matrix as a heat map: source tokens along the top, target tokens down the side.

    Args:
        source_tokens: texts of the source tokens, without padding.
        target_tokens: texts of the target tokens.
        attention: weights of the shape `(target tokens, source tokens)`, as an array, a nested list or a tensor of any
            device and number type.

    Raises:
        ValueError: if the shape does not fit the tokens, the matrix is empty, or a weight is not finite.
    """
    weights = _checked(attention, "attention", (len(target_tokens), len(source_tokens)))
    figure = _new_figure()
    axes, color_axes = _draw_weights(figure, {(0, 0): weights}, source_tokens, target_tokens)
    _fit_attention(figure, axes, color_axes, weights.shape)
    return figure


def plot_attention_heads(
    source_tokens: Sequence[str], target_tokens: Sequence[str], attentions: Iterable[Any]
) -> Figure:
    """Draw the attention of every layer and head as a grid of heat maps: layers down the side, heads along the top.

    All have the same colours, so that they can be compared. A panel is called "layer 1, head 3", both counted from 1.

    Args:
        source_tokens: texts of the source tokens, without padding.
        target_tokens: texts of the target tokens.
        attentions: weights of the shape `(heads, target tokens, source tokens)` for each layer, in one array or tensor
            or as a list; `cross_attentions` of the pipeline is one. Layers may have different numbers of heads.

    Raises:
        ValueError: if a shape does not fit the tokens, there is nothing to draw, or a weight is not finite.
    """
    panels: dict[tuple[int, int], np.ndarray] = {}
    for row, layer in enumerate(attentions):
        for column, head in enumerate(layer):
            name = f"layer {row + 1}, head {column + 1}"
            panels[row, column] = _checked(head, name, (len(target_tokens), len(source_tokens)))
    if not panels:
        raise ValueError("attentions: there is no layer, or none with a head")
    figure = _new_figure()
    axes, color_axes = _draw_weights(figure, panels, source_tokens, target_tokens)
    for (row, column), one in axes.items():
        one.set_title(f"layer {row + 1}, head {column + 1}", fontsize=10)
    _fit_attention(figure, axes, color_axes, next(iter(panels.values())).shape, title=_TITLE_SIZE)
    return figure


def has_training_curves(
    log_history: Iterable[Mapping[str, Any]], *, metrics: Iterable[str] = TRANSLATION_METRICS
) -> bool:
    """Whether the history has a curve for `plot_training_curves` to draw; a run may have logged too little."""
    return bool(_panels(log_history, metrics))


def plot_training_curves(
    log_history: Iterable[Mapping[str, Any]],
    best_global_step: int | None = None,
    metric_for_best_model: str | None = None,
    *,
    metrics: Iterable[str] = TRANSLATION_METRICS,
) -> Figure:
    """Draw the losses in one panel and each metric of the evaluations in a panel of its own, over training steps.

    A curve needs two points: a metric that was evaluated once, or was always 0, has no panel. Where a value is not
    finite, the curve has a gap.

    Args:
        log_history: `Trainer.state.log_history`. Entries need `step`; used are `loss`, `eval_loss` and `eval_…` for
            each of `metrics`.
        best_global_step: `Trainer.state.best_global_step`, the step of the best checkpoint, which is marked; None if
            there is none.
        metric_for_best_model: the Trainer's argument, the metric that chose it.
        metrics: names of the metrics, without `eval_`, or a dictionary from them to titles; by default those of
            translation.

    Raises:
        ValueError: if there is no curve in the history.
    """
    chosen_by = _curve_of(metric_for_best_model)
    titles = {**metrics, **_PANELS} if isinstance(metrics, Mapping) else _PANELS
    panels = _panels(log_history, [*metrics, chosen_by] if chosen_by else metrics)
    if not panels:
        raise ValueError(
            "log_history: no entry has a loss or metric that one of another step has, so there is no curve"
        )
    figure = _new_figure()
    steps = [step for curves in panels.values() for curve in curves.values() for step in curve]
    # The panel whose legend names the best checkpoint: that of the metric which chose it, else the first
    named = chosen_by if chosen_by in panels else next(iter(panels))
    for axes, (name, curves) in zip(_grid(figure, len(panels)), panels.items(), strict=True):
        _draw_curves(axes, titles.get(name, name), curves)
        _label_axes(axes, curves, max(steps))
        if best_global_step is not None:
            values = curves.get("evaluation", {}) if name == chosen_by else {}
            _mark_best(axes, best_global_step, values, name == named)
        if axes.get_legend_handles_labels()[1] != ["evaluation"]:
            axes.legend(frameon=False, fontsize="small")
    return figure


def _new_figure() -> Figure:
    figure = Figure(dpi=120)
    FigureCanvasAgg(figure)
    return figure


def _checked(attention: Any, name: str, shape: tuple[int, int]) -> np.ndarray:
    """The weights of one panel as an array; a ValueError with its name if they cannot be drawn."""
    if hasattr(attention, "detach"):  # a tensor; numpy has no bfloat16
        attention = attention.detach().float().cpu().numpy()
    weights = np.asarray(attention, dtype=float)
    if weights.shape != shape or weights.size == 0:
        raise ValueError(
            f"{name}: shape {weights.shape} does not fit {shape[0]} target and {shape[1]} source tokens; give "
            "(target, source), at least one of each, without padding"
        )
    if not np.isfinite(weights).all():
        raise ValueError(f"{name}: some weights are not finite numbers")
    return weights


def _draw_weights(
    figure: Figure,
    panels: Mapping[tuple[int, int], np.ndarray],
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
) -> tuple[dict[tuple[int, int], Axes], Axes]:
    """Draw the panels, each with its row and column, and their scale of colours; return the axes of both."""
    darkest = max(weights.max() for weights in panels.values())
    labels = list(map(token_label, source_tokens)), list(map(token_label, target_tokens))
    drawn: dict[tuple[int, int], Axes] = {}
    for place, weights in panels.items():
        # A label of its own, or the figure would take it for one that is there already
        drawn[place] = axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), label=str(place))
        image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=darkest, aspect="auto", interpolation="nearest")
        _label_cells(axes, *labels)
    color_axes = figure.add_axes((0.0, 0.0, 0.1, 1.0))
    figure.colorbar(image, cax=color_axes, label="attention weight")
    return drawn, color_axes


def _label_cells(axes: Axes, source_labels: Sequence[str], target_labels: Sequence[str]) -> None:
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


def _fit_attention(
    figure: Figure,
    panels: Mapping[tuple[int, int], Axes],
    color_axes: Axes,
    shape: tuple[int, ...],
    title: float = 0.0,
) -> None:
    """Set the size of the figure: a square cell of fixed size for each token, and the room that the labels need.

    Args:
        figure: with nothing but these axes.
        panels: the axes of each row and column, all with the same labels.
        color_axes: of the scale, which stands to the right.
        shape: of the matrices.
        title: inches above each panel.
    """
    rows, columns = shape
    first = next(iter(panels.values()))
    top, left = (_widest(labels) / figure.dpi for labels in (first.get_xticklabels(), first.get_yticklabels()))
    if top > 0.9 * _CELL_SIZE:
        for axes in panels.values():
            axes.tick_params(axis="x", labelrotation=90)
    else:
        top = _CELL_SIZE
    top, left = top + 0.4 + title, left + 0.45  # the words "source" and "target"
    matrix_width, matrix_height = _CELL_SIZE * columns, _CELL_SIZE * rows
    scale_height = min(max(matrix_height, 1.4), 4.0)  # at least as long as its label
    # The room of a panel. A title may be wider than a narrow matrix, and a gap follows.
    gap, least_width = (0.2, 1.0) if title else (0.0, 0.0)
    room_width, room_height = left + max(matrix_width, least_width) + gap, top + matrix_height + gap
    down, along = (1 + max(place[axis] for place in panels) for axis in (0, 1))
    width = along * room_width + 1.1
    height = max(down * room_height, top + scale_height) + 0.15
    boxes = [(color_axes, along * room_width + 0.2, top, 0.15, scale_height)]
    for (row, column), axes in panels.items():
        boxes.append((axes, column * room_width + left, row * room_height + top, matrix_width, matrix_height))
    figure.set_size_inches(width, height)
    for each, x, y, box_width, box_height in boxes:
        bottom = height - y - box_height
        each.set_position((x / width, bottom / height, box_width / width, box_height / height))


def _widest(labels: Iterable[Text]) -> float:
    """Width of the widest label, in pixels."""
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
    # A Han character looks different in each country; the other scripts in the text show which one is meant.
    region = "JP" if _KANA.search(text) else "KR" if _HANGUL.search(text) else "SC"
    return fonts + sorted(families, key=lambda family: not family.endswith(region))[:1]


@cache
def _cjk_families() -> tuple[str, ...]:
    """Register the fonts of the font package with matplotlib; return their families, none if it is not installed.

    Matplotlib before 3.11 sees only the first (Japanese) of them, which has the glyphs of all.
    """
    module = _CJK_FONT_PACKAGE.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        return ()
    path = str(files(module) / "NotoSansCJK-Regular.ttc")
    fontManager.addfont(path)
    return tuple(entry.name for entry in fontManager.ttflist if entry.fname == path)


def _curve_of(metric_for_best_model: str | None) -> str | None:
    """Name of the curve that shows the metric by which the best checkpoint was chosen."""
    name = (metric_for_best_model or "").removeprefix("eval_")
    return _SAME_CURVE.get(name, name) or None


def _panels(log_history: Iterable[Mapping[str, Any]], metrics: Iterable[str]) -> dict[str, dict[str, Curve]]:
    """The curves of each panel, without those that would show nothing."""
    entries = [entry for entry in log_history if "step" in entry]
    panels = {"loss": {"training": _curve(entries, "loss"), "evaluation": _curve(entries, "eval_loss")}}
    panels |= {name: {"evaluation": _curve(entries, f"eval_{name}")} for name in metrics if name != "loss"}
    panels = {name: {label: curve for label, curve in curves.items() if curve} for name, curves in panels.items()}
    return {name: curves for name, curves in panels.items() if any(map(_shows_something, curves.values()))}


def _curve(entries: Iterable[Mapping[str, Any]], name: str) -> Curve:
    """The values by step. Later entries of the same step belong to another model, such as the best one."""
    curve: Curve = {}
    for entry in entries:
        value = entry.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            curve.setdefault(entry["step"], value if math.isfinite(value) else math.nan)
    return dict(sorted(curve.items()))


def _shows_something(curve: Curve) -> bool:
    values = _finite(curve)
    return len(values) > 1 and any(abs(value) > _ROUNDING_ERROR for value in values)


def _finite(curve: Curve) -> list[float]:
    return [value for value in curve.values() if not math.isnan(value)]


def _grid(figure: Figure, panels: int) -> list[Axes]:
    """Axes in rows of up to three. If they do not fill the rows, the first one is wider."""
    columns = 2 if panels == 4 else min(3, panels)
    rows = math.ceil(panels / columns)
    figure.set_size_inches(4.2 * columns + 0.6, 3.2 * rows)
    figure.set_layout_engine("constrained")
    cells, spare = figure.add_gridspec(rows, columns), rows * columns - panels
    places = [divmod(cell, columns) for cell in range(1 + spare, rows * columns)]
    return [
        figure.add_subplot(cells[0, : 1 + spare]),
        *(figure.add_subplot(cells[row, column]) for row, column in places),
    ]


def _draw_curves(axes: Axes, title: str, curves: Mapping[str, Curve]) -> None:
    for label, curve in curves.items():
        steps, values = list(curve), list(curve.values())
        # A single evaluation must be visible, and a thousand must not clutter the panel.
        are_few = len(values) <= _MAX_DOTS
        dots = list(range(len(values))) if are_few else _isolated_points(values)
        axes.plot(
            steps,
            values,
            color=_COLORS[label],
            label=label,
            linewidth=1.5,
            marker="o" if dots else None,
            markevery=dots,
            markersize=3.5 if are_few else 2,
        )
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)


def _isolated_points(values: Sequence[float]) -> list[int]:
    """Indices of the values between two gaps, which a line does not show."""
    is_gap = [True, *map(math.isnan, values), True]
    return [place for place in range(len(values)) if is_gap[place] and not is_gap[place + 1] and is_gap[place + 2]]


def _label_axes(axes: Axes, curves: Mapping[str, Curve], last_step: int) -> None:
    """Label the axes: the same whole steps in every panel, and enough digits to distinguish the values."""
    axes.set_xlim(-0.03 * last_step, 1.03 * last_step)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    numbers = ScalarFormatter(useOffset=False)
    numbers.set_powerlimits((-9, 9))
    axes.yaxis.set_major_formatter(numbers)
    values = [value for curve in curves.values() for value in _finite(curve)]
    middle, height = (max(values) + min(values)) / 2, max(values) - min(values)
    if height < 0.01 * abs(middle):  # else the axis would magnify the noise of a constant
        axes.set_ylim(middle - 0.05 * abs(middle), middle + 0.05 * abs(middle))


def _mark_best(axes: Axes, step: int, curve: Curve, is_named: bool) -> None:
    """Draw a line at the best step, and a ring around the value there on the curve that chose it."""
    label, value = f"best checkpoint: step {step:,}", curve.get(step, math.nan)
    has_value = not math.isnan(value)
    axes.axvline(step, color="gray", linestyle=":", zorder=1, label=label if is_named and not has_value else None)
    if has_value:
        ring: dict[str, Any] = {"color": "black", "markerfacecolor": "none", "markersize": 9, "linestyle": "none"}
        axes.plot([step], [value], marker="o", label=f"{label}, {value:.4g}", **ring)
