"""The folder of a run and its checkpoints, which are whole or not there: written aside, hashed, marked, renamed."""

import errno
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

logger = logging.getLogger(__name__)


MARKER = "COMPLETE.json"
STATE_FOLDER = "training_state"
EVALUATIONS_FILE = "evaluations.json"
FORMAT_VERSION = 1
FULL_DISK_BYTES = 2**20  # less than this is left when a write fails for lack of space
_STEP_FOLDER = re.compile(r"^step-(\d+)$")
_TEMPORARY = ".writing-"


def checkpoint_path(root: Path, step: int) -> Path:
    """Folder of the checkpoint of a step."""
    return root / f"step-{step:08d}"


def checkpoint_step(path: Path) -> int:
    """The step that a checkpoint folder is named after.

    Raises:
        ValueError: The folder is not named like a checkpoint.
    """
    match = _STEP_FOLDER.match(path.name)
    if match is None:
        raise ValueError(f"{path} is not a checkpoint folder; its name must be like step-00000500.")
    return int(match[1])


def write_checkpoint(root: Path, step: int, fill: Callable[[Path], None]) -> Path:
    """Writes one checkpoint so that a crash at any moment leaves either the whole of it or nothing of it.

    Args:
        root: Folder of all checkpoints; created where it is missing.
        step: Its step; a checkpoint of the same step is replaced.
        fill: Writes the files into the folder that it is given.

    Returns:
        The finished folder.

    Raises:
        RuntimeError: It could not be written (full disk, no permission); the earlier checkpoints are
            untouched.
    """
    target = checkpoint_path(root, step)
    temporary = root / f"{_TEMPORARY}{target.name}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_unfinished(root)
        temporary.mkdir()
        fill(temporary)
        _seal(temporary, step)
        # A folder cannot be renamed over a full one: move the old one of the same step out of the way first.
        if target.exists():
            target.rename(root / f"{_TEMPORARY}old-{target.name}")
        temporary.rename(target)
        _sync_folder(root)
        remove_unfinished(root)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason(error, root)
        _remove_quietly(temporary)
        raise RuntimeError(_failure_message(root, target, reason)) from error
    return target


def _seal(folder: Path, step: int) -> None:
    """Flushes every file to the disk and writes the marker with their hashes last."""
    files = {}
    for path in _files(folder):
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": _digest(path)}
        _sync_file(path)
    marker = {"format_version": FORMAT_VERSION, "step": step, "files": files}
    write_atomically(folder / MARKER, json.dumps(marker, indent=2) + "\n")


def _reason(error: Exception, root: Path) -> str:
    """What went wrong; must be asked before the half-written files are removed.

    torch and safetensors do not pass on why the system refused to write, so the free space is looked at, too.
    """
    try:
        free = shutil.disk_usage(root if root.exists() else root.parent).free
    except OSError:
        free = FULL_DISK_BYTES
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or free < FULL_DISK_BYTES:
        return f"the disk is full ({free / 2**20:.1f} MiB free)"
    return str(error).strip().rstrip(".") or type(error).__name__


def _failure_message(root: Path, target: Path, reason: str) -> str:
    last = newest_valid_checkpoint(root)
    kept = "There is no earlier checkpoint"
    if last is not None:
        kept = f"The last valid checkpoint is {last}; mend this and resume from it"
    return f"Could not write the checkpoint {target}: {reason}. {kept}."


def find_problem(path: Path) -> str | None:
    """Why a checkpoint must not be used; `None` if every file has the size and hash that it should have."""
    marker_path = path / MARKER
    if not marker_path.is_file():
        return f"{MARKER} is missing: it was not written to the end"
    try:
        marker = json.loads(marker_path.read_text(encoding="utf-8"))
        files = dict(marker["files"])
        version = marker["format_version"]
        expected = {name: (int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()}
    except (ValueError, KeyError, TypeError, OSError) as error:
        return f"{MARKER} cannot be read ({error})"
    if version != FORMAT_VERSION:
        return f"it has format {version}, this version reads format {FORMAT_VERSION}"
    for name, (size, digest) in expected.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
        if _digest(file) != digest:
            return f"{name} has changed since it was written"
    return None


def list_checkpoints(root: Path) -> list[Path]:
    """All checkpoint folders, valid or not, oldest first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if path.is_dir() and _STEP_FOLDER.match(path.name)]
    return sorted(found, key=checkpoint_step)


def newest_valid_checkpoint(root: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were written; others are skipped with a warning."""
    for path in reversed(list_checkpoints(root)):
        problem = find_problem(path)
        if problem is None:
            return path
        logger.warning("Skipping the checkpoint %s: %s.", path, problem)
    return None


def record_evaluations(root: Path, evaluations: list[dict[str, float]]) -> None:
    """Remembers the evaluations of the run; the checkpoint of the best one is spared by `prune_checkpoints`.

    Args:
        root: Folder of all checkpoints.
        evaluations: Each with `step` and `mean_iou`.
    """
    root.mkdir(parents=True, exist_ok=True)
    write_atomically(root / EVALUATIONS_FILE, json.dumps(evaluations, indent=2) + "\n")


def recorded_evaluations(root: Path, *, until_step: int | None = None) -> list[dict[str, float]]:
    """The evaluations of the run, oldest first.

    Args:
        root: Folder of all checkpoints.
        until_step: Leave out those of later steps.
    """
    try:
        entries = json.loads((root / EVALUATIONS_FILE).read_text(encoding="utf-8"))
        return [entry for entry in entries if until_step is None or entry["step"] <= until_step]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def best_evaluation(evaluations: list[dict[str, float]]) -> dict[str, float] | None:
    """The entry with the highest mean IoU, the earliest of equals; `None` if there is none."""
    scored = [entry for entry in evaluations if not math.isnan(entry["mean_iou"])]
    return max(scored, key=lambda entry: entry["mean_iou"], default=None)


def best_checkpoint(root: Path) -> Path | None:
    """The checkpoint with the best evaluation, if it is there and valid."""
    best = best_evaluation(recorded_evaluations(root))
    if best is None:
        return None
    path = checkpoint_path(root, int(best["step"]))
    problem = find_problem(path) if path.is_dir() else "it is missing"
    if problem is not None:
        logger.warning("The best checkpoint %s cannot be used: %s.", path, problem)
        return None
    return path


def prune_checkpoints(root: Path, keep: int) -> None:
    """Removes all but the newest `keep` checkpoints and the best one.

    Args:
        root: Folder of all checkpoints.
        keep: How many of the newest stay, at least 1.
    """
    spared = set(list_checkpoints(root)[-keep:])
    best = best_evaluation(recorded_evaluations(root))
    if best is not None:
        spared.add(checkpoint_path(root, int(best["step"])))
    for path in list_checkpoints(root):
        if path not in spared:
            # Without its marker first, so that an interrupted removal is not taken for a checkpoint.
            (path / MARKER).unlink(missing_ok=True)
            _remove_quietly(path)


def remove_unfinished(root: Path) -> None:
    """Removes what an interrupted writer left behind."""
    for path in root.glob(f"{_TEMPORARY}*"):
        _remove_quietly(path)


def write_atomically(path: Path, text: str) -> None:
    """Replaces a text file in one step.

    Raises:
        OSError: The disk is full or the folder is not writable; the old file is untouched.
    """
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    temporary.write_text(text, encoding="utf-8")
    _sync_file(temporary)
    temporary.replace(path)
    _sync_folder(path.parent)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """A rename is only safe against a power cut once the folder itself is on the disk."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_quietly(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
