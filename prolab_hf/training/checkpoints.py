"""Checkpoints, whole or not there: written aside, hashed, marked, renamed; pruned if valid."""

import contextlib
import errno
import hashlib
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from safetensors import SafetensorError

from prolab_hf.files import give_default_modes, parse_json, read_json, sync_folder, write_json
from prolab_hf.training.reporting import read_log

logger = logging.getLogger(__name__)

MARKER = "COMPLETE.json"
STATE_FOLDER = "training_state"
EVALUATIONS_FILE = "evaluations.json"
CHECKPOINTS_FOLDER = "checkpoints"
FORMAT_VERSION = 1
FULL_DISK_BYTES = 2**20  # less than this is left when a write fails for lack of space
TEMPORARY = ".writing-"
DAMAGED = "damaged-"
_STEP_FOLDER = re.compile(r"^step-(\d+)$")

Evaluation = dict[str, float]
"""Scores of one evaluation: `step`, `mean_iou`, `pixel_accuracy`."""


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


# ---- writing ----------------------------------------------------------------------------------------------


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
    temporary = root / f"{TEMPORARY}{target.name}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        remove_unfinished(root)
        temporary.mkdir()
        fill(temporary)
        give_default_modes(temporary)
        _seal(temporary, step)
        # A folder cannot be renamed over a full one: move the old one of the same step out of the way first.
        if target.exists():
            target.rename(root / f"{TEMPORARY}old-{target.name}")
        temporary.rename(target)
        sync_folder(root)
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
        with path.open("rb") as file:
            os.fsync(file.fileno())
    write_json(folder / MARKER, {"format_version": FORMAT_VERSION, "step": step, "files": files})


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


# ---- finding ----------------------------------------------------------------------------------------------


def find_problem(path: Path) -> str | None:
    """Why a checkpoint must not be used; `None` if every file has the size and hash that it should have."""
    if not (path / MARKER).is_file():
        return f"{MARKER} is missing: it was not written to the end"
    try:
        marker = read_json(path / MARKER)
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


def set_aside_damaged(root: Path) -> list[Path]:
    """Renames damaged checkpoints (`damaged-step-...`), so that they neither count nor get lost.

    Returns:
        The valid ones, oldest first.
    """
    valid = []
    for path in list_checkpoints(root):
        problem = find_problem(path)
        if problem is None:
            valid.append(path)
            continue
        target = root / f"{DAMAGED}{path.name}"
        number = 1
        while target.exists():
            number += 1
            target = root / f"{DAMAGED}{path.name}-{number}"
        path.rename(target)
        logger.warning(
            "Skipping the damaged checkpoint %s: %s; it is kept as %s.", path, problem, target.name
        )
    return valid


# ---- evaluations ------------------------------------------------------------------------------------------


def record_evaluations(root: Path, evaluations: list[Evaluation]) -> None:
    """Remembers the evaluations of the run; the checkpoint of the best one is spared by `prune_checkpoints`.

    Args:
        root: Folder of all checkpoints.
        evaluations: Each with `step` and `mean_iou`; an undefined score is NaN.
    """
    root.mkdir(parents=True, exist_ok=True)
    plain = [{name: _json_number(value) for name, value in entry.items()} for entry in evaluations]
    write_json(root / EVALUATIONS_FILE, plain)


def recorded_evaluations(root: Path, *, until_step: int | None = None) -> list[Evaluation]:
    """The evaluations of the run, oldest first; a file that is damaged is reported and counts as empty.

    Args:
        root: Folder of all checkpoints.
        until_step: Leave out those of later steps.
    """
    path = root / EVALUATIONS_FILE
    if not path.is_file():
        return []
    try:
        return checked_evaluations(_read_evaluations(path), until_step=until_step)
    except (ValueError, OSError) as error:
        logger.warning("The list of evaluations cannot be used: %s", error)
        return []


def _read_evaluations(path: Path) -> object:
    """Files of earlier versions hold NaN, which is no JSON, for undefined scores."""
    text = path.read_text(encoding="utf-8").replace("NaN", "null")
    return parse_json(text, path, what="list of evaluations")


def checked_evaluations(entries: object, *, until_step: int | None = None) -> list[Evaluation]:
    """Evaluations as they are recorded, with every entry's form checked.

    Args:
        entries: What was read.
        until_step: Leave out those of later steps.

    Raises:
        ValueError: It is not a list of objects with `step` and `mean_iou`.
    """
    checked: list[Evaluation] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        fields = entry if isinstance(entry, dict) else {}
        good = isinstance(fields.get("step"), int) and "mean_iou" in fields
        scores = {name: math.nan if value is None else value for name, value in fields.items()}
        if not good or not all(isinstance(value, int | float) for value in scores.values()):
            raise ValueError(f"an evaluation is {entry!r:.80}; it must hold step and mean_iou.")
        if until_step is None or scores["step"] <= until_step:
            checked.append(scores)
    return checked


def earlier_evaluations(root: Path, log: Path, saved: object, *, until_step: int) -> list[Evaluation]:
    """The evaluations of a run to resume; what the file of evaluations has lost, log and checkpoint still know.

    Args:
        root: Folder of all checkpoints.
        log: The training log.
        saved: Those that the checkpoint holds.
        until_step: Step of the checkpoint.
    """
    logged = [
        {name: entry.get(name) for name in ("step", "mean_iou", "pixel_accuracy")}
        for entry in read_log(log)
        if entry.get("event") == "evaluation"
    ]
    by_step: dict[float, Evaluation] = {}
    for entries in (logged, saved):
        with contextlib.suppress(ValueError):
            by_step |= {entry["step"]: entry for entry in checked_evaluations(entries, until_step=until_step)}
    recorded = recorded_evaluations(root, until_step=until_step)
    by_step |= {entry["step"]: entry for entry in recorded}
    if len(recorded) < len(by_step):
        logger.warning(
            "%s lacks %d evaluations, which the log and the checkpoints still know; it is written anew.",
            root / EVALUATIONS_FILE,
            len(by_step) - len(recorded),
        )
    return [by_step[step] for step in sorted(by_step)]


def best_evaluation(evaluations: list[Evaluation]) -> Evaluation | None:
    """The entry with the highest mean IoU, the earliest of equals; `None` if there is none."""
    scored = [entry for entry in evaluations if not math.isnan(entry["mean_iou"])]
    return max(scored, key=lambda entry: entry["mean_iou"], default=None)


def best_checkpoint(root: Path, evaluations: list[Evaluation] | None = None) -> Path | None:
    """The checkpoint with the best evaluation, if it is there and valid.

    Args:
        root: Folder of all checkpoints.
        evaluations: Of the run; those that are recorded in `root` by default.
    """
    best = best_evaluation(recorded_evaluations(root) if evaluations is None else evaluations)
    if best is None:
        return None
    path = checkpoint_path(root, int(best["step"]))
    problem = find_problem(path) if path.is_dir() else "it is missing"
    if problem is not None:
        logger.warning("The best checkpoint %s cannot be used: %s.", path, problem)
        return None
    return path


# ---- removing ---------------------------------------------------------------------------------------------


def prune_checkpoints(
    root: Path, keep: int, *, spare: Collection[Path] = (), evaluations: list[Evaluation] | None = None
) -> None:
    """Removes all but the newest `keep` valid checkpoints and the best one; damaged ones are set aside.

    Args:
        root: Folder of all checkpoints.
        keep: How many of the newest stay, at least 1.
        spare: More that stay, such as the one that the run was resumed from.
        evaluations: Of the run; those that are recorded in `root` by default.
    """
    valid = set_aside_damaged(root)
    spared = {*valid[-keep:], *spare}
    best = best_evaluation(recorded_evaluations(root) if evaluations is None else evaluations)
    if best is not None:
        spared.add(checkpoint_path(root, int(best["step"])))
    for path in valid:
        if path not in spared:
            # Renamed first, so that an interrupted removal is not taken for a checkpoint.
            doomed = root / f"{TEMPORARY}old-{path.name}"
            path.rename(doomed)
            _remove_quietly(doomed)


def remove_unfinished(root: Path) -> None:
    """Removes what an interrupted writer left behind."""
    for path in root.glob(f"{TEMPORARY}*"):
        _remove_quietly(path)


def _json_number(value: float) -> float | None:
    return None if isinstance(value, float) and math.isnan(value) else value


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


_known_digests: dict[tuple[int, int, int, int], str] = {}


def _digest(path: Path) -> str:
    """SHA-256 of a file; remembered while the file stays the same, because pruning asks at every checkpoint."""
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if identity not in _known_digests:
        with path.open("rb") as file:
            _known_digests[identity] = hashlib.file_digest(file, "sha256").hexdigest()
    return _known_digests[identity]


def _remove_quietly(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
