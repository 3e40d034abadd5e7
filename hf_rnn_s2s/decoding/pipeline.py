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
from ..model.remote_code_rnn_s2s import model_to_share
from ..model.tokenization_rnn_s2s import RnnS2SWordTokenizer
from .batching import Stream, batches_in_order, batches_of_like_length, collate
from .evaluation import EvaluationView
from .fast_search import load_options
from .limits import require_whole_numbers
from .numbers import require_usable_weights
from .out_of_memory import naming_the_batch
from .sharing import add_card, add_shortlist
from .text import encode, list_or_iterator, require_text

DEFAULT_BATCH_SIZE = 32
DEFAULT_BATCH_TOKENS = 4096
# Arguments of generate() that are functions of the caller's, which may depend on the position of a text in its batch.
MAY_COUNT_ROWS = ("logits_processor", "stopping_criteria", "prefix_allowed_tokens_fn")


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
            shortlist: which target tokens to look at: a `Shortlist`, a folder or a name on the Hub that has one, or
                True for the one beside the model. It may change a translation.

        Raises:
            TypeError: for an input that is not text.
            ValueError: for text that is not valid Unicode; a batch size, a number of beams or sequences, or a length
                that is no whole number, or beyond all reason; if nothing is to be returned; if attention is asked of a
                model that has none; for a model whose weights are no numbers.
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
        self, batch_tokens: int | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        require_whole_numbers({"batch_tokens": batch_tokens, **parameters})
        preprocess, forward, postprocess = super()._sanitize_parameters(**parameters)
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
        translate = functools.partial(
            self._translate, batch_size, preprocess_params, forward_params, postprocess_params
        )
        return translate(inputs, 0) if isinstance(inputs, list) else Stream(inputs, translate, batch_size, num_workers)

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
            model_outputs = self.forward(model_inputs, **forward_params)
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
        self, input_tensors: dict[str, Tensor], *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        outputs = super()._forward(input_tensors, *args, **kwargs)
        written = outputs["lengths"][~input_tensors["is_blank"]]
        if (written <= 2).any():  # the start token, and perhaps the end token
            require_usable_weights(self.model)
        return outputs

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
