"""The tokenizer of a model with separate vocabularies. One vocabulary for both sides needs no class of its own."""

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
