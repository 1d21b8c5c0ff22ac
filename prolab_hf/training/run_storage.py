"""How a run is stored and restored: model, optimizer, random states, averaged weights, exported model."""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn
from transformers.utils import logging as transformers_logging

from prolab_hf.training.checkpoints import (
    best_checkpoint,
    checkpoint_step,
    newest_valid_checkpoint,
    prune_checkpoints,
    record_evaluations,
    write_checkpoint,
)
from prolab_hf.training.optimization import AveragedWeights
from prolab_hf.training.output_folder import CHECKPOINTS_FOLDER, export_into
from prolab_hf.training.training_state import (
    Progress,
    load_averaged,
    load_model_weights,
    random_state,
    save_state,
)

logger = logging.getLogger(__name__)

BYTES_PER_NUMBER = 4


class RunStorage:
    """Checkpoints and export of one run.

    Args:
        output_dir: Folder of the run.
        model: The model, not wrapped.
        processor: Saved with the model, if there is one.
        accelerator: Of the run.
        keep: How many of the newest checkpoints stay.
    """

    def __init__(
        self, output_dir: Path, model: nn.Module, processor: Any | None, accelerator: Accelerator, keep: int
    ) -> None:
        self.output_dir = output_dir
        self.root = output_dir / CHECKPOINTS_FOLDER
        self.model = model
        self.processor = processor
        self.accelerator = accelerator
        self.keep = keep
        self.saved_step: int | None = None

    def checkpoint_bytes(self) -> int:
        """Estimated size of one checkpoint: weights, and two moments of those that are trained."""
        return BYTES_PER_NUMBER * sum(
            parameter.numel() * (3 if parameter.requires_grad else 1) for parameter in self.model.parameters()
        )

    def save(self, progress: Progress, optimizer: Any, average: AveragedWeights | None) -> float | None:
        """Writes a checkpoint of the current step, unless there is one. Every process must call this.

        Args:
            progress: How far the run is.
            optimizer: The torch optimizer, not wrapped.
            average: Averaged weights, if the run has them.

        Returns:
            Seconds that it took; `None` where nothing was written by this process.

        Raises:
            FloatingPointError: A weight is not finite.
            RuntimeError: The checkpoint could not be written.
        """
        if self.saved_step == progress.step:
            return None
        random_states = gather_object([random_state()])
        seconds = None
        if self.accelerator.is_main_process:
            started = time.perf_counter()
            self.check_weights(progress.step)

            def fill(folder: Path) -> None:
                self.write_model(folder)
                save_state(
                    folder,
                    progress,
                    optimizer=optimizer,
                    random_states=random_states,
                    averaged=None if average is None else average.tensors,
                    scaler=self.accelerator.scaler,
                )

            write_checkpoint(self.root, progress.step, fill)
            prune_checkpoints(self.root, self.keep)
            seconds = time.perf_counter() - started
        self.saved_step = progress.step
        self.accelerator.wait_for_everyone()
        return seconds

    def record(self, evaluations: list[dict[str, float]]) -> None:
        """Remembers the evaluations, on the main process; checkpoints that are no longer the best may go."""
        if self.accelerator.is_main_process:
            record_evaluations(self.root, evaluations)
            prune_checkpoints(self.root, self.keep)

    def export(self, step: int, average: AveragedWeights | None, *, best: bool) -> int:
        """Puts the chosen weights into the model and writes it into the folder of the run.

        Args:
            step: Steps done.
            average: Averaged weights, if the run has them.
            best: Choose the best checkpoint, where there is one, instead of the last weights.

        Returns:
            The step of the exported weights.

        Raises:
            RuntimeError: The model could not be written.
        """
        self.accelerator.wait_for_everyone()
        chosen = best_checkpoint(self.root) if best else None
        if chosen is not None:
            step = checkpoint_step(chosen)
            load_model_weights(chosen, self.model, averaged=average is not None)
        elif average is not None:
            average.swap_in(self.model)
        if self.accelerator.is_main_process:
            export_into(self.output_dir, self.write_model)
        self.accelerator.wait_for_everyone()
        return step

    def write_model(self, folder: Path) -> None:
        """Writes model and processor into a folder."""
        model: Any = self.model
        # safetensors holds contiguous tensors only; a channels-last model has others.
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        with _silent_transformers():
            model.save_pretrained(folder, state_dict=state)
        if self.processor is not None:
            self.processor.save_pretrained(folder)

    def check_weights(self, step: int) -> None:
        """Keeps a ruined model from becoming the newest checkpoint: a finite loss may have a ruinous update.

        Raises:
            FloatingPointError: A weight is not finite.
        """
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise FloatingPointError(
                    f"The weight {name} is not finite after step {step}. {self.last_good()} "
                    "Lower learning_rate or set max_gradient_norm, then resume."
                )

    def last_good(self) -> str:
        """A sentence that names the newest valid checkpoint."""
        last = newest_valid_checkpoint(self.root)
        return f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."


def restore_average(average: AveragedWeights, checkpoint: Path, step: int) -> None:
    """Puts the averaged weights of a checkpoint back; a run that had none starts averaging now."""
    tensors = load_averaged(checkpoint)
    if tensors is not None:
        average.num_updates = step
        average.tensors = {name: tensors[name].to(value.device) for name, value in average.tensors.items()}


@contextlib.contextmanager
def _silent_transformers() -> Iterator[None]:
    """Without the bar per file that transformers would draw into ours."""
    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()
