"""The folder of a run: may it be written into, who is writing, what did a run write, and is it the same run?"""

import json
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from torch import nn

from prolab_hf.files import read_json_object
from prolab_hf.training.checkpoints import (
    CHECKPOINTS_FOLDER,
    DAMAGED,
    EVALUATIONS_FILE,
    MARKER,
    STATE_FOLDER,
    TEMPORARY,
    find_problem,
    list_checkpoints,
    set_aside_damaged,
)
from prolab_hf.training.data_loading import decoded_coding, images_digest, source_of
from prolab_hf.training.export import EXPORTED_FILE, remove_export
from prolab_hf.training.recipe import TrainingRecipe, config_defaults, flat_values

if TYPE_CHECKING:
    from prolab_hf.training.training_state import Progress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

RECIPE_FILE = "training_recipe.json"
LOG_FILE = "training_log.jsonl"
BAD_BATCH_FILE = "not_finite_batch.json"
SKIPPED_FILE = "skipped_images.txt"
BALANCE_FILE = "class_balance.json"
LOCK_FILE = ".training.lock"
TRACKED_RUNS_FILE = "tracked_runs.json"
"""Which run of each tracker a training run is, for the day that it is resumed."""
# A resumed run may change these without becoming another run.
FREE_FIELDS = {
    "name",
    "log_every",
    "evaluation.every",
    "evaluation.batch_size",
    "evaluation.early_stopping",
    "evaluation.least_improvement",
    "features.folder",
    "checkpoints.every",
    "checkpoints.keep",
    "checkpoints.final_weights",
    "data.num_workers",
}
_SHOWN_DIFFERENCES = 4
_WORDS = {
    "property_space": "the property space (fingerprint)",
    "class_names": "class",
    "ignore_index": "the ignore index",
    "label_coding": "the label coding",
    "train_images": "the list of training images (names and sizes of the files)",
    "eval_images": "the list of evaluation images (names and sizes of the files)",
}
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
    remove_export(output_dir)
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.name in (EVALUATIONS_FILE, EXPORTED_FILE):
            path.unlink()
        elif path.name.removeprefix(DAMAGED).startswith(("step-", TEMPORARY)):
            _remove_checkpoint(path)
    if root.is_dir() and not root.is_symlink() and not any(root.iterdir()):
        root.rmdir()
    for name in (RECIPE_FILE, LOG_FILE, BAD_BATCH_FILE, SKIPPED_FILE, BALANCE_FILE):
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


# ---- is it the same run? -----------------------------------------------------------------------------------


def run_identity(model: nn.Module, train_dataset: object, eval_dataset: object | None) -> dict[str, Any]:
    """What decides which run this is, as JSON holds it; `None` where it cannot be told.

    Args:
        model: The model; its property space, class names and ignore index are read.
        train_dataset: Its label coding and list of images are read.
        eval_dataset: Its list of images is read.
    """
    config: Any = getattr(model, "config", None)
    names = getattr(config, "id2label", None)
    space = getattr(model, "property_space", None) if getattr(config, "class_properties", None) else None
    return {
        "property_space": getattr(space, "fingerprint", None),
        "class_names": None if names is None else [names[index] for index in sorted(names)],
        "ignore_index": getattr(config, "semantic_loss_ignore_index", None),
        "label_coding": decoded_coding(getattr(source_of(train_dataset), "coding", None)),
        "train_images": images_digest(train_dataset),
        "eval_images": None if eval_dataset is None else images_digest(eval_dataset),
    }


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed, one line each; what one of both cannot tell is no change.

    Args:
        saved: Identity of the run to resume.
        now: Identity of the run that is asked for.
    """
    found: list[str] = []
    for name, words in _WORDS.items():
        before, after = saved.get(name), now.get(name)
        if before is None or after is None or before == after:
            continue
        if name == "class_names":
            found += _changed_classes(before, after)
        elif isinstance(before, dict) and isinstance(after, dict):
            found += [f"{words}, {line}" for line in _changed_entries(before, after)]
        elif name in ("train_images", "eval_images"):
            found.append(f"{words} is another one")
        else:
            found.append(f"{words}: {_short(before)} -> {_short(after)}")
    return found


def check_changes(saved: "Progress", now: "Progress", *, accept_changes: bool) -> bool:
    """Refuses to go on with other data or classes, and says which numbers of the recipe have changed.

    Args:
        saved: Of the checkpoint.
        now: Of the run that is asked for, at step 0.
        accept_changes: Go on nevertheless.

    Returns:
        Whether data or classes have changed.

    Raises:
        ValueError: They have, and that was not accepted.
    """
    if saved.identity is None:
        logger.warning(
            "The run to resume was started by an earlier version, which kept no record of its data and classes: "
            "whether they are the same cannot be told."
        )
    changes = differences(saved.identity or {}, now.identity or {})
    if saved.num_images != now.num_images:
        changes.insert(0, f"it was trained on {saved.num_images} images, this data set has {now.num_images}")
    if changes and not accept_changes:
        raise ValueError(
            f"The run to resume is another one: {'; '.join(changes)}. Resume with the data and classes that it was "
            "started with, start a new run from its exported model, or go on nevertheless with "
            "accept_changes=True (--accept-changes)."
        )
    changed = changes + _changed_fields(saved.recipe, now.recipe)
    if saved.effective_batch_size != now.effective_batch_size:
        changed.append(f"images per step: {saved.effective_batch_size} -> {now.effective_batch_size}")
    if changed:
        logger.warning(
            "Resuming at step %d with changes, so this is not exactly the run that it continues: %s.",
            saved.step,
            "; ".join(changed),
        )
    return bool(changes)


def _changed_fields(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    before, after = _comparable(saved), _comparable(now)
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in dict.fromkeys([*after, *before])
        if name not in FREE_FIELDS and before.get(name) != after.get(name)
    ]


def _comparable(recipe: dict[str, Any]) -> dict[str, Any]:
    """By dotted name, complete, whatever form the recipe was saved in."""
    try:
        values = flat_values(TrainingRecipe.from_dict(recipe).to_dict())
    except (ValueError, TypeError):
        values = flat_values(recipe)
    defaults = {f"config.{name}": value for name, value in config_defaults().items()}
    return {**defaults, **values}


def _changed_classes(before: list[str], after: list[str]) -> list[str]:
    if len(before) != len(after):
        return [f"the number of classes: {len(before)} -> {len(after)}"]
    pairs = [(k, one, other) for k, (one, other) in enumerate(zip(before, after)) if one != other]
    return [f"class {k}: {one!r} -> {other!r}" for k, one, other in pairs[:_SHOWN_DIFFERENCES]]


def _changed_entries(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    lines = []
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            lines += [f"{key} {line}" for line in _changed_entries(one, other)]
        else:
            lines.append(f"{key}: {_short(one)} -> {_short(other)}")
    return lines[:_SHOWN_DIFFERENCES]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
