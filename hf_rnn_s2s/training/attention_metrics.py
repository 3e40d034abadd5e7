"""What an evaluation says of attention: how spread out it is, and how well it aligns the words of a test split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..data.arguments import DataArguments, DataError
from ..decoding.attentions import mean_of_heads, read_cross_attentions
from ..decoding.batching import batches_of_like_length, collate
from ..decoding.evaluation import EvaluationView
from ..errors import UsageError
from ..model.head_rnn_s2s import IGNORED_LABEL
from ..model.pipeline_rnn_s2s import squeezed
from .alignment import (
    GoldAlignment,
    alignment_error_rate,
    alignments_from_attention,
    read_alignments,
    word_attention,
    words_of,
    words_of_tokens,
)

BATCH_SIZE, BATCH_TOKENS = 128, 8192  # at most, of what is read to find alignments


def attention_entropy(weights: Tensor) -> Tensor:
    """The entropy in nats, `(...)`, of attention weights `(..., source)`. Those that do not sum to 1 are made to.

    It is 0 where one source token has all the weight, and at most the logarithm of the number of source tokens.
    Padding, whose weight is 0, makes no difference.
    """
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
    shares = weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return torch.special.entr(shares).sum(-1)


class EntropyMeter:
    """Measures the entropy of attention while an evaluation computes its loss, at no cost but the measuring.

    Args:
        gather: collects the rows of all processes, each once.
    """

    def __init__(self, gather: Callable[[Tensor], Tensor]) -> None:
        self._gather = gather
        self._rows: list[Tensor] = []

    def watching(self, model: Any) -> Callable[..., Any]:
        """A function that calls the model as an evaluation does, with `labels`, and notes its attention."""

        def call(**inputs: Any) -> Any:
            outputs = model(**{**inputs, "return_dict": True}, output_attentions=True)
            self._rows.append(self._gather(_entropy_of_rows(outputs.cross_attentions, inputs)))
            return outputs

        return call

    def metrics(self) -> dict[str, float]:
        """Means over all target tokens: `attention_entropy` in nats, and its share of the largest possible entropy.

        The mean over heads and layers is that of their entropies. `attention_entropy_share` lies between 0 and 1: the
        largest entropy is the logarithm of the number of source tokens. There are none if nothing was measured.
        """
        if not self._rows:
            return {}
        entropy, largest, tokens = torch.cat([rows.cpu() for rows in self._rows]).double().sum(0).tolist()
        return {
            "attention_entropy": entropy / max(tokens, 1),
            "attention_entropy_share": entropy / largest if largest else 0.0,
        }


def _entropy_of_rows(layers: Sequence[Tensor], inputs: dict[str, Any]) -> Tensor:
    """Sums over each row's target tokens, `(batch, 3)`: of entropy, of the largest entropy possible, and of 1."""
    of_layers = [attention_entropy(weights).mean(1) for weights in layers]
    entropy = torch.stack(of_layers).mean(0)  # (batch, target)
    is_target = inputs["labels"].ne(IGNORED_LABEL).to(entropy.dtype)
    mask, memory = inputs.get("attention_mask"), layers[0].shape[-1]
    if mask is None:
        lengths = entropy.new_full((len(entropy),), memory)
    elif mask.shape[1] != memory:  # the encoder has its own positions, of which those of padding have no weight
        lengths = (layers[0] > 0).flatten(1, 2).any(1).sum(1).to(entropy.dtype)
    else:
        lengths = mask.sum(1).to(entropy.dtype)
    tokens = is_target.sum(1)
    return torch.stack([(entropy * is_target).sum(1), lengths.clamp(min=1).log() * tokens, tokens], dim=1)


def gold_alignments(test: Dataset | None, arguments: DataArguments) -> list[GoldAlignment] | None:
    """The alignments of the test split in `alignment_file`; None if there is no such file.

    With `max_predict_samples` these are the first ones of the file.

    Raises:
        DataError: if there is no test split, it has another number of pairs, or a link leaves its sentences.
    """
    if arguments.alignment_file is None:
        return None
    path = arguments.alignment_file
    if test is None:
        raise DataError(f"alignment_file {path} is about a test split, and the data has none.")
    gold = read_alignments(Path(path), arguments.alignment_first_index)
    if arguments.max_predict_samples is not None:
        gold = gold[: arguments.max_predict_samples]
    if len(gold) != len(test):
        raise DataError(
            f"alignment_file {path} has {len(gold)} lines for the {len(test)} pairs of the test split: line n must "
            "align pair n."
        )
    for number, (row, alignment) in enumerate(zip(test, gold, strict=True), start=1):
        counts = [len(words_of(_as_read(row[side], arguments.squeeze_whitespace))) for side in ("source", "target")]
        for link in sorted(alignment.possible):
            if link[0] >= counts[0] or link[1] >= counts[1]:
                written = "-".join(str(word + arguments.alignment_first_index) for word in link)
                hint = " If its first word has the number 1, set alignment_first_index=1."
                raise DataError(
                    f"alignment_file {path}, line {number}: {written} leaves the sentences, which have {counts[0]} "
                    f"source and {counts[1]} target words.{'' if arguments.alignment_first_index else hint}"
                )
    return gold


def require_alignable(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, arguments: DataArguments) -> None:
    """Check, before the training, that a model can be asked for alignments if there is an `alignment_file`.

    Raises:
        UsageError: if it has no attention, or the tokenizer does not tell where its tokens stand.
    """
    if arguments.alignment_file is None:
        return
    if model.config.attention_type == "none":
        raise UsageError("alignment_file is compared with the attention, but the model has attention_type='none'.")
    if not getattr(model.get_encoder(), "keeps_length", True):
        raise UsageError("alignment_file is about source tokens, but the encoder has other positions than these.")
    if not tokenizer.is_fast:
        raise UsageError(
            f"alignment_file needs a fast tokenizer; {type(tokenizer).__name__} has no offsets of tokens."
        )


def score_alignments(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    test: Dataset,
    gold: Sequence[GoldAlignment],
    squeezes: bool = True,
) -> dict[str, float]:
    """How well the attention aligns references with their sources, found by reading the references: one pass.

    Each target word is linked with the source word that it looks at most, in the mean of the last layer's heads.

    Args:
        model: has attention.
        tokenizer: a fast one.
        test: has the columns `input_ids`, `labels`, perhaps `copy_ids`, and the texts `source` and `target`.
        gold: the right alignment of each row.
        squeezes: whether runs of white space became one space before the texts were tokenized.

    Returns:
        `aer`, `alignment_precision` and `alignment_recall`, from 0 to 1; see `AlignmentScores`.
    """
    view: Any = EvaluationView().of(model)
    sides = [_words_of_rows(tokenizer, test, "source", squeezes)]
    sides.append(_words_of_rows(getattr(tokenizer, "target_tokenizer", tokenizer), test, "target", squeezes))
    columns = {name: test[name][:] for name in ("input_ids", "labels", "copy_ids") if name in test.column_names}
    lengths = [max(map(len, row)) for row in zip(columns["input_ids"], columns["labels"], strict=True)]
    predicted: list[Any] = [None] * len(test)
    for rows in batches_of_like_length(lengths, BATCH_SIZE, BATCH_TOKENS):
        ids = {name: [column[row] for row in rows] for name, column in columns.items()}
        labels = collate(ids.pop("labels"), IGNORED_LABEL, "right")["input_ids"].to(model.device)
        filling = model.config.pad_token_id
        inputs = collate(ids["input_ids"], filling, "right")
        if "copy_ids" in ids:
            inputs["copy_ids"] = collate(ids["copy_ids"], filling, "right")["input_ids"]
        inputs = {name: one.to(model.device) for name, one in inputs.items()}
        layers = read_cross_attentions(view, view.prepare_decoder_input_ids_from_labels(labels), **inputs)
        for row, attention in zip(rows, mean_of_heads(layers).cpu(), strict=True):
            source_words, target_words = _cut(sides[0][row], columns["input_ids"][row]), sides[1][row]
            attention = attention[: len(target_words), : len(source_words)]
            predicted[row] = alignments_from_attention(word_attention(attention, source_words, target_words))
    scores = alignment_error_rate(predicted, gold)
    return {
        "aer": scores.error_rate,
        "alignment_precision": scores.precision,
        "alignment_recall": scores.recall,
    }


def _words_of_rows(tokenizer: Any, test: Dataset, side: str, squeezes: bool) -> list[list[int | None]]:
    """The number of the word of each token, for all texts of a side."""
    texts = [_as_read(text, squeezes) for text in test[side]]
    offsets = tokenizer(texts, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return [words_of_tokens(*row) for row in zip(texts, offsets, strict=True)]


def _as_read(text: str, squeezes: bool) -> str:
    return squeezed(text) if squeezes else text


def _cut(words: list[int | None], ids: list[int]) -> list[int | None]:
    """The words of a source that may have been cut, before its end token."""
    return words if len(words) == len(ids) else [*words[: len(ids) - 1], None]
