"""The model of a run whole on every process: one process, or plain data parallelism (DDP).

What the training loop asks of an engine is defined here; the engines that hold a model in parts (`fsdp`, `deepspeed`)
answer the same questions. Whatever they hold, a checkpoint has whole tensors under the model's own names: a run can be
resumed on another number of processes, and by another engine.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from prolab_hf.training.optimization import AveragedWeights, build_optimizer, clip_gradients
from prolab_hf.training.recipe import TrainingRecipe

OptimizerState = dict[str, Any]


class Engine:
    """Model, optimizer and averaged weights over the processes of a run. Every process must make every call.

    Args:
        accelerator: Of the run.
        recipe: Optimizer, precision, memory layout.

    Attributes:
        model: As it is called in a training step.
        plain_model: The user's model: whole, and what is measured, stored and exported. Its weights are those of
            the run after `gather`.
        optimizer: The torch optimizer, not wrapped.
        average: Averaged weights, if the run has them.
    """

    name = "plain data parallelism"

    model: nn.Module
    plain_model: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedWeights | None

    def __init__(self, accelerator: Accelerator, recipe: TrainingRecipe) -> None:
        self.accelerator, self.recipe = accelerator, recipe
        self.average = None

    # ---- start --------------------------------------------------------------------------------------------

    def start(self, model: nn.Module) -> None:
        """Puts model and optimizer on the devices.

        Args:
            model: With the weights to start from.
        """
        self.plain_model = self.placed(model)
        self.optimizer = build_optimizer(self.plain_model, self.recipe)
        self.model, self._prepared = self.accelerator.prepare(self.plain_model, self.optimizer)
        decay = self.recipe.optimizer.ema_decay
        self.average = AveragedWeights(self.plain_model, decay) if decay else None

    def placed(self, model: nn.Module) -> nn.Module:
        """A model on the device of this process, in the recipe's memory layout."""
        device = self.accelerator.device
        if (
            self.accelerator.num_processes > 1
            and device.type == "cuda"
            and self.recipe.device.sync_batch_norm
        ):
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        model.to(device)
        if self.recipe.device.channels_last:
            model.to(memory_format=torch.channels_last)
        return model

    @property
    def computing_model(self) -> nn.Module:
        """The module that computes in a training step, without what is wrapped around it."""
        return self.plain_model

    # ---- steps --------------------------------------------------------------------------------------------

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds the gradients of one pass.

        Args:
            loss: Of the pass, as it counts in the step; gradients of several processes are averaged.
            is_last: Whether it is the last pass of its step.
        """
        self.accelerator.backward(loss)

    @contextlib.contextmanager
    def accumulating(self, *, is_last: bool) -> Iterator[None]:
        """Around forward and backward pass: processes exchange gradients in the last pass of a step only."""
        with contextlib.nullcontext() if is_last else self.accelerator.no_sync(self.model):
            yield

    def step(self) -> None:
        """Clips the gradients, moves the weights and their average, and forgets the gradients."""
        clip_gradients(self.accelerator, self.model, self.recipe.optimizer.max_gradient_norm)
        self._prepared.step()
        self._prepared.zero_grad()
        self.update_average()

    def update_average(self) -> None:
        """Moves the averaged weights towards the present ones."""
        if self.average is not None:
            self.average.update(self.plain_model)

    # ---- weights ------------------------------------------------------------------------------------------

    def gather(self, *, averaged: bool = False) -> None:
        """Puts the weights of now, or their average, into `plain_model`, on every process.

        Args:
            averaged: The averaged weights, where the run has them; the training must not go on then.
        """
        if averaged and self.average is not None:
            self.average.swap_in(self.plain_model)

    def averaged_tensors(self) -> dict[str, Tensor] | None:
        """The averaged weights, whole, by name; `None` where the run has none, or this is not the main process."""
        return None if self.average is None else self.average.tensors

    def set_averaged_tensors(self, tensors: dict[str, Tensor], step: int) -> None:
        """Takes averaged weights back.

        Args:
            tensors: What `averaged_tensors` gave.
            step: Steps that they are an average of.
        """
        if self.average is not None:
            self.average.num_updates = step
            self.average.tensors = {
                name: tensors[name].to(value.device) for name, value in self.average.tensors.items()
            }

    def first_bad_weight(self) -> str | None:
        """Name of the first weight that is not finite on any process, the same answer on all of them."""
        return next(
            (name for name, value in self.plain_model.named_parameters() if not _is_finite(value)), None
        )

    @contextlib.contextmanager
    def exported(self) -> Iterator[nn.Module]:
        """The model as it would be exported now, while entered: what is measured is what will be loaded.

        Averaged weights, the main process's statistics on every process (each keeps its own of batch
        normalization), no mixed precision, the usual memory layout.
        """
        model, average = self.plain_model, self.average
        if self.accelerator.num_processes > 1:
            # The loop's own wrapper does the same to the buffers before its next step.
            share([*model.buffers(), *(average.tensors.values() if average is not None else ())])
        layouts = {name: value.is_contiguous() for name, value in model.named_parameters()}
        rearranged = not all(layouts.values())
        patched = model.__dict__.get("forward")  # what Accelerate put there: autocast around the model's own
        if average is not None:
            average.swap_in(model)
        try:
            if rearranged:
                model.to(memory_format=torch.contiguous_format)
            if patched is not None and "_original_forward" in model.__dict__:
                model.forward = model.__dict__["_original_forward"]
            yield model
        finally:
            if patched is not None:
                model.forward = patched
            if rearranged:
                model.to(memory_format=torch.channels_last)
            if average is not None:
                average.swap_out(model)

    # ---- optimizer ----------------------------------------------------------------------------------------

    def optimizer_state(self) -> OptimizerState:
        """State of the optimizer as a run on one process has it; only the main process's is complete."""
        return self.optimizer.state_dict()

    def load_optimizer_state(self, state: OptimizerState) -> None:
        """Takes back what `optimizer_state` gave on the main process.

        Raises:
            ValueError: The optimizer has other parameter groups.
        """
        self.optimizer.load_state_dict(state)

    def finish(self) -> None:
        """Takes off whatever is around `plain_model`."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)


def share(tensors: list[Tensor]) -> None:
    """Gives every process the main process's content of some tensors, in place."""
    for tensor in tensors:
        torch.distributed.broadcast(tensor, src=0)


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def agreed_first(found: str | None) -> str | None:
    """The first answer of any process, on all of them."""
    from accelerate.utils import gather_object

    return next((name for name in gather_object([found]) if name is not None), None)
