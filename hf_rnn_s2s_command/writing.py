"""The commands that write a text for each record: one for each task, and `run` for any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from . import options as shared
from .importing import quickly

# Each command, and what its help says first
COMMANDS = {
    "translate": "Translate a file, or standard input.",
    "summarize": "Summarize each text of a file, or of standard input.",
    "transcribe": "Write what is spoken in recordings, which a file lists by their paths.",
    "transduce": "Write the sounds, or another form, of each word of a file, or of standard input.",
    "run": "Do what a model is for, whatever that is.",
}
DETAILS = """

One record is written for each that is read, in the same order and as they come. A file has a text on each line, or is
a table: TSV, CSV, JSON lines or Parquet. Every setting of generate() is an option, too: --length-penalty 0.6,
--do-sample, --force-phrases '["Vertrag"]'.
"""

# Settings of generate() and their values come among the arguments, since typer knows none of them.
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[INPUT] [--SETTING VALUE]...", help="A file, - for standard input; and other settings."),
]
NBest = Annotated[int, typer.Option("--n-best", metavar="N", help="How many texts to write for each record.")]
Scores = Annotated[bool, typer.Option("--scores", help="Write the log-probability of each text, too.")]
Alignments = Annotated[
    bool, typer.Option("--alignments", help="Write word alignments, too: Pharaoh pairs such as 0-0 1-2, source first.")
]
AlignmentUnits = Annotated[
    str,
    typer.Option(metavar="UNITS", help="What alignments count: words, between spaces, or tokens, which are written."),
]
Attentions = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Write attention weights into one file for numpy.load: attention_0, ..."),
]
Document = Annotated[
    bool,
    typer.Option(
        "--document",
        help="Each text is a document: split it into sentences, keep its layout. A file of lines is one.",
    ),
]
Column = Annotated[str | None, typer.Option(metavar="NAME", help="The column to read; by default a usual one.")]
OutputColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The column for the texts; by default translation, or what they are."),
]
NumBeams = Annotated[
    int | None, typer.Option(metavar="N", help="How many beams the search has; by default what the model has.")
]
BatchSize = Annotated[
    int | None, typer.Option(metavar="N", help="The most texts that go through the model together; by default 32.")
]
BatchTokens = Annotated[
    int | None, typer.Option(metavar="N", help="The most tokens of them, padding included; by default 4096.")
]
Processes = Annotated[
    int | None,
    typer.Option(metavar="N", help="How many processes write, with one thread each; for a CPU with as many cores."),
]
BufferSize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="How many records are read before their texts are written: those of like length share a batch. By "
        "default 2048, and 1 from a terminal.",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, max=2**62, help="Of sampling.")]


def add_commands(app: typer.Typer) -> None:
    """Add them all."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    for name, text in COMMANDS.items():
        app.command(name, help=text + DETAILS, context_settings=settings)(_command(None if name == "run" else name))


def _command(verb: str | None) -> Callable[..., None]:
    def write(
        context: typer.Context,
        model: shared.Model,
        words: Words = None,
        output: shared.Output = "-",
        input_format: shared.InputFormat = None,
        output_format: shared.OutputFormat = None,
        column: Column = None,
        output_column: OutputColumn = None,
        keep_columns: shared.KeepColumns = None,
        n_best: NBest = 1,
        scores: Scores = False,
        alignments: Alignments = False,
        alignment_units: AlignmentUnits = "words",
        attentions: Attentions = None,
        document: Document = False,
        num_beams: NumBeams = None,
        batch_size: BatchSize = None,
        batch_tokens: BatchTokens = None,
        processes: Processes = None,
        buffer_size: BufferSize = None,
        resume: shared.Resume = False,
        overwrite: shared.Overwrite = False,
        device: shared.Device = None,
        dtype: shared.Dtype = "auto",
        trust_remote_code: shared.TrustRemoteCode = False,
        seed: Seed = 0,
    ) -> None:
        with quickly():
            from hf_rnn_s2s.commands.ending import ending
            from hf_rnn_s2s.commands.files import usual_buffer
            from hf_rnn_s2s.commands.settings import generation_settings
            from hf_rnn_s2s.commands.write import WriteOptions, write_records
            from hf_rnn_s2s.errors import UsageError

        with ending(context.command_path):
            settings, files = generation_settings([*(words or []), *context.args])
            if len(files) > 1:
                raise UsageError(f"{files[1]!r} belongs to no option, and the input is {files[0]}.")
            input = files[0] if files else "-"
            if num_beams is not None:
                settings["num_beams"] = num_beams
            options = WriteOptions(
                model=model,
                input=input,
                output=output,
                input_format=input_format,
                output_format=output_format,
                column=column,
                output_column=output_column,
                keep_columns=shared.names_in(keep_columns),
                n_best=n_best,
                scores=scores,
                alignments=alignment_units if alignments else None,
                attentions=attentions,
                document=document,
                batch_size=batch_size,
                batch_tokens=batch_tokens,
                processes=processes,
                buffer_size=usual_buffer(input) if buffer_size is None else buffer_size,
                resume=resume,
                overwrite=overwrite,
                device=device,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                seed=seed,
                settings=settings,
            )
            write_records(options, verb)

    return write
