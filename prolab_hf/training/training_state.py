"""What a run needs to go on exactly where it was, and how it is stored, restored and exported."""

import dataclasses
import logging
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prolab_hf.files import read_json_object, write_json
from prolab_hf.progress import without_foreign_bars
from prolab_hf.protocols import ImageProcessor, SupportsState
from prolab_hf.training.checkpoints import (
    CHECKPOINTS_FOLDER,
    STATE_FOLDER,
    Evaluation,
    best_checkpoint,
    checkpoint_step,
    newest_valid_checkpoint,
    prune_checkpoints,
    record_evaluations,
    write_checkpoint,
)
from prolab_hf.training.engines.engine import Engine
from prolab_hf.training.export import export_into
from prolab_hf.training.frozen.lora import (
    ADAPTER_FOLDER,
    adapted_layers,
    merged_state,
    save_adapted_weights,
    save_adapter,
    with_adapted_weights,
)

logger = logging.getLogger(__name__)

OPTIMIZER_FILE = "optimizer.pt"
RANDOM_FILE = "random_states.pt"
AVERAGE_FILE = "averaged_weights.safetensors"
PROGRESS_FILE = "progress.json"
BYTES_PER_NUMBER = 4


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        num_images: Length of the training set; 0 for a stream.
        effective_batch_size: Images per step over all devices.
        train_seconds: Time in steps.
        wait_seconds: Of these, time spent waiting for data.
        recipe: The recipe as plain values.
        identity: Data and classes, see `run_identity`; `None` in runs of earlier versions.
        evaluations: Those so far, undefined scores as `None`.
        loss_window: Per process, the sum of the losses since the last log line and their number.
        stream: Per process, where the readers of a stream are (`StreamState`); empty for other data sets.
    """

    step: int = 0
    num_images: int = 0
    effective_batch_size: int = 1
    train_seconds: float = 0.0
    wait_seconds: float = 0.0
    recipe: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] | None = None
    evaluations: list[dict[str, float | None]] = field(default_factory=list)
    loss_window: list[tuple[float, int]] = field(default_factory=list)
    stream: list[dict[str, Any]] = field(default_factory=list)


# ---- files of a checkpoint --------------------------------------------------------------------------------


def save_state(
    checkpoint: Path,
    progress: Progress,
    *,
    optimizer: dict[str, Any],
    random_states: list[dict[str, Any]],
    averaged: dict[str, Tensor] | None,
    scaler: SupportsState | None = None,
) -> None:
    """Writes the training state into a checkpoint folder that is being filled.

    Args:
        checkpoint: The folder.
        progress: How far the run is.
        optimizer: Its whole state.
        random_states: Of every process, see `random_state`.
        averaged: Averaged weights, if the run has them.
        scaler: Gradient scaler of fp16, if there is one.
    """
    folder = checkpoint / STATE_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    state = {"optimizer": optimizer, "scaler": None if scaler is None else scaler.state_dict()}
    torch.save(state, folder / OPTIMIZER_FILE)
    torch.save(random_states, folder / RANDOM_FILE)
    if averaged is not None:
        save_file({name: value.contiguous() for name, value in averaged.items()}, folder / AVERAGE_FILE)
    write_json(folder / PROGRESS_FILE, dataclasses.asdict(progress))


def load_progress(checkpoint: Path) -> Progress:
    """Reads how far a checkpoint is.

    Raises:
        ValueError: Its training state is missing or of another version.
    """
    try:
        return Progress(
            **read_json_object(checkpoint / STATE_FOLDER / PROGRESS_FILE, what="progress of a run")
        )
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"The checkpoint {checkpoint} has no usable training state: {error}") from error


def load_optimizer(checkpoint: Path, engine: Engine, scaler: SupportsState | None = None) -> None:
    """Restores the optimizer's moments; rates and decays stay those of the recipe of now.

    Raises:
        ValueError: The optimizer has other parameter groups than the one that was saved.
    """
    path = checkpoint / STATE_FOLDER / OPTIMIZER_FILE
    saved = torch.load(path, map_location="cpu", weights_only=True)
    now = [{k: v for k, v in group.items() if k != "params"} for group in engine.optimizer.param_groups]
    try:
        engine.load_optimizer_state(saved["optimizer"])
    except ValueError as error:
        raise ValueError(
            f"The optimizer state of {checkpoint} does not fit this model and recipe ({error}); "
            "resume with the recipe that the run was started with."
        ) from error
    for group, values in zip(engine.optimizer.param_groups, now, strict=True):
        group.pop("initial_lr", None)  # a scheduler would start from the saved rate
        group.update(values)
    if scaler is not None and saved["scaler"] is not None:
        scaler.load_state_dict(saved["scaler"])


def load_averaged(checkpoint: Path) -> dict[str, Tensor] | None:
    """Averaged weights of a checkpoint, if the run had them."""
    path = checkpoint / STATE_FOLDER / AVERAGE_FILE
    return load_file(path) if path.is_file() else None


def restore_average(engine: Engine, checkpoint: Path, step: int) -> None:
    """Puts the averaged weights of a checkpoint back; a run that had none starts averaging now."""
    tensors = load_averaged(checkpoint)
    if tensors is not None:
        engine.set_averaged_tensors(tensors, step)


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
        names = sorted(set(read_json_object(index)["weight_map"].values()))
    state: dict[str, Tensor] = {}
    for name in names:
        state.update(load_file(checkpoint / name))
    state = with_adapted_weights(state, checkpoint)
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


# ---- random numbers ---------------------------------------------------------------------------------------


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


# ---- storing ----------------------------------------------------------------------------------------------


class RunStorage:
    """Checkpoints and export of one run.

    Args:
        output_dir: Folder of the run.
        model: The model, not wrapped.
        processor: Saved with the model, if there is one.
        accelerator: Of the run.
        keep: How many of the newest checkpoints stay.

    Attributes:
        resumed_from: The checkpoint that this session started from; it stays.
        evaluations: Of the run; the checkpoint of the best one stays.
    """

    def __init__(
        self,
        output_dir: Path,
        model: nn.Module,
        processor: ImageProcessor | None,
        accelerator: Accelerator,
        keep: int,
    ) -> None:
        self.output_dir = output_dir
        self.root = output_dir / CHECKPOINTS_FOLDER
        self.model = model
        self.processor = processor
        self.accelerator = accelerator
        self.keep = keep
        self.saved_step: int | None = None
        self.resumed_from: Path | None = None
        self.evaluations: list[Evaluation] = []

    def checkpoint_bytes(self) -> int:
        """Estimated size of one checkpoint: weights, and two moments of those that are trained."""
        return BYTES_PER_NUMBER * sum(
            parameter.numel() * (3 if parameter.requires_grad else 1) for parameter in self.model.parameters()
        )

    def save(self, progress: Progress, engine: Engine) -> float | None:
        """Writes a checkpoint of the current step, unless there is one. Every process must call this.

        Args:
            progress: How far the run is.
            engine: Who has the weights and the optimizer.

        Returns:
            Seconds that it took; `None` where nothing was written by this process.

        Raises:
            FloatingPointError: A weight is not finite.
            RuntimeError: The checkpoint could not be written.
        """
        if self.saved_step == progress.step:
            return None
        started = time.perf_counter()
        self.check_weights(progress.step, engine)
        random_states = gather_object([random_state()])
        progress.loss_window = gather_object(progress.loss_window)
        progress.stream = gather_object(progress.stream)
        engine.gather()
        optimizer, averaged = engine.optimizer_state(), engine.averaged_tensors()
        seconds = None
        if self.accelerator.is_main_process:
            progress.evaluations = [_plain_scores(entry) for entry in self.evaluations]

            def fill(folder: Path) -> None:
                self.write_model(folder)
                save_adapted_weights(self.model, folder)
                save_state(
                    folder,
                    progress,
                    optimizer=optimizer,
                    random_states=random_states,
                    averaged=averaged,
                    scaler=self.accelerator.scaler,
                )

            write_checkpoint(self.root, progress.step, fill)
            self.prune()
            seconds = time.perf_counter() - started
        self.saved_step = progress.step
        self.accelerator.wait_for_everyone()
        return seconds

    def prune(self) -> None:
        """Removes the checkpoints that need not stay."""
        spare = [] if self.resumed_from is None else [self.resumed_from]
        prune_checkpoints(self.root, self.keep, spare=spare, evaluations=self.evaluations)

    def record(self) -> None:
        """Writes the evaluations down, on the main process; checkpoints that are no longer the best may go."""
        if self.accelerator.is_main_process:
            record_evaluations(self.root, self.evaluations)
            self.prune()

    def export(self, step: int, engine: Engine, *, best: bool) -> int:
        """Puts the chosen weights into the model and writes it into the folder of the run.

        Args:
            step: Steps done.
            engine: Who has the weights.
            best: Choose the best checkpoint, where there is one, instead of the last weights.

        Returns:
            The step of the exported weights.

        Raises:
            RuntimeError: The model could not be written.
        """
        self.accelerator.wait_for_everyone()
        chosen = best_checkpoint(self.root, self.evaluations) if best else None
        if chosen is not None:
            step = checkpoint_step(chosen)
            load_model_weights(chosen, self.model, averaged=engine.average is not None)
        else:
            engine.gather(averaged=True)
        if self.accelerator.is_main_process:
            export_into(self.output_dir, self.write_export)
        self.accelerator.wait_for_everyone()
        return step

    def write_export(self, folder: Path) -> None:
        """Writes what people load: adapters merged into the model, and beside it on their own."""
        self.write_model(folder)
        if adapted_layers(self.model):
            backbone = getattr(getattr(self.model, "config", None), "backbone_config", None)
            save_adapter(self.model, folder / ADAPTER_FOLDER, base=getattr(backbone, "_name_or_path", None))

    def write_model(self, folder: Path) -> None:
        """Writes model and processor into a folder, adapters merged."""
        model: Any = self.model
        # safetensors holds contiguous tensors only; a channels-last model has others.
        state = {name: value.contiguous() for name, value in merged_state(model).items()}
        with without_foreign_bars():
            model.save_pretrained(folder, state_dict=state)
        if self.processor is not None:
            self.processor.save_pretrained(folder)

    def check_weights(self, step: int, engine: Engine) -> None:
        """Keeps a ruined model from becoming the newest checkpoint: a finite loss may have a ruinous update.

        Raises:
            FloatingPointError: A weight is not finite, on whichever process.
        """
        name = engine.first_bad_weight()
        if name is not None:
            raise FloatingPointError(
                f"The weight {name} is not finite after step {step}. {self.last_good()} "
                "Lower learning_rate or set max_gradient_norm, then resume."
            )

    def last_good(self) -> str:
        """A sentence that names the newest valid checkpoint."""
        last = newest_valid_checkpoint(self.root)
        return f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."


def _plain_scores(entry: Evaluation) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in entry.items()}
