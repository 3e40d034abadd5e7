"""Training with a pretrained encoder: its tokenizer for the source, one of our own for the target, and its weights."""

from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ..errors import UsageError
from ..model.tokenization_rnn_s2s import RnnS2STokenizer


def join_tokenizers(encoder_name: str, target: PreTrainedTokenizerFast) -> RnnS2STokenizer:
    """The tokenizer of a pretrained encoder for sources, and another one for targets, in one.

    Args:
        encoder_name: a folder or a name on the Hub.
        target: with the end token at the end of each text.

    Raises:
        UsageError: if the encoder has no fast tokenizer, or none that ends a text with a token of its own.
    """
    source: Any = AutoTokenizer.from_pretrained(encoder_name)
    if not isinstance(source, PreTrainedTokenizerFast):
        raise UsageError(f"encoder_name={encoder_name}: its tokenizer is a {type(source).__name__}, not a fast one.")
    special: dict[str, Any] = dict(source.special_tokens_map)
    last = source("a")["input_ids"][-1]
    if last not in source.all_special_ids:
        raise UsageError(f"encoder_name={encoder_name}: its tokenizer ends no text with a special token.")
    special["eos_token"] = source.convert_ids_to_tokens(last)
    return RnnS2STokenizer(
        tokenizer_object=source.backend_tokenizer,
        target_tokenizer_object=target.backend_tokenizer,
        target_special_tokens=target.special_tokens_map,
        model_max_length=source.model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        **special,
    )
