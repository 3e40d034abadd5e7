"""The command `shortlist`: learns from translated text which target tokens a source may need."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from ..data.arguments import DataArguments
from ..decoding.sharing import SHORTLIST
from ..decoding.shortlist import Shortlist
from ..errors import UsageError, as_usage_error
from ..model.configuration_rnn_s2s import RnnS2SConfig
from ..model.pipeline_rnn_s2s import squeezed
from .interruption import Interruption
from .models import LOADING_ERRORS, one_line, read_configuration, task_of
from .records import STANDARD, open_records, text_of
from .score import ScoreOptions, sides_of, with_targets


@dataclass
class ShortlistOptions(ScoreOptions):
    """What the command was told.

    Attributes:
        size: the most target tokens for each source token.
        frequent: how many of the most frequent target tokens are always there.
    """

    size: int = 20
    frequent: int = 100

    def check(self) -> None:
        """As in the base class."""
        if not os.path.isdir(self.model):
            raise UsageError(
                f"A shortlist is kept beside a model: {self.model} is no folder. Download the model first."
            )
        if self.input == STANDARD:
            raise UsageError("Name a file with translated text, such as that of the training.")
        for name, value, least in (("size", self.size, 1), ("frequent", self.frequent, 0)):
            if value < least:
                raise UsageError(f"--{name} {value} must be at least {least}.")
        if (Path(self.model) / SHORTLIST).exists() and not self.overwrite:
            raise UsageError(f"There is a {SHORTLIST} in {self.model} already: replace it with --overwrite.")
        super().check()


def learn_shortlist(options: ShortlistOptions) -> None:
    """Learn a shortlist from pairs of texts, and write it beside the model.

    Raises:
        UsageError: for options, files or records that cannot be used, and a model that reads no text.
        Interrupted: when the process is told to end.
    """
    options.check()
    config = read_configuration(options.model)
    if not isinstance(config, RnnS2SConfig):
        raise UsageError(f"{options.model} is a {config.model_type} model; shortlists are for those of this package.")
    task = task_of(config, None, options.model)
    if task.layout(DataArguments()).reads_audio:
        raise UsageError(f"{options.model} reads recordings; a shortlist goes by the tokens of a text.")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(options.model, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise UsageError(f"The tokenizer of {options.model} cannot be read: {one_line(error)}") from error
    with Interruption(), ExitStack() as stack:
        records = stack.enter_context(open_records(options.input, options.kinds()[0]))
        records = with_targets(records, options, stack)
        rows = list(records.rows)
        if not rows:
            raise UsageError(f"{records.name} is empty: there is nothing to learn from.")
        columns = records.columns if records.columns is not None else tuple(rows[0][1])
        sides = sides_of(config, task, options, columns, records.name)
        sources, targets = (
            [squeezed(text_of(row, side, records.name, number)) for number, row in rows] for side in sides
        )
        encoded = tokenizer(sources, text_target=targets, verbose=False)
        with as_usage_error():
            shortlist = Shortlist.from_pairs(
                encoded["input_ids"], encoded["labels"], config.vocab_size, options.size, options.frequent
            )
    shortlist.save_pretrained(options.model)
    per_token = sum(map(len, shortlist.candidates)) / max(1, sum(map(bool, shortlist.candidates)))
    print(
        f"{SHORTLIST} in {options.model}: from {len(rows):,} pairs, {len(shortlist.always):,} tokens for every text, "
        f"and {per_token:.1f} for each source token that was there. The commands and pipelines use it from now on; "
        "--shortlist false does without."
    )
