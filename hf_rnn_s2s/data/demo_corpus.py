"""The embedded default corpus: random facts, each written in two languages.

Dates, times, durations, quantities and prices are drawn at random and rendered in both languages from the
Unicode Common Locale Data Repository (CLDR) through Babel, so any two CLDR locales make a corpus::

    >>> build_demo_corpus("en", "zh")["train"][4]
    {'source': 'Monday, October 4, 1993, 3:10 – 5:45 AM', 'target': '1993年10月4日星期一 上午3:10至5:45'}

All words and their order come from CLDR. The source always carries all information of the target (weekday, year, AM or
PM), so the translation is a function of the source and can be learnt to the last character.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from random import Random
from typing import TypeVar

from babel import Locale, UnknownLocaleError, numbers

from .arguments import DataArguments
from .locale_formatter import DeltaUnit, ListStyle, LocaleFormatter

Example = dict[str, str]
Pair = tuple[str, str]
Choice = TypeVar("Choice", bound=str)
Phrase = Callable[[LocaleFormatter], str]

_MAX_FAILED_DRAWS = 2000  # draws in a row without a new phrase before giving up

# CLDR units of quantities ("3.5 kilometers")
_QUANTITY_UNITS = [
    "length-kilometer",
    "length-meter",
    "length-centimeter",
    "length-mile",
    "length-foot",
    "mass-kilogram",
    "mass-gram",
    "mass-tonne",
    "volume-liter",
    "volume-milliliter",
    "volume-cubic-meter",
    "area-square-meter",
    "area-square-kilometer",
    "area-hectare",
    "temperature-celsius",
    "energy-kilowatt-hour",
    "power-watt",
    "digital-megabyte",
    "digital-gigabyte",
]
# Units that something is priced by ("12.50 US dollars per kilogram")
_PRICED_UNITS = [
    "mass-kilogram",
    "mass-gram",
    "mass-tonne",
    "volume-liter",
    "length-meter",
    "length-kilometer",
    "area-square-meter",
    "energy-kilowatt-hour",
    "duration-hour",
    "duration-day",
    "duration-week",
    "duration-month",
    "duration-year",
]
# Units that a booking is priced by
_BOOKED_UNITS = ["duration-hour", "duration-day", "duration-week", "duration-month"]
# Numerators and denominators of rates ("120 kilometers per hour")
_RATES: list[Pair] = [
    ("length-kilometer", "duration-hour"),
    ("length-mile", "duration-hour"),
    ("length-meter", "duration-second"),
    ("volume-liter", "duration-minute"),
    ("volume-liter", "length-kilometer"),
    ("volume-cubic-meter", "duration-day"),
    ("mass-kilogram", "duration-hour"),
    ("mass-gram", "volume-liter"),
    ("mass-tonne", "duration-year"),
    ("digital-megabyte", "duration-second"),
    ("digital-gigabyte", "duration-month"),
]
# Currencies of prices, by ISO 4217 code
_CURRENCIES = ["USD", "EUR", "GBP", "CNY", "JPY", "INR", "CHF", "CAD", "AUD", "KRW", "MXN", "BRL"]
# A larger and a smaller unit, and the largest usual number of the smaller one (59 minutes beside hours)
_DURATIONS: dict[Pair, int] = {
    ("duration-year", "duration-month"): 11,
    ("duration-week", "duration-day"): 6,
    ("duration-day", "duration-hour"): 23,
    ("duration-hour", "duration-minute"): 59,
    ("duration-minute", "duration-second"): 59,
}
_CONNECTIVES: list[ListStyle] = ["standard", "or"]  # CLDR's list styles "A and B", "A or B"
_DELTA_UNITS: list[DeltaUnit] = ["day", "week", "month", "year"]  # units of relative times ("in 3 weeks")

# Marks that only control the display of right-to-left text. U+200C and U+200D are spelling (Persian, Hindi) and stay.
_BIDI_CONTROLS = dict.fromkeys(map(ord, "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))


def _plain(text: str) -> str:
    """The text as a person would type it: NFC, ordinary single spaces, no invisible direction marks.

    CLDR puts no-break, narrow and thin spaces (U+00A0, U+202F, U+2009) where typesetters want them. They mean the same
    as a plain space, keyboards do not have them, and a model trained on them would not know "3:05 PM".
    """
    return " ".join(unicodedata.normalize("NFC", text.translate(_BIDI_CONTROLS)).split())


@dataclass(frozen=True)
class _Vocabulary:
    """Units, currencies and list styles for which both languages have words, and the source distinct ones."""

    quantity_units: list[str]
    priced_units: list[str]
    booked_units: list[str]
    rates: list[Pair]  # (numerator, denominator)
    durations: list[Pair]  # (larger unit, smaller unit)
    currencies: list[str]
    connectives: list[ListStyle]  # list styles of CLDR: "standard" is "A and B", "or" is "A or B"
    names_weekday: bool


def _shared_vocabulary(source: LocaleFormatter, target: LocaleFormatter) -> _Vocabulary:
    formatters = (source, target)
    candidates = dict.fromkeys(itertools.chain(_QUANTITY_UNITS, *_RATES, *_DURATIONS))
    shared = [unit for unit in candidates if all(formatter.can_say(unit) for formatter in formatters)]
    known = set(_with_distinct_words(shared, lambda unit: source.quantity(Decimal(2), unit)))
    denominators = dict.fromkeys(itertools.chain(_PRICED_UNITS, _BOOKED_UNITS, (unit for _, unit in _RATES)))
    shared = [unit for unit in denominators if all(formatter.can_say_per(unit) for formatter in formatters)]
    per = set(_with_distinct_words(shared, lambda unit: source.price_per(Decimal(2), "USD", unit)))
    return _Vocabulary(
        quantity_units=[unit for unit in _QUANTITY_UNITS if unit in known],
        priced_units=[unit for unit in _PRICED_UNITS if unit in per],
        booked_units=[unit for unit in _BOOKED_UNITS if unit in per],
        rates=[(unit, denominator) for unit, denominator in _RATES if unit in known and denominator in per],
        durations=[pair for pair in _DURATIONS if known.issuperset(pair)],
        currencies=_with_distinct_words(_CURRENCIES, lambda currency: source.price(Decimal(2), currency)),
        connectives=_with_distinct_words(_CONNECTIVES, lambda style: source.listing(["1", "2"], style)),
        names_weekday=source.names_weekday,
    )


def _with_distinct_words(candidates: Iterable[Choice], say: Callable[[Choice], str]) -> list[Choice]:
    """The candidates that differ in words; a later one with the same words would be ambiguous in the source."""
    by_words: dict[str, Choice] = {}
    for candidate in candidates:
        by_words.setdefault(_plain(say(candidate)), candidate)
    return list(by_words.values())


# One function for each kind of phrase: it draws the facts once and returns a function that renders them in a locale.


def _date(random: Random, vocabulary: _Vocabulary) -> Phrase:
    day, weekday = _day(random), _weekday(random, vocabulary)
    return lambda formatter: formatter.calendar_date(day, weekday)


def _appointment(random: Random, vocabulary: _Vocabulary) -> Phrase:
    moment, weekday = _moment(random), _weekday(random, vocabulary)
    return lambda formatter: formatter.on_date(formatter.calendar_date(moment, weekday), formatter.clock_time(moment))


def _opening(random: Random, vocabulary: _Vocabulary) -> Phrase:
    start, end = sorted(random.sample(range(24 * 12), 2))  # in 5-minute steps since midnight
    midnight = datetime.combine(_day(random), time())
    first, last = midnight + timedelta(minutes=5 * start), midnight + timedelta(minutes=5 * end)
    weekday = _weekday(random, vocabulary)
    return lambda formatter: formatter.on_date(
        formatter.calendar_date(first, weekday), formatter.time_range(first, last)
    )


def _period(random: Random, vocabulary: _Vocabulary) -> Phrase:
    first, last = _first_and_last_day(random)
    weekday = _weekday(random, vocabulary)
    return lambda formatter: formatter.period(first, last, weekday)


def _deadline(random: Random, vocabulary: _Vocabulary) -> Phrase:
    unit, moment = random.choice(_DELTA_UNITS), _moment(random)
    count = random.choice([-1, 1]) * random.randint(1, 60)
    return lambda formatter: formatter.on_date(formatter.relative(unit, count), formatter.clock_time(moment))


def _duration(random: Random, vocabulary: _Vocabulary) -> Phrase:
    larger, smaller = pair = random.choice(vocabulary.durations)
    parts = [(random.randint(1, 99), larger), (random.randint(1, _DURATIONS[pair]), smaller)]
    return lambda formatter: formatter.duration(parts)


def _quantity(random: Random, vocabulary: _Vocabulary) -> Phrase:
    count = min(random.choice([1, 2, 2]), len(vocabulary.quantity_units))
    chosen = random.sample(vocabulary.quantity_units, count)
    parts = [(_number(random), unit) for unit in chosen]
    connective = random.choice(vocabulary.connectives)
    return lambda formatter: formatter.listing(
        [formatter.quantity(number, unit) for number, unit in parts], connective
    )


def _rate(random: Random, vocabulary: _Vocabulary) -> Phrase:
    chosen = random.sample(vocabulary.rates, min(random.choice([1, 2]), len(vocabulary.rates)))
    parts = [(_number(random), *pair) for pair in chosen]
    connective = random.choice(vocabulary.connectives)
    return lambda formatter: formatter.listing([formatter.rate(*part) for part in parts], connective)


def _price(random: Random, vocabulary: _Vocabulary) -> Phrase:
    amount, currency = _price_tag(random, vocabulary)
    return lambda formatter: formatter.price(amount, currency)


def _unit_price(random: Random, vocabulary: _Vocabulary) -> Phrase:
    amount, currency = _price_tag(random, vocabulary)
    unit = random.choice(vocabulary.priced_units)
    return lambda formatter: formatter.price_per(amount, currency, unit)


def _booking(random: Random, vocabulary: _Vocabulary) -> Phrase:
    first, last = _first_and_last_day(random)
    amount, currency = _price_tag(random, vocabulary)
    unit = random.choice(vocabulary.booked_units)
    return lambda formatter: formatter.on_date(
        formatter.period(first, last, False), formatter.price_per(amount, currency, unit)
    )


# Kinds of phrases and what draws one
_KINDS: dict[str, Callable[[Random, _Vocabulary], Phrase]] = {
    "date": _date,
    "appointment": _appointment,
    "opening": _opening,
    "period": _period,
    "deadline": _deadline,
    "duration": _duration,
    "quantity": _quantity,
    "rate": _rate,
    "price": _price,
    "unit_price": _unit_price,
    "booking": _booking,
}
DEMO_KINDS: tuple[str, ...] = tuple(_KINDS)  # all kinds of phrases


def _day(random: Random) -> date:
    return date(1980, 1, 1) + timedelta(days=random.randrange(60 * 365))


def _moment(random: Random) -> datetime:
    return datetime.combine(_day(random), time()) + timedelta(minutes=5 * random.randrange(24 * 12))


def _first_and_last_day(random: Random) -> tuple[date, date]:
    first = _day(random)
    return first, first + timedelta(days=random.randint(1, random.choice([10, 60, 400])))


def _weekday(random: Random, vocabulary: _Vocabulary) -> bool:
    return vocabulary.names_weekday and random.random() < 0.5


def _number(random: Random) -> Decimal:
    whole = random.randint(1, random.choice([20, 100, 1000, 5000]))
    return whole + Decimal(random.randint(1, 9)) / 10 if random.random() < 0.25 else Decimal(whole)


def _price_tag(random: Random, vocabulary: _Vocabulary) -> tuple[Decimal, str]:
    currency = random.choice(vocabulary.currencies)
    whole = Decimal(random.randint(1, random.choice([20, 100, 1000, 5000])))
    has_cents = numbers.get_currency_precision(currency) == 2 and random.random() < 0.5
    return whole + Decimal(random.randint(1, 99)) / 100 if has_cents else whole, currency


def demo_pairs(arguments: DataArguments) -> dict[str, list[Example]]:
    """The corpus that a run's arguments ask for; errors are those of `build_demo_corpus`."""
    source_locale, target_locale = arguments.demo_locales
    build = partial(build_demo_corpus, source_locale, target_locale, seed=arguments.examples_seed)
    return build() if arguments.demo_size is None else build(size=arguments.demo_size)


def build_demo_corpus(
    source_locale: str = "en",
    target_locale: str = "zh",
    size: int = 20_000,
    seed: int = 0,
    *,
    validation_size: int = 500,
    test_size: int = 500,
    kinds: Sequence[str] = DEMO_KINDS,
) -> dict[str, list[Example]]:
    """Make the corpus: `{"train": [{"source": …, "target": …}, …], "validation": […], "test": […]}`.

    No source and no target occurs twice, so none is in two splits. The same arguments and the same Babel give the
    same corpus in every process; the test and validation splits do not change with `size`.

    Args:
        source_locale: CLDR locale identifier such as `en`, `de`, `zh_Hant`, `pt-BR`.
        target_locale: likewise.
        size: number of training examples.
        seed: of the random draws.
        validation_size: number of validation examples.
        test_size: number of test examples.
        kinds: the kinds of phrases, each drawn equally often; see `DEMO_KINDS`.

    Raises:
        ValueError: for a locale that CLDR does not know, two locales that write all phrases the same way, a size
            below 1, an unknown kind, or more examples than the kinds have different phrases.
    """
    formatters = [
        LocaleFormatter(_parse_locale(name, value))
        for name, value in (("source_locale", source_locale), ("target_locale", target_locale))
    ]
    _check_sizes(size=size, validation_size=validation_size, test_size=test_size)
    _check_kinds(kinds)
    if formatters[0].locale == formatters[1].locale:
        raise ValueError(
            f"target_locale: {target_locale!r} is the same locale as source_locale={source_locale!r}, so there is "
            "nothing to translate; name another one, such as 'de'"
        )
    count = size + validation_size + test_size
    examples = _draw_examples(count, kinds, Random(seed), *formatters)
    if all(example["source"] == example["target"] for example in examples):
        raise ValueError(
            f"target_locale: {target_locale!r} writes all phrases as source_locale={source_locale!r} does, so there "
            "is nothing to translate; name another language, such as 'de'"
        )
    held_out = test_size + validation_size
    return {
        "train": examples[held_out:],
        "validation": examples[test_size:held_out],
        "test": examples[:test_size],
    }


def _draw_examples(
    count: int, kinds: Sequence[str], random: Random, source: LocaleFormatter, target: LocaleFormatter
) -> list[Example]:
    vocabulary = _shared_vocabulary(source, target)
    examples: list[Example] = []
    sources: set[str] = set()
    targets: set[str] = set()
    failed_draws = 0
    while len(examples) < count:
        phrase = _KINDS[random.choice(kinds)](random, vocabulary)
        example = {"source": _plain(phrase(source)), "target": _plain(phrase(target))}
        if example["source"] in sources or example["target"] in targets:
            failed_draws += 1
            if failed_draws == _MAX_FAILED_DRAWS:
                raise ValueError(
                    f"size: no more than {len(examples)} different phrases were found for train, validation and test "
                    f"together, of {count} asked for (kinds: {', '.join(kinds)}); lower size, validation_size or "
                    "test_size, or allow more kinds"
                )
            continue
        failed_draws = 0
        sources.add(example["source"])
        targets.add(example["target"])
        examples.append(example)
    return examples


def _parse_locale(argument: str, identifier: str) -> Locale:
    try:
        return Locale.parse(identifier.replace("-", "_"))
    except (UnknownLocaleError, ValueError) as error:
        raise ValueError(
            f"{argument}: CLDR has no locale {identifier!r}; name one such as 'en', 'de', 'ja' or 'zh_Hant' "
            "(all: babel.localedata.locale_identifiers())"
        ) from error


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: {size} examples make no split; ask for at least 1")


def _check_kinds(kinds: Sequence[str]) -> None:
    unknown = [kind for kind in kinds if kind not in _KINDS]
    if unknown or not kinds:
        raise ValueError(f"kinds: {', '.join(unknown) or 'none'} given; choose from {', '.join(_KINDS)}")
