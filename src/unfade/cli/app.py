"""The verbs put together, and what they share."""

from typing import Annotated

import typer

from unfade.cli.degrade import degrade
from unfade.cli.distill import app as distill
from unfade.cli.evaluate import evaluate
from unfade.cli.models import app as models
from unfade.cli.prompt import prompt
from unfade.cli.restore import restore
from unfade.cli.train import app as train

# The table of unfade.core.errors, which is too slow to import here; a test compares the two.
EXIT_CODES = {
    0: "everything asked for was done",
    1: "a fault of ours: an unexpected exception",
    2: "the command line does not make sense",
    3: "an input can't be read: missing, empty, truncated, not an image or video, too large",
    4: "an output can't be written: folder missing or read-only, disk full, file exists",
    5: "several files were asked for and some of them failed",
    6: "a model is unknown, missing, damaged or unsafe to load",
    130: "interrupted (Ctrl-C; 143 when terminated); nothing half-written is left behind",
}

app = typer.Typer(
    name="unfade",
    help="Restores photos as a short film of getting better.",
    epilog="\n".join(["Exit codes:", *(f"{code:>4}  {meaning}" for code, meaning in EXIT_CODES.items())]),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # Half of the world's tools spell long options with underscores: both are understood.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from unfade import __version__

        typer.echo(f"unfade {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_tell_version, is_eager=True),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a failure (or set UNFADE_DEBUG=1).")
    ] = False,
) -> None:
    # `debug` is taken off the command line by main(), so that it may also stand behind a verb.
    del version, debug


app.command()(restore)
app.command()(degrade)
app.command()(evaluate)
app.command()(prompt)
app.add_typer(models, name="models")
app.add_typer(train, name="train")
app.add_typer(distill, name="distill")
