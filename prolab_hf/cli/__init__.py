"""The `prolab` command: thin functions that call the rooms of the library."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from prolab_hf import __version__
from prolab_hf.cli.adapt_command import adapt
from prolab_hf.cli.add_class_command import add_class
from prolab_hf.cli.check_data_command import check_data
from prolab_hf.cli.complete_space_command import complete
from prolab_hf.cli.demo_command import demo
from prolab_hf.cli.describe_command import describe
from prolab_hf.cli.edit_command import edit
from prolab_hf.cli.env_command import env
from prolab_hf.cli.errors import explained
from prolab_hf.cli.evaluate_command import evaluate
from prolab_hf.cli.explain_command import explain
from prolab_hf.cli.import_data_command import import_data
from prolab_hf.cli.plot_command import plot_app
from prolab_hf.cli.quickstart_command import quickstart
from prolab_hf.cli.segment_command import segment
from prolab_hf.cli.share_commands import card, convert, push
from prolab_hf.cli.solve_command import solve
from prolab_hf.cli.space_commands import space_app
from prolab_hf.cli.train_command import train

app = typer.Typer(
    name="prolab",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prolab_hf {__version__}")
        raise typer.Exit


@app.callback()
def prolab(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit."),
    ] = False,
) -> None:
    """Semantic segmentation that answers in properties: describe classes, train, evaluate, explain, share."""


WORDS, PIXELS, USE, SHARE = "Words", "Pixels", "Use a model", "Share"
app.command("describe", rich_help_panel=WORDS)(describe)
space_app.command("complete")(complete)
app.add_typer(space_app, name="space", rich_help_panel=WORDS)
app.command("import-data", rich_help_panel=PIXELS)(import_data)
app.command("check-data", rich_help_panel=PIXELS)(check_data)
app.command("solve", rich_help_panel=PIXELS)(solve)
app.command("adapt", rich_help_panel=PIXELS)(adapt)
app.command("train", rich_help_panel=PIXELS)(train)
app.add_typer(plot_app, name="plot", rich_help_panel=PIXELS)
app.command("evaluate", rich_help_panel=PIXELS)(evaluate)
app.command("segment", rich_help_panel=USE)(segment)
app.command("explain", rich_help_panel=USE)(explain)
app.command("add-class", rich_help_panel=USE)(add_class)
app.command("edit", rich_help_panel=USE)(edit)
app.command("demo", rich_help_panel=USE)(demo)
app.command("quickstart", rich_help_panel=USE)(quickstart)
app.command("env", rich_help_panel=USE)(env)
app.command("card", rich_help_panel=SHARE)(card)
app.command("push", rich_help_panel=SHARE)(push)
app.command("convert", rich_help_panel=SHARE)(convert)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process: 0 = done, 2 = a user's mistake (one line), 1 = a failure.

    Args:
        arguments: Words of the command line; `None` takes those of the process.
    """
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """As `main`, but returns the exit code.

    Args:
        arguments: Words of the command line; `None` takes those of the process.
    """
    command = typer.main.get_command(app)
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Not command.main: it swallows the message of an interrupt, which says how to resume.
        with command.make_context("prolab", words) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except typer.Abort:
        return _complain("Stopped.", 1)
    except KeyboardInterrupt as error:
        return _complain(str(error) or "Stopped.", getattr(error, "exit_code", 1))  # 143 after SIGTERM
    except Exception as error:
        return _complain(*explained(error))
    return 0


def _complain(message: str, code: int) -> int:
    """One line on standard error; with PROLAB_TRACEBACK=1 the traceback before it."""
    if os.environ.get("PROLAB_TRACEBACK") == "1":
        traceback.print_exc()
    typer.echo(f"prolab: {message}", err=True)
    return code
