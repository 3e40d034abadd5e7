"""Tokenizers whose tokens are whole symbols: characters, or what stands between white space.

There are no subwords and no bytes: a symbol that the vocabulary lacks is unknown. Which symbols are in it follows from
the texts alone: the most frequent ones, and of equally frequent ones those that come first in the alphabet.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ..model.tokenization_rnn_s2s import SPECIAL_TOKENS
from .training_texts import batches, spool

NORMALIZERS: dict[str, Callable[[], normalizers.Normalizer]] = {"NFC": normalizers.NFC, "NFD": normalizers.NFD}


class SymbolKind(NamedTuple):
    """How texts become symbols, and symbols a text."""

    split: Callable[[], pre_tokenizers.PreTokenizer]
    decoder: Callable[[], decoders.Decoder] | None  # None: with a space between two of them


SYMBOL_KINDS = {
    "char": SymbolKind(lambda: pre_tokenizers.Split(Regex("(?m:.)"), "isolated"), decoders.Fuse),
    "symbol": SymbolKind(pre_tokenizers.WhitespaceSplit, None),
    "word": SymbolKind(pre_tokenizers.WhitespaceSplit, None),
}


def train_symbols(
    name: str, texts: Iterable[str], vocab_size: int, kind: str, normalization: str, do_lower_case: bool = False
) -> Tokenizer:
    """Collect the symbols of texts; `name` is what error messages call them.

    Args:
        name: of the texts.
        texts: to collect from, read once.
        vocab_size: the most tokens, the special ones included.
        kind: one of `SYMBOL_KINDS`.
        normalization: "NFC", or "NFD", in which a letter and its accent are two characters, and a Korean syllable is
            two or three.
        do_lower_case: whether capitals become small letters.

    Raises:
        TypeError, ValueError: as `spool`.
    """
    split, decoder = SYMBOL_KINDS[kind]
    normalizer, splitter = NORMALIZERS[normalization](), split()
    if do_lower_case:
        normalizer = normalizers.Sequence([normalizer, normalizers.Lowercase()])
    counts: Counter[str] = Counter()
    with tempfile.TemporaryFile() as file:
        spool(name, texts, file, do_lower_case)
        for batch in batches(file, {}):
            for text in batch:
                normalized = normalizer.normalize_str(text)
                counts.update(symbol for symbol, _ in splitter.pre_tokenize_str(normalized))
    special = list(SPECIAL_TOKENS.values())
    ordered = sorted((one for one in counts if one not in special), key=lambda one: (-counts[one], one))
    vocabulary = {symbol: number for number, symbol in enumerate([*special, *ordered][:vocab_size])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    backend.normalizer, backend.pre_tokenizer = normalizer, splitter
    if decoder is not None:
        backend.decoder = decoder()
    eos = SPECIAL_TOKENS["eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, backend.token_to_id(eos))]
    )
    return backend


def symbol_splitter(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], list[str]]:
    """What makes symbols of a text: as a tokenizer of symbols does it, and characters with any other one."""
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, models.WordLevel) or backend.pre_tokenizer is None:
        return list
    return lambda text: [symbol for symbol, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
