"""The pipelines of the package: batches of like length, a view in evaluation mode, and more checks."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from ..model import pipeline_rnn_s2s
from ..model.configuration_rnn_s2s import RnnS2SConfig
from ..model.remote_code_rnn_s2s import model_to_share
from .attentions import without_padding
from .batched_pipeline import BatchedPipeline, Call, any_tensor
from .batching import Stream
from .bayes_risk import least_risk
from .divided_options import check_forced
from .fast_search import load_options
from .limits import require_whole_numbers
from .numbers import require_usable_weights
from .out_of_memory import naming_the_batch
from .phrase_texts import TokenTexts, encoded_phrases, read_texts
from .phrases import PhrasesOfRows, require_agreement
from .reading import DEFAULT_BATCH_SIZE
from .sharing import add_card, add_shortlist
from .shortlist import shortlist_beside
from .text import list_or_iterator, require_text

# Arguments that are texts, of which tokens are made
PHRASES = ("force_phrases", "forbid_phrases")


class RnnText2TextGenerationPipeline(BatchedPipeline):
    """Writes a text for each text with an encoder-decoder: `pipeline("text2text-generation", model=...)`.

    It takes what the pipeline of this name of transformers 4 took and returns what it returned. Generation follows the
    `generation_config` of the model; every argument of `generate()` can be given when the pipeline is built or called.
    The model may be in any mode, and change it at any time: the pipeline runs other modules with the same weights, in
    evaluation mode. Hooks are called with these modules, and what a forward pass sets on its module is set on one of
    them.

    Raises:
        ValueError: if the model is no encoder-decoder that generates text, there is no tokenizer, or the tokenizer
            wants to be told a language with each text, which this pipeline does not do.
    """

    _model_settings: tuple[dict[str, Any], dict[str, Any]] | None = None  # all of the model's, and those that differ
    _token_texts: TokenTexts | None = None  # of the tokenizer, made when phrases are given for the first time

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "shortlist" not in kwargs and isinstance(self.model.config, RnnS2SConfig):
            beside = shortlist_beside(self.model)
            if beside is not None:
                self._forward_params["shortlist"] = beside

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Write a text for one text or many, as the base class does, with more arguments and more checks.

        Args:
            inputs: a text, a list or another sequence of texts, or an iterator, generator, or dataset of texts
                (`KeyDataset(dataset, "column")`).
            args: as in `Pipeline`.
            kwargs: those below; anything else that the base class takes, and `generate()`.
            batch_size: the most texts that go through the model together, by default 32, and 1 for an iterator; the
                results do not depend on it, except with a shortlist. The texts of a batch are of like
                length. Beside tensors for `generate()`, which have a row for each text of a batch, the default is 1;
                beside these, and functions that `generate()` calls, texts stay in order, in batches of this size.
            batch_tokens: the most source tokens that go through the model together, padding included, by default 4096.
                Half of it may be padding, so that a long text costs the others neither time nor memory. A text of
                more tokens is alone.
            processes: how many processes write, on a CPU, by default this one alone. More of them, with one thread
                each and the same memory for the weights, do the batches between them, with the results of one.
                They are started by the first call and end with the pipeline. If one dies, another one does its
                work. A script that uses them needs `if __name__ == "__main__":`, as the modules of Python for
                processes say. Sampling gives other results than in one process; they depend on torch's seed, and not
                on how many more than one they are. Functions for `generate()` are copied to each. From an iterator
                a few batches are read ahead.
            return_attentions: as in the base class; `"heads"` also gives `cross_attentions`, a tuple with the weights
                `(heads, target, source)` of each layer that attends to the source, which are found by reading the
                result once more. `attention` is the mean of the last layer's heads.
            return_warnings: whether to give `warnings`, a list of what else would be logged: that the text was too
                long, and what of it was left out.
            split_sentences: whether each text is a document, whose sentences are translated one by one and put
                together again with its paragraphs, blank lines and bullets; or the language to find sentences by,
                where that is not the language of the model's sources. Needs `sentencex`. Of a document there is the
                text alone.
            return_scores: whether to give `generated_score`, or what else it is called (see `return_text` in the base
                class), the natural logarithm of the text's probability,
                which is found by reading it once more.
            replace_unknown: whether to write, in place of an unknown token, the word of the source that the attention
                looked at most when it was written (Luong et al. 2015b); for models with a vocabulary of words.
            minimum_bayes_risk: whether to return, of the `num_return_sequences`, only the one with the highest mean
                chrF against the others (Kumar & Byrne 2004); with beams, or with `do_sample=True`.
            force_phrases: texts that a result must contain, as whole words, with `num_beams` above the number of
                their tokens: a list of texts for all inputs, or, for a list of inputs, one list for each.
            forbid_phrases: texts that no result may contain, in the same form. A word that begins with the same
                tokens is forbidden, too.
            shortlist: which target tokens to look at: a `Shortlist`, a folder or a name on the Hub that has one, True
                for the one beside the model, or False for all. By default the one beside the model is used, if there
                is one, where it can be. It may change a result, and one text's may depend on its batch. Only pipelines
                of this package use it by themselves: `generate()` does not, nor a pipeline without the package.

        Raises:
            TypeError: for an input that is not text.
            ValueError: for text that is not valid Unicode; a batch size, a number of processes, beams or sequences, or
                a length that is no whole number, or beyond all reason; if nothing is to be returned; if attention is
                asked of a model that has none, or by another word than `"heads"`; for a model whose weights are no
                numbers; for phrases that the tokenizer cannot write, or that do not fit in a result; for processes
                beside a GPU, inside a daemon process, or if something cannot be sent to them.
            RuntimeError: if a process dies, and again where its work is done once more; for a text that fails in one.
        """
        inputs = list_or_iterator(inputs)
        for position, text in enumerate(inputs if isinstance(inputs, list) else []):
            require_text(text, f"input {position}")
        require_whole_numbers(kwargs, "batch_size")
        if isinstance(inputs, list):
            is_told = kwargs.get("batch_size") is not None or self._batch_size is not None
            has_tensors = any_tensor({**self._forward_params, **kwargs})
            if not is_told and not has_tensors and self.tokenizer.pad_token_id is not None:
                kwargs["batch_size"] = DEFAULT_BATCH_SIZE
        return super().__call__(inputs, *args, **kwargs)

    def save_pretrained(
        self, save_directory: str | os.PathLike, carry_code: bool | None = None, **kwargs: Any
    ) -> None:
        """Save as the base class does, with the shortlist.

        That is the one that was given or found when the pipeline was built, else the one in the folder that the model
        was loaded from.

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
        return super(RnnText2TextGenerationPipeline, shared).push_to_hub(
            repo_id, tags=list(dict.fromkeys(tags)), **kwargs
        )

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args: Any, **kwargs: Any) -> Any:
        # By now the folder has all that will be uploaded, with the card of the repository or an empty draft.
        if self.model.name_or_path and os.path.isdir(self.model.name_or_path):
            add_card(Path(self.model.name_or_path), Path(working_dir))
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def _sanitize_parameters(  # type: ignore[override]
        self,
        batch_tokens: int | None = None,
        processes: int | None = None,
        return_attentions: bool | str | None = None,
        return_scores: bool | None = None,
        return_warnings: bool | None = None,
        split_sentences: bool | str | None = None,
        replace_unknown: bool | None = None,
        minimum_bayes_risk: bool | None = None,
        force_phrases: Any = None,
        forbid_phrases: Any = None,
        **parameters: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        require_whole_numbers({"batch_tokens": batch_tokens, "processes": processes, **parameters})
        if return_attentions is not None:
            parameters["return_attentions"] = _asks_for_attention(return_attentions)
        preprocess, forward, postprocess = super()._sanitize_parameters(**parameters)
        if return_attentions is not None:
            forward["return_heads"] = return_attentions == "heads"
        if return_scores is not None:
            forward["return_scores"] = return_scores
        if return_warnings is not None:
            preprocess["return_warnings"] = postprocess["return_warnings"] = return_warnings
        if split_sentences is not None:
            preprocess["split_sentences"] = split_sentences
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
        if processes is not None:
            preprocess["processes"] = processes
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
        call = Call(batch_size, preprocess_params, forward_params, postprocess_params)
        if isinstance(inputs, list):
            return self._hinting_at_processes(call, self._write_all(call, [(inputs, 0)]))
        return Stream(inputs, functools.partial(self._write_all, call), batch_size, num_workers)

    def run_single(
        self, inputs: Any, preprocess_params: dict[str, Any], forward_params: dict[str, Any], postprocess_params: Any
    ) -> Any:
        """As in `Pipeline`."""
        forward_params = _of_rows(self._with_phrases(forward_params, 1), [0])
        if preprocess_params.get("split_sentences"):
            call = Call(DEFAULT_BATCH_SIZE, preprocess_params, forward_params, postprocess_params)
            return next(self._write_all(call, [([inputs], 0)]))
        return super().run_single(inputs, preprocess_params, forward_params, postprocess_params)

    def _with_phrases(self, forward_params: dict[str, Any], inputs: int | None) -> dict[str, Any]:
        """The arguments with phrases of tokens in place of texts, checked before anything is written.

        Args:
            forward_params: the arguments.
            inputs: the number of texts; None where nobody knows it yet.
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

    def _forward(  # type: ignore[override]
        self,
        input_tensors: dict[str, Tensor],
        *args: Any,
        return_heads: bool = False,
        return_scores: bool = False,
        minimum_bayes_risk: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        if minimum_bayes_risk and (self._settings(kwargs).get("num_return_sequences") or 1) < 2:
            raise ValueError("minimum_bayes_risk chooses among several results: set num_return_sequences above 1.")
        is_blank = input_tensors["is_blank"].tolist()
        for name in PHRASES:
            given = kwargs.get(name)
            if given and isinstance(given[0], list):  # one for each row, of which blank ones are left out
                kwargs[name] = [one for one, blank in zip(given, is_blank, strict=True) if not blank]
        outputs: dict[str, Any] = super()._forward(input_tensors, *args, **kwargs)
        if return_heads:
            outputs["cross_attentions"] = self._heads(outputs)
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
        return_warnings: bool = False,
        **parameters: Any,
    ) -> list[dict[str, Any]]:
        """As in the base class, with what the package adds."""
        records = super().postprocess(model_outputs, **parameters)
        for number, record in enumerate(records):
            if return_warnings:
                [record["warnings"]] = model_outputs["warnings"]
            if "scores" in model_outputs:
                record[f"{self.return_name}_score"] = float(model_outputs["scores"][0, number])
            if "cross_attentions" in model_outputs:
                [layers] = model_outputs["cross_attentions"]
                targets, is_source = len(record["target_tokens"]), model_outputs["attention_mask"][0].bool()
                record["cross_attentions"] = without_padding(layers, number, targets, is_source)
            if replace_unknown and (name := f"{self.return_name}_text") in record:
                record[name] = self._with_source_words(model_outputs, number)
        if not minimum_bayes_risk:
            return records
        texts = [self._text(ids, False, model_outputs) for ids in self._written(model_outputs)]
        return [records[least_risk(texts)]]

    def _written(self, model_outputs: dict[str, Any]) -> list[Tensor]:
        """The ids of all results for a text, without padding."""
        lengths = model_outputs["lengths"][0].tolist()
        return [ids[:length] for ids, length in zip(model_outputs["output_ids"][0], lengths, strict=True)]

    def _with_source_words(self, model_outputs: dict[str, Any], number: int) -> str:
        """A result with words of the source in place of unknown tokens."""
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
        """As in the base class; those of the model are looked at again only if they have changed."""
        config, own = self.model.generation_config, given.get("generation_config")
        if self._model_settings is None or self._model_settings[0] != vars(config):
            self._model_settings = copy.deepcopy(vars(config)), config.to_diff_dict()
        settings = {**self._model_settings[1], **(own.to_diff_dict() if own else {}), **given}
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


class RnnTranslationPipeline(RnnText2TextGenerationPipeline):
    """Translates text: `pipeline("translation", model=...)`.

    Example:
        ```python
        >>> translator = pipeline("translation", model="path/or/name", batch_size=16)
        >>> translator("How are you?", num_beams=5)
        [{'translation_text': 'Wie geht es dir?'}]
        ```
    """

    return_name = pipeline_rnn_s2s.RnnTranslationPipeline.return_name


class RnnSummarizationPipeline(RnnText2TextGenerationPipeline):
    """Summarizes text: `pipeline("summarization", model=...)`.

    Example:
        ```python
        >>> summarizer = pipeline("summarization", model="path/or/name")
        >>> summarizer("Dear all, the meeting on Tuesday is moved to room 12, at the same time. Best, Ann")
        [{'summary_text': 'Meeting moved to room 12'}]
        ```
    """

    return_name = pipeline_rnn_s2s.RnnSummarizationPipeline.return_name

    def _check_documents(self, *parameters: Any) -> None:
        raise ValueError("split_sentences: a summary is of a whole text, and not of its sentences. Leave it out.")


def _of_rows(forward_params: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    """The arguments for some of the texts: of phrases, the lists of these."""
    return {
        name: value.select(rows) if isinstance(value, PhrasesOfRows) else value
        for name, value in forward_params.items()
    }


def _asks_for_attention(return_attentions: bool | str) -> bool:
    """Whether attention is to be returned, in whatever detail."""
    if isinstance(return_attentions, str) and return_attentions != "heads":
        raise ValueError(f'return_attentions={return_attentions!r}: give True, False, or "heads".')
    return bool(return_attentions)
