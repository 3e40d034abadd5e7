"""The end of every benchmark: a table to read, and one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any


def report(
    benchmark: str,
    unit: str,
    results: Mapping[str, Sequence[float]],
    ours: str = "ours",
    floor_share: Mapping[str, float] | float | None = None,
    more_is_better: bool = True,
    **more: Any,
) -> None:
    """
    Prints medians, least and greatest, and how many times better `ours` is than each of the others.

    Args:
        benchmark: its name.
        unit: of the results.
        results: of each contender, one for each round.
        ours: the contender that ratios are of.
        floor_share: of the matrix products in the time of ours, from 0 to 1.
        more_is_better: whether a ratio is ours by theirs, or theirs by ours.
        more: what else belongs into the JSON line.
    """
    medians = {name: median(values) for name, values in results.items()}
    ratios = {}
    for name, value in medians.items():
        if name != ours and ours in medians:
            ratios[f"{ours}/{name}"] = medians[ours] / value if more_is_better else value / medians[ours]
    print(f"\n{benchmark}, {unit}")
    width = max(map(len, medians))
    for name, values in results.items():
        ratio = ratios.get(f"{ours}/{name}")
        times = f"   {ours} is {ratio:5.2f} times as good" if ratio is not None else ""
        print(f"  {name:{width}}  {_short(medians[name]):>9}  ({_short(min(values))} to {_short(max(values))}){times}")
    line: dict[str, Any] = {
        "benchmark": benchmark,
        "unit": unit,
        "contenders": {name: rounded(value) for name, value in medians.items()},
        "spread": {name: [rounded(min(values)), rounded(max(values))] for name, values in results.items()},
        "ratios": {name: rounded(value) for name, value in ratios.items()},
        "floor_share": floor_share,
        **more,
    }
    print(json.dumps(line), flush=True)


def rounded(value: float) -> float:
    """To four digits, which is more than such a measurement has."""
    return float(f"{value:.4g}")


def _short(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"
