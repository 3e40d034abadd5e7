"""Tells which symbols of a split the vocabulary lacks."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from tokenizers import models

from ..model.tokenization_rnn_s2s import RnnS2SWordTokenizer

logger = logging.getLogger(__name__)

SHOWN = 10  # of the symbols, in the warning


def warn_of_unknown_symbols(
    split: str, examples: Dataset, encoded: Dataset, tokenizer: Any, sides: Sequence[str] = ("source", "target")
) -> None:
    """Warn if a split has symbols that are unknown to a tokenizer of whole symbols; the warning names and counts them.

    Args:
        split: its name.
        examples: its texts, `source` and `target`, in the rows of `encoded`.
        encoded: their ids, `input_ids` and `labels`.
        tokenizer: of both sides. Tokenizers of subwords know everything, and unknown words that can be copied are no
            surprise.
        sides: those to look at.
    """
    if isinstance(tokenizer, RnnS2SWordTokenizer):
        return
    target = getattr(tokenizer, "target_tokenizer", tokenizer)
    columns = {"source": ("input_ids", tokenizer), "target": ("labels", target)}
    for side in sides:
        column, of_side = columns[side]
        found = _unknown(examples[side], encoded[column], of_side)
        if found:
            named = ", ".join(f"{symbol!r} ({count})" for symbol, count in found.most_common(SHOWN))
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            logger.warning(
                "%s split: %d symbols of the %s texts, in %d places, are not in the vocabulary, and unknown to the "
                "model: %s%s.",
                split,
                len(found),
                side,
                found.total(),
                named,
                more,
            )


def _unknown(texts: Any, ids: Any, tokenizer: Any) -> Counter[str]:
    backend, unknown = getattr(tokenizer, "backend_tokenizer", None), tokenizer.unk_token_id
    found: Counter[str] = Counter()
    if backend is None or unknown is None or not isinstance(backend.model, models.WordLevel):
        return found
    for text, row in zip(texts, ids, strict=True):
        if unknown in row:
            text = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
            encoding = backend.encode(text, add_special_tokens=False)
            places = zip(encoding.ids, encoding.offsets, strict=True)
            found.update(text[start:stop] for one, (start, stop) in places if one == unknown)
    return found
