"""What a run needs to go on exactly where it was: optimizer, random states, averaged weights, progress."""

import dataclasses
import json
import logging
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prolab_hf.training.checkpoints import STATE_FOLDER
from prolab_hf.training.recipe import TrainingRecipe

logger = logging.getLogger(__name__)

OPTIMIZER_FILE = "optimizer.pt"
RANDOM_FILE = "random_states.pt"
AVERAGE_FILE = "averaged_weights.safetensors"
PROGRESS_FILE = "progress.json"
# A resumed run may change these without becoming another run.
FREE_FIELDS = {
    "name",
    "log_every",
    "eval_every",
    "save_every",
    "keep_checkpoints",
    "num_workers",
    "eval_batch_size",
    "final_weights",
}


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        num_pictures: Length of the training set.
        effective_batch_size: Pictures per step over all devices.
        train_seconds: Time in steps.
        wait_seconds: Of these, time spent waiting for data.
        recipe: The recipe as plain values.
    """

    step: int = 0
    num_pictures: int = 0
    effective_batch_size: int = 1
    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)


def save_state(
    checkpoint: Path,
    progress: Progress,
    *,
    optimizer: Any,
    random_states: list[dict[str, Any]],
    averaged: dict[str, Tensor] | None,
    scaler: Any = None,
) -> None:
    """Writes the training state into a checkpoint folder that is being filled.

    Args:
        checkpoint: The folder.
        progress: How far the run is.
        optimizer: What has a `state_dict`.
        random_states: Of every process, see `random_state`.
        averaged: Averaged weights, if the run has them.
        scaler: Gradient scaler of fp16, if there is one.
    """
    folder = checkpoint / STATE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    state = {"optimizer": optimizer.state_dict(), "scaler": None if scaler is None else scaler.state_dict()}
    torch.save(state, folder / OPTIMIZER_FILE)
    torch.save(random_states, folder / RANDOM_FILE)
    if averaged is not None:
        save_file({name: value.contiguous() for name, value in averaged.items()}, folder / AVERAGE_FILE)
    text = json.dumps(dataclasses.asdict(progress), indent=2)
    (folder / PROGRESS_FILE).write_text(text + "\n", encoding="utf-8")


def load_progress(checkpoint: Path) -> Progress:
    """Reads how far a checkpoint is.

    Raises:
        ValueError: Its training state is missing or of another version.
    """
    path = checkpoint / STATE_FOLDER / PROGRESS_FILE
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"The checkpoint {checkpoint} has no usable training state: {error}.") from error


def load_optimizer(checkpoint: Path, optimizer: Any, scaler: Any = None) -> None:
    """Restores the optimizer's moments; rates and decays stay those of the recipe of now.

    Raises:
        ValueError: The optimizer has other parameter groups than the one that was saved.
    """
    path = checkpoint / STATE_FOLDER / OPTIMIZER_FILE
    saved = torch.load(path, map_location="cpu", weights_only=True)
    now = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(saved["optimizer"])
    except ValueError as error:
        raise ValueError(
            f"The optimizer state of {checkpoint} does not fit this model and recipe ({error}); "
            "resume with the recipe that the run was started with."
        ) from error
    for group, values in zip(optimizer.param_groups, now, strict=True):
        group.pop("initial_lr", None)  # a scheduler would start from the saved rate
        group.update(values)
    if scaler is not None and saved["scaler"] is not None:
        scaler.load_state_dict(saved["scaler"])


def load_averaged(checkpoint: Path) -> dict[str, Tensor] | None:
    """Averaged weights of a checkpoint, if the run had them."""
    path = checkpoint / STATE_FOLDER / AVERAGE_FILE
    return load_file(path) if path.is_file() else None


def load_model_weights(checkpoint: Path, model: nn.Module, *, averaged: bool = False) -> None:
    """Restores every tensor of the model.

    Args:
        checkpoint: A checkpoint folder.
        model: The model, not wrapped.
        averaged: Take the averaged weights for what they cover.

    Raises:
        ValueError: Tensors are missing or left over: the checkpoint is of another model.
    """
    index = checkpoint / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    state: dict[str, Tensor] = {}
    for name in names:
        state.update(load_file(checkpoint / name))
    if averaged:
        state.update(load_averaged(checkpoint) or {})
    expected = {name: value.shape for name, value in model.state_dict().items()}
    found = {name: value.shape for name, value in state.items()}
    if expected != found:
        missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        other = sorted(name for name in expected.keys() & found.keys() if expected[name] != found[name])
        raise ValueError(
            f"The checkpoint {checkpoint} is of another model: {len(missing)} tensors are missing "
            f"{missing[:2]}, {len(extra)} are left over {extra[:2]}, {len(other)} have another shape "
            f"{other[:2]}."
        )
    model.load_state_dict(state)


def random_state() -> dict[str, Any]:
    """State of all global random generators of this process, as tensors and plain numbers."""
    version, keys, gauss = random.getstate()
    kind, array, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - other people's code draws from it
    return {
        "python": [version, torch.tensor(keys, dtype=torch.int64), gauss],
        "numpy": [
            str(kind),
            torch.from_numpy(np.asarray(array, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(cached),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def load_random_state(checkpoint: Path, rank: int) -> None:
    """Restores the random generators of this process.

    Args:
        checkpoint: A checkpoint folder.
        rank: Of this process; where the run had fewer processes, the generators stay as they are.
    """
    path = checkpoint / STATE_FOLDER / RANDOM_FILE
    states = torch.load(path, map_location="cpu", weights_only=True)
    if rank >= len(states):
        logger.warning(
            "%s was written by %d process(es); process %d starts with fresh random numbers, "
            "so the run is not exactly the one it continues.",
            checkpoint,
            len(states),
            rank,
        )
        return
    state = states[rank]
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys.tolist()), gauss))
    kind, array, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, array.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def warn_of_changes(progress: Progress, recipe: TrainingRecipe, num_pictures: int, batch_size: int) -> None:
    """Says what keeps a resumed run from being the one that was interrupted.

    Raises:
        ValueError: The training set has another length: the data order would be another one.
    """
    if progress.num_pictures != num_pictures:
        raise ValueError(
            f"The run to resume was trained on {progress.num_pictures} pictures, this data set has "
            f"{num_pictures}; resume with the same data, or start a new run from the exported model."
        )
    now = recipe.to_dict()
    changed = [
        f"{name}: {progress.recipe.get(name)!r} -> {value!r}"
        for name, value in now.items()
        if name not in FREE_FIELDS and progress.recipe.get(name) != value
    ]
    if progress.effective_batch_size != batch_size:
        changed.append(f"pictures per step: {progress.effective_batch_size} -> {batch_size}")
    if changed:
        logger.warning(
            "Resuming at step %d with changes, so this is not exactly the run that it continues: %s.",
            progress.step,
            "; ".join(changed),
        )
