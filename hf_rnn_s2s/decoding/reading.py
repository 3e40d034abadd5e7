"""What the pipeline does without any search: texts become token ids, and given translations are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..model import pipeline_rnn_s2s
from ..model.head_rnn_s2s import IGNORED_LABEL
from ..model.tokenization_rnn_s2s import RnnS2SWordTokenizer
from .attentions import mean_of_heads, read_cross_attentions, without_padding
from .batching import batches_of_like_length, collate
from .evaluation import EvaluationView
from .limits import require_whole_numbers
from .scoring import Scores, score_targets
from .text import cut_to_limit, describe_cuts, encode_whole, log_warnings, require_text, truncates

DEFAULT_BATCH_SIZE = 32
DEFAULT_BATCH_TOKENS = 4096


class Encoded(NamedTuple):
    """Texts as they are read, their token ids, and what is to be said of each."""

    texts: list[str]
    ids: list[list[int]]
    warnings: list[list[str]]

    def only(self, rows: Iterable[int]) -> Encoded:
        """Some of the texts."""
        chosen = list(rows)
        return Encoded(
            [self.texts[row] for row in chosen],
            [self.ids[row] for row in chosen],
            [self.warnings[row] for row in chosen],
        )


class _Pairs(NamedTuple):
    """Given translations: the sources, and the token ids of the targets."""

    sources: Encoded
    labels: list[list[int]]


class ReadingPipeline(pipeline_rnn_s2s.RnnText2TextGenerationPipeline):
    """Reads texts, and scores given targets; see `RnnText2TextGenerationPipeline` in `pipeline.py`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        require_whole_numbers(kwargs, "batch_size")
        super().__init__(*args, **kwargs)
        _require_model_of_texts(self.model, self.tokenizer, self.task)
        self._in_evaluation_mode = EvaluationView()

    def preprocess(  # type: ignore[override]
        self, input_: Any, **preprocess_params: Any
    ) -> dict[str, Any]:
        """Turn one text into `input_ids` and `attention_mask` `(1, source)`, and `is_blank` `(1,)`."""
        require_text(input_, "the input")
        encoded = self._encode([input_], None, **preprocess_params)
        return self._collate(encoded, [0])

    def _encode(
        self,
        texts: list[str],
        first: int | None,
        truncation: bool | str = True,
        squeeze_whitespace: bool = True,
        batch_tokens: int | None = None,
        return_warnings: bool = False,
        split_sentences: bool | str = False,
        processes: int | None = None,
    ) -> Encoded:
        """The texts as they are read, and their token ids. Some of the arguments are for others."""
        if squeeze_whitespace:
            texts = [pipeline_rnn_s2s.squeezed(text) for text in texts]
        prefix = _task_prefix(self.model.config, self.task)
        prefixed = [prefix + text for text in texts]
        ids = encode_whole(self.tokenizer, prefixed)
        warnings: list[list[str]] = [[] for _ in texts]
        if truncates(truncation):
            warnings = describe_cuts(self.tokenizer, texts, ids)
            ids = cut_to_limit(self.tokenizer, prefixed, ids)
        if not return_warnings:
            log_warnings(warnings, first)
        return Encoded(texts, ids, warnings)

    def _collate(self, encoded: Encoded, rows: list[int]) -> dict[str, Any]:
        """The inputs of the model for some of the texts."""
        ids, texts = [encoded.ids[row] for row in rows], [encoded.texts[row] for row in rows]
        pad_id = self.tokenizer.pad_token_id or 0  # without an id for padding there is one row, which needs none
        is_blank = torch.tensor([not text.strip() for text in texts])
        side = self.tokenizer.padding_side
        inputs = {**collate(ids, pad_id, side), "is_blank": is_blank, "source": texts}
        inputs["warnings"] = [encoded.warnings[row] for row in rows]
        if isinstance(self.tokenizer, RnnS2SWordTokenizer):
            copied = [self.tokenizer.aligned(text, row, text) for text, row in zip(texts, ids, strict=True)]
            inputs["copy_ids"] = collate(copied, pad_id, side)["input_ids"]
        return inputs

    def score(
        self,
        sources: list[str],
        targets: list[str],
        batch_size: int = DEFAULT_BATCH_SIZE,
        return_warnings: bool = False,
    ) -> list[Any]:
        """How probable given translations are, without any search.

        Args:
            sources: texts.
            targets: a translation of each.
            batch_size: how many are read together; those of like length are.
            return_warnings: as in a call.

        Returns:
            For each pair a dictionary: `score`, the natural logarithm of the translation's probability; `tokens`, what
            it is made of, the end token included; and `token_scores`, the logarithm of each one's probability.

        Raises:
            TypeError, ValueError: for texts as in a call; if there are not as many targets as sources.
        """
        pairs = self._pairs("score", sources, targets, return_warnings=return_warnings)
        records: list[Any] = [None] * len(pairs.labels)
        for batch, inputs, labels in self._batches_of_pairs(pairs, batch_size):
            scores = self._score(inputs, labels)
            for row, tokens in zip(batch, scores.tokens.tolist(), strict=True):
                of_tokens = tokens[: len(pairs.labels[row])]
                names = self._target_tokenizer.convert_ids_to_tokens(pairs.labels[row])
                records[row] = {"score": sum(of_tokens), "tokens": names, "token_scores": of_tokens}
                if return_warnings:
                    records[row]["warnings"] = pairs.sources.warnings[row]
        return records

    def attention(self, sources: list[str], targets: list[str], batch_size: int = DEFAULT_BATCH_SIZE) -> list[Any]:
        """Where the model looks while it writes given translations, by layer and head, without any search.

        Args:
            sources: texts.
            targets: a translation of each.
            batch_size: how many are read together; those of like length are.

        Returns:
            For each pair a dictionary with what `return_attentions="heads"` adds to a translation: `source_tokens`,
            `target_tokens`, `attention` `(target, source)`, and `cross_attentions`, `(heads, target, source)` for each
            layer that attends to the source. Row `t` is where the model looks when it writes target token `t`.

        Raises:
            TypeError, ValueError: for texts as in a call; if there are not as many targets as sources; for a model
                without attention, or one that does not return it.
        """
        pairs = self._pairs("attention", sources, targets)
        model = self._in_evaluation_mode.of(self.model)
        records: list[Any] = [None] * len(pairs.labels)
        for batch, inputs, labels in self._batches_of_pairs(pairs, batch_size):
            decoder_input_ids = model.prepare_decoder_input_ids_from_labels(labels.to(self.device))
            layers = read_cross_attentions(model, decoder_input_ids, **self._sources(inputs))
            for place, row in enumerate(batch):
                is_source = inputs["attention_mask"][place].bool().to(self.device)
                weights = without_padding(layers, place, len(pairs.labels[row]), is_source)
                weights = tuple(one.cpu() for one in weights)
                records[row] = {
                    "source_tokens": self.tokenizer.convert_ids_to_tokens(pairs.sources.ids[row]),
                    "target_tokens": self._target_tokenizer.convert_ids_to_tokens(pairs.labels[row]),
                    "attention": mean_of_heads(weights),
                    "cross_attentions": weights,
                }
        return records

    def _pairs(self, caller: str, sources: list[str], targets: list[str], **preprocess_params: Any) -> _Pairs:
        """Given translations as token ids; `caller` is the name of the method that they were given to."""
        if isinstance(sources, str) or isinstance(targets, str) or len(sources) != len(targets):
            raise ValueError(f"{caller} takes a list of sources and a list of as many targets.")
        for position, text in enumerate([*sources, *targets]):
            require_text(text, f"text {position}")
        if not sources:  # which tokenizers do not take
            return _Pairs(Encoded([], [], []), [])
        encoded = self._encode(list(sources), 0, **preprocess_params)
        written = [pipeline_rnn_s2s.squeezed(text) for text in targets]
        return _Pairs(encoded, self.tokenizer(encoded.texts, text_target=written, verbose=False)["labels"])

    def _batches_of_pairs(self, pairs: _Pairs, batch_size: int) -> Iterator[tuple[list[int], dict[str, Any], Tensor]]:
        """Batches of pairs of like length: their numbers, the model's inputs, and labels `(rows, target)`."""
        lengths = [len(row) for row in pairs.sources.ids]
        for rows in batches_of_like_length(lengths, batch_size, DEFAULT_BATCH_TOKENS):
            inputs = self._collate(pairs.sources, rows)
            yield rows, inputs, collate([pairs.labels[row] for row in rows], IGNORED_LABEL, "right")["input_ids"]

    def _sources(self, inputs: dict[str, Any], count: int = 1) -> dict[str, Any]:
        """What the model reads of the sources, on its device, each row `count` times in succession."""
        names = [name for name in ("input_ids", "attention_mask", "copy_ids") if name in inputs]
        return {name: inputs[name].to(self.device).repeat_interleave(count, dim=0) for name in names}

    def _heads(self, outputs: dict[str, Any]) -> list[tuple[Tensor, ...]]:
        """For each text the weights `(sequences, heads, target, source)` of each layer, without the prompt's rows."""
        sequences, targets = outputs["output_ids"].to(self.device), outputs["attention"].shape[2]
        read = sequences[:, :, : max(1, sequences.shape[2] - 1)].flatten(0, 1)
        sources = self._sources(outputs, sequences.shape[1])
        layers = read_cross_attentions(self._in_evaluation_mode.of(self.model), read, **sources)
        of_texts = [weights[:, :, read.shape[1] - targets :].unflatten(0, sequences.shape[:2]) for weights in layers]
        return list(zip(*of_texts, strict=True))

    def _score(self, inputs: dict[str, Any], labels: Tensor) -> Scores:
        """The scores of targets `(batch, target)`; `inputs` are those of the model for as many rows."""
        model = self._in_evaluation_mode.of(self.model)
        return score_targets(model, labels.to(self.device), **self._sources(inputs))

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        """The log-probabilities of all translations of a batch, `(batch, sequences)`, 0 for blank texts."""
        sequences, lengths = outputs["output_ids"], outputs["lengths"]
        count = sequences.shape[1]
        positions = torch.arange(1, sequences.shape[2], device=lengths.device)
        labels = sequences[:, :, 1:].masked_fill(positions >= lengths.unsqueeze(2), IGNORED_LABEL)
        if not labels.shape[2]:
            return torch.zeros_like(lengths, dtype=torch.float)
        return self._score(self._sources(outputs, count), labels.flatten(0, 1)).totals.view(-1, count).cpu()


def _task_prefix(config: Any, task: str) -> str:
    """The text that some models, such as T5, expect before every input."""
    task_settings = (getattr(config, "task_specific_params", None) or {}).get(task, {})
    return task_settings.get("prefix") or getattr(config, "prefix", None) or ""


def _require_model_of_texts(model: PreTrainedModel, tokenizer: Any, task: str) -> None:
    if not (model.can_generate() and model.config.is_encoder_decoder):
        raise ValueError(
            f"The {task} pipeline needs an encoder-decoder that generates text; {type(model).__name__} is none. "
            "Load the model with AutoModelForSeq2SeqLM."
        )
    if hasattr(tokenizer, "_build_translation_inputs"):
        raise ValueError(
            f"{type(tokenizer).__name__} belongs to a model of many languages, which has to be told the source and "
            "the target language. This pipeline is for models of one language pair; for this model, set "
            "the languages on the tokenizer and call model.generate()."
        )
