"""The command `hf-rnn-s2s`: finds what to do, and ends with one line where it cannot be done."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from . import judging, others, writing

NAME = "hf-rnn-s2s"
INTERRUPTED = 130  # what shells show of a program that Ctrl-C ended

app = typer.Typer(
    name=NAME,
    help="Attention-RNN sequence-to-sequence models: train them, let them write, look at what they do.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
others.add_train(app)
writing.add_commands(app)
judging.add_commands(app)
others.add_commands(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. `arguments` follow its name; None: as called.

    Raises:
        SystemExit: always; with 0 if all was done, 2 for what the user can mend, 1 where it could not go on, and 128
            more than the number of the signal that ended it.
    """
    try:
        app(list(sys.argv[1:] if arguments is None else arguments), prog_name=NAME, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        # The errors of click, which typer has under a name of its own, say what is wrong in one line.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        print(f"{NAME}: {message()}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(0)
