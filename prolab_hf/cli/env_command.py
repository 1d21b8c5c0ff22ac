"""`prolab env`: what a bug report needs."""

import importlib.metadata
import json
import os
import platform
import re
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

PACKAGE = "prolab_hf"
SWITCHES = (
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "PROLAB_MAX_PIXELS",
    "CUDA_VISIBLE_DEVICES",
)
"""Variables that change what happens; no other variable is read, and none that may hold a secret."""


def env(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for a script.")] = False,
) -> None:
    """Print versions, devices and switches of this installation, to be pasted into a bug report.

    Nothing of it names you, your files or your machine.
    """
    facts = {**system(), "devices": devices(), "packages": packages(), "variables": variables()}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        for key, entry in value.items() if isinstance(value, dict) else [(name, value)]:
            table.add_row(key, str(entry))
    Console().print(table, markup=False, highlight=False)


def system() -> dict[str, str | int | None]:
    """Versions of the package and of Python, the platform, and the number of cores."""
    return {
        PACKAGE: _version(PACKAGE) or "not installed as a package",
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def packages() -> dict[str, str]:
    """Version of every package that prolab_hf needs or can use; `"not installed"` where it is not there."""
    try:
        requirements = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        requirements = []
    tools = re.compile(r"extra == ['\"](test|dev|docs|release)['\"]")
    names = [re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requirements if not tools.search(text)]
    return {name: _version(name) or "not installed" for name in dict.fromkeys(names)}


def devices() -> dict[str, str]:
    """What torch can compute on, or why it cannot be loaded."""
    try:
        import torch
    except Exception as error:
        return {"torch": f"cannot be imported: {type(error).__name__}: {error}"}
    found = {"threads": str(torch.get_num_threads())}
    for index in range(torch.cuda.device_count()):
        found[f"cuda:{index}"] = f"{torch.cuda.get_device_name(index)}, CUDA {torch.version.cuda}"
    if torch.backends.mps.is_available():
        found["mps"] = "available"
    return found


def variables() -> dict[str, str]:
    """The environment variables of `SWITCHES` that are set."""
    return {name: os.environ[name] for name in SWITCHES if name in os.environ}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
