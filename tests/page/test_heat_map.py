"""The heat map: which number stands where, that tokens are shown and are no markup, and what is refused."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from hf_rnn_s2s.page.heat_map import MOST_CELLS, heat_map

from .html_reader import Reader

SOURCE, TARGET = ["▁in", "▁3", " weeks"], ["3", "周后"]
FIRST, SECOND = [[0.0, 1.0, 0.0], [0.5, 0.25, 0.25]], [[0.125, 0.25, 0.625], [0.0, 0.0004, 0.9996]]


def cells(html: str) -> list[str]:
    return [cell.text for cell in Reader(html).all("td") if cell.attributes.get("class") != "corner"]


def test_each_weight_stands_in_the_row_of_its_target_and_the_column_of_its_source() -> None:
    reader = Reader(heat_map(SOURCE, TARGET, {"mean": FIRST}))
    assert [header.text for header in reader.all("th", scope="col")] == ["␣in", "␣3", "␣weeks"]
    assert [header.text for header in reader.all("th", scope="row")] == ["3", "周后"]
    rows = [row.text for row in reader.all("tr")]
    assert rows[1:] == ["30.0001.0000.000", "周后0.5000.2500.250"]
    colours = [cell.attributes["style"] for cell in reader.all("td")[1:]]
    assert colours == [f"--w:{weight:.3f}" for row in FIRST for weight in row]


def test_one_cell_alone_is_reached_by_the_tab_key() -> None:
    reader = Reader(heat_map(SOURCE, TARGET, {"mean": FIRST}))
    assert [cell.text for cell in reader.all("td", tabindex="0")] == ["0.000"]
    [table] = reader.all("table", role="grid")
    assert table.attributes["aria-label"] == (
        "Attention: a row for each piece of the target, a column for each piece of the source"
    )


def test_several_views_can_be_chosen_and_have_the_same_colours() -> None:
    html = heat_map(SOURCE, TARGET, {"mean": SECOND, "layer 1, head 1": FIRST})
    reader = Reader(html)
    assert [option.text for option in reader.all("option")] == ["mean", "layer 1, head 1"]
    assert cells(html) == ["0.125", "0.250", "0.625", "0.000", "0.000", "1.000"]
    [figure] = reader.all("figure")
    assert json.loads(str(figure.attributes["data-views"])) == [
        [125, 250, 625, 0, 0, 1000],
        [0, 1000, 0, 500, 250, 250],
    ]
    assert figure.attributes["style"] == "--darkest:1.000"  # that of the other view
    assert reader.all("span", class_="scale")[0].text == "01.00"


def test_a_single_view_leaves_nothing_to_choose() -> None:
    reader = Reader(heat_map(SOURCE, TARGET, {"mean": [[0.1, 0.2, 0.3], [0.2, 0.2, 0.3]]}))
    assert reader.all("select") == []
    [figure] = reader.all("figure")
    assert "data-views" not in figure.attributes
    assert figure.attributes["style"] == "--darkest:0.300"


@pytest.mark.parametrize(
    "token", ["<script>alert(1)</script>", "\"' onload='x", "&lt;", "${alert(1)}", "{{this}}", "</td>"]
)
def test_tokens_are_texts_and_no_markup(token: str) -> None:
    reader = Reader(heat_map([token, "b"], [token], {token: [[0.25, 0.75]]}))
    assert reader.all("th")[0].attributes["data-piece"] == token.replace(" ", "␣")
    assert reader.all("script") == []
    assert len(reader.all("td")) == 3
    assert Reader(heat_map(["a"], ["b"], {token: [[1]], "x": [[1]]})).all("option")[0].text == token


def test_a_long_token_has_a_short_label_and_is_known_whole() -> None:
    header = Reader(heat_map(["abcdefghijklmnopqrstuvwxyz"], ["a"], {"mean": [[1.0]]})).all("th")[0]
    assert header.text == "abcdefghij…rstuvwxyz"
    assert header.attributes["data-piece"] == "abcdefghijklmnopqrstuvwxyz"


def test_only_labels_that_are_too_wide_are_turned() -> None:
    reader = Reader(heat_map(["ab", "abc"], ["abcd"], {"mean": [[0.5, 0.5]]}))
    assert [span.text for span in reader.all("span", class_="turned")] == ["abc"]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows).bfloat16()])
def test_every_kind_of_matrix(kind: Any) -> None:
    assert cells(heat_map(SOURCE, TARGET, {"mean": kind(FIRST)})) == cells(heat_map(SOURCE, TARGET, {"mean": FIRST}))


@pytest.mark.parametrize(("targets", "sources", "shown", "said"), [
    (100, 200, (100, 200), []),
    (200, 300, (200, 100), ["Shown are the first 100 of 300 pieces of the source."]),
    (400, 400, (300, 66), [
        "Shown are the first 300 of 400 pieces of the target and the first 66 of 400 pieces of the source."
    ]),
])  # fmt: skip
def test_of_a_large_map_the_first_pieces_are_shown(
    targets: int, sources: int, shown: tuple[int, int], said: list[str]
) -> None:
    weights = torch.arange(targets * sources).reshape(targets, sources) / (targets * sources)
    html = heat_map([f"s{n}" for n in range(sources)], [f"t{n}" for n in range(targets)], {"mean": weights})
    reader = Reader(html)
    assert (len(reader.all("th", scope="row")), len(reader.all("th", scope="col"))) == shown
    assert len(cells(html)) == shown[0] * shown[1] <= MOST_CELLS
    assert cells(html)[shown[1]] == f"{weights[1, 0]:.3f}"  # the second row begins where the first one ends
    assert [line.text for line in reader.all("p", class_="left-out")] == said


@pytest.mark.parametrize(("source", "target", "views", "message"), [
    (["a"], ["b"], {}, "there is none"),
    (["a", "b"], ["c"], {"mean": [[1.0]]}, r"mean: shape \(1, 1\) does not fit 1 target and 2 source tokens"),
    ([], ["c"], {"head 2": torch.zeros(1, 0)}, r"head 2: shape \(1, 0\) does not fit 1 target and 0 source tokens"),
    (["a"], ["c"], {"mean": [[1.0]], "other": [[float("nan")]]}, "other: some weights are not finite"),
])  # fmt: skip
def test_what_cannot_be_shown_is_named(source: Any, target: Any, views: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        heat_map(source, target, views)
