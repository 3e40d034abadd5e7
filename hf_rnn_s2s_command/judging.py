"""The commands that read texts which are there already: `score`, `evaluate` and `shortlist`."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options as shared
from .importing import quickly

SCORE = """Write how probable given texts are: the natural logarithm, and the number of tokens.

Sources and targets are columns of one file, or two files with as many records.
"""
SHORTLIST = """Learn which target tokens a source may need, and keep that beside the model.

From translated text, such as that of the training: two columns of one file, or two files with as many records.
Commands use it with --shortlist, pipelines with shortlist=True: what is not on it is not looked at, which is faster.
"""
EVALUATE = """Score what a system wrote against references, with 95 % confidence intervals.

All metrics of a task are told; --against compares with a second system by a paired bootstrap test. The predictions.tsv
that a training leaves needs no other option.
"""

Targets = Annotated[
    str | None, typer.Argument(metavar="[TARGETS]", help="A file with the targets; by default a column of the input.")
]
SourceColumn = Annotated[str | None, typer.Option(metavar="NAME", help="The column of sources.")]
TargetColumn = Annotated[str | None, typer.Option(metavar="NAME", help="The column of targets.")]
ScoreColumn = Annotated[str, typer.Option(metavar="NAME", help="What the new columns begin with.")]
PerToken = Annotated[
    bool, typer.Option("--per-token", help="Write the tokens, and the log-probability of each one, too.")
]
Folder = Annotated[str, typer.Option("--model", "-m", metavar="DIR", help="The folder of a model.")]
Pairs = Annotated[str, typer.Argument(metavar="SOURCES", help="A file with the sources, or with both sides.")]
Size = Annotated[int, typer.Option(metavar="N", help="The most target tokens for each source token.")]
Frequent = Annotated[int, typer.Option(metavar="N", help="How many frequent target tokens are always looked at.")]
BatchSize = Annotated[int | None, typer.Option(metavar="N", help="How many pairs are read together; by default 32.")]

Results = Annotated[str, typer.Argument(metavar="RESULTS", help="A file with what the system wrote.")]
References = Annotated[
    list[str] | None,
    typer.Option("--reference", "-r", metavar="FILE", help="A file with what is right; several are alternatives."),
]
Column = Annotated[str | None, typer.Option(metavar="NAME", help="The column of results.")]
ReferenceColumns = Annotated[
    str | None, typer.Option(metavar="NAMES", help="The columns of references, with commas between.")
]
Against = Annotated[str | None, typer.Option(metavar="FILE", help="A file with what a second system wrote.")]
Task = Annotated[
    str | None, typer.Option(metavar="NAME", help="By default that of the model, and translation without one.")
]
OfModel = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="DIR_OR_NAME", help="Whose task, language and symbols are taken."),
]
TargetLang = Annotated[str | None, typer.Option(metavar="CODE", help="Language of the results: de, zh, ja, ...")]
Samples = Annotated[int, typer.Option(metavar="N", help="How often the results are drawn anew.")]


def add_commands(app: typer.Typer) -> None:
    """Add them all."""

    @app.command(help=SHORTLIST)
    def shortlist(
        context: typer.Context,
        model: Folder,
        input: Pairs,
        targets: Targets = None,
        input_format: shared.InputFormat = None,
        source_column: SourceColumn = None,
        target_column: TargetColumn = None,
        size: Size = 20,
        frequent: Frequent = 100,
        overwrite: shared.Overwrite = False,
    ) -> None:
        with quickly():
            from hf_rnn_s2s.commands.ending import ending
            from hf_rnn_s2s.commands.shortlist import ShortlistOptions, learn_shortlist

        with ending(context.command_path):
            options = ShortlistOptions(
                model=model,
                input=input,
                targets=targets,
                input_format=input_format,
                source_column=source_column,
                target_column=target_column,
                size=size,
                frequent=frequent,
                overwrite=overwrite,
            )
            learn_shortlist(options)

    @app.command(help=SCORE)
    def score(
        context: typer.Context,
        model: shared.Model,
        input: shared.Input = "-",
        targets: Targets = None,
        output: shared.Output = "-",
        input_format: shared.InputFormat = None,
        output_format: shared.OutputFormat = None,
        source_column: SourceColumn = None,
        target_column: TargetColumn = None,
        output_column: ScoreColumn = "score",
        keep_columns: shared.KeepColumns = None,
        per_token: PerToken = False,
        batch_size: BatchSize = None,
        resume: shared.Resume = False,
        overwrite: shared.Overwrite = False,
        device: shared.Device = None,
        dtype: shared.Dtype = "auto",
        trust_remote_code: shared.TrustRemoteCode = False,
    ) -> None:
        with quickly():
            from hf_rnn_s2s.commands.ending import ending
            from hf_rnn_s2s.commands.score import ScoreOptions, score_records

        with ending(context.command_path):
            options = ScoreOptions(
                model=model,
                input=input,
                targets=targets,
                output=output,
                input_format=input_format,
                output_format=output_format,
                source_column=source_column,
                target_column=target_column,
                output_column=output_column,
                keep_columns=shared.names_in(keep_columns),
                per_token=per_token,
                batch_size=batch_size,
                resume=resume,
                overwrite=overwrite,
                device=device,
                dtype=dtype,
                trust_remote_code=trust_remote_code,
            )
            score_records(options)

    @app.command(help=EVALUATE)
    def evaluate(
        context: typer.Context,
        results: Results,
        reference: References = None,
        column: Column = None,
        reference_columns: ReferenceColumns = None,
        against: Against = None,
        task: Task = None,
        model: OfModel = None,
        target_lang: TargetLang = None,
        samples: Samples = 1000,
        json: shared.Json = False,
    ) -> None:
        with quickly():
            from hf_rnn_s2s.commands.ending import ending
            from hf_rnn_s2s.commands.evaluate import EvaluateOptions, evaluate_files

        with ending(context.command_path):
            options = EvaluateOptions(
                results=results,
                references=reference or [],
                column=column,
                reference_columns=shared.names_in(reference_columns) or [],
                against=against,
                task=task,
                model=model,
                target_lang=target_lang,
                samples=samples,
                as_json=json,
            )
            evaluate_files(options)
