"""The command group: names and one-line helps; a command's module loads when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Final

import typer

from recsys.errors import RecsysError

EXIT_FAILURE: Final = 3
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    # name: (module under serving.cli with an `app`, one-line help), in pipeline order
    "demo": ("demo", "Simulate a shop and take it through every stage, on a small budget."),
    "import": ("import_dataset", "Turn published data into a dataset."),
    "simulate": ("simulate", "Make a simulated shop, or let its shoppers visit a server."),
    "pseudonymise": ("pseudonymise", "Copy a dataset, with pseudonyms for its shoppers."),
    "validate": ("validate", "Check a dataset against the contract."),
    "train": ("train", "Fine-tune, index, learn to rank, publish a bundle."),
    "index": ("index", "Bring the current bundle up to the catalogue and the events."),
    "evaluate": ("evaluate", "Measure a bundle against peers on later events."),
    "experiment": ("experiment", "Plan an experiment, and report what it found."),
    "ope": ("ope", "Evaluate another policy on logged decisions."),
    "bundles": ("bundles", "List, show, choose, sign and remove published bundles."),
    "serve": ("serve", "Answer gRPC calls from the current bundle."),
    "events": ("events", "Add what the server recorded to a dataset."),
    "erase": ("erase", "Remove shoppers from all that is kept of them."),
    "recommend": ("recommend", "Ask a running server and print the answer."),
    "bench": ("bench", "Measure speed on this machine, beside peers."),
}
HELP_NAMES: Final = {"help_option_names": ["-h", "--help"]}
PASS_THROUGH: Final = {
    "help_option_names": [],
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "allow_interspersed_args": False,
}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP_NAMES,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"recsys {version('vitrine-recsys')}")
        raise typer.Exit


@app.callback()
def recsys(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Train, publish and serve a recommendation ranker that reads item text.

    Start with `recsys demo`. Exit codes: 0 success, 2 usage, 3 failure.
    """


def _runner(name: str, module: str) -> Callable[[typer.Context], None]:
    def run(ctx: typer.Context) -> None:
        command: typer.Typer = import_module(f"serving.cli.{module}").app
        command(args=ctx.args, prog_name=f"recsys {name}")

    return run


for _name, (_module, _help) in COMMANDS.items():
    app.command(_name, help=_help, context_settings=PASS_THROUGH)(_runner(_name, _module))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of ours end as one message on stderr and exit code 3."""
    try:
        app(args=arguments, prog_name="recsys")
    except RecsysError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(EXIT_FAILURE)


if __name__ == "__main__":
    main()
