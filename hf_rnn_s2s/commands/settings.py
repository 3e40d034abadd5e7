"""Settings of `generate()` on a command line, where none of them is an option of its own."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

from transformers import GenerationConfig

from ..errors import UsageError

# Arguments of a call of the pipeline, beside the settings of `generate()`
OF_THE_CALL = (
    "coverage_penalty",
    "forbid_phrases",
    "force_phrases",
    "gnmt_length_penalty",
    "minimum_bayes_risk",
    "num_beam_groups",
    "diversity_penalty",
    "replace_unknown",
    "shortlist",
    "squeeze_whitespace",
    "truncation",
)
# Settings that the commands set themselves, from options of their own
OF_OPTIONS = (
    "num_return_sequences",
    "return_dict_in_generate",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
)
# Settings that are on or off, which their defaults do not tell; and the words that say which
SWITCHES = {
    "do_sample",
    "early_stopping",
    "minimum_bayes_risk",
    "remove_invalid_values",
    "renormalize_logits",
    "replace_unknown",
    "shortlist",
    "squeeze_whitespace",
    "truncation",
    "use_cache",
}
SWITCHED = ("true", "false", "never", "null", "none")


def generation_settings(options: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Read settings of `generate()` from a command line, such as `--length-penalty 0.6`.

    Values are read as JSON, and as plain text where they are none. A setting that is on or off needs no value.

    Args:
        options: words of the command line.

    Returns:
        The settings, and the words that belong to none.

    Raises:
        UsageError: for an option that is no setting, or has no value.
    """
    defaults = {name: value for name, value in vars(GenerationConfig()).items() if not name.startswith("_")}
    known = {*defaults, *OF_THE_CALL} - set(OF_OPTIONS)
    settings: dict[str, Any] = {}
    others: list[str] = []
    words = list(options)
    while words:
        word = words.pop(0)
        if word == "--":
            return settings, others + words
        if not word.startswith("--"):
            others.append(word)
            continue
        written, has_value, value = word.removeprefix("--").partition("=")
        name = written.replace("-", "_")
        if name not in known:
            similar = ["--" + one.replace("_", "-") for one in difflib.get_close_matches(name, known, n=3)]
            hint = f"Did you mean {' or '.join(similar)}?" if similar else "See --help, and those of generate()."
            raise UsageError(f"There is no option --{written}. {hint}")
        if has_value:
            settings[name] = _value(value)
        elif name in SWITCHES or isinstance(defaults.get(name), bool):
            settings[name] = _value(words.pop(0)) if words and words[0].lower() in SWITCHED else True
        elif words:
            settings[name] = _value(words.pop(0))
        else:
            raise UsageError(f"The option --{written} needs a value.")
    return settings, others


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
