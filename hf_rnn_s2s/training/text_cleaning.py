"""What a tokenizer does to a text before it makes tokens of it: its Unicode form, and cleaning that was asked for."""

from collections.abc import Callable, Sequence

from tokenizers import Regex, normalizers

UNICODE_FORMS: dict[str, Callable[[], normalizers.Normalizer]] = {"NFC": normalizers.NFC, "NFD": normalizers.NFD}

# Steps of cleaning. What they change is lost: decoding gives back the clean text.
CLEANING: dict[str, Callable[[], normalizers.Normalizer]] = {
    "single_spaces": lambda: normalizers.Replace(Regex(r"\s+"), " "),  # also for line breaks
    "lower_case": normalizers.Lowercase,
}


def cleaning_steps(cleaning: Sequence[str]) -> list[normalizers.Normalizer]:
    """The steps with these names.

    Raises:
        ValueError: if a step has an unknown name.
    """
    if unknown := [name for name in cleaning if name not in CLEANING]:
        raise ValueError(f"cleaning has {', '.join(map(repr, unknown))}; it can have {', '.join(CLEANING)}.")
    return [CLEANING[name]() for name in cleaning]
