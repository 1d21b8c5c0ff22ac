"""What follows saving a class together with its code: the many files become few, where the package is installed."""

import os
from pathlib import Path


def join_remote_code(folder: str | os.PathLike[str]) -> None:
    """Joins the files of code that transformers copied beside what was saved; see `prolab_hf.remote_code`.

    Args:
        folder: Where it was saved to.
    """
    try:
        from prolab_hf.remote_code import join_shipped_files
    except ImportError:
        return  # remote code without the package: it is joined already, and is saved again as it came
    join_shipped_files(Path(folder))
