"""The options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[
    str, typer.Option("--model", "-m", metavar="DIR_OR_NAME", help="A folder with a model, or a name on the Hub.")
]
Input = Annotated[str, typer.Argument(metavar="[INPUT]", help="A file to read; - is standard input.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="A file to write; - is standard output.")]
InputFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="lines, tsv, csv, jsonl or parquet; by default what the suffix says, or lines."
    ),
]
OutputFormat = Annotated[
    str | None, typer.Option(metavar="FORMAT", help="The same of the output; on standard output, that of the input.")
]
KeepColumns = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="Columns of the input that the output has, too, with commas between; by default all."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on behind the last whole record of the output: the same command again.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Device = Annotated[
    str | None, typer.Option(metavar="DEVICE", help="cpu, cuda, cuda:1...; by default the first GPU, if there is one.")
]
Dtype = Annotated[
    str,
    typer.Option(metavar="TYPE", help="Of the weights: auto (that of the file), float32, bfloat16, ..."),
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that lies beside a model of another kind.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def names_in(text: str | None) -> list[str] | None:
    """The names in a list with commas; None for None."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
