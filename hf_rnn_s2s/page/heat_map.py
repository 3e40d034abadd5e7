"""The attention as an interactive heat map: a table in HTML, with its style and its script beside it.

The table alone says everything: a screen reader reads the weight of a cell with the pieces of its row and column. The
script shows the same three to whoever points at a cell, taps it or comes to it by the arrow keys, and changes views.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..visible_tokens import token_label, visible

STYLE = Path(__file__).with_name("heat_map.css").read_text(encoding="utf-8")
# The body of a function with the argument `element`, the part of the page that the map is in
SCRIPT = Path(__file__).with_name("heat_map.js").read_text(encoding="utf-8")
MOST_CELLS = 20_000  # of one map; more would make the page slow
MOST_TARGETS = 300  # rows of a map that is cut
LONGEST_UPRIGHT = 2  # characters of a label that fits above a cell without being turned


def heat_map(source_tokens: Sequence[str], target_tokens: Sequence[str], views: Mapping[str, Any]) -> str:
    """Write an attention as HTML: source pieces along the top, target pieces down the side.

    All views have the same colours, so that they can be compared: the darkest is the greatest weight of all. Of a map
    of more than `MOST_CELLS` cells, the first pieces are shown, and a line says so.

    Args:
        source_tokens: texts of the source tokens, without padding.
        target_tokens: texts of the target tokens.
        views: by name, such as "layer 1, head 2", weights of the shape `(target, source)`, as a tensor, an array or a
            nested list. The first one is shown at first.

    Raises:
        ValueError: if there is no view, a shape does not fit the tokens, or a weight is no finite number.
    """
    if not views:
        raise ValueError("views: there is none, so there is nothing to show")
    shape = len(target_tokens), len(source_tokens)
    weights = {name: _checked(values, name, shape) for name, values in views.items()}
    darkest = max(float(one.max()) for one in weights.values())
    targets, sources = _shown(*shape)
    shown = [_thousandths(one[:targets, :sources]) for one in weights.values()]
    return "".join(
        (
            f'<figure class="heat-map" style="--darkest:{max(darkest, 0.001):.3f}"{_other_views(shown)}>',
            _caption(list(views), darkest),
            '<p class="hint">Point at a cell, tap it, or use the arrow keys.</p>'
            '<p class="facts" role="status" hidden><span>source <b data-fact="source"></b></span>'
            '<span>target <b data-fact="target"></b></span><span>weight <b data-fact="weight"></b></span></p>',
            _table(source_tokens[:sources], target_tokens[:targets], shown[0]),
            _what_is_left_out((targets, sources), shape),
            "</figure>",
        )
    )


def _checked(weights: Any, name: str, shape: tuple[int, int]) -> Tensor:
    """The weights of one view, float64; a ValueError with its name if they cannot be shown."""
    tensor = torch.as_tensor(weights).detach().double().cpu()
    if tuple(tensor.shape) != shape or not tensor.numel():
        raise ValueError(
            f"{name}: shape {tuple(tensor.shape)} does not fit {shape[0]} target and {shape[1]} source tokens; give "
            "(target, source), at least one of each, without padding"
        )
    if not tensor.isfinite().all():
        raise ValueError(f"{name}: some weights are not finite numbers")
    return tensor


def _shown(targets: int, sources: int) -> tuple[int, int]:
    """How many of the target and the source tokens are shown."""
    if targets * sources <= MOST_CELLS:
        return targets, sources
    targets = min(targets, MOST_TARGETS)
    return targets, min(sources, MOST_CELLS // targets)


def _thousandths(weights: Tensor) -> list[list[int]]:
    return (weights * 1000).round().int().tolist()


def _other_views(views: Sequence[list[list[int]]]) -> str:
    """What the script needs to show another view: the thousandths of each, row after row."""
    if len(views) == 1:
        return ""
    flat = [[number for row in view for number in row] for view in views]
    return f" data-views='{json.dumps(flat, separators=(',', ':'))}'"


def _caption(names: Sequence[str], darkest: float) -> str:
    """The heading, the choice of a view where there are several, and the scale of the colours."""
    choice = ""
    if len(names) > 1:
        options = "".join(f'<option value="{number}">{escape(name)}</option>' for number, name in enumerate(names))
        choice = f"<label>View <select>{options}</select></label>"
    scale = f'<span class="scale">0<span class="colours"></span>{darkest:.2f}</span>'
    return f"<figcaption><strong>Attention</strong>{choice}{scale}</figcaption>"


def _table(source_tokens: Sequence[str], target_tokens: Sequence[str], thousandths: list[list[int]]) -> str:
    columns = "".join(_header("col", token) for token in source_tokens)
    rows: list[str] = []
    for token, row in zip(target_tokens, thousandths, strict=True):
        cells = [f'<td style="--w:{number / 1000:.3f}">{number / 1000:.3f}</td>' for number in row]
        if not rows:
            cells[0] = cells[0].replace("<td", '<td tabindex="0"')  # where the Tab key comes in
        rows.append(f"<tr>{_header('row', token)}{''.join(cells)}</tr>")
    said = "Attention: a row for each piece of the target, a column for each piece of the source"
    return (
        f'<div class="scroll"><table role="grid" aria-label="{said}"><thead><tr>'
        f'<td class="corner">source →<br>target ↓</td>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _header(scope: str, token: str) -> str:
    """A piece at the beginning of its row or column."""
    label = token_label(token)
    turned = ' class="turned"' if scope == "col" and len(label) > LONGEST_UPRIGHT else ""
    return f'<th scope="{scope}" data-piece="{escape(visible(token))}"><span{turned}>{escape(label)}</span></th>'


def _what_is_left_out(shown: tuple[int, int], whole: tuple[int, int]) -> str:
    parts = [
        f"the first {some:,} of {of_all:,} pieces of the {side}"
        for some, of_all, side in zip(shown, whole, ("target", "source"), strict=True)
        if some < of_all
    ]
    return f'<p class="left-out">Shown are {" and ".join(parts)}.</p>' if parts else ""
