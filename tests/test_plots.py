"""The pictures: what is drawn where, which fonts, and what is refused."""

from __future__ import annotations

import itertools
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from packaging.version import Version

from hf_rnn_s2s import plots
from hf_rnn_s2s.plots import has_training_curves, plot_attention, plot_training_curves

HISTORY: list[dict[str, Any]] = [
    {"step": 10, "epoch": 0.1, "loss": 4.0, "learning_rate": 1e-3, "grad_norm": 1.0},
    {"step": 20, "epoch": 0.2, "loss": 2.0, "learning_rate": 1e-3, "grad_norm": 1.0},
    {"step": 20, "eval_loss": 2.5, "eval_bleu": 30.0, "eval_exact_match": 0.1, "eval_runtime": 9.0},
    {"step": 30, "loss": 1.0},
    {
        "step": 40,
        "eval_loss": 1.5,
        "eval_bleu": 60.0,
        "eval_exact_match": 0.4,
        "eval_samples_per_second": 7.0,
        "eval_bleu_signature": "nrefs:1",
        "eval_model_preparation_time": 0.1,
    },
    {"step": 40, "train_loss": 1.9, "train_runtime": 60.0},
]


@pytest.fixture(autouse=True)
def fresh_fonts() -> None:
    plots._cjk_families.cache_clear()


def labels(figure: Figure, axis: str) -> list[str]:
    return [text.get_text() for text in getattr(figure.axes[0], f"get_{axis}ticklabels")()]


def points(line: Any) -> list[list[float]]:
    return np.asarray(line.get_xydata()).tolist()


def drawn_weights(figure: Figure) -> list[list[float]]:
    return np.asarray(figure.axes[0].images[0].get_array()).tolist()


def draw(figure: Figure) -> np.ndarray:
    """Render with every warning an error: a missing glyph is one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]


def test_source_is_along_the_top_and_target_down_the_side() -> None:
    figure = plot_attention(["in", "3", "weeks"], ["3", "周后"], [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    axes = figure.axes[0]
    assert labels(figure, "x") == ["in", "3", "weeks"]
    assert labels(figure, "y") == ["3", "周后"]
    assert axes.get_xlabel() == "source"
    assert axes.get_ylabel() == "target"
    assert axes.xaxis.get_ticks_position() == "top"
    assert drawn_weights(figure) == [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]]
    top, bottom = sorted(axes.get_ylim())
    assert axes.get_ylim() == (bottom, top)  # the first target token is the upper one
    draw(figure)


def test_heavier_weights_are_darker() -> None:
    figure = plot_attention(["a", "b"], ["c"], [[0.1, 0.9]])
    pixels = draw(figure)
    x_light, y = figure.axes[0].transData.transform((0, 0.2)).astype(int)
    x_dark, _ = figure.axes[0].transData.transform((1, 0.2)).astype(int)
    row = pixels[pixels.shape[0] - y]
    assert row[x_dark, :3].sum() < row[x_light, :3].sum() - 100


@pytest.mark.parametrize(
    ("tokens", "family"),
    [
        (["2024", "年", "星期二", "：", "。"], "Noto Sans CJK SC"),
        (["東京", "で", "カード"], "Noto Sans CJK JP"),
        (["서울", "에서"], "Noto Sans CJK KR"),
    ],
)
def test_cjk_text_has_its_glyphs(tokens: list[str], family: str) -> None:
    if Version(matplotlib.__version__) < Version("3.11"):
        family = "Noto Sans CJK JP"  # older ones see only the first face of a collection; it has all the characters
    figure = plot_attention(["a"], tokens, np.ones((len(tokens), 1)))
    fonts = figure.axes[0].get_yticklabels()[0].get_fontfamily()
    assert fonts == ["DejaVu Sans", family]
    draw(figure)


def test_glyphs_differ_from_the_box_of_a_missing_glyph() -> None:
    """Two different characters give different pictures; two missing ones would both be the same box."""
    first, second = (draw(plot_attention(["a"], [character], [[1.0]])) for character in "年月")
    assert first.shape == second.shape
    assert (first != second).any()


@pytest.mark.filterwarnings("ignore:Glyph")
def test_without_the_font_package_a_warning_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = plots.importlib.util.find_spec
    monkeypatch.setattr(
        plots.importlib.util, "find_spec", lambda name: None if name == "noto_cjk_sans_otc" else real(name)
    )
    with pytest.warns(UserWarning, match="pip install noto-cjk-sans-otc"):
        figure = plot_attention(["a"], ["年"], [[1.0]])
    assert figure.axes[0].get_yticklabels()[0].get_fontfamily() == ["DejaVu Sans"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_attention(["no", "need"], ["café"], [[0.5, 0.5]])


@pytest.mark.parametrize("tokens", [["خلال", "3", "أيام"], ["בעוד", "שלושה", "ימים"], ["через", "3", "недели"]])
def test_other_scripts_are_drawn(tokens: list[str]) -> None:
    figure = plot_attention(tokens, ["in", "3"], np.full((2, 3), 1 / 3))
    assert labels(figure, "x") == tokens
    draw(figure)


def test_labels_show_spaces_keep_dollars_and_are_cut_when_long() -> None:
    figure = plot_attention([" ", "$5$", "\t"], ["Donaudampfschifffahrtsgesellschaft", "\n"], np.ones((2, 3)))
    assert labels(figure, "x") == ["␣", "$5$", "⇥"]
    assert labels(figure, "y") == ["Donaudampf…ellschaft", "↵"]
    assert not figure.axes[0].get_xticklabels()[1].get_parse_math()
    draw(figure)


def test_picture_grows_with_the_tokens_and_cells_stay_square() -> None:
    sizes = []
    for source, target in ((5, 60), (60, 5), (60, 60)):
        figure = plot_attention(["ab"] * source, ["cd"] * target, np.ones((target, source)))
        draw(figure)
        box = figure.axes[0].get_window_extent()
        assert box.width / source == pytest.approx(box.height / target, rel=0.01)
        assert box.width / source / figure.dpi > 0.2  # inches: a 10-point label does not reach its neighbour's
        sizes.append(tuple(figure.get_size_inches()))
    assert sizes[0][1] > 15 > sizes[1][1]
    assert sizes[2] == pytest.approx((sizes[1][0], sizes[0][1]), rel=0.1)


@pytest.mark.parametrize(
    ("source", "target"), [(1, 1), (60, 3), (3, 60)], ids=["one cell", "long source", "long target"]
)
def test_nothing_is_cut_off_and_labels_do_not_overlap(source: int, target: int) -> None:
    names = ["Donaudampfschifffahrtsgesellschaft", "今日", *(f"token{number}" for number in range(58))]
    figure = plot_attention(names[:source], names[:target], np.ones((target, source)))
    draw(figure)
    for axes in figure.axes:
        box = axes.get_tightbbox()
        assert box is not None
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    boxes = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))


def test_tensors_of_any_number_type_are_drawn() -> None:
    weights = torch.tensor([[0.25, 0.75]], dtype=torch.bfloat16, requires_grad=True)
    figure = plot_attention(["a", "b"], ["c"], weights)
    assert drawn_weights(figure) == [[0.25, 0.75]]


@pytest.mark.parametrize(
    ("source", "target", "attention", "message"),
    [
        (["a", "b"], ["c"], [[1.0], [0.0]], r"attention: shape \(2, 1\) does not fit 1 target and 2 source"),
        (["a"], ["b"], [[[1.0]]], r"shape \(1, 1, 1\) does not fit"),
        ([], ["b"], np.zeros((1, 0)), "at least one of each"),
        (["a"], ["b"], [[float("nan")]], "not finite"),
    ],
)
def test_wrong_matrices_are_refused(source: list[str], target: list[str], attention: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_attention(source, target, attention)


def test_curves_hold_the_logged_numbers() -> None:
    figure = plot_training_curves(HISTORY)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == ["loss", "bleu", "exact_match"]
    lines = {line.get_label(): points(line) for line in panels["loss"].lines}
    assert lines == {"training": [[10, 4], [20, 2], [30, 1]], "evaluation": [[20, 2.5], [40, 1.5]]}
    assert points(panels["bleu"].lines[0]) == [[20, 30], [40, 60]]
    assert points(panels["exact_match"].lines[0]) == [[20, 0.1], [40, 0.4]]
    draw(figure)


def test_curves_without_evaluation_or_without_training_loss() -> None:
    assert [axes.get_title() for axes in plot_training_curves(HISTORY[:2]).axes] == ["loss"]
    assert [axes.get_title() for axes in plot_training_curves([{"step": 1, "eval_bleu": 3}]).axes] == ["bleu"]


@pytest.mark.parametrize("history", [[], [{"loss": 1.0}], [{"step": 3, "train_runtime": 4.0}]])
def test_history_without_curves_is_refused(history: list[dict[str, float]]) -> None:
    assert not has_training_curves(history)
    with pytest.raises(ValueError, match="log_history: no entry"):
        plot_training_curves(history)


def test_figures_are_saved_without_pyplot(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules
    plot_training_curves(HISTORY).savefig(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert ("matplotlib.pyplot" in sys.modules) == before
    if before:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
