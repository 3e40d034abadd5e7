"""What a page asks of a model, and what it gets: an n-best list, and the attention of the first text in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..decoding.text import encode
from ..errors import UsageError
from ..model.pipeline_rnn_s2s import squeezed
from .models import PageModel
from .n_best import Candidate

MOST_CHARACTERS = 20_000  # of a text; more than any sentence has, and quick to refuse


class Alignment(NamedTuple):
    """The attention of one text.

    Attributes:
        source_tokens: without padding.
        target_tokens: as well.
        views: by name, weights `(target, source)`: the mean first, then each head where there are several.
    """

    source_tokens: list[str]
    target_tokens: list[str]
    views: dict[str, Tensor]


class Written(NamedTuple):
    """What a model wrote.

    Attributes:
        candidates: the likeliest first; none for a blank text.
        alignment: of the first one; None for a blank text, and for a model without attention.
        note: what the reader should know of it, one sentence; often nothing.
    """

    candidates: list[Candidate]
    alignment: Alignment | None
    note: str


def write(model: PageModel, text: str, num_beams: int, length_penalty: float) -> Written:
    """Write from a text, with as many candidates as beams.

    Args:
        model: one that reads text.
        text: of any length up to `MOST_CHARACTERS`.
        num_beams: of the search; 1 means a greedy one.
        length_penalty: as in `generate()`; without effect on a greedy search.

    Raises:
        UsageError: for a text that is too long.
        ValueError: for what the pipeline refuses.
    """
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"The text has {len(text):,} characters, and this page takes at most {MOST_CHARACTERS:,}. Split it: the "
            "model was trained on texts of the length of its examples."
        )
    if not text.strip():
        return Written([], None, "")
    asked: dict[str, Any] = {"num_return_sequences": num_beams, **search(num_beams, length_penalty)}
    if model.has_attention:
        asked["return_attentions"] = "heads"
    records = model.pipeline(text, return_scores=True, **asked)
    name = model.pipeline.return_name
    candidates = [Candidate(record[f"{name}_text"], record[f"{name}_score"]) for record in records]
    alignment = _alignment(records[0]) if model.has_attention else None
    return Written(candidates, alignment, _cut(model, text))


def transcribe(model: PageModel, recording: str, num_beams: int, length_penalty: float) -> str:
    """The text of a recording.

    Args:
        model: one that listens.
        recording: the path of its file.
        num_beams: as in `write`.
        length_penalty: as in `write`.

    Raises:
        ValueError: for a file that cannot be read.
    """
    text: str = model.pipeline(recording, **search(num_beams, length_penalty))["text"]
    return text


def search(num_beams: int, length_penalty: float) -> dict[str, Any]:
    """The arguments of a search. A greedy one is not told a length penalty, about which `generate()` would warn."""
    return {"num_beams": num_beams, **({"length_penalty": length_penalty} if num_beams > 1 else {})}


def _alignment(record: Mapping[str, Any]) -> Alignment | None:
    layers = record["cross_attentions"]
    heads = {
        f"layer {layer}, head {head}": weights
        for layer, of_layer in enumerate(layers, start=1)
        for head, weights in enumerate(of_layer, start=1)
    }
    mean = {f"mean of the heads{' of the last layer' if len(layers) > 1 else ''}": record["attention"]}
    views = {**mean, **heads} if len(heads) > 1 else mean
    return Alignment(record["source_tokens"], record["target_tokens"], views) if record["target_tokens"] else None


def _cut(model: PageModel, text: str) -> str:
    """What to say of a text of which the model read a part only."""
    tokenizer = model.pipeline.tokenizer
    [ids] = encode(tokenizer, [squeezed(text)], truncation=False)
    limit = tokenizer.model_max_length
    if len(ids) <= limit:
        return ""
    return f"The text has {len(ids):,} pieces, and the model read {limit:,} of them, the most that it was trained on."
