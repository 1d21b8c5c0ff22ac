"""The folder of a run: who may write into it, and how the finished model gets there.

<output_dir>/
    config.json, model.safetensors, preprocessor_config.json, ...   the exported model, once the run is done
    training_recipe.json    the recipe
    training_log.jsonl      one line per logged step, evaluation, checkpoint
    checkpoints/            see checkpoints.py
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from prolab_hf.training.checkpoints import find_problem, list_checkpoints, newest_valid_checkpoint

logger = logging.getLogger(__name__)

CHECKPOINTS_FOLDER = "checkpoints"
RECIPE_FILE = "training_recipe.json"
LOG_FILE = "training_log.jsonl"
_EXPORT_FOLDER = ".writing-export"


def check_output_folder(output_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuses a folder that a run must not write into; changes nothing.

    Args:
        output_dir: The folder; it need not exist.
        resume: Go on with the run that is in it; an empty folder starts a new one.
        overwrite: Discard the run that is in it.

    Raises:
        ValueError: Both were asked for.
        NotADirectoryError: The path is a file.
        FileExistsError: The folder is not empty, and neither was asked for.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite were both asked for; choose one of them.")
    if output_dir.exists() and not output_dir.is_dir():
        raise NotADirectoryError(f"The output folder {output_dir} is a file; choose another path.")
    is_run = (output_dir / RECIPE_FILE).is_file()
    if overwrite or is_empty(output_dir) or (resume and is_run):
        return
    hint = "it holds no training run to resume" if resume else "continue its run with resume=True (--resume)"
    raise FileExistsError(
        f"The output folder {output_dir} is not empty: {hint}, discard the run in it with overwrite=True "
        "(--overwrite), or choose another folder."
    )


def is_empty(folder: Path) -> bool:
    """Whether a folder is missing or holds nothing."""
    return not folder.is_dir() or not any(folder.iterdir())


def open_output_folder(output_dir: Path, *, resume: bool, overwrite: bool) -> Path | None:
    """Makes the folder ready and finds the checkpoint to go on from.

    Args:
        output_dir: The folder; created where it is missing.
        resume: Go on with the run that is in it; an empty folder starts a new one.
        overwrite: Discard the run that is in it. Files that no run wrote are left alone.

    Returns:
        The newest valid checkpoint when resuming, else `None`.

    Raises:
        ValueError: Both were asked for, or every checkpoint to resume from is damaged.
        NotADirectoryError: The path is a file.
        FileExistsError: The folder is not empty, and neither was asked for.
    """
    check_output_folder(output_dir, resume=resume, overwrite=overwrite)
    root = output_dir / CHECKPOINTS_FOLDER
    if is_empty(output_dir):
        if resume:
            logger.warning("There is no run to resume in %s: starting a new one.", output_dir)
        output_dir.mkdir(parents=True, exist_ok=True)
        return None
    if not overwrite:
        return _checkpoint_to_resume(root)
    shutil.rmtree(root, ignore_errors=True)
    for name in (RECIPE_FILE, LOG_FILE):
        (output_dir / name).unlink(missing_ok=True)
    return None


def _checkpoint_to_resume(root: Path) -> Path | None:
    checkpoint = newest_valid_checkpoint(root)
    damaged = list_checkpoints(root)
    if checkpoint is None and damaged:
        raise ValueError(
            f"None of the {len(damaged)} checkpoints in {root} is valid; the newest, {damaged[-1].name}: "
            f"{find_problem(damaged[-1])}. Start again with overwrite=True (--overwrite)."
        )
    if checkpoint is None:
        logger.warning(
            "The run in %s was stopped before its first checkpoint: starting from step 0.", root.parent
        )
    return checkpoint


def check_free_space(output_dir: Path, checkpoint_bytes: int, keep: int) -> None:
    """Refuses a run whose checkpoints cannot fit, before hours are spent on it.

    Args:
        output_dir: The folder of the run.
        checkpoint_bytes: Estimated size of one checkpoint.
        keep: How many are kept; while one is written there are two more, counting the best.

    Raises:
        RuntimeError: Not even one checkpoint fits.
    """
    free = shutil.disk_usage(output_dir).free
    if free < checkpoint_bytes:
        raise RuntimeError(
            f"The disk of {output_dir} has {free / 2**20:,.1f} MiB free, but one checkpoint needs about "
            f"{checkpoint_bytes / 2**20:,.1f} MiB; free some space or choose another folder."
        )
    if free < checkpoint_bytes * (keep + 2):
        logger.warning(
            "The disk of %s has %.1f MiB free; the run may need %.1f MiB for its checkpoints.",
            output_dir,
            free / 2**20,
            checkpoint_bytes * (keep + 2) / 2**20,
        )


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
        for path in sorted(temporary.iterdir()):
            target = output_dir / path.name
            if target.is_dir():
                shutil.rmtree(target)
            path.replace(target)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise RuntimeError(
            f"Could not write the trained model into {output_dir}: {error}. "
            f"The checkpoints in {output_dir / CHECKPOINTS_FOLDER} are complete; free some space and resume."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
