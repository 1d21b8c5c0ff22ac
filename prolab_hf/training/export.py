"""The finished model in the folder of its run: written beside the checkpoints, each file in one step."""

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from prolab_hf.files import give_default_modes, read_json_object, write_json
from prolab_hf.training.checkpoints import CHECKPOINTS_FOLDER, TEMPORARY

EXPORTED_FILE = "exported_files.json"
_EXPORT_FOLDER = f"{TEMPORARY}export"


def export_into(output_dir: Path, write: Callable[[Path], None]) -> None:
    """Writes the finished model beside the run's own files, each file in one step.

    Args:
        output_dir: The folder of the run.
        write: Writes the model into the folder that it is given.

    Raises:
        RuntimeError: It could not be written; the checkpoints are untouched.
    """
    temporary = output_dir / _EXPORT_FOLDER
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        write(temporary)
        give_default_modes(temporary)
        exported = {}
        for path in sorted(temporary.iterdir()):
            target = output_dir / path.name
            if target.is_dir():
                shutil.rmtree(target)
            path.replace(target)
            exported[target.name] = target.stat().st_size if target.is_file() else 0
        if (output_dir / CHECKPOINTS_FOLDER).is_dir():
            write_json(output_dir / CHECKPOINTS_FOLDER / EXPORTED_FILE, exported)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise RuntimeError(
            f"Could not write the trained model into {output_dir}: {error}. "
            f"The checkpoints in {output_dir / CHECKPOINTS_FOLDER} are complete; free some space and resume."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_export(output_dir: Path) -> None:
    """Removes the model of a discarded run: left there, it would pass for the new run's until that ends.

    Args:
        output_dir: The folder of the run; what it did not export itself stays.
    """
    record = output_dir / CHECKPOINTS_FOLDER / EXPORTED_FILE
    try:
        exported = read_json_object(record)
    except (OSError, ValueError):
        return
    for name, size in exported.items():
        path = output_dir / Path(name).name
        if path.is_file() and path.stat().st_size == size:
            path.unlink()
        elif path.is_dir() and (path / "adapter_config.json").is_file():
            shutil.rmtree(path)
