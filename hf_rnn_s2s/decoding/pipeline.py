"""The translation pipeline of the package: batches of like length, a view in evaluation mode, and more checks."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..model import pipeline_rnn_s2s
from ..model.configuration_rnn_s2s import RnnS2SConfig
from ..model.head_rnn_s2s import IGNORED_LABEL
from ..model.remote_code_rnn_s2s import model_to_share
from ..model.tokenization_rnn_s2s import RnnS2SWordTokenizer
from .batching import Stream, batches_in_order, batches_of_like_length, collate
from .bayes_risk import least_risk
from .divided_options import check_forced
from .evaluation import EvaluationView
from .fast_search import load_options
from .limits import require_whole_numbers
from .numbers import require_usable_weights
from .out_of_memory import naming_the_batch
from .phrase_texts import TokenTexts, encoded_phrases, read_texts
from .phrases import PhrasesOfRows, require_agreement
from .scoring import Scores, score_targets
from .sharing import add_card, add_shortlist
from .text import encode, list_or_iterator, require_text

DEFAULT_BATCH_SIZE = 32
DEFAULT_BATCH_TOKENS = 4096
# Arguments of generate() that are functions of the caller's, which may depend on the position of a text in its batch.
MAY_COUNT_ROWS = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")
# Arguments that are texts, of which tokens are made
PHRASES = ("force_phrases", "forbid_phrases")


class RnnTranslationPipeline(pipeline_rnn_s2s.RnnTranslationPipeline):
    """Translates text with an encoder-decoder: `pipeline("translation", model=...)`.

    It takes what the translation pipeline of transformers 4 took and returns what it returned. Generation follows the
    `generation_config` of the model; every argument of `generate()` can be given when the pipeline is built or called.
    The model may be in any mode, and change it at any time: the pipeline runs other modules with the same weights, in
    evaluation mode. Hooks are called with these modules, and what a forward pass sets on its module is set on one of
    them.

    Example:
        ```python
        >>> translator = pipeline("translation", model="path/or/name", batch_size=16)
        >>> translator("How are you?", num_beams=5)
        [{'translation_text': 'Wie geht es dir?'}]
        ```

    Raises:
        ValueError: if the model is no encoder-decoder that generates text, there is no tokenizer, or the tokenizer
            wants to be told a language with each text, which this pipeline does not do.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        require_whole_numbers(kwargs, "batch_size")
        super().__init__(*args, **kwargs)
        _require_translation_model(self.model, self.tokenizer)
        self._in_evaluation_mode = EvaluationView()
        self._token_texts: TokenTexts | None = None

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Translate one text or many, as the base class does, with more arguments and more checks.

        Args:
            inputs: a text, a list or another sequence of texts, or an iterator, generator, or dataset of texts
                (`KeyDataset(dataset, "column")`).
            args: as in `Pipeline`.
            kwargs: those below; anything else that the base class takes, and `generate()`.
            batch_size: the most texts that go through the model together, by default 32, and 1 for an iterator; the
                translations do not depend on it, except with a shortlist or in int8. The texts of a batch are of like
                length. Beside tensors for `generate()`, which have a row for each text of a batch, the default is 1;
                beside these, and functions that `generate()` calls, texts stay in order, in batches of this size.
            batch_tokens: the most source tokens that go through the model together, padding included, by default 4096.
                Half of it may be padding, so that a long text costs the others neither time nor memory. A text of
                more tokens is alone.
            return_scores: whether to give `translation_score`, the natural logarithm of the translation's probability,
                which is found by reading it once more.
            replace_unknown: whether to write, in place of an unknown token, the word of the source that the attention
                looked at most when it was written (Luong et al. 2015b); for models with a vocabulary of words.
            minimum_bayes_risk: whether to return, of the `num_return_sequences`, only the one with the highest mean
                chrF against the others (Kumar & Byrne 2004); with beams, or with `do_sample=True`.
            force_phrases: texts that a translation must contain, as whole words, with `num_beams` above the number of
                their tokens: a list of texts for all inputs, or, for a list of inputs, one list for each.
            forbid_phrases: texts that no translation may contain, in the same form. A word that begins with the same
                tokens is forbidden, too.
            shortlist: which target tokens to look at: a `Shortlist`, a folder or a name on the Hub that has one, or
                True for the one beside the model. It may change a translation.

        Raises:
            TypeError: for an input that is not text.
            ValueError: for text that is not valid Unicode; a batch size, a number of beams or sequences, or a length
                that is no whole number, or beyond all reason; if nothing is to be returned; if attention is asked of a
                model that has none; for a model whose weights are no numbers; for phrases that the tokenizer cannot
                write, or that do not fit in a translation.
        """
        inputs = list_or_iterator(inputs)
        for position, text in enumerate(inputs if isinstance(inputs, list) else []):
            require_text(text, f"input {position}")
        require_whole_numbers(kwargs, "batch_size")
        if isinstance(inputs, list):
            is_told = kwargs.get("batch_size") is not None or self._batch_size is not None
            has_tensors = _any_tensor({**self._forward_params, **kwargs})
            if not is_told and not has_tensors and self.tokenizer.pad_token_id is not None:
                kwargs["batch_size"] = DEFAULT_BATCH_SIZE
        return super().__call__(inputs, *args, **kwargs)

    def save_pretrained(
        self, save_directory: str | os.PathLike, carry_code: bool | None = None, **kwargs: Any
    ) -> None:
        """Save as the base class does, with the shortlist.

        That is the one that was given when the pipeline was built, else the one in the folder that the model was
        loaded from.

        Args:
            save_directory: the folder.
            carry_code: whether the code is saved; see the base class.
            kwargs: everything else that the base class takes.
        """
        super().save_pretrained(save_directory, carry_code, **kwargs)
        if self._forward_params.get("shortlist") is not None:
            self._forward_params["shortlist"].save_pretrained(save_directory)
        elif self.model.name_or_path:  # empty for a model that was not loaded; Path("") would be the current folder
            add_shortlist(Path(self.model.name_or_path), Path(save_directory))

    def push_to_hub(self, repo_id: str, *, carry_code: bool | None = None, **kwargs: Any) -> str:
        """Upload what `save_pretrained` saves, as every `push_to_hub` of transformers does.

        If the model was loaded from a folder with a card (`README.md`), that card goes up with the pictures it shows.
        The card on the Hub is tagged with the task.

        Args:
            repo_id: the repository, such as `"your-name/your-model"`.
            carry_code: as in `save_pretrained`.
            kwargs: everything else that `push_to_hub` of transformers takes.
        """
        shared = copy.copy(self)
        shared.model = model_to_share(self.model, carry_code)
        tags = kwargs.pop("tags", None) or []
        tags = [*([tags] if isinstance(tags, str) else tags), self.task]
        return super(RnnTranslationPipeline, shared).push_to_hub(repo_id, tags=list(dict.fromkeys(tags)), **kwargs)

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        # By now the folder has all that will be uploaded, with the card of the repository or an empty draft.
        if self.model.name_or_path and os.path.isdir(self.model.name_or_path):
            add_card(Path(self.model.name_or_path), Path(working_dir))
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _sanitize_parameters(  # type: ignore[override]
        self,
        batch_tokens: int | None = None,
        return_scores: bool | None = None,
        replace_unknown: bool | None = None,
        minimum_bayes_risk: bool | None = None,
        force_phrases: Any = None,
        forbid_phrases: Any = None,
        **parameters: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        require_whole_numbers({"batch_tokens": batch_tokens, **parameters})
        preprocess, forward, postprocess = super()._sanitize_parameters(**parameters)
        if return_scores is not None:
            forward["return_scores"] = return_scores
        if replace_unknown is not None:
            self._require_unknown_words(replace_unknown)
            postprocess["replace_unknown"] = replace_unknown
            forward["return_attentions"] = forward.get("return_attentions") or replace_unknown
        if minimum_bayes_risk is not None:
            postprocess["minimum_bayes_risk"] = minimum_bayes_risk
            forward["minimum_bayes_risk"] = minimum_bayes_risk
        for name, given in zip(PHRASES, (force_phrases, forbid_phrases), strict=True):
            if given is not None:
                forward[name] = read_texts(name, given)
        if batch_tokens is not None:
            preprocess["batch_tokens"] = batch_tokens
        if isinstance(self.model.config, RnnS2SConfig):  # the model itself may be wrapped, by PEFT for example
            forward = load_options(self.model, forward)
        return preprocess, forward, postprocess

    def get_iterator(
        self,
        inputs: Any,
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterable[Any]:
        """As in `Pipeline`; but texts are encoded together, and those of like length share a batch."""
        forward_params = self._with_phrases(forward_params, len(inputs) if isinstance(inputs, list) else None)
        translate = functools.partial(
            self._translate, batch_size, preprocess_params, forward_params, postprocess_params
        )
        return translate(inputs, 0) if isinstance(inputs, list) else Stream(inputs, translate, batch_size, num_workers)

    def run_single(
        self, inputs: Any, preprocess_params: dict[str, Any], forward_params: dict[str, Any], postprocess_params: Any
    ) -> Any:
        """As in `Pipeline`."""
        forward_params = _of_rows(self._with_phrases(forward_params, 1), [0])
        return super().run_single(inputs, preprocess_params, forward_params, postprocess_params)

    def _with_phrases(self, forward_params: dict[str, Any], inputs: int | None) -> dict[str, Any]:
        """The arguments with phrases of tokens in place of texts, checked before any text is translated.

        Args:
            forward_params: the arguments.
            inputs: the number of texts to translate; None where nobody knows it yet.
        """
        given = {name: forward_params[name] for name in PHRASES if name in forward_params}
        if not given:
            return forward_params
        tokenizer = self._target_tokenizer
        if not isinstance(self.model.config, RnnS2SConfig) or not hasattr(tokenizer, "backend_tokenizer"):
            raise ValueError(f"{next(iter(given))} needs a model of this package and a fast tokenizer.")
        if self._token_texts is None or not self._token_texts.are_of(tokenizer):
            self._token_texts = TokenTexts(tokenizer)
        phrases = {name: encoded_phrases(self._token_texts, texts) for name, texts in given.items()}
        for one in phrases.values():
            if inputs is None and not one.is_shared:
                raise ValueError(f"{one.name} with a list for each input needs a list of inputs. Pass list(inputs).")
            one.require_rows(1 if inputs is None else inputs)
        if "force_phrases" in phrases:
            settings = self._settings(forward_params)
            if all(settings.get(name) is None for name in pipeline_rnn_s2s.LENGTH_LIMITS):
                settings["max_new_tokens"] = pipeline_rnn_s2s.DEFAULT_MAX_NEW_TOKENS
            check_forced(phrases["force_phrases"], settings.get)
        if len(phrases) == len(PHRASES):
            require_agreement(phrases["force_phrases"], phrases["forbid_phrases"])
        return {**forward_params, **phrases}

    def _translate(
        self,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
        texts: list[str],
        first: int,
    ) -> list[Any]:
        """Translate some texts into records; `first` is the number of the first one among all inputs."""
        for number, text in enumerate(texts, start=first):
            require_text(text, f"input {number}")
        texts, ids = self._encode(texts, first, **preprocess_params)
        if _may_count_rows(forward_params):
            batches = batches_in_order(len(texts), batch_size)
        else:
            tokens = preprocess_params.get("batch_tokens", DEFAULT_BATCH_TOKENS)
            batches = batches_of_like_length([len(row) for row in ids], batch_size, tokens)
        records: list[Any] = [None] * len(texts)
        for rows in batches:
            model_inputs = self._collate([ids[row] for row in rows], [texts[row] for row in rows])
            model_outputs = self.forward(model_inputs, **_of_rows(forward_params, rows))
            for number, row in enumerate(rows):
                of_row = {name: value[number : number + 1] for name, value in model_outputs.items()}
                records[row] = self.postprocess(of_row, **postprocess_params)
        return records

    def preprocess(  # type: ignore[override]
        self, input_: Any, **preprocess_params: Any
    ) -> dict[str, Any]:
        """Turn one text into `input_ids` and `attention_mask` `(1, source)`, and `is_blank` `(1,)`."""
        require_text(input_, "the input")
        texts, ids = self._encode([input_], None, **preprocess_params)
        return self._collate(ids, texts)

    def _encode(
        self,
        texts: list[str],
        first: int | None,
        truncation: bool | str = True,
        squeeze_whitespace: bool = True,
        batch_tokens: int | None = None,
    ) -> tuple[list[str], list[list[int]]]:
        """The texts as they are read, and their token ids. `batch_tokens` is not used here."""
        if squeeze_whitespace:
            texts = [pipeline_rnn_s2s.squeezed(text) for text in texts]
        prefix = _task_prefix(self.model.config, self.task)
        return texts, encode(self.tokenizer, [prefix + text for text in texts], truncation, first)

    def _collate(self, ids: list[list[int]], texts: list[str]) -> dict[str, Any]:
        pad_id = self.tokenizer.pad_token_id or 0  # without an id for padding there is one row, which needs none
        is_blank = torch.tensor([not text.strip() for text in texts])
        side = self.tokenizer.padding_side
        inputs = {**collate(ids, pad_id, side), "is_blank": is_blank, "source": texts}
        if isinstance(self.tokenizer, RnnS2SWordTokenizer):
            copied = [self.tokenizer.aligned(text, row, text) for text, row in zip(texts, ids, strict=True)]
            inputs["copy_ids"] = collate(copied, pad_id, side)["input_ids"]
        return inputs

    def _forward(  # type: ignore[override]
        self,
        input_tensors: dict[str, Tensor],
        *args: Any,
        return_scores: bool = False,
        minimum_bayes_risk: bool = False,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        if minimum_bayes_risk and (self._settings(kwargs).get("num_return_sequences") or 1) < 2:
            raise ValueError("minimum_bayes_risk chooses among translations: set num_return_sequences above 1.")
        is_blank = input_tensors["is_blank"].tolist()
        for name in PHRASES:
            given = kwargs.get(name)
            if given and isinstance(given[0], list):  # one for each row, of which blank ones are left out
                kwargs[name] = [one for one, blank in zip(given, is_blank, strict=True) if not blank]
        outputs = super()._forward(input_tensors, *args, **kwargs)
        if return_scores:
            outputs["scores"] = self._scores(outputs)
        written = outputs["lengths"][~input_tensors["is_blank"]]
        if (written <= 2).any():  # the start token, and perhaps the end token
            require_usable_weights(self.model)
        return outputs

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: dict[str, Any],
        replace_unknown: bool = False,
        minimum_bayes_risk: bool = False,
        **parameters: Any,
    ) -> list[dict[str, Any]]:
        """As in the base class, with what the package adds."""
        records = super().postprocess(model_outputs, **parameters)
        for number, record in enumerate(records):
            if "scores" in model_outputs:
                record["translation_score"] = float(model_outputs["scores"][0, number])
            if replace_unknown and "translation_text" in record:
                record["translation_text"] = self._with_source_words(model_outputs, number)
        if not minimum_bayes_risk:
            return records
        texts = [self._text(ids, False, model_outputs) for ids in self._written(model_outputs)]
        return [records[least_risk(texts)]]

    def score(self, sources: list[str], targets: list[str], batch_size: int = DEFAULT_BATCH_SIZE) -> list[Any]:
        """How probable given translations are, without any search.

        Args:
            sources: texts.
            targets: a translation of each.
            batch_size: how many are read together; those of like length are.

        Returns:
            For each pair a dictionary: `score`, the natural logarithm of the translation's probability; `tokens`, what
            it is made of, the end token included; and `token_scores`, the logarithm of each one's probability.

        Raises:
            TypeError, ValueError: for texts as in a call; if there are not as many targets as sources.
        """
        if isinstance(sources, str) or isinstance(targets, str) or len(sources) != len(targets):
            raise ValueError("score takes a list of sources and a list of as many targets.")
        for position, text in enumerate([*sources, *targets]):
            require_text(text, f"text {position}")
        texts, ids = self._encode(list(sources), 0)
        written = [pipeline_rnn_s2s.squeezed(text) for text in targets]
        rows: list[list[int]] = self.tokenizer(texts, text_target=written)["labels"]
        records: list[Any] = [None] * len(rows)
        for batch in batches_of_like_length([len(row) for row in ids], batch_size, DEFAULT_BATCH_TOKENS):
            inputs = self._collate([ids[row] for row in batch], [texts[row] for row in batch])
            labels = collate([rows[row] for row in batch], IGNORED_LABEL, "right")["input_ids"]
            scores = self._score(inputs, labels)
            for row, tokens in zip(batch, scores.tokens.tolist(), strict=True):
                of_tokens = tokens[: len(rows[row])]
                names = self._target_tokenizer.convert_ids_to_tokens(rows[row])
                records[row] = {"score": sum(of_tokens), "tokens": names, "token_scores": of_tokens}
        return records

    def _score(self, inputs: dict[str, Any], labels: Tensor) -> Scores:
        """The scores of targets `(batch, target)`; `inputs` are those of the model for as many rows."""
        model = self._in_evaluation_mode.of(self.model)
        given = {name: inputs[name].to(self.device) for name in ("attention_mask", "copy_ids") if name in inputs}
        return score_targets(model, labels.to(self.device), input_ids=inputs["input_ids"].to(self.device), **given)

    def _scores(self, outputs: dict[str, Tensor]) -> Tensor:
        """The log-probabilities of all translations of a batch, `(batch, sequences)`, 0 for blank texts."""
        sequences, lengths = outputs["output_ids"], outputs["lengths"]
        count = sequences.shape[1]
        positions = torch.arange(1, sequences.shape[2], device=lengths.device)
        labels = sequences[:, :, 1:].masked_fill(positions >= lengths.unsqueeze(2), IGNORED_LABEL)
        if not labels.shape[2]:
            return torch.zeros_like(lengths, dtype=torch.float)
        names = [name for name in ("input_ids", "attention_mask", "copy_ids") if name in outputs]
        inputs: dict[str, Any] = {name: outputs[name].repeat_interleave(count, dim=0) for name in names}
        return self._score(inputs, labels.flatten(0, 1)).totals.view(-1, count).cpu()

    def _written(self, model_outputs: dict[str, Any]) -> list[Tensor]:
        """The ids of all translations of a text, without padding."""
        lengths = model_outputs["lengths"][0].tolist()
        return [ids[:length] for ids, length in zip(model_outputs["output_ids"][0], lengths, strict=True)]

    def _with_source_words(self, model_outputs: dict[str, Any], number: int) -> str:
        """A translation with words of the source in place of unknown tokens."""
        ids = self._written(model_outputs)[number]
        attention = model_outputs["attention"][0, number]
        prompt = model_outputs["output_ids"].shape[2] - len(attention)
        text = model_outputs["source"][0]
        is_source = model_outputs["attention_mask"][0].bool()
        offsets = self.tokenizer([text], return_offsets_mapping=True)["offset_mapping"][0][: int(is_source.sum())]
        parts, begin = [], 0
        for place, one in enumerate(ids.tolist()):
            if place < prompt or one != self._target_tokenizer.unk_token_id:
                continue
            weights = attention[place - prompt, is_source].tolist()
            best = max((weight, -at) for at, weight in enumerate(weights) if offsets[at][0] < offsets[at][1])
            first, last = offsets[-best[1]]
            parts += [self._text(ids[begin:place], False, model_outputs), text[first:last]]
            begin = place + 1
        parts.append(self._text(ids[begin:], False, model_outputs))
        return " ".join(part for part in parts if part)

    def _require_unknown_words(self, asked: bool) -> None:
        if asked and getattr(self.model.config, "attention_type", None) == "none":
            raise ValueError("replace_unknown=True goes by the attention, but attention_type='none'.")
        if asked and self._target_tokenizer.unk_token_id is None:
            raise ValueError("replace_unknown=True, but the tokenizer has no unknown token.")

    def _settings(self, given: dict[str, Any]) -> dict[str, Any]:
        settings = super()._settings(given)
        require_whole_numbers(settings)
        return settings

    def _generate(self, settings: dict[str, Any], **arguments: Any) -> Any:
        """Call `generate()` of the model, in evaluation mode."""
        rows, longest = arguments["input_ids"].shape
        batch = f"a batch of {rows} texts of up to {longest} tokens, with {settings.get('num_beams') or 1} beams each"
        with naming_the_batch(batch, "lower batch_size, batch_tokens or num_beams, or split long texts"):
            try:
                return self._in_evaluation_mode.of(self.model).generate(**arguments)
            except RuntimeError as error:
                if "probability tensor" in str(error):  # from sampling
                    require_usable_weights(self.model)
                raise


def _of_rows(forward_params: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    """The arguments for some of the texts: of phrases, the lists of these."""
    return {
        name: value.select(rows) if isinstance(value, PhrasesOfRows) else value
        for name, value in forward_params.items()
    }


def _task_prefix(config: Any, task: str) -> str:
    """The text that some models, such as T5, expect before every input."""
    task_settings = (getattr(config, "task_specific_params", None) or {}).get(task, {})
    return task_settings.get("prefix") or getattr(config, "prefix", None) or ""


def _require_translation_model(model: PreTrainedModel, tokenizer: Any) -> None:
    if not (model.can_generate() and model.config.is_encoder_decoder):
        raise ValueError(
            f"The translation pipeline needs an encoder-decoder that generates text; {type(model).__name__} is none. "
            "Load the model with AutoModelForSeq2SeqLM."
        )
    if hasattr(tokenizer, "_build_translation_inputs"):
        raise ValueError(
            f"{type(tokenizer).__name__} belongs to a model of many languages, which has to be told the source and "
            "the target language. This pipeline translates with models of one language pair; for this model, set "
            "the languages on the tokenizer and call model.generate()."
        )


def _any_tensor(arguments: Mapping[str, Any]) -> bool:
    """Whether there is a tensor among the arguments of `generate()`, such as a prompt for the decoder."""
    return any(isinstance(value, Tensor) for value in arguments.values())


def _may_count_rows(arguments: Mapping[str, Any]) -> bool:
    """Whether an argument of `generate()` may depend on the position of a text in its batch."""
    return any(arguments.get(name) is not None for name in MAY_COUNT_ROWS) or _any_tensor(arguments)
