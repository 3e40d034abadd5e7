"""The languages of a run: their names and codes, and whether they are those of its model."""

import re
from functools import cache

from babel import Locale, parse_locale
from babel.core import get_global
from transformers.utils import logging

from ..data.arguments import DataArguments, names_data
from ..model.configuration_rnn_s2s import RnnS2SConfig
from .tasks.base import Languages

logger = logging.get_logger(__name__)

# Labels that mean the input in data, although they are (unused) codes of Sardinian and Indonesian
INPUT_LABELS = ("src", "in")


def language_pair(arguments: DataArguments) -> Languages:
    """Source and target language as the arguments of the run name them, None if they do not."""
    if names_data(arguments):
        return arguments.source_lang or None, arguments.target_lang or None
    source, target = arguments.demo_locales
    return source, target


@cache
def language_name(label: str) -> str | None:
    """English name of a language: `"Chinese (Simplified)"` for `"zh_Hans"`, `"German"` for `"de"` and `"deu"`.

    None if the label is not the code of a language in Unicode CLDR, but the name of a column, say.
    """
    try:
        code, territory, script = parse_locale(label.replace("-", "_"))[:3]
    except ValueError:
        return None
    english, code = Locale("en"), _current_code(code)
    if code not in english.languages or label.lower() in INPUT_LABELS:
        return None
    variants = [english.scripts.get(script, script), english.territories.get(territory, territory)]
    known = [variant for variant in variants if variant]
    return f"{english.languages[code]} ({', '.join(known)})" if known else english.languages[code]


def language_code(label: str) -> str | None:
    """The code of two or three letters by which the Hub knows a language; None if the label is not one."""
    return None if language_name(label) is None else _subtags(label)[0]


def set_languages(config: RnnS2SConfig, languages: Languages, name: str) -> None:
    """Write the languages of a run into the configuration of the model `name`, which the run trains or evaluates.

    If the configuration has others, those of the run replace them, with a warning. A variant, such as `"en_US"` for
    `"en"`, is not another language: the configuration keeps its own.

    Raises:
        ValueError: if they are not valid in the configuration.
    """
    own = config.source_lang, config.target_lang
    first, second = own, languages
    if _are_swapped(own, languages) or _differ(own, languages):
        logger.warning(_warning(own, languages, name))
        first, second = languages, own
    config.source_lang, config.target_lang = first[0] or second[0], first[1] or second[1]
    config.check()


def _are_swapped(own: Languages, given: Languages) -> bool:
    if not all(own) or not all(given):
        return False
    swapped = given[1], given[0]
    tags, swapped_tags = ([_subtags(str(label)) for label in pair] for pair in (own, swapped))
    tags_are_swapped = tags == swapped_tags != tags[::-1]
    return tags_are_swapped or (_agree(own, swapped) and not _agree(own, given))


def _differ(own: Languages, given: Languages) -> bool:
    """Whether a side has another language. Labels that are not language codes, but column names, do not count."""
    return not _agree(_without_columns(own), _without_columns(given))


def _without_columns(languages: Languages) -> Languages:
    source, target = (label if label and language_name(label) else None for label in languages)
    return source, target


def _agree(one: Languages, other: Languages) -> bool:
    """Whether both pairs may be the same. Variants matter only in a pair of two variants of one language."""
    between_variants = any(_is_between_variants(pair) for pair in (one, other))
    for first, second in zip(one, other, strict=True):
        if first is None or second is None:
            continue
        subtags = _subtags(first), _subtags(second)
        length = min(map(len, subtags)) if between_variants else 1
        if subtags[0][:length] != subtags[1][:length]:
            return False
    return True


def _is_between_variants(languages: Languages) -> bool:
    """Whether source and target are variants of one language, such as simplified and traditional Chinese."""
    source, target = languages
    return source is not None and target is not None and _subtags(source)[0] == _subtags(target)[0]


def _subtags(label: str) -> list[str]:
    first, *others = re.split("[-_.@]", label.lower())
    return [_current_code(first), *others]


def _current_code(code: str) -> str:
    """The current code: two letters if a language has such a code, as CLDR lists `"deu"` as an alias of `"de"`."""
    return str(get_global("language_aliases").get(code, code)).split("_")[0]


def _warning(own: Languages, given: Languages, name: str) -> str:
    way_out = "swap" if _are_swapped(own, given) else "mend"
    return (
        f"The model {name} translates {_describe(own)}, but the data of this run is {_describe(given)}. If that "
        f"is a slip, {way_out} source_lang and target_lang (of the embedded corpus: the two demo_locales). If it is "
        "meant, go on: a model that is trained is saved with the languages of its last run."
    )


def _describe(languages: Languages) -> str:
    return " to ".join(_with_name(label) if label else "a language not stated" for label in languages)


def _with_name(label: str) -> str:
    name = language_name(label)
    return repr(label) if name is None else f"{name} {label!r}"
