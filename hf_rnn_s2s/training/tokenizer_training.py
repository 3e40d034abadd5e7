"""Training a tokenizer from text. `symbol_tokenizers.py` makes those without subwords; this is about subwords.

The result is a plain fast tokenizer: once saved, `AutoTokenizer.from_pretrained` loads it on a machine without this
package. How a text becomes tokens, in the order in which the library does it:

1. *Added tokens* are found: tokens that a user added to the trained tokenizer, such as a tag `<2de>`. The steps below
   see only the text between them.
2. *Normalise*: Unicode NFC, and lower case if that was asked for.
3. *One space in front* of the text, so that a word is the same token at the start of a sentence and inside it. Texts
   that begin with a digit or in a script without spaces get none: it would be an empty token there. Text after a tag
   gets none either: `<2de> A dog` is the tag, then the tokens of `A dog`.
4. *Split* into units that no token may cross: a word with its leading space, a stretch of a script without spaces, a
   digit, a run of one punctuation mark or symbol with its leading space, any other character by itself.
5. *Subwords* inside each unit: byte-pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) or a
   unigram language model (Kudo 2018, https://arxiv.org/abs/1804.10959). A character that is not in the vocabulary is
   spelled in its UTF-8 bytes, `<0x00>` to `<0xFF>`, so nothing is ever unknown.
6. `</s>` is appended.

Decoding joins the tokens, turns bytes back into characters and takes the leading space off again, which gives back
exactly the NFC form of every text (NFC as the `tokenizers` library knows it: combining marks that Unicode added in the
last few years keep their order), and lower case if that was asked for. Three choices make that hold,
and keep tokens readable on a plot's axis:

- Tokens hold characters ("日"), not a byte alphabet ("æĹ¥"); only rare characters fall back to bytes.
- The space in a token is a space. With the usual stand-in "▁", a "▁" in the text would become a space.
- `<s>` or `</s>` in a text is text, not a control token. The splitting rule keeps `<`, `s` and `>` apart, so
  subwords never spell a control token or a byte token either. To write a control token on purpose, write its id:
  `[tokenizer.bos_token_id, *input_ids]`.
"""

import json
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, get_args

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from ..model.tokenization_rnn_s2s import SPECIAL_TOKENS, RnnS2STokenizer, RnnS2SWordTokenizer
from .symbol_tokenizers import SYMBOL_KINDS, train_symbols
from .training_texts import batches, rare_characters, spool

Kind = Literal["bpe", "unigram", "char", "symbol", "word"]
Normalization = Literal["NFC", "NFD"]
Digits = Literal["single", "whole"]

BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]  # spell characters outside the vocabulary
ENDS = ["s>", "pad>", "unk>"]  # of the special tokens
# Cut off before special tokens are looked for in a text, see `_add_special_tokens`
ENDS_OF_SPECIAL_TOKENS = [*ENDS, *(end + another for end in ENDS for another in ENDS)]
# The tokens of every vocabulary, with the first ids
RESERVED_TOKENS = [*SPECIAL_TOKENS.values(), *BYTE_TOKENS, *ENDS_OF_SPECIAL_TOKENS]
SMALLEST_VOCABULARY = len(RESERVED_TOKENS) + 2  # the space, and one token to learn

# Scripts that put no space between words. "ー", the long-vowel mark, belongs to two Japanese scripts, thus to none.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
WITHOUT_SPACE_IN_FRONT = rf"[\p{{N}}{UNSPACED}]"  # first characters of texts that get no space in front
# A noncharacter of Unicode, put before spaces of the text that could be mistaken for the added one in front of it.
# Splitting removes it again. A mark that the text itself has is followed by a zero.
MARK = "\ufdd0"
MARK_OF_TEXT = f"{MARK}0"
PLACES_TO_MARK = rf"\A(?= )|(?= {WITHOUT_SPACE_IN_FRONT})"
# Where lower case would make a special token of text, such as `</S>`: a mark there keeps it text
PLACES_OF_CAPITALS = r"(?<=<)(?!/?(?:s|pad|unk)>)(?=(?i:/?(?:s|pad|unk)>))"
REMOVED_BY_SPLITTING = rf"{MARK}(?!0)|\A {WITHOUT_SPACE_IN_FRONT}"
# The units that no token may cross, see step 4 above.
# In words, the joiners U+200C and U+200D shape letters of Persian and of the scripts of India.
WORD = rf" ?[\p{{L}}\p{{M}}\u200C\u200D&&[^{UNSPACED}]]+"
PUNCTUATION = r" ?([\p{P}\p{S}])\1*"
ANY_OTHER_CHARACTER = f"{MARK_OF_TEXT}|(?m:.)"
DIGIT_PATTERNS: dict[str, str] = {"single": r"\p{N}", "whole": r"\p{N}+"}


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    kind: Kind = "bpe",
    *,
    target_texts: Iterable[str] | None = None,
    target_vocab_size: int | None = None,
    target_kind: Kind | None = None,
    normalization: Normalization = "NFC",
    do_lower_case: bool = False,
    digits: Digits = "single",
    model_max_length: int | None = None,
    copy_slots: int = 0,
    show_progress: bool = False,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer; the docstring of this module says how it splits a text.

    One vocabulary for both languages is the default (give the texts of both sides as `texts`): names and numbers are
    then the same tokens on both sides, and the model can share its embeddings. Texts are read once, in batches, and
    kept in a temporary file, so a generator over a corpus larger than memory will do.

    With "bpe" the same texts always give the same tokenizer. The unigram trainer of the `tokenizers` library breaks
    ties at random: two runs give scores that differ in the third decimal, and may differ in a few rare tokens.

    For other texts call this again: the tokenizer's own `train_new_from_iterator` makes one without byte tokens.

    Tokens of your own, such as a tag for the language to write, are added as to any tokenizer, and found wherever they
    stand in a text: `tokenizer.add_special_tokens({"extra_special_tokens": ["<2de>"]})`; then a model that is already
    there needs `model.resize_token_embeddings(len(tokenizer))`. Two limits: a typed `<s>` becomes a control token if
    `<s>` is added once more, or where a special token that begins with a letter follows it without a space; and tokens
    that begin with a space or end like `<x-s>` are found only if added as `AddedToken(token, normalized=False)`. Where
    texts are cut on the left (`truncation_side="left"`), they lose their first tokens, a tag among them.

    Args:
        texts: sentences to learn from; the source side only, if `target_texts` is given.
        vocab_size: the most tokens to make, all of them: 4 special tokens, 256 bytes, 12 ends of special tokens,
            characters, subwords. A small text may not have as many subwords that occur twice; use `len(tokenizer)` for
            the model. Single characters take at most half of what the first 272 leave, the most frequent first; the
            rest are spelled in bytes. Kinds without subwords have the 4 special tokens and symbols, the most frequent
            ones; others are unknown.
        kind: "bpe" or "unigram", whose tokens are subwords; "char", whose tokens are characters; or "symbol" or
            "word", whose tokens are what stands between white space. "word" with one vocabulary for both sides makes a
            `RnnS2SWordTokenizer`, for a model that copies what it does not know.
        target_texts: if given, targets get a vocabulary of their own and the result is a `RnnS2STokenizer`.
        target_vocab_size: size of that vocabulary; `vocab_size` if not given.
        target_kind: of that vocabulary; `kind` if not given.
        normalization: of kinds without subwords, the Unicode form of what the model reads and writes. In "NFD" a
            letter and its accent are two characters, and a Korean syllable is two or three. With a vocabulary for each
            side, the form of the source; targets are always in NFC.
        do_lower_case: whether capitals become small letters, on both sides. Then a name is the same tokens wherever it
            stands, and what is decoded has no capitals.
        digits: "single" makes each digit a token, so that every number is made of pieces the model knows and copying
            or converting one means doing so digit by digit. "whole" lets frequent numbers ("2024") become a token.
        model_max_length: the most tokens the model reads, `</s>` included; None for no limit.
        copy_slots: of "word", the number of unknown words of one source that can be copied.
        show_progress: draw the progress bars of the `tokenizers` library.

    Returns:
        A fast tokenizer with `<pad>` 0, `<s>` 1, `</s>` 2, `<unk>` 3.

    Raises:
        TypeError: if `texts` is not an iterable, is a single string or a dictionary, or holds anything but strings.
        ValueError: if `texts` is empty or not valid Unicode, `vocab_size` is below 274, `model_max_length` below 2, or
            a name is unknown.
    """
    _check_choice("kind", kind, get_args(Kind))
    _check_choice("digits", digits, get_args(Digits))
    _check_choice("normalization", normalization, get_args(Normalization))
    if normalization != "NFC" and kind not in SYMBOL_KINDS:
        raise ValueError(f"normalization={normalization!r} is for kinds without subwords, not for {kind!r}.")
    _check_vocab_size("vocab_size", vocab_size, kind)
    if target_texts is None and (target_vocab_size is not None or target_kind is not None):
        name = "target_kind" if target_vocab_size is None else "target_vocab_size"
        raise ValueError(f"{name} needs target_texts: without them both sides share one vocabulary.")
    target_kind = target_kind or kind
    _check_choice("target_kind", target_kind, get_args(Kind))
    if target_texts is not None:
        _check_vocab_size("target_vocab_size", target_vocab_size or vocab_size, target_kind)

    if model_max_length is not None:
        _check_whole_number("model_max_length", model_max_length)
        if model_max_length < 2:
            raise ValueError(f"model_max_length={model_max_length} leaves no room for a token beside `</s>`.")

    settings: dict[str, Any] = {
        **SPECIAL_TOKENS,
        "model_input_names": ["input_ids", "attention_mask"],  # an RNN has no token types
        "clean_up_tokenization_spaces": False,
        "model_max_length": model_max_length,
    }
    if "char" in (kind, target_kind):
        settings["split_special_tokens"] = True  # "</s>" in a text is four characters
    side = _Side("texts", texts, vocab_size, kind, normalization, do_lower_case, digits, show_progress)
    backend = _train_side(side)
    if target_texts is None and kind == "word":
        settings["model_input_names"] = ["input_ids", "attention_mask", "copy_ids"]
        return RnnS2SWordTokenizer(tokenizer_object=backend, copy_slots=copy_slots, **settings)
    if target_texts is None:
        return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)
    target_side = side._replace(
        name="target_texts",
        texts=target_texts,
        vocab_size=target_vocab_size or vocab_size,
        kind=target_kind,
        normalization="NFC",
    )
    return RnnS2STokenizer(tokenizer_object=backend, target_tokenizer_object=_train_side(target_side), **settings)


class _Side(NamedTuple):
    """The arguments of `train_tokenizer` for one vocabulary; `name` is what error messages call `texts`."""

    name: str
    texts: Iterable[str]
    vocab_size: int
    kind: Kind
    normalization: Normalization
    do_lower_case: bool
    digits: Digits
    show_progress: bool


def _train_side(side: _Side) -> Tokenizer:
    if side.kind in SYMBOL_KINDS:
        return train_symbols(side.name, side.texts, side.vocab_size, side.kind, side.normalization, side.do_lower_case)
    return _train_subwords(side)


def _train_subwords(side: _Side) -> Tokenizer:
    model_kind = MODEL_KINDS[side.kind]
    # The library's trainers reserve special tokens only: `build` adds the other reserved tokens to the learned ones.
    learned_size = side.vocab_size - len(RESERVED_TOKENS) + len(SPECIAL_TOKENS)
    with tempfile.TemporaryFile() as file:
        number_of_texts, characters = spool(side.name, side.texts, file, side.do_lower_case)
        rare = rare_characters(characters, limit=(side.vocab_size - len(RESERVED_TOKENS)) // 2, never=MARK)
        trained = _pipeline(model_kind.empty_model(), side)
        trainer = model_kind.trainer(learned_size, side.show_progress)
        trained.train_from_iterator(batches(file, rare), trainer=trainer, length=number_of_texts)
    backend = _pipeline(model_kind.build(json.loads(trained.to_str())["model"]), side)
    _add_special_tokens(backend)
    eos = SPECIAL_TOKENS["eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", pair=f"$A {eos} $B:1 {eos}:1", special_tokens=[(eos, backend.token_to_id(eos))]
    )
    return backend


def _pipeline(model: models.Model, side: _Side) -> Tokenizer:
    """A tokenizer around `model` that normalises and splits as the docstring of this module says."""
    units = [f"[{UNSPACED}]+", WORD, DIGIT_PATTERNS[side.digits], PUNCTUATION, ANY_OTHER_CHARACTER]
    unit = Regex(rf"(?!{REMOVED_BY_SPLITTING})(?:{'|'.join(units)})")
    tokenizer = Tokenizer(model)
    steps = [normalizers.NFC(), normalizers.Replace(MARK, MARK_OF_TEXT)]
    if side.do_lower_case:
        steps += [normalizers.Replace(Regex(PLACES_OF_CAPITALS), MARK), normalizers.Lowercase()]
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(Regex(PLACES_TO_MARK), MARK)])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(" ", prepend_scheme="first", split=False),  # none after an added token
            pre_tokenizers.Split(unit, behavior="removed", invert=True),  # removes everything outside the units
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
            decoders.Replace(Regex(f"{MARK}(?!0)"), ""),  # inside an added token, such as "size 7"
            decoders.Replace(MARK_OF_TEXT, MARK),
        ]
    )
    return tokenizer


def _add_special_tokens(tokenizer: Tokenizer) -> None:
    """Add the special tokens to `tokenizer`, in such a way that it does not find them in texts.

    The switch for that, `split_special_tokens` in transformers, would also split the special tokens of users. But the
    library first looks for tokens with `normalized=False`, and for the others in the rest of the text. So the special
    tokens have `normalized=True` and their ends `normalized=False`: `s>` is cut off before `<s>` is looked for. With
    `single_word=True` the ends do not match in "cats>" and in a tag `<es>`; the pairs of ends are for `<s>s>`, whose
    first `s>` is not a single word.
    """
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=True, single_word=True) for token in SPECIAL_TOKENS.values()]
    )
    tokenizer.add_tokens([AddedToken(end, normalized=False, single_word=True) for end in ENDS_OF_SPECIAL_TOKENS])


class _ModelKind(NamedTuple):
    """The model to train, its trainer, and a function that makes the final model, with bytes, from the trained one."""

    empty_model: Callable[[], models.Model]
    trainer: Callable[[int, bool], trainers.Trainer]
    build: Callable[[dict[str, Any]], models.Model]


def _bpe_trainer(vocab_size: int, show_progress: bool) -> trainers.Trainer:
    return trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,  # a subword seen once teaches nothing
        special_tokens=list(SPECIAL_TOKENS.values()),
        show_progress=show_progress,
    )


def _build_bpe(trained: dict[str, Any]) -> models.Model:
    learned = sorted(trained["vocab"], key=trained["vocab"].__getitem__)[len(SPECIAL_TOKENS) :]
    vocab = {token: index for index, token in enumerate([*RESERVED_TOKENS, *learned])}
    merges = [tuple(merge) for merge in trained["merges"]]
    return models.BPE(vocab=vocab, merges=merges, unk_token=SPECIAL_TOKENS["unk_token"], byte_fallback=True)


def _unigram_trainer(vocab_size: int, show_progress: bool) -> trainers.Trainer:
    return trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        unk_token=SPECIAL_TOKENS["unk_token"],
        show_progress=show_progress,
    )


def _build_unigram(trained: dict[str, Any]) -> models.Model:
    learned = trained["vocab"][len(SPECIAL_TOKENS) :]
    vocab = [*((token, 0.0) for token in RESERVED_TOKENS), *((piece, score) for piece, score in learned)]
    return models.Unigram(vocab, unk_id=RESERVED_TOKENS.index(SPECIAL_TOKENS["unk_token"]), byte_fallback=True)


# The values of `kind` with subwords
MODEL_KINDS: dict[str, _ModelKind] = {
    "bpe": _ModelKind(models.BPE, _bpe_trainer, _build_bpe),
    "unigram": _ModelKind(models.Unigram, _unigram_trainer, _build_unigram),
}


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def _check_vocab_size(name: str, value: int, kind: str) -> None:
    _check_whole_number(name, value)
    if kind in SYMBOL_KINDS:
        if value <= len(SPECIAL_TOKENS):
            raise ValueError(f"{name}={value} leaves no room for a {kind} beside {len(SPECIAL_TOKENS)} tokens.")
    elif value < SMALLEST_VOCABULARY:
        raise ValueError(
            f"{name}={value} is too small: {len(RESERVED_TOKENS)} special tokens, bytes and the like come first, "
            f"so the smallest that works is {SMALLEST_VOCABULARY}, and a useful one has some thousands."
        )


def _check_whole_number(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}.")
