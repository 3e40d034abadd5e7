"""Dates, times, quantities and prices in the words of one locale, from Unicode CLDR through Babel."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Literal

from babel import Locale, dates, lists, numbers, units

DeltaUnit = Literal["day", "week", "month", "year"]
ListStyle = Literal["standard", "or", "unit", "unit-short"]
Length = Literal["long", "short", "narrow"]

_LENGTHS: tuple[Length, ...] = ("long", "short", "narrow")  # CLDR's lengths of unit names, the longest first
_DELTA_SECONDS = dict(dates.TIMEDELTA_UNITS)  # seconds in a day, a week and so on

# Babel writes a unit's identifier where a locale has no pattern for it: "3.5 length-kilometer".
_CATEGORIES = "area consumption digital duration energy length mass power speed temperature volume"
_UNIT_IDENTIFIER = re.compile(rf"(?:{'|'.join(_CATEGORIES.split())})-[a-z]")
# Numbers that cover the plural forms of all CLDR languages, whole and fractional
_PLURAL_SAMPLES = [Decimal(number) for number in ("1", "2", "3", "5", "11", "20", "21", "100", "1.5")]


class LocaleFormatter:
    """Renders facts in one CLDR locale. Every method returns text in which CLDR's own spaces are still there.

    Args:
        locale: as Babel knows it.
    """

    def __init__(self, locale: Locale) -> None:
        self.locale = locale
        self._lengths: dict[str, Length | None] = {}

    @cached_property
    def names_weekday(self) -> bool:
        """Whether the full date has the weekday (a few locales leave it out)."""
        pattern = dates.get_date_format("full", self.locale).pattern
        return "E" in pattern or "c" in pattern

    @cached_property
    def hour_skeleton(self) -> str:
        """`hm` where the locale writes AM and PM ("3:05 PM", "下午3:05"), else `Hm` ("15:05").

        A locale does if its usual short time has them, or its language has words of its own for them.
        """
        morning, afternoon = (dates.format_time(time(hour), "a", locale=self.locale) for hour in (9, 15))
        written = "a" in dates.get_time_format("short", self.locale).pattern or morning != "AM"
        return "hm" if written and morning != afternoon else "Hm"

    def calendar_date(self, day: date, weekday: bool) -> str:
        """Render "October 4, 1993", with or without the weekday."""
        return dates.format_date(day, "full" if weekday else "long", locale=self.locale)

    def period(self, first: date, last: date, weekday: bool) -> str:
        """Render "Oct 4 – 8, 1993", with or without the weekdays."""
        return dates.format_interval(first, last, "yMMMEd" if weekday else "yMMMd", locale=self.locale)

    def clock_time(self, moment: datetime) -> str:
        """Render "3:05 PM" or "15:05"."""
        return dates.format_skeleton(self.hour_skeleton, moment, locale=self.locale)

    def time_range(self, start: datetime, end: datetime) -> str:
        """Render "3:10 – 5:45 AM"."""
        try:
            return dates.format_interval(start, end, self.hour_skeleton, locale=self.locale)
        except NotImplementedError:  # Babel cannot compare parts of the day (zh_Hant: 清晨, 上午, 中午, …)
            pattern = str(self.locale.interval_formats.get(None, "{0} – {1}"))
            return pattern.replace("{0}", self.clock_time(start)).replace("{1}", self.clock_time(end))

    def on_date(self, day: str, event: str) -> str:
        """Join a date and an event on it by the locale's pattern for a date with a time."""
        pattern = str(dates.get_datetime_format("medium", locale=self.locale)).replace("'", "")
        return pattern.replace("{0}", event).replace("{1}", day)

    def relative(self, unit: DeltaUnit, count: int) -> str:
        """Render "in 3 weeks" for 3, "3 weeks ago" for -3."""
        delta = timedelta(seconds=count * _DELTA_SECONDS[unit])
        # The threshold keeps "45 days" from becoming "2 months".
        return dates.format_timedelta(
            delta, granularity=unit, threshold=math.inf, add_direction=True, locale=self.locale
        )

    def duration(self, parts: Iterable[tuple[int, str]]) -> str:
        """Render "3 hours, 20 minutes"."""
        return self.listing([self.quantity(Decimal(count), unit) for count, unit in parts], "unit")

    def quantity(self, number: Decimal, unit: str) -> str:
        """Render "3.5 kilometers"."""
        return units.format_unit(number, unit, length=self._length(unit) or "long", locale=self.locale)

    def price(self, amount: Decimal, currency: str) -> str:
        """Render "12.50 US dollars"."""
        has_cents = amount != amount.to_integral_value()  # whole amounts without ".00"
        return numbers.format_currency(
            amount, currency, locale=self.locale, currency_digits=has_cents, format_type="name"
        )

    def rate(self, number: Decimal, numerator: str, denominator: str) -> str:
        """Render "120 kilometers per hour"."""
        text = units.format_compound_unit(number, numerator, denominator_unit=denominator, locale=self.locale)
        if text is None or _UNIT_IDENTIFIER.search(text):
            return self._per(self.quantity(number, numerator), denominator)
        return text

    def price_per(self, amount: Decimal, currency: str, denominator: str) -> str:
        """Render "12.50 US dollars per kilogram"."""
        price = self.price(amount, currency)
        text = units.format_compound_unit(price, denominator_unit=denominator, locale=self.locale)
        if text is None or _UNIT_IDENTIFIER.search(text):
            return self._per(price, denominator)
        return text

    def listing(self, items: Sequence[str], style: ListStyle) -> str:
        """Render "A and B" ("standard"), "A or B" ("or") or the parts of a sum "A, B" ("unit"); at most two items."""
        return lists.format_list(items, self._list_style(style), locale=self.locale)

    def can_say(self, unit: str) -> bool:
        """Whether the locale has words for any number of the unit."""
        return self._length(unit) is not None

    def can_say_per(self, unit: str) -> bool:
        """Whether the locale has words for "per" and the unit."""
        return not _UNIT_IDENTIFIER.search(self.price_per(Decimal(2), "USD", unit))

    def _per(self, amount: str, denominator: str) -> str:
        """Combine an amount and the name of a unit by the general "per" pattern, CLDR's fallback for other pairs."""
        names = [units.format_unit("", denominator, length, locale=self.locale).strip() for length in _LENGTHS]
        name = next((name for name in names if not _UNIT_IDENTIFIER.search(name)), denominator)
        return str(units.format_compound_unit(amount, denominator_value=name, locale=self.locale))

    def _length(self, unit: str) -> Length | None:
        """The longest of CLDR's lengths in which this locale has words for any number of the unit.

        CLDR lets a length inherit from a shorter one; Babel's data leaves such a length empty (zh has few "long").
        """
        if unit not in self._lengths:
            self._lengths[unit] = next((length for length in _LENGTHS if self._has_words(unit, length)), None)
        return self._lengths[unit]

    def _has_words(self, unit: str, length: Length) -> bool:
        texts = (units.format_unit(number, unit, length, locale=self.locale) for number in _PLURAL_SAMPLES)
        return not any(map(_UNIT_IDENTIFIER.search, texts))

    def _list_style(self, style: ListStyle) -> ListStyle:
        """The style, or the nearest one that has a pattern for two items.

        CLDR inherits a missing pattern, Babel's data does not: Babel would repeat the second item, or fail.
        """
        styles: list[ListStyle] = ["unit", "unit-short"] if style == "unit" else [style]
        return next((each for each in styles if "2" in self.locale.list_patterns.get(each, {})), "standard")
