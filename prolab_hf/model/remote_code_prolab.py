"""What follows saving a class together with its code: the many files become few, where the package is installed."""

import os
from pathlib import Path
from typing import Any


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


class CompleteUploadMixin:
    """What is pushed is what lies in the folder afterwards.

    With `push_to_hub=True` transformers uploads inside its own `save_pretrained`, before a class that inherits it
    could write or join a file.
    """

    def complete_folder(self, folder: str | os.PathLike[str]) -> None:
        """Brings a folder that transformers wrote to its last state; doing it twice changes nothing.

        Args:
            folder: Where it was saved to.
        """
        join_remote_code(folder)

    def _upload_modified_files(self, working_dir: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        self.complete_folder(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)  # type: ignore[misc]
