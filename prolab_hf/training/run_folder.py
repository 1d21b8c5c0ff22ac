"""The folder of a run: may it be written into, who is writing, what did a run write, and the exported model."""

import json
import logging
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from safetensors import SafetensorError

from prolab_hf.files import give_default_modes, read_json_object, write_json
from prolab_hf.training.checkpoints import (
    DAMAGED,
    EVALUATIONS_FILE,
    MARKER,
    STATE_FOLDER,
    TEMPORARY,
    find_problem,
    list_checkpoints,
    set_aside_damaged,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

CHECKPOINTS_FOLDER = "checkpoints"
RECIPE_FILE = "training_recipe.json"
LOG_FILE = "training_log.jsonl"
BAD_BATCH_FILE = "not_finite_batch.json"
SKIPPED_FILE = "skipped_images.txt"
LOCK_FILE = ".training.lock"
EXPORTED_FILE = "exported_files.json"
_EXPORT_FOLDER = f"{TEMPORARY}export"
# What a checkpoint may hold; anything else in one is not a run's.
_CHECKPOINT_FILES = (
    MARKER,
    "*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "property_space.json",
    "*_prolab.py",
    "*_vit_adapter.py",
    f"{STATE_FOLDER}/*",
)


# ---- one run at a time ------------------------------------------------------------------------------------


class RunLock:
    """Keeps a second run out of a folder while it is entered.

    The system gives the lock back when the process ends, however it ends: a file left by a killed run keeps
    nobody out.

    Args:
        output_dir: Folder of the run; created where it is missing.

    Raises:
        FileExistsError: Another run is writing there; its process id and host are named.
    """

    _held: set[Path] = set()

    def __init__(self, output_dir: Path) -> None:
        self.path = output_dir.resolve() / LOCK_FILE
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        if self.path in self._held:
            raise FileExistsError(_occupied(self.path.parent, f"process {os.getpid()} (this one)"))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = self.path.open("a+", encoding="utf-8")
            try:
                # Not flock: reading processes would inherit it and hold it after this one was killed.
                if fcntl is not None:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                file.seek(0)
                owner = _owner(file.read())
                file.close()
                raise FileExistsError(_occupied(self.path.parent, owner)) from None
            except OSError as error:  # a file system without locks
                logger.warning("%s cannot be locked (%s): start no second run there.", self.path, error)
            if _is_same_file(file, self.path):
                break
            file.close()  # the run before removed it between our two steps
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        self._file = file
        self._held.add(self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.discard(self.path)
        if self._file is not None:
            self.path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _is_same_file(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _owner(text: str) -> str:
    try:
        content = json.loads(text)
        return f"process {content['pid']} on {content['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _occupied(folder: Path, owner: str) -> str:
    return (
        f"A training run is writing into {folder}: {owner}. Wait for it, stop it, or choose another output "
        "folder."
    )


# ---- opening ----------------------------------------------------------------------------------------------


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
    if overwrite or is_empty(output_dir) or (resume and holds_run(output_dir)):
        return
    hint = "it holds no training run to resume" if resume else "continue its run with resume=True (--resume)"
    raise FileExistsError(
        f"The output folder {output_dir} is not empty: {hint}, discard the run in it with overwrite=True "
        "(--overwrite), or choose another folder."
    )


def is_empty(folder: Path) -> bool:
    """Whether a folder is missing or holds nothing, the lock of the present run not counted."""
    return not folder.is_dir() or all(path.name == LOCK_FILE for path in folder.iterdir())


def holds_run(folder: Path) -> bool:
    """Whether a training run was started in a folder."""
    return (folder / RECIPE_FILE).is_file() or bool(list_checkpoints(folder / CHECKPOINTS_FOLDER))


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
    if is_empty(output_dir):
        if resume:
            logger.warning("There is no run to resume in %s: starting a new one.", output_dir)
        output_dir.mkdir(parents=True, exist_ok=True)
        return None
    if not overwrite:
        return _checkpoint_to_resume(output_dir / CHECKPOINTS_FOLDER)
    discard_run(output_dir)
    return None


def _checkpoint_to_resume(root: Path) -> Path | None:
    found = list_checkpoints(root)
    problems = {path: find_problem(path) for path in found}
    if found and all(problems.values()):
        raise ValueError(
            f"None of the {len(found)} checkpoints in {root} is valid; the newest, {found[-1].name}: "
            f"{problems[found[-1]]}. Start again with overwrite=True (--overwrite)."
        )
    valid = set_aside_damaged(root)
    if not valid:
        logger.warning(
            "The run in %s was stopped before its first checkpoint: starting from step 0.", root.parent
        )
    return valid[-1] if valid else None


# ---- discarding -------------------------------------------------------------------------------------------


def discard_run(output_dir: Path) -> None:
    """Removes what a run wrote into a folder, and nothing else; links are not followed out of it.

    Args:
        output_dir: The folder. `checkpoints` in it may be a link to a folder elsewhere: it stays one, without
            the run's checkpoints.
    """
    root = output_dir / CHECKPOINTS_FOLDER
    _remove_export(output_dir)
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.name in (EVALUATIONS_FILE, EXPORTED_FILE):
            path.unlink()
        elif path.name.removeprefix(DAMAGED).startswith(("step-", TEMPORARY)):
            _remove_checkpoint(path)
    if root.is_dir() and not root.is_symlink() and not any(root.iterdir()):
        root.rmdir()
    for name in (RECIPE_FILE, LOG_FILE, BAD_BATCH_FILE, SKIPPED_FILE):
        (output_dir / name).unlink(missing_ok=True)


def _remove_checkpoint(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    try:
        listed = [
            path / name for name in read_json_object(path / MARKER)["files"] if ".." not in Path(name).parts
        ]
    except (OSError, ValueError, KeyError, TypeError):
        listed = []
    # Without its marker first: what an interruption leaves is no checkpoint.
    (path / MARKER).unlink(missing_ok=True)
    for file in {*listed, *(file for pattern in _CHECKPOINT_FILES for file in path.glob(pattern))}:
        if file.is_file() or file.is_symlink():
            file.unlink()
    for folder in (path / STATE_FOLDER, path):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if path.is_dir():
        logger.warning("%s holds files that no run wrote; they are left there.", path)


def _remove_export(output_dir: Path) -> None:
    """The model of the discarded run: left there, it would pass for the new run's until that ends."""
    record = output_dir / CHECKPOINTS_FOLDER / EXPORTED_FILE
    try:
        exported = read_json_object(record)
    except (OSError, ValueError):
        return
    for name, size in exported.items():
        path = output_dir / Path(name).name
        if path.is_file() and path.stat().st_size == size:
            path.unlink()


# ---- the result -------------------------------------------------------------------------------------------


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
