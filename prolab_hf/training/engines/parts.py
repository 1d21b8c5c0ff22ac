"""What the engines have in common that hold a model in parts: a working copy in parts beside the user's whole model."""

import contextlib
import copy
from collections.abc import Iterator

from torch import Tensor, nn

from prolab_hf.training.engines.engine import Engine, share


class PartsEngine(Engine):
    """A working copy of the model is trained in parts; the user's model stays whole, in the memory of the CPU.

    Evaluations and checkpoints gather the parts into the whole model on every process. What it costs is one copy of
    the weights on the device while the model is measured; what it saves is that processes may measure any number of
    images each: no pass of one waits for a pass of another, and scores are exactly those of the exported model.
    """

    working: nn.Module

    def working_copy(self, model: nn.Module) -> nn.Module:
        """A copy of the user's model on the device of this process; the user's goes to the CPU."""
        self.plain_model = model.to("cpu")
        self.working = self.placed(copy.deepcopy(model))
        return self.working

    @property
    def computing_model(self) -> nn.Module:
        """The working copy."""
        return self.working

    def whole_tensors(self, *, averaged: bool) -> Iterator[tuple[str, Tensor]]:
        """Name and content of every tensor of the model, one after the other, whole on every process.

        Args:
            averaged: The averaged weights, where there are any.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how its parts are gathered")

    def update_average(self) -> None:
        """Each process averages its own parts."""
        if self.average is not None:
            self.average.update(self.working)

    def gather(self, *, averaged: bool = False) -> None:
        """Puts the weights of now, or their average, into `plain_model`, on every process."""
        state = self.plain_model.state_dict()
        for name, value in self.whole_tensors(averaged=averaged):
            state[name].copy_(value)
        if self.accelerator.num_processes > 1:
            device = self.accelerator.device
            for buffer in self.plain_model.buffers():
                on_device = buffer.to(device)  # CUDA's exchange knows no memory of the CPU
                share([on_device])
                buffer.copy_(on_device)

    def averaged_tensors(self) -> dict[str, Tensor] | None:
        """The averaged weights, whole, by name."""
        if self.average is None:
            return None
        is_main = self.accelerator.is_main_process
        whole = (
            (name, value) for name, value in self.whole_tensors(averaged=True) if value.is_floating_point()
        )
        kept = {name: value.detach().cpu().clone() for name, value in whole if is_main}
        return kept if is_main else None

    @contextlib.contextmanager
    def exported(self) -> Iterator[nn.Module]:
        """The whole model with the weights that would be exported now, on the device."""
        self.gather(averaged=True)
        try:
            yield self.plain_model.to(self.accelerator.device)
        finally:
            self.plain_model.to("cpu")

    def finish(self) -> None:
        """The whole model goes to the device."""
        self.plain_model.to(self.accelerator.device)
