"""Tokenizers that are more than a plain fast one: with separate vocabularies, and with words that can be copied."""

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer
from transformers import BatchEncoding, PreTrainedTokenizerFast

SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}  # ids 0 to 3
SETTINGS_OF_BOTH_SIDES = (
    "model_max_length",
    "model_input_names",
    "padding_side",
    "truncation_side",
    "split_special_tokens",
    "clean_up_tokenization_spaces",
)


class RnnS2STokenizer(PreTrainedTokenizerFast):
    """Two fast tokenizers in one: a vocabulary for source texts and another for target texts.

    A plain fast tokenizer has one vocabulary and cannot tell a source from a target, so this case, and only this one,
    needs a class of its own. `tokenizer(text)` encodes sources; `tokenizer(text, text_target=...)` adds `labels` from
    the target vocabulary; `decode` and `batch_decode` read *target* ids, because a model generates target text. All
    other methods (`len`, `get_vocab`, `convert_ids_to_tokens`, ...) speak of the source vocabulary.

    Each side is also there by itself, as a plain fast tokenizer:

        tokenizer.source_tokenizer.decode(input_ids)  # the source text again
        tokenizer.target_tokenizer.decode(labels)  # as tokenizer.decode(labels)

    `len(tokenizer.target_tokenizer)` is the model's `decoder_vocab_size`, and this side is the one to pass to
    `generate(stop_strings=..., tokenizer=...)`.

    Saved as `tokenizer.json` and `target_tokenizer.json`. Loading takes this package or, if the class was registered
    with `register_for_auto_class()` before saving, `trust_remote_code=True`.

    Args:
        target_tokenizer_object: the target side, just trained.
        target_tokenizer_file: the target side, as saved; filled in by `from_pretrained`.
        target_special_tokens: the target side's special tokens that have a name, such as `mask_token`, as saved. None
            where nobody saved them; then they are those of the source that the target has, too. A token that only one
            side has, such as the `[SEP]` of a pretrained encoder, is that side's.
        kwargs: as for `PreTrainedTokenizerFast`; settings hold for both sides, also where they are changed later, as
            in `tokenizer.model_max_length = 50`. `add_tokens` and `add_special_tokens` add to the source; call them on
            `target_tokenizer` for tokens that the target should have. Both sides' are saved.

    Raises:
        ValueError: if there is no target side, or the two sides give a special token different ids.
    """

    vocab_files_names = {
        "tokenizer_file": "tokenizer.json",
        "target_tokenizer_file": "target_tokenizer.json",
    }

    def __init__(
        self,
        *args: Any,
        target_tokenizer_object: Tokenizer | None = None,
        target_tokenizer_file: str | None = None,
        target_special_tokens: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        if target_tokenizer_object is None:
            if target_tokenizer_file is None and not (kwargs.get("tokenizer_file") or kwargs.get("tokenizer_object")):
                raise ValueError(
                    "RnnS2STokenizer found no tokenizer: the folder has neither tokenizer.json nor "
                    "target_tokenizer.json. Save the tokenizer beside its model, tokenizer.save_pretrained(folder)."
                )
            if target_tokenizer_file is None:
                raise ValueError(
                    "RnnS2STokenizer found no target vocabulary: the folder has no target_tokenizer.json. "
                    "A tokenizer with one vocabulary for both sides loads with PreTrainedTokenizerFast."
                )
            target_tokenizer_object = Tokenizer.from_file(target_tokenizer_file)
        kwargs.pop("auto_map", None)  # saving writes it anew, and not for one side by itself, which needs no code
        super().__init__(*args, **kwargs)
        self.target_tokenizer = self._plain_target_tokenizer(target_tokenizer_object, target_special_tokens)

    def _plain_target_tokenizer(self, backend: Tokenizer, saved: dict[str, str] | None) -> PreTrainedTokenizerFast:
        """The target side around `backend`, with the settings of the source side but special tokens of its own."""
        of_source = self.special_tokens_map
        given = of_source if saved is None else {**saved, **_known(of_source, SPECIAL_TOKENS, backend)}
        named = _known(given, given, backend)
        for name in filter(of_source.get, SPECIAL_TOKENS):
            is_own = saved is not None and name in named and named[name] != of_source[name]
            source_id, target_id = getattr(self, f"{name}_id"), backend.token_to_id(of_source[name])
            if source_id != target_id and not is_own:
                raise ValueError(
                    f"{name} has id {source_id} in the source vocabulary and {target_id} in the target's."
                )
        added = backend.get_added_tokens_decoder().values()
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            extra_special_tokens=[token for token in added if token.special and token.content not in named.values()],
            **{name: getattr(self, name) for name in SETTINGS_OF_BOTH_SIDES},
            **named,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in SETTINGS_OF_BOTH_SIDES and "target_tokenizer" in self.__dict__:
            setattr(self.target_tokenizer, name, value)

    @property
    def source_tokenizer(self) -> PreTrainedTokenizerFast:
        """The source side as a plain fast tokenizer; no copy, so what is added or set on one holds on the other."""
        source = PreTrainedTokenizerFast.__new__(PreTrainedTokenizerFast)
        source.__dict__ = self.__dict__
        return source

    def train_new_from_iterator(self, *args: Any, **kwargs: Any) -> Any:
        """Not for two vocabularies, which have texts of their own each; and it would drop the byte tokens.

        Raises:
            TypeError: always; it names `train_tokenizer`.
        """
        raise TypeError(
            "train_new_from_iterator makes one vocabulary. For two, call "
            "hf_rnn_s2s.train_tokenizer(texts, vocab_size, target_texts=...)."
        )

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Leave `tokenizer_file` to `__init__`: rebuilding it from its vocabulary would lose the splitting rule."""
        return kwargs

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
        **kwargs: Any,
    ) -> BatchEncoding:
        """Encode `text` with the source vocabulary and `text_target` with the target vocabulary.

        Takes what every transformers tokenizer takes. With both, the target ids are in `labels`; with `text_target`
        alone, in `input_ids`. `max_target_length` is the `max_length` of the target, where the two differ.
        """
        max_target_length = kwargs.pop("max_target_length", None)
        if text_target is None:
            return super().__call__(text, text_pair, **kwargs)
        target_kwargs = kwargs if max_target_length is None else {**kwargs, "max_length": max_target_length}
        target_encodings = self.target_tokenizer(text_target, text_pair_target, **target_kwargs)
        if text is None:
            return target_encodings
        encodings = super().__call__(text, text_pair, **kwargs)
        encodings["labels"] = target_encodings["input_ids"]
        return encodings

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, **kwargs: Any) -> Any:
        """Turn target ids, one sequence or a batch of them, into text; `batch_decode` comes here too.

        For source ids there is `source_tokenizer.decode`.
        """
        return self.target_tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """As in `PreTrainedTokenizerFast`, both sides."""
        # Only in this class's own files: a side that is saved by itself is a plain tokenizer.
        self.init_kwargs["target_special_tokens"] = self.target_tokenizer.special_tokens_map
        try:
            return super().save_pretrained(*args, **kwargs)
        finally:
            del self.init_kwargs["target_special_tokens"]

    def _save_pretrained(
        self,
        save_directory: Any,
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        file_names = super()._save_pretrained(save_directory, file_names, legacy_format, filename_prefix)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        target_file = f"{save_directory}/{prefix}{self.vocab_files_names['target_tokenizer_file']}"
        self.target_tokenizer.backend_tokenizer.save(target_file)
        return (*file_names, target_file)


def _known(tokens: dict[str, str], names: Iterable[str], backend: Tokenizer) -> dict[str, str]:
    """Those of the named tokens that a vocabulary has."""
    return {name: tokens[name] for name in names if tokens.get(name) and backend.token_to_id(tokens[name]) is not None}


class RnnS2SWordTokenizer(PreTrainedTokenizerFast):
    """Words between white space, for a model that copies words which the vocabulary lacks.

    A source's unknown words have numbers in their order, the same word the same one. `tokenizer(text)` adds
    `copy_ids`: what `input_ids` has, but at an unknown word the id of its slot, the size of the vocabulary plus its
    number. With `text_target`, `labels` have the ids of such slots where the target repeats a word of the source.
    Words beyond `copy_slots` stay unknown. `decode(ids, source=text)` writes the words in place of their slots.

    Args:
        copy_slots: as in the configuration of the model, whose `vocab_size` is `len(tokenizer)`.
        args, kwargs: as for `PreTrainedTokenizerFast`.
    """

    def __init__(self, *args: Any, copy_slots: int = 0, **kwargs: Any) -> None:
        kwargs.pop("auto_map", None)  # saving writes it anew
        super().__init__(*args, copy_slots=copy_slots, **kwargs)
        self.copy_slots = copy_slots

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """As in `RnnS2STokenizer`."""
        return kwargs

    def __call__(
        self, text: Any = None, text_pair: Any = None, text_target: Any = None, **kwargs: Any
    ) -> BatchEncoding:
        """Encode texts; what is added is described in the class. Without `text`, targets have no slots.

        Raises:
            ValueError: for a `text_pair`.
        """
        if text_pair is not None:
            raise ValueError("text_pair: a source to copy from is one text.")
        max_target_length = kwargs.pop("max_target_length", None)
        if text is None:
            return super().__call__(text_target=text_target, **kwargs)
        padding, tensors = kwargs.pop("padding", False), kwargs.pop("return_tensors", None)
        texts = [text] if isinstance(text, str) else list(text)
        encodings = super().__call__(texts, **kwargs)
        encodings["copy_ids"] = [self.aligned(*row, row[0]) for row in zip(texts, encodings["input_ids"], strict=True)]
        if text_target is not None:
            targets = [text_target] if isinstance(text, str) else list(text_target)
            limit = kwargs if max_target_length is None else {**kwargs, "max_length": max_target_length}
            labels = super().__call__(text_target=targets, **limit)["input_ids"]
            encodings["labels"] = [self.aligned(*row) for row in zip(targets, labels, texts, strict=True)]
        if isinstance(text, str) and tensors is None:
            encodings = BatchEncoding({name: rows[0] for name, rows in encodings.items()})
        if not padding and tensors is None:
            return encodings
        return self.pad(encodings, padding=padding, max_length=kwargs.get("max_length"), return_tensors=tensors)

    def copied_words(self, source: str) -> list[str]:
        """The unknown words of a source that have slots, in the order of these."""
        words = dict.fromkeys(self._unknown_words(source))
        return [word for word in words if word != self.unk_token][: self.copy_slots]

    def aligned(self, text: str, ids: list[int], source: str) -> list[int]:
        """The ids of a text, with the slots of the source's words where the text has unknown ones."""
        slots = {word: len(self) + number for number, word in enumerate(self.copied_words(source))}
        words = self._unknown_words(text)
        known = len(words) - sum(one == self.unk_token_id for one in ids)  # of those that were cut off
        left = iter(words[known:] if self.truncation_side == "left" else words)
        return [slots.get(next(left), one) if one == self.unk_token_id else one for one in ids]

    def pad(self, encoded_inputs: Any, *args: Any, return_tensors: Any = None, **kwargs: Any) -> BatchEncoding:
        """As in `PreTrainedTokenizerFast`, `copy_ids` included."""
        if isinstance(encoded_inputs, (list, tuple)):
            encoded_inputs = {name: [row[name] for row in encoded_inputs] for name in encoded_inputs[0]}
        rest = {name: values for name, values in encoded_inputs.items() if name != "copy_ids"}
        padded = super().pad(rest, *args, **kwargs)
        if "copy_ids" in encoded_inputs:
            given, whole = encoded_inputs["copy_ids"], padded["input_ids"]
            is_one = not isinstance(whole[0], (list, tuple))
            rows = zip([given] if is_one else given, [whole] if is_one else whole, strict=True)
            copied = [self._filled(list(one), len(ids), kwargs.get("padding_side")) for one, ids in rows]
            padded["copy_ids"] = copied[0] if is_one else copied
        return BatchEncoding(dict(padded), tensor_type=return_tensors)

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, source: str | list[str] | None = None, **kwargs: Any
    ) -> Any:
        """Turn ids, one sequence or a batch of them, into text; `source` is what slots were copied from.

        Without it, they become the unknown token.
        """
        ids = token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids
        if isinstance(ids, int):
            ids = [ids]
        if len(ids) and not isinstance(ids[0], int):
            sources = [source] * len(ids) if source is None or isinstance(source, str) else source
            return [self.decode(row, skip_special_tokens, one) for row, one in zip(ids, sources, strict=True)]
        copied = self.copied_words(source) if isinstance(source, str) else []
        special, size, words = set(self.all_special_ids), len(self), []
        for one in ids:
            if one >= size:
                words.append(copied[one - size] if one - size < len(copied) else self.unk_token)
            elif not (skip_special_tokens and one in special and one != self.unk_token_id):
                words.append(self.convert_ids_to_tokens(one))
        return " ".join(words)

    def _unknown_words(self, text: str) -> list[str]:
        """What becomes the unknown token in a text, one word after another; that token itself, where it is written."""
        backend = self.backend_tokenizer
        backend.no_truncation()
        encoding = backend.encode(text, add_special_tokens=False)
        places = [place for one, place in zip(encoding.ids, encoding.offsets, strict=True) if one == self.unk_token_id]
        return [backend.normalizer.normalize_str(text[first:last]) for first, last in places]

    def _filled(self, ids: list[int], length: int, side: str | None) -> list[int]:
        padding = [self.pad_token_id] * (length - len(ids))
        return padding + ids if (side or self.padding_side) == "left" else ids + padding
