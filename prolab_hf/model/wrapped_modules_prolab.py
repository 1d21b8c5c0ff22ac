"""Room for what others put around the modules of a network: adapters, hooks, quantization, checkpointing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

Checkpoint = Callable[..., Any]  # of the signature of torch.utils.checkpoint.checkpoint

is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module does what its weights say and no more, so that a shortcut may read instead of call it.

    Adapters, quantized layers and parametrizations are of another type or hold another kind of tensor; hooks
    and a `forward` set on the instance (Accelerate offloads by one) would not run.
    """
    if type(module) is not kind or "forward" in module.__dict__:
        return False
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if module._backward_hooks or module._backward_pre_hooks:
        return False
    # An exported graph sees stand-ins for all tensors; a plan of a run is measured on fake ones.
    return is_exporting() or all(
        type(tensor) in (nn.Parameter, Tensor, FakeTensor)
        for tensor in module._parameters.values()
        if tensor is not None
    )


@contextmanager
def unchanged_statistics(network: nn.Module) -> Iterator[None]:
    """Batch normalization as in training, but the running statistics are those of before afterwards.

    Copies take their place meanwhile: without any, autograd would save other tensors than in the first pass,
    which checkpointing refuses.
    """
    kept = [
        (module, name, buffer)
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    for module, name, buffer in kept:
        module._buffers[name] = buffer.clone()
    try:
        yield
    finally:
        for module, name, buffer in kept:
            module._buffers[name] = buffer


class CheckpointKeepingStatistics:
    """A checkpointing function under which no running statistics move a second time.

    What is checkpointed runs again in backward. An object rather than a closure, so that a network that holds it
    can be copied (the copy then freezes its own statistics) and pickled.
    """

    def __init__(self, checkpoint: Checkpoint, network: nn.Module) -> None:
        self.checkpoint = checkpoint
        self.network = network

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs `function(*args)` under the checkpointing function, with its options `kwargs`."""
        if torch.compiler.is_compiling():  # which could not trace the state below, and recomputes by itself
            return self.checkpoint(function, *args, **kwargs)
        has_run = False

        def once(*inputs: Any, **options: Any) -> Any:
            nonlocal has_run
            if not has_run:
                has_run = True
                return function(*inputs, **options)
            with unchanged_statistics(self.network):
                return function(*inputs, **options)

        return self.checkpoint(once, *args, **kwargs)
