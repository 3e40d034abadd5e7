"""The translation pipeline: text in, text out, and the attention between the two on request."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from numbers import Integral
from types import GeneratorType
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Pipeline, PreTrainedModel
from transformers.utils import logging

from .evaluation_rnn_s2s import in_evaluation_mode
from .numbers_rnn_s2s import require_finite_weights
from .out_of_memory_rnn_s2s import naming_the_batch
from .sharing_rnn_s2s import CardPushingMixin, model_to_share
from .shortlist_rnn_s2s import load_shortlist

logger = logging.get_logger(__name__)

# What `generate()` would use where nobody has set a limit is 20 tokens, which cuts ordinary sentences without a word.
DEFAULT_MAX_NEW_TOKENS = 256
LENGTH_LIMITS = ("max_new_tokens", "max_length")
DEFAULT_BATCH_SIZE = 32
# Functions of the caller's own among the arguments of generate(), which may go by the place of a text in its batch.
MAY_COUNT_ROWS = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")


class RnnTranslationPipeline(CardPushingMixin, Pipeline):
    """
    Translates text with an encoder-decoder: `pipeline("translation", model=...)`.

    It takes what the translation pipeline of transformers 4 took and returns what it returned. Generation follows the
    `generation_config` of the model; every argument of `generate()` can be given when the pipeline is built or called.

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

    # Looser types than those of the base class, where each of these may be None
    model: Any
    tokenizer: Any
    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_feature_extractor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.tokenizer is None:
            raise ValueError("The translation pipeline needs a tokenizer: pass tokenizer= beside model=.")
        _require_translation_model(self.model, self.tokenizer)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """
        Translates one text or many; what comes out is in the order of what went in.

        Args:
            inputs: a text, a list or another sequence of texts, or an iterator, generator, or dataset of texts
                (`KeyDataset(dataset, "column")`).
            batch_size: how many texts go through the model together, 32 if nothing is said, and 1 of an iterator; the
                translations do not depend on it, but for those with a shortlist or in int8. The texts of a list are
                sorted by length for it. Beside tensors for `generate()`, which have a row for each text of a batch, it
                is 1 if nothing is said; beside these, and functions that `generate()` calls, texts stay in order.
            shortlist: which target tokens to look at: a `Shortlist`, a folder or a name on the Hub that has one, or
                True for the one beside the model. It may change a translation.
            return_text: whether to give `translation_text`; by default yes, unless `return_tensors` is set.
            return_tensors: whether to give `translation_token_ids`, the generated ids `(target,)` from the start token
                to the end token.
            return_attentions: whether to give `source_tokens`, `target_tokens`, and `attention`, a float32 tensor
                `(target, source)`: row `t` is where the model looked when it wrote target token `t`, and sums to 1.
                Both lists of tokens contain the end token where the model saw or wrote one; the start token of the
                decoder is not in them.
            clean_up_tokenization_spaces: whether to take out spaces before punctuation; by default not.
            truncation: whether to cut a text to the tokenizer's `model_max_length`, with a warning; by default yes.
            stop_sequence: a text at which generation stops, the same as `stop_strings`.
            generate_kwargs: anything else goes to `generate()`: `num_beams`, `num_return_sequences`, `max_new_tokens`…

        Returns:
            For one text, a list with one dictionary for each returned sequence. For a list of texts, a list of
            dictionaries, or, with `num_return_sequences` above 1, of such lists. For an iterator, a generator or a
            dataset, an iterator over such lists, which translates as it is read. A text that is empty or only white
            space is translated by the empty text, and has no target tokens.

        Raises:
            TypeError: for an input that is not text.
            ValueError: for text that is not valid Unicode, a number of beams or sequences below 1, if nothing is to be
                returned, or if attention is asked of a model that has none.
        """
        inputs = _list_or_iterator(inputs)
        if isinstance(inputs, list):
            for position, text in enumerate(inputs):
                _require_text(text, f"input {position}")
            if not inputs:
                return []
            is_told = kwargs.get("batch_size") is not None or self._batch_size is not None
            has_tensors = _any_tensor({**self._forward_params, **kwargs})
            if not is_told and not has_tensors and self.tokenizer.pad_token_id is not None:
                kwargs["batch_size"] = DEFAULT_BATCH_SIZE
        records = super().__call__(inputs, *args, **kwargs)
        if isinstance(inputs, list) and all(len(sequences) == 1 for sequences in records):
            return [sequences[0] for sequences in records]
        return records

    def save_pretrained(
        self, save_directory: str | os.PathLike, carry_code: bool | None = None, **kwargs: Any
    ) -> None:
        """
        Saves model and tokenizer with the code they need, so that `pipeline("translation", model=save_directory,
        trust_remote_code=True)` works where this package is not installed, and the shortlist, if one is in use. The
        model itself does not change. A model of another kind is saved without code.

        Args:
            save_directory: the folder.
            carry_code: whether the code is saved. None means yes, unless `model.config.drop_code()` was called.
            kwargs: everything else that `save_pretrained` of model and tokenizer takes.

        Raises:
            NotADirectoryError: if `save_directory` is a file.
        """
        if os.path.isfile(save_directory):
            raise NotADirectoryError(f"save_directory={str(save_directory)!r} is a file; give the name of a folder.")
        model_to_share(self.model, carry_code).save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(save_directory, **kwargs)
        if self._forward_params.get("shortlist") is not None:
            self._forward_params["shortlist"].save_pretrained(save_directory)

    def push_to_hub(self, repo_id: str, *, carry_code: bool | None = None, **kwargs: Any) -> str:
        """
        Uploads what `save_pretrained` saves, as every `push_to_hub` of transformers does, and takes its arguments. If
        the model was loaded from a folder with a card (`README.md`), that card goes up with the pictures it shows, and
        so does the shortlist; the card on the Hub is tagged with the task.

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

    def _card_folder(self) -> str | None:
        return self.model.name_or_path

    def _sanitize_parameters(
        self,
        return_text: bool | None = None,
        return_tensors: bool | None = None,
        return_attentions: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        truncation: bool | str | None = None,
        stop_sequence: str | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        preprocess = {} if truncation is None else {"truncation": truncation}
        forward = generate_kwargs
        for name in ("num_beams", "num_return_sequences"):
            _require_count(name, forward.get(name))
        if "shortlist" in forward:
            forward["shortlist"] = load_shortlist(forward["shortlist"], self.model)
        postprocess: dict[str, Any] = {}
        if stop_sequence is not None:
            forward["stop_strings"] = stop_sequence
        if return_attentions is not None:
            _require_attention(self.model, return_attentions)
            forward["return_attentions"] = postprocess["return_attentions"] = return_attentions
        if return_text is not None or return_tensors is not None:
            postprocess["return_tensors"] = bool(return_tensors)
            postprocess["return_text"] = not return_tensors if return_text is None else return_text
            if not (postprocess["return_text"] or return_tensors or return_attentions):
                raise ValueError("return_text=False leaves nothing to return; set return_tensors=True.")
        if clean_up_tokenization_spaces is not None:
            postprocess["clean_up_tokenization_spaces"] = clean_up_tokenization_spaces
        return preprocess, forward, postprocess

    def get_iterator(
        self, inputs: Any, num_workers: int, batch_size: int, *parameters: dict[str, Any]
    ) -> Iterable[Any]:
        """As in `Pipeline`; but the texts of a list are encoded at once, and those of like length share a batch."""
        if not isinstance(inputs, list):
            return super().get_iterator(inputs, num_workers, batch_size, *parameters)
        preprocess_params, forward_params, postprocess_params = parameters
        encoded = self._encode(inputs, **preprocess_params)
        records: list[Any] = [None] * len(inputs)
        order = list(range(len(inputs)))
        if all(forward_params.get(name) is None for name in MAY_COUNT_ROWS) and not _any_tensor(forward_params):
            order.sort(key=lambda row: -len(encoded[row]))
        for first in range(0, len(inputs), batch_size):
            rows = order[first : first + batch_size]
            model_inputs = self._collate([encoded[row] for row in rows], [inputs[row] for row in rows])
            model_outputs = self.forward(model_inputs, **forward_params)
            for number, row in enumerate(rows):
                of_row = {name: value[number : number + 1] for name, value in model_outputs.items()}
                records[row] = self.postprocess(of_row, **postprocess_params)
        return records

    def preprocess(self, input_: Any, truncation: bool | str = True) -> dict[str, Any]:  # type: ignore[override]
        """One text to `input_ids` and `attention_mask` `(1, source)`, and `is_blank` `(1,)`."""
        _require_text(input_, "an input")
        return self._collate(self._encode([input_], truncation), [input_])

    def _encode(self, texts: list[str], truncation: bool | str = True) -> list[list[int]]:
        prefix, limit = _prefix(self.model.config, self.task), self.tokenizer.model_max_length
        encoded = self.tokenizer([prefix + text for text in texts], return_attention_mask=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        for row, text in enumerate(texts):
            if truncation and len(ids[row]) > limit:
                logger.warning(
                    f"A text of {len(ids[row])} tokens is cut to {limit}, the model_max_length of the tokenizer, and "
                    f"only that part is translated: {text[:60]!r}... Split long texts, or pass truncation=False."
                )
                ids[row] = self.tokenizer(prefix + text, truncation=truncation, max_length=limit)["input_ids"]
        return ids

    def _collate(self, ids: list[list[int]], texts: list[str]) -> dict[str, torch.Tensor]:
        longest = max(map(len, ids))
        is_left = self.tokenizer.padding_side == "left"
        pad_id = self.tokenizer.pad_token_id or 0  # one row, as it may be without an id for padding, has none

        def rows(values: list[list[int]], filling: int) -> torch.Tensor:
            padding = [[filling] * (longest - len(row)) for row in values]
            whole = zip(padding, values, strict=True) if is_left else zip(values, padding, strict=True)
            return torch.tensor([[*left, *right] for left, right in whole])

        return {
            "input_ids": rows(ids, pad_id),
            "attention_mask": rows([[1] * len(row) for row in ids], 0),
            "is_blank": torch.tensor([not text.strip() for text in texts]),
        }

    def _forward(  # type: ignore[override]
        self, input_tensors: dict[str, torch.Tensor], return_attentions: bool = False, **generate_kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """
        Generates for the rows that are not blank.

        Returns the inputs, `output_ids` `(batch, sequences, time)` and how many of them are no padding, `lengths`
        `(batch, sequences)`; with `return_attentions` also `attention` `(batch, sequences, target, source)`, where
        `target` is `time` without the decoder's prompt. Blank rows have the length 0.
        """
        is_blank = input_tensors["is_blank"]
        rows = (~is_blank).nonzero().squeeze(1)
        settings = self._settings(generate_kwargs)
        if not len(rows):
            return {**input_tensors, **_blank_outputs(input_tensors, settings.get("num_return_sequences") or 1)}
        input_ids, attention_mask = input_tensors["input_ids"][rows], input_tensors["attention_mask"][rows]
        beams = settings.get("num_beams") or 1
        batch = f"a batch of {len(rows)} texts of up to {input_ids.shape[1]} tokens, with {beams} beams each"
        with naming_the_batch(batch, "lower batch_size, or num_beams"):
            generated = self._generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                **self._generate_arguments(generate_kwargs, settings, return_attentions),
            )
        sequences = generated if isinstance(generated, torch.Tensor) else generated.sequences
        sequences = sequences.unflatten(0, (len(rows), -1))
        lengths = self._lengths(sequences, settings)
        if (lengths <= 2).any():  # the start token, and perhaps the end token
            require_finite_weights(self.model)
        outputs = {
            **input_tensors,
            "output_ids": _put_back(sequences, rows, is_blank),
            "lengths": _put_back(lengths, rows, is_blank),
        }
        if return_attentions:
            attention = _attention_of_sequences(generated).unflatten(0, (len(rows), -1))
            outputs["attention"] = _put_back(attention, rows, is_blank)
        return outputs

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: dict[str, torch.Tensor],
        return_text: bool = True,
        return_tensors: bool = False,
        return_attentions: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[dict[str, Any]]:
        """The outputs of one text, `(1, sequences, ...)`, to one dictionary for each returned sequence."""
        records = []
        for number, padded in enumerate(model_outputs["output_ids"][0]):
            token_ids = padded[: int(model_outputs["lengths"][0, number])]
            record: dict[str, Any] = {}
            if return_tensors:
                record["translation_token_ids"] = token_ids
            if return_text:
                record["translation_text"] = self._text(token_ids, clean_up_tokenization_spaces)
            if return_attentions:
                attention = model_outputs["attention"][0, number]
                record.update(
                    self._alignment(model_outputs, token_ids, attention, prompt=len(padded) - len(attention))
                )
            records.append(record)
        return records

    def _generate(self, **arguments: Any) -> Any:
        """As `generate()` of the model, in evaluation mode."""
        try:
            return in_evaluation_mode(self.model).generate(**arguments)
        except RuntimeError as error:
            if "probability tensor" in str(error):  # from sampling
                require_finite_weights(self.model)
            raise

    def _settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """Every generation setting that somebody made: in the model, in a given `generation_config`, or by name."""
        config = given.get("generation_config")
        return {**self.model.generation_config.to_diff_dict(), **(config.to_diff_dict() if config else {}), **given}

    def _generate_arguments(
        self, given: dict[str, Any], settings: dict[str, Any], return_attentions: bool
    ) -> dict[str, Any]:
        """What the caller gave, a tokenizer for `stop_strings`, and what the pipeline needs."""
        needed: dict[str, Any] = {}
        if return_attentions:
            needed = {"return_dict_in_generate": True, "output_attentions": True}
        if all(settings.get(name) is None for name in LENGTH_LIMITS):
            needed["max_new_tokens"] = DEFAULT_MAX_NEW_TOKENS
        arguments = {"tokenizer": self._target_tokenizer, **given}
        if given.get("generation_config") is None:
            return {**arguments, **needed}
        # generate() wants the settings in one place, and the caller's object is not ours to change
        arguments["generation_config"] = copy.deepcopy(given["generation_config"])
        arguments["generation_config"].update(**needed)
        return arguments

    @property
    def _target_tokenizer(self) -> Any:
        """The tokenizer of what the model writes, where source and target have separate vocabularies."""
        return getattr(self.tokenizer, "target_tokenizer", self.tokenizer)

    def _text(self, token_ids: torch.Tensor, clean_up: bool) -> str:
        text = self.tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # decode() ignores its own argument where the tokenizer is one of byte pairs
        return self._target_tokenizer.clean_up_tokenization(text) if clean_up else text

    def _lengths(self, sequences: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
        """
        Of `(batch, sequences, time)`, the number of tokens up to and with the end token, `(batch, sequences)`. What
        belongs to the decoder's prompt counts, whatever its ids are.
        """
        end_ids = settings.get("eos_token_id")
        end_ids = end_ids if isinstance(end_ids, (list, tuple)) else [] if end_ids is None else [end_ids]
        pad_id = settings.get("pad_token_id")
        if pad_id is None and end_ids:
            pad_id = end_ids[0]  # as generate() does
        given = settings.get("decoder_input_ids")
        positions = torch.arange(sequences.shape[-1], device=sequences.device)
        in_prompt = positions < (1 if given is None else given.shape[1])
        # A row stops at its first end token, or where it was stopped, and padding follows either way.
        is_token = torch.ones_like(sequences).bool() if pad_id is None else in_prompt | (sequences != pad_id)
        last = (is_token * positions).amax(-1)
        is_end = torch.isin(sequences, sequences.new_tensor(end_ids)) & ~in_prompt
        first_end = torch.where(is_end, positions, sequences.shape[-1]).amin(-1)
        return torch.where(is_end.any(-1), first_end, last) + 1

    def _alignment(
        self, model_outputs: dict[str, torch.Tensor], token_ids: torch.Tensor, attention: torch.Tensor, prompt: int
    ) -> dict[str, Any]:
        """Source tokens, target tokens and the attention `(target, source)` between them, all without padding."""
        is_source = model_outputs["attention_mask"][0].bool()
        target_ids = token_ids[prompt:]
        return {
            "source_tokens": self.tokenizer.convert_ids_to_tokens(model_outputs["input_ids"][0][is_source].tolist()),
            "target_tokens": self._target_tokenizer.convert_ids_to_tokens(target_ids.tolist()),
            "attention": attention[: len(target_ids), is_source],
        }


def _blank_outputs(input_tensors: dict[str, torch.Tensor], sequences: int) -> dict[str, torch.Tensor]:
    """What a batch of nothing but blank texts gives, without running the model."""
    batch, source = input_tensors["input_ids"].shape
    return {
        "output_ids": input_tensors["input_ids"].new_zeros(batch, sequences, 1),
        "lengths": torch.zeros(batch, sequences, dtype=torch.long),
        "attention": torch.zeros(batch, sequences, 0, source),
    }


def _any_tensor(arguments: Mapping[str, Any]) -> bool:
    """Whether there is a tensor among the arguments of `generate()`, such as a prompt for the decoder."""
    return any(isinstance(value, torch.Tensor) for value in arguments.values())


def _list_or_iterator(inputs: Any) -> Any:
    """Brings every kind of input to one of those that the base class knows: text, list, generator, torch dataset."""
    if isinstance(inputs, (str, list, GeneratorType)):
        return inputs
    if isinstance(inputs, Dataset):
        return [] if hasattr(inputs, "__len__") and not len(inputs) else inputs
    if isinstance(inputs, (bytes, Mapping)) or not isinstance(inputs, Iterable):
        _require_text(inputs, "the input")
    return list(inputs) if hasattr(inputs, "__len__") else (text for text in inputs)


def _require_text(text: Any, name: str) -> None:
    if not isinstance(text, str):
        raise TypeError(
            f"The translation pipeline takes text, but {name} is of type {type(text).__name__}: {str(text)[:60]!r}. "
            "For a column of a dataset, pass dataset['column'] or KeyDataset(dataset, 'column')."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is not valid Unicode: it has half a surrogate pair at character {error.start}. Read the text "
            "with the encoding it was written in, or take such characters out."
        ) from error


def _require_count(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1.")


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


def _require_attention(model: PreTrainedModel, asked: bool) -> None:
    if asked and getattr(model.config, "attention_type", None) == "none":
        raise ValueError("return_attentions=True, but this model has no attention (attention_type='none').")


def _prefix(config: Any, task: str) -> str:
    """The text that some models, such as T5, want before every input."""
    task_settings = (getattr(config, "task_specific_params", None) or {}).get(task, {})
    return task_settings.get("prefix") or getattr(config, "prefix", None) or ""


def _attention_of_sequences(generated: Any) -> torch.Tensor:
    """
    The attention that each returned sequence was written with, `(sequences, target, source)` in float32.

    `generate()` gives, for every step and layer, `(beams, heads, query, source)`. We read the last layer, the mean of
    the heads, and the last query, which is the one that chose the step's token (without a cache, or with a prompt,
    there are earlier ones). A beam search moves hypotheses between beams: `beam_indices` tells which one a token
    came from.
    """
    if not generated.cross_attentions or any(not step or step[-1] is None for step in generated.cross_attentions):
        raise ValueError(
            "return_attentions=True, but the model returned no cross-attentions. A Transformer returns them only if "
            'it was loaded with attn_implementation="eager".'
        )
    steps = torch.stack([layers[-1][:, :, -1].float().mean(dim=1) for layers in generated.cross_attentions])
    beam_indices = generated.get("beam_indices")
    if beam_indices is None:
        return steps.transpose(0, 1)
    # -1 stands behind the end of a sequence, where there is nothing to read: any row does
    return steps[torch.arange(beam_indices.shape[1], device=steps.device), beam_indices.clamp(min=0)]


def _put_back(values: torch.Tensor, rows: torch.Tensor, is_blank: torch.Tensor) -> torch.Tensor:
    """Puts `(len(rows), ...)` back in its places among the `(batch, ...)` rows, and zeros in the blank ones."""
    if not is_blank.any():
        return values
    full = values.new_zeros(len(is_blank), *values.shape[1:])
    full[rows] = values
    return full


__all__ = ["RnnTranslationPipeline"]
