"""`prolab plot`: learning curves of training runs from their logs, and figures of a model on labeled images."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from prolab_hf.cli.options import require_figure_name
from prolab_hf.cli.plot_data_commands import corrections, reliability


class _RunsByDefault(TyperGroup):
    """`prolab plot runs/first` is `prolab plot runs runs/first`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The words of the command line, with the name of the default command where there is none."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["runs", *args]
        return super().parse_args(ctx, args)


plot_app = typer.Typer(cls=_RunsByDefault, no_args_is_help=True)


@plot_app.callback()
def plot() -> None:
    """Draw figures: learning curves of runs, reliability of a model, and what corrected properties would give.

    The name of a run's folder may follow at once: prolab plot runs/first.
    """


@plot_app.command("runs")
def runs_(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of training runs (prolab train --out).")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The figure: .png, .pdf, .svg, .jpg or .webp.")
    ] = Path("curves.png"),
) -> None:
    """Draw the learning curves of one or several runs: loss, learning rate, mean IoU and IoU by class.

    Everything is read from the log that a run writes into its folder, also while it goes on. No tracker is needed.
    """
    require_figure_name(out)

    from prolab_hf.training.reporting import read_log
    from prolab_hf.training.run_folder import LOG_FILE, holds_run

    entries = {}
    for folder, name in zip(runs, _names(runs)):
        if not folder.exists():
            raise FileNotFoundError(f"There is no run folder {folder}.")
        if not folder.is_dir():
            raise NotADirectoryError(
                f"{folder} is a file; name the folder of a run, into which prolab train wrote."
            )
        if not (folder / LOG_FILE).is_file():
            reason = "its run has not logged a step yet" if holds_run(folder) else "it is no training run"
            raise FileNotFoundError(f"The folder {folder} has no {LOG_FILE}: {reason}.")
        entries[name] = read_log(folder / LOG_FILE)
        if not entries[name]:
            raise ValueError(
                f"{folder / LOG_FILE} holds no line of a training run; train longer or name another run."
            )

    from prolab_hf.explanation.figures import learning_curves_figure

    learning_curves_figure(entries).savefig(out, dpi=150)
    typer.echo(f"Wrote {out}")


def _names(runs: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart.

    Raises:
        ValueError: A run is named twice.
    """
    parts = [run.resolve().parts for run in runs]
    for index, path in enumerate(parts):
        if path in parts[:index]:
            raise ValueError(f"The run {runs[index]} is named twice.")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    return [str(run) for run in runs]


plot_app.command("reliability")(reliability)
plot_app.command("corrections")(corrections)
