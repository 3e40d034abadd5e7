"""The pipelines: text in, text out, and the attention between the two on request."""

import copy
import os
import re
from typing import Any

import torch
from torch import Tensor
from transformers import Pipeline
from transformers.tokenization_utils_base import LARGE_INTEGER

from .remote_code_rnn_s2s import model_to_share

# The default of `generate()`, 20 tokens, cuts ordinary sentences without a warning.
DEFAULT_MAX_NEW_TOKENS = 256
LENGTH_LIMITS = ("max_new_tokens", "max_length")
# Two white-space characters or more, or one that is no kind of space: a tab, a line break, a separator of control.
NOT_ONE_SPACE = re.compile(r"\s{2,}|[\t-\r\x1c-\x1f\x85\u2028\u2029]")


class RnnText2TextGenerationPipeline(Pipeline):
    """Writes a text for each text with an encoder-decoder: `pipeline("text2text-generation", model=...)`.

    It takes what the pipeline of this name of transformers 4 took and returns what it returned. Generation follows the
    `generation_config` of the model; every argument of `generate()` can be given when the pipeline is built or called.
    Those of the package `hf_rnn_s2s` have the same names and write the same, faster, with more checks.

    Attributes:
        return_name: what the names in its results begin with.

    Raises:
        ValueError: if there is no tokenizer.
    """

    return_name = "generated"

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
            raise ValueError(f"The {self.task} pipeline needs a tokenizer: pass tokenizer= beside model=.")

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Write a text for one text or many; what comes out is in the order of what went in.

        Each argument but the first can also be given when the pipeline is built.

        Args:
            inputs: a text, a list of texts, or a generator or dataset of texts (`KeyDataset(dataset, "column")`).
            args: as in `Pipeline`.
            kwargs: those below; anything else goes to `generate()`: `num_beams`, `num_return_sequences`,
                `max_new_tokens`…
            batch_size: the most texts that go through the model together; the results do not depend on it.
            squeeze_whitespace: whether to put one space in place of every run of white space, see `squeezed`; by
                default yes. The model knows little else from training.
            truncation: whether to cut a text to the tokenizer's `model_max_length`, if it has one; by default yes.
            return_text: whether to give the text, `generated_text`; by default yes, unless `return_tensors` is set. A
                translation is the `translation_text`, a summary the `summary_text`, and so on below.
            return_tensors: whether to give `generated_token_ids` `(target,)`, start token and end token included.
            return_attentions: whether to give `source_tokens`, `target_tokens`, and `attention`, a float32 tensor
                `(target, source)`: row `t` is where the model attended when it wrote target token `t`, and sums to 1.
                The tokens include end tokens, but not the decoder's start token.
            clean_up_tokenization_spaces: whether to take out spaces before punctuation; by default not.
            stop_sequence: a text at which generation stops, the same as `stop_strings`.

        Returns:
            For one text, a list with one dictionary for each returned sequence. For a list of texts, a list of
            dictionaries, or, with `num_return_sequences` above 1, of such lists. For a generator or a dataset, an
            iterable of such lists, which writes as it is read. Of a blank text the result is empty.

        Raises:
            ValueError: if nothing is to be returned, or if attention is asked of a model that has none.
        """
        records = super().__call__(inputs, *args, **kwargs) if not isinstance(inputs, list) or inputs else []
        if isinstance(inputs, list) and all(len(sequences) == 1 for sequences in records):
            return [sequences[0] for sequences in records]
        return records

    def save_pretrained(
        self, save_directory: str | os.PathLike, carry_code: bool | None = None, **kwargs: Any
    ) -> None:
        """Save model and tokenizer, with the code they need to load where this package is not installed.

        `pipeline(model=save_directory, trust_remote_code=True)` loads them there, for the task that the model's
        configuration names. `carry_code` is as in `push_to_hub` of the model, which does not change. A model of
        another kind has no code.

        Raises:
            NotADirectoryError: if `save_directory` is a file.
        """
        if os.path.isfile(save_directory):
            raise NotADirectoryError(f"save_directory={str(save_directory)!r} is a file; give the name of a folder.")
        model_to_share(self.model, carry_code).save_pretrained(save_directory, **kwargs)
        self.tokenizer.save_pretrained(save_directory, **kwargs)

    def _sanitize_parameters(
        self,
        return_text: bool | None = None,
        return_tensors: bool | None = None,
        return_attentions: bool | None = None,
        clean_up_tokenization_spaces: bool | None = None,
        truncation: bool | str | None = None,
        squeeze_whitespace: bool | None = None,
        stop_sequence: str | None = None,
        **generate_kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        given = {"truncation": truncation, "squeeze_whitespace": squeeze_whitespace}
        preprocess = {name: value for name, value in given.items() if value is not None}
        forward = generate_kwargs
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

    def preprocess(  # type: ignore[override]
        self, input_: str, truncation: bool | str = True, squeeze_whitespace: bool = True
    ) -> dict[str, Tensor]:
        """Turn one text into `input_ids` and `attention_mask` `(1, source)`, and `is_blank` `(1,)`."""
        text = squeezed(input_) if squeeze_whitespace else input_
        has_limit = self.tokenizer.model_max_length < LARGE_INTEGER
        settings = {"truncation": truncation if has_limit else False, "return_token_type_ids": False}
        encoded = self.tokenizer(text, return_tensors="pt", **settings)
        return {**encoded, "is_blank": torch.tensor([not text.strip()]), "source": [text]}

    def _forward(  # type: ignore[override]
        self, input_tensors: dict[str, Tensor], return_attentions: bool = False, **generate_kwargs: Any
    ) -> dict[str, Tensor]:
        """Generate for the rows that are not blank; the others have the length 0.

        Returns:
            The inputs, `output_ids` `(batch, sequences, time)` and how many of them are no padding, `lengths`
            `(batch, sequences)`; with `return_attentions` also `attention` `(batch, sequences, target, source)`, where
            `target` is `time` without the decoder's prompt.
        """
        is_blank = input_tensors["is_blank"]
        rows = (~is_blank).nonzero().squeeze(1)
        settings = self._settings(generate_kwargs)
        if not len(rows):
            return {**input_tensors, **blank_outputs(input_tensors, settings.get("num_return_sequences") or 1)}
        generated = self._generate(
            settings,
            input_ids=input_tensors["input_ids"][rows],
            **{name: input_tensors[name][rows] for name in ("attention_mask", "copy_ids") if name in input_tensors},
            **self._generate_arguments(generate_kwargs, settings, return_attentions),
        )
        sequences = generated if isinstance(generated, Tensor) else generated.sequences
        sequences = sequences.unflatten(0, (len(rows), -1))
        lengths = lengths_of_sequences(sequences, settings)
        outputs = {
            **input_tensors,
            "output_ids": put_back(sequences, rows, is_blank),
            "lengths": put_back(lengths, rows, is_blank),
        }
        if return_attentions:
            attention = attention_of_sequences(generated).unflatten(0, (len(rows), -1))
            outputs["attention"] = put_back(attention, rows, is_blank)
        return outputs

    def _generate(self, settings: dict[str, Any], **arguments: Any) -> Any:
        """Call `generate()` of the model. `settings` are those that somebody made, in whatever way."""
        return self.model.generate(**arguments)

    def postprocess(  # type: ignore[override]
        self,
        model_outputs: dict[str, Tensor],
        return_text: bool = True,
        return_tensors: bool = False,
        return_attentions: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> list[dict[str, Any]]:
        """Turn the outputs of one text, `(1, sequences, ...)`, into one dictionary for each returned sequence."""
        records = []
        for number, padded in enumerate(model_outputs["output_ids"][0]):
            token_ids = padded[: int(model_outputs["lengths"][0, number])]
            record: dict[str, Any] = {}
            if return_tensors:
                record[f"{self.return_name}_token_ids"] = token_ids
            if return_text:
                record[f"{self.return_name}_text"] = self._text(token_ids, clean_up_tokenization_spaces, model_outputs)
            if return_attentions:
                attention = model_outputs["attention"][0, number]
                prompt = len(padded) - len(attention)
                record.update(self._alignment(model_outputs, token_ids, attention, prompt))
            records.append(record)
        return records

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
        # generate() takes settings from one place only; the caller's object is not changed.
        arguments["generation_config"] = copy.deepcopy(given["generation_config"])
        arguments["generation_config"].update(**needed)
        return arguments

    @property
    def _target_tokenizer(self) -> Any:
        """The tokenizer of what the model writes, where source and target have separate vocabularies."""
        return getattr(self.tokenizer, "target_tokenizer", self.tokenizer)

    def _text(self, token_ids: Tensor, clean_up: bool, model_outputs: dict[str, Any]) -> str:
        # Of words that the vocabulary lacks, the ids are numbers of words of the source.
        source = {"source": model_outputs["source"][0]} if "copy_ids" in model_outputs else {}
        settings = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        text = self.tokenizer.decode(token_ids, **settings, **source)
        # decode() ignores its argument clean_up_tokenization_spaces for byte-pair tokenizers.
        return self._target_tokenizer.clean_up_tokenization(text) if clean_up else text

    def _alignment(
        self, model_outputs: dict[str, Tensor], token_ids: Tensor, attention: Tensor, prompt: int
    ) -> dict[str, Any]:
        """Source tokens, target tokens and the attention `(target, source)` between them, all without padding."""
        is_source = model_outputs["attention_mask"][0].bool()
        target_ids = token_ids[prompt:]
        return {
            "source_tokens": self.tokenizer.convert_ids_to_tokens(model_outputs["input_ids"][0][is_source].tolist()),
            "target_tokens": self._target_tokenizer.convert_ids_to_tokens(target_ids.tolist()),
            "attention": attention[: len(target_ids), is_source],
        }


class RnnTranslationPipeline(RnnText2TextGenerationPipeline):
    """Translates: `pipeline("translation", model=...)` gives `translation_text`."""

    return_name = "translation"


class RnnSummarizationPipeline(RnnText2TextGenerationPipeline):
    """Summarizes: `pipeline("summarization", model=...)` gives `summary_text`."""

    return_name = "summary"


def squeezed(text: str) -> str:
    """The text with one space in place of every run of white space, line breaks included, and none at its ends.

    A single no-break space, thin space or ideographic space inside a text stays as it is: it means something, such as
    that `10 km` is not to be broken, or that words of a Japanese title are apart.
    """
    return NOT_ONE_SPACE.sub(" ", text).strip()


def _require_attention(model: Any, asked: bool) -> None:
    if asked and getattr(model.config, "attention_type", None) == "none":
        raise ValueError("return_attentions=True, but this model has no attention (attention_type='none').")


def lengths_of_sequences(sequences: Tensor, settings: dict[str, Any]) -> Tensor:
    """Lengths `(batch, sequences)` of `(batch, sequences, time)`, in tokens, the end token included.

    The decoder's prompt counts, whatever its ids are.
    """
    end_ids = settings.get("eos_token_id")
    end_ids = end_ids if isinstance(end_ids, (list, tuple)) else [] if end_ids is None else [end_ids]
    pad_id = settings.get("pad_token_id")
    if pad_id is None and end_ids:
        pad_id = end_ids[0]  # as generate() does
    given = settings.get("decoder_input_ids")
    prompt = 1 if given is None else given.shape[1]
    # In plain numbers, which take less time than a dozen operations on small tensors.
    ends = {int(end_id) for end_id in end_ids}
    lengths = [[_length(row, prompt, ends, pad_id) for row in rows] for rows in sequences.tolist()]
    return torch.tensor(lengths, device=sequences.device)


def _length(row: list[int], prompt: int, ends: set[int], pad_id: int | None) -> int:
    """The length of one sequence: up to its first end token, or where it was stopped. Padding follows either way."""
    for place in range(prompt, len(row)):
        if row[place] in ends:
            return place + 1
    length = len(row)
    while length > prompt and row[length - 1] == pad_id:
        length -= 1
    return length


def attention_of_sequences(generated: Any) -> Tensor:
    """The attention that each returned sequence was written with, `(sequences, target, source)` in float32.

    `generate()` gives, for every step and layer, `(beams, heads, query, source)`. We read the last layer, the mean of
    the heads, and the last query, which chose the step's token. `beam_indices` says which beam a token came from.
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
    # Behind the end of a sequence stands -1; what is read there is cut off later, so any row will do.
    return steps[torch.arange(beam_indices.shape[1], device=steps.device), beam_indices.clamp(min=0)]


def put_back(values: Tensor, rows: Tensor, is_blank: Tensor) -> Tensor:
    """Put `(len(rows), ...)` back in its places among the `(batch, ...)` rows, and zeros in the blank ones."""
    if not is_blank.any():
        return values
    full = values.new_zeros(len(is_blank), *values.shape[1:])
    full[rows] = values
    return full


def blank_outputs(input_tensors: dict[str, Tensor], sequences: int) -> dict[str, Tensor]:
    """What a batch of nothing but blank texts gives, without running the model."""
    batch, source = input_tensors["input_ids"].shape
    return {
        "output_ids": input_tensors["input_ids"].new_zeros(batch, sequences, 1),
        "lengths": torch.zeros(batch, sequences, dtype=torch.long),
        "attention": torch.zeros(batch, sequences, 0, source),
    }
