"""`prolab quickstart`."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the trained model and the image.")] = Path(
        "quickstart"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what is in the folder.")] = False,
) -> None:
    """Train, solve, evaluate, reload and explain ProLab on a drawn data set, in a minute or two on two cores.

    Every step is real and nothing is downloaded: a property space, training with Accelerate, the last layer in
    closed form, evaluation on new images, saving, loading with the Auto classes, the image-segmentation pipeline,
    and a class that the model never saw, added by describing it, with random rows beside it as a control.
    """
    # Threads that spin at the end of every operation burn the core that a busy neighbor lets the others have: ten
    # times the CPU and wall time. OpenMP reads this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A few microseconds of spinning keep quiet cores busy: without them a step takes 1.6 times as long there.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    from prolab_hf.evaluation.report import class_table
    from prolab_hf.quickstart import run_quickstart

    if out.is_file():
        raise NotADirectoryError(f"--out {out} is a file; name a folder.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise FileExistsError(f"The folder {out} is not empty; choose another --out or add --overwrite.")
    console = Console()
    started = time.perf_counter()
    result = run_quickstart(
        out, overwrite=overwrite, say=lambda text: console.print(text, markup=False, highlight=False)
    )
    title = f"Test images with a {result.held_out}, which was added by description"
    console.print(class_table(result.extended, title=title))
    console.print(result.explanation.to_text(), markup=False, highlight=False)
    console.print(f"Done in {time.perf_counter() - started:.0f} s.", highlight=False)
