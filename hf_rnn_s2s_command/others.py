"""The commands that train a model and look at one: `train`, `info` and `demo`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from . import options as shared
from .importing import quickly

TRAIN = """Train a model, score it, and leave it in a folder with its pictures and its card.

Everything else is an argument of the script train.py, which `train --help` lists. Without any it trains on the
embedded corpus.
"""

DEMO = """Show a page in the browser that lets a model write, with the attention behind it.

Give --model twice to see two models side by side.
"""

Recipe = Annotated[
    str | None, typer.Option(metavar="NAME", help="One of --list-recipes, or the path of a YAML file of yours.")
]
ListRecipes = Annotated[bool, typer.Option("--list-recipes", help="Say which recipes there are.")]
Models = Annotated[
    list[str],
    typer.Option("--model", "-m", metavar="DIR_OR_NAME", help="A folder with a model, or a name on the Hub."),
]
Host = Annotated[str, typer.Option(metavar="ADDRESS", help="0.0.0.0 lets other machines see the page, too.")]
Port = Annotated[int | None, typer.Option(metavar="N", help="By default 7860; 0 is any that is free.")]
Space = Annotated[
    str | None, typer.Option(metavar="DIR", help="Write a folder that runs as a Space of the Hub, and show no page.")
]


def add_train(app: typer.Typer) -> None:
    """Add `train`."""
    # Its --help is that of the script.
    settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    @app.command(help=TRAIN, context_settings=settings)
    def train(context: typer.Context, recipe: Recipe = None, list_recipes: ListRecipes = False) -> None:
        with quickly():
            from hf_rnn_s2s.commands.ending import ending
            from hf_rnn_s2s.commands.train import recipe_descriptions, train

        with ending(context.command_path):
            if list_recipes:
                print("\n".join(recipe_descriptions()))
                return
            if "--help" in context.args or "-h" in context.args:
                print(f"{context.command_path} [--recipe NAME] [--list-recipes] [--argument value ...]\n\n{TRAIN}")
            train(context.args, recipe)


def add_commands(app: typer.Typer) -> None:
    """Add the rest."""

    @app.command(help="Say what a model is, what its folder has, and whether all of it is there and loads.")
    def info(
        context: typer.Context,
        model: shared.Model,
        json: shared.Json = False,
        device: shared.Device = None,
        trust_remote_code: shared.TrustRemoteCode = False,
    ) -> None:
        with quickly():
            from hf_rnn_s2s.commands.ending import ending
            from hf_rnn_s2s.commands.info import describe

        with ending(context.command_path):
            if describe(model, json, device, trust_remote_code):
                sys.exit(2)

    @app.command(help=DEMO)
    def demo(
        context: typer.Context,
        model: Models,
        host: Host = "127.0.0.1",
        port: Port = None,
        space: Space = None,
        overwrite: shared.Overwrite = False,
    ) -> None:
        if space is not None and len(model) > 1:
            raise typer.BadParameter("a Space shows one model: give --model once.")
        with quickly():
            from hf_rnn_s2s.commands.ending import ending
            from hf_rnn_s2s.page.serving import serve
            from hf_rnn_s2s.page.space import write_space

        with ending(context.command_path):
            if space is None:
                serve(model, host, port)
            else:
                write_space(space, model[0], overwrite=overwrite)
