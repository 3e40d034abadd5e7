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

from hf_rnn_s2s.training import plots
from hf_rnn_s2s.training.plots import (
    has_training_curves,
    plot_attention,
    plot_attention_heads,
    plot_training_curves,
)

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


LOSS, BLEU = "Loss (nats per target token)", "BLEU (higher is better)"


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


def test_both_ways_to_write_a_space_look_the_same() -> None:
    pictures = [draw(plot_attention([f"{space}dog", "s", space], [f"{space}我们"], np.ones((1, 3)))) for space in " ▁"]
    assert (pictures[0] == pictures[1]).all()
    figure = plot_attention(["▁dog", "\u00a0", "\u3000"], ["x"], np.ones((1, 3)))
    assert labels(figure, "x") == ["␣dog", "␣", "␣"]


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


HEADS = [np.array([[[0.25, 0.75]], [[1.0, 0.0]]]), np.array([[[0.5, 0.5]], [[0.1, 0.9]], [[0.6, 0.4]]])]


@pytest.mark.parametrize("kind", ["lists", "tensors", "one tensor"])
def test_every_head_of_every_layer_has_a_panel(kind: str) -> None:
    given: Any = [layer.tolist() for layer in HEADS]
    if kind == "tensors":
        given = tuple(torch.tensor(layer, dtype=torch.float64) for layer in HEADS)
    if kind == "one tensor":
        given = torch.tensor(np.stack([HEADS[0], HEADS[1][:2]]), dtype=torch.float64)
    figure = plot_attention_heads(["a", "b"], ["c"], given)
    *panels, scale = figure.axes
    drawn = {one.get_title(): np.asarray(one.images[0].get_array()) for one in panels}
    expected = {
        f"layer {layer}, head {head}": np.asarray(weights)
        for layer, heads in enumerate(given, start=1)
        for head, weights in enumerate(heads, start=1)
    }
    assert list(drawn) == list(expected)
    for name, weights in expected.items():
        np.testing.assert_allclose(drawn[name], weights, rtol=0, atol=1e-7, err_msg=name)
    assert {one.images[0].get_clim() for one in panels} == {(0.0, 1.0)}  # the same colour is the same weight
    assert scale.get_ylabel() == "attention weight"
    draw(figure)


@pytest.mark.parametrize(("source", "target", "heads"), [(1, 1, 1), (1, 2, 4), (30, 3, 2), (3, 30, 2)])
def test_panels_are_beside_each_other_and_nothing_is_cut_off(source: int, target: int, heads: int) -> None:
    names = ["Donaudampfschifffahrtsgesellschaft", "今日", *(f"token{number}" for number in range(28))]
    figure = plot_attention_heads(names[:source], names[:target], np.ones((2, heads, target, source)))
    draw(figure)
    boxes: list[Any] = [axes.get_tightbbox() for axes in figure.axes]
    for box in boxes:
        assert min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for one, other in itertools.combinations(boxes, 2):
        assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
    first = figure.axes[0].get_window_extent()
    assert first.width / source == pytest.approx(first.height / target, rel=0.01)
    if heads > 1:  # the next head is to the right, the next layer below
        right, below = (figure.axes[number].get_window_extent() for number in (1, heads))
        assert right.x0 > first.x1
        assert below.y1 < first.y0


@pytest.mark.parametrize(
    ("attentions", "message"),
    [
        ([], "attentions: there is no layer, or none with a head"),
        (np.ones((2, 0, 1, 2)), "attentions: there is no layer, or none with a head"),
        (
            [np.ones((1, 1, 2)), np.ones((2, 2, 1))],
            r"layer 2, head 1: shape \(2, 1\) does not fit",
        ),
        (np.full((1, 3, 1, 2), np.nan), "layer 1, head 1: some weights are not finite"),
    ],
)
def test_wrong_heads_are_refused(attentions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_attention_heads(["a", "b"], ["c"], attentions)


def evaluations(count: int, steps: int = 1000, **curves: Any) -> list[dict[str, Any]]:
    """So many evaluations, each `steps` after the one before, with the values that `curves` has for it."""
    return [
        {"step": steps * (number + 1), **{f"eval_{name}": values[number] for name, values in curves.items()}}
        for number in range(count)
    ]


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def test_curves_hold_the_logged_numbers() -> None:
    figure = plot_training_curves(HISTORY)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == [LOSS, BLEU, "Exact match (share of sentences)"]
    lines = {line.get_label(): points(line) for line in panels[LOSS].lines}
    assert lines == {"training": [[10, 4], [20, 2], [30, 1]], "evaluation": [[20, 2.5], [40, 1.5]]}
    assert points(panels[BLEU].lines[0]) == [[20, 30], [40, 60]]
    assert points(panels["Exact match (share of sentences)"].lines[0]) == [[20, 0.1], [40, 0.4]]
    draw(figure)


def test_curves_without_evaluation_or_without_training_loss() -> None:
    assert titles(plot_training_curves(HISTORY[:2])) == [LOSS]
    assert titles(plot_training_curves(evaluations(2, bleu=[3, 4]))) == [BLEU]


def test_only_what_tells_how_well_the_model_translates_is_drawn() -> None:
    names = ["loss", "bleu", "chrf", "ter", "exact_match", "token_loss", "perplexity", "length_ratio", "runtime"]
    names += ["mem_cpu_alloc_delta", "num_input_tokens_seen", "samples_per_second", "jit_compilation_time"]
    history = evaluations(3, **{name: [1.0, 2.0, 4.0] for name in names})
    assert titles(plot_training_curves(history)) == [
        LOSS,
        BLEU,
        "chrF2++ (higher is better)",
        "TER (lower is better)",
        "Exact match (share of sentences)",
    ]
    history = evaluations(2, rouge1=[1, 2], rouge2=[1, 2], bleu=[1, 2])
    assert titles(plot_training_curves(history, metrics=["rouge2"])) == ["rouge2"]
    assert titles(plot_training_curves(history, 1000, "eval_rouge1")) == [BLEU, "rouge1"]
    assert has_training_curves(evaluations(2, rouge1=[1, 2]), metrics=["rouge1"])
    assert not has_training_curves(evaluations(2, rouge1=[1, 2]))


def test_there_are_no_empty_panels() -> None:
    nan = float("nan")
    history = evaluations(3, bleu=[1, 2, 3], chrf=[nan, nan, 5.0], ter=[nan, nan, nan], exact_match=[0.0, 0.0, 0.0])
    assert titles(plot_training_curves(history)) == [BLEU]
    lone = [{"step": 1, "loss": 6.0}, *evaluations(1, loss=[2.0], bleu=[3.0])]
    assert not has_training_curves(lone)
    assert titles(plot_training_curves([*lone, {"step": 500, "loss": 3.0}])) == [LOSS]


@pytest.mark.parametrize("panels", range(1, 8))
def test_the_panels_fill_the_picture(panels: int) -> None:
    names = [f"metric{number}" for number in range(panels)]
    figure = plot_training_curves(evaluations(2, **{name: [1, 2] for name in names}), metrics=names)
    cells: list[tuple[int, int]] = []
    for axes in figure.axes:
        place = axes.get_subplotspec()
        assert place is not None
        cells += itertools.product(place.rowspan, place.colspan)
        grid = place.get_gridspec()
    assert len(figure.axes) == panels
    assert sorted(cells) == list(itertools.product(range(grid.nrows), range(grid.ncols)))
    draw(figure)


def test_the_best_checkpoint_is_marked() -> None:
    history = [*HISTORY[:2], *evaluations(3, loss=[3.0, 1.23456, 2.0], bleu=[10.0, 20.0, 30.0])]
    loss, bleu = plot_training_curves(history, 2000, "eval_loss").axes
    *_, line, ring = loss.lines
    assert (points(ring), ring.get_label()) == ([[2000, 1.23456]], "best checkpoint: step 2,000, 1.235")
    assert [x for x, _ in points(line)] == [x for x, _ in points(bleu.lines[-1])] == [2000, 2000]
    assert loss.get_legend_handles_labels()[1] == ["training", "evaluation", ring.get_label()]
    assert bleu.get_legend() is None
    loss, bleu = plot_training_curves(history, 3000, "bleu").axes
    assert points(bleu.lines[-1]) == [[3000, 30]]
    assert loss.get_legend_handles_labels()[1] == ["training", "evaluation"]


def test_the_best_checkpoint_is_marked_where_its_metric_has_no_curve() -> None:
    loss = plot_training_curves(evaluations(2, loss=[3.0, 1.0], perplexity=[20.1, 2.7]), 2000, "perplexity").axes[0]
    assert points(loss.lines[-1]) == [[2000, 1]]
    history = [*HISTORY[:2], *evaluations(1, bleu=[7.0])]
    loss, *others = plot_training_curves(history, 1000, "bleu").axes
    assert not others
    assert loss.get_legend_handles_labels()[1] == ["training", "best checkpoint: step 1,000"]
    assert all(
        "best" not in str(line.get_label()) for line in plot_training_curves(history, None, "bleu").axes[0].lines
    )


def test_values_that_are_no_numbers_are_gaps() -> None:
    nan, inf = float("nan"), float("inf")
    history = evaluations(5, bleu=[1.0, nan, 3.0, inf, 5.0], chrf=[1.0, None, 3.0, "no", True])
    bleu, chrf = (axes.lines[0] for axes in plot_training_curves(history).axes)
    np.testing.assert_equal(np.asarray(bleu.get_ydata()), [1, nan, 3, nan, 5])
    assert points(chrf) == [[1000, 1], [3000, 3]]
    draw(plot_training_curves(history, 2000, "bleu"))  # a best step without a value has a line all the same


def test_single_values_show_and_many_do_not_clutter() -> None:
    few = plot_training_curves(evaluations(30, bleu=list(range(30)))).axes[0].lines[0]
    assert (few.get_marker(), few.get_markevery()) == ("o", list(range(30)))
    many = plot_training_curves(evaluations(200, bleu=list(range(200)))).axes[0].lines[0]
    assert many.get_marker() in (None, "None", "")
    values = [float("nan") if number in (1, 3, 198) else number for number in range(200)]
    with_gaps = plot_training_curves(evaluations(200, bleu=values)).axes[0].lines[0]
    assert (with_gaps.get_marker(), with_gaps.get_markevery()) == ("o", [0, 2, 199])


def test_what_is_evaluated_again_at_the_last_step_is_another_model() -> None:
    history = [*evaluations(2, bleu=[1.0, 2.0]), {"step": 2000, "eval_bleu": 9.0}]
    assert points(plot_training_curves(history).axes[0].lines[0]) == [[1000, 1], [2000, 2]]


def tick_labels(figure: Figure, axis: str) -> list[list[str]]:
    draw(figure)
    for axes in figure.axes:
        assert getattr(axes, f"{axis}axis").get_offset_text().get_text() == ""
    return [[text.get_text() for text in getattr(axes, f"get_{axis}ticklabels")()] for axes in figure.axes]


def test_axes_have_numbers_as_people_write_them() -> None:
    long = plot_training_curves(evaluations(3, steps=500_000, bleu=[100.00000000000004, 100.0, 100.00000000000003]))
    assert {"0", "500,000", "1,000,000", "1,500,000"} <= set(tick_labels(long, "x")[0])
    assert "100" in tick_labels(long, "y")[0]
    low, high = long.axes[0].get_ylim()
    assert high - low > 1  # not the width of a rounding error
    short = plot_training_curves(evaluations(3, steps=1, loss=[4e-6, 3e-6, 2e-6], chrf=[1.0, 2.0, 3.0]))
    assert {"0", "1", "2", "3"} <= set(tick_labels(short, "x")[0])
    assert any("0.000003" in label for label in tick_labels(short, "y")[0])


def test_all_panels_have_the_same_steps() -> None:
    figure = plot_training_curves([{"step": 1, "loss": 3.0}, {"step": 90, "loss": 2.0}, *HISTORY[2:5]])
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


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
