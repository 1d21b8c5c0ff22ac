"""Weights that are not what they should be are refused, instead of giving a network that looks trained."""

from collections.abc import Collection, Iterable
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from .configuration_prolab import ProLabConfig

MOST_NAMES = 4


class CheckedLoadingMixin:
    """A `from_pretrained` that refuses damaged weights; in front of `PreTrainedModel`."""

    @classmethod
    def from_pretrained(
        cls, source: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any
    ) -> Any:
        """Like transformers', but only from safetensors, and damaged weights are refused.

        Args:
            source: Folder or Hub id; `None` where `state_dict` and `config` are given.
            args: As in transformers.
            output_loading_info: Return a pair, the model and what happened to each tensor.
            kwargs: As in transformers. With `ignore_mismatched_sizes=True`, as fine-tuning scripts have it, tensors
                may be missing and left over.

        Raises:
            ValueError: Tensors are missing, left over, NaN or infinite; or a class list was given that the rows of
                the property space do not belong to.
        """
        kwargs.setdefault("use_safetensors", True)
        model, info = super().from_pretrained(  # type: ignore[misc]
            source, *args, output_loading_info=True, **kwargs
        )
        where = "the given state_dict" if source is None else str(source)
        is_fresh = kwargs.get("state_dict") == {}  # asked for without weights
        if not is_fresh and not kwargs.get("ignore_mismatched_sizes", False):
            require_all_weights(info, model.config, where)
        require_finite_weights(model, where)
        return (model, info) if output_loading_info else model


class LoadingInfo(TypedDict):
    """What transformers reports about a load; names of tensors."""

    missing_keys: Collection[str]
    unexpected_keys: Collection[str]


def require_all_weights(info: LoadingInfo, config: ProLabConfig, where: str) -> None:
    """Refuses a checkpoint whose tensors are not those of the network: what is missing starts at random.

    Args:
        info: transformers' report.
        config: Of the network. Weights of an auxiliary head that it switches off may be left over.
        where: The checkpoint, for the message.

    Raises:
        ValueError: Tensors are missing or unexpected; the first are named.
    """
    unused = () if config.use_auxiliary_head else ("auxiliary_head.",)
    missing = sorted(info["missing_keys"])
    unexpected = sorted(key for key in info["unexpected_keys"] if not key.startswith(unused))
    problems = []
    if missing:
        problems.append(f"lack {_listing(missing)}")
    if unexpected:
        problems.append(f"hold {_listing(unexpected)}, which the network does not have")
    if problems:
        raise ValueError(
            f"The weights of {where} {' and '.join(problems)}: they are damaged or belong to another configuration. "
            "Copy them again; to start what does not fit at random, pass ignore_mismatched_sizes=True."
        )


def require_finite_weights(network: nn.Module, where: str) -> None:
    """Refuses NaN and infinity: such a network gives one class everywhere, without an error.

    Args:
        network: Its saved tensors are looked at; those on the meta device cannot be.
        where: The checkpoint, for the message.

    Raises:
        ValueError: A tensor holds NaN or infinity; the first are named.
    """
    broken = [name for name, tensor in _floating(network.state_dict().items()) if not tensor.isfinite().all()]
    if broken:
        raise ValueError(
            f"The weights of {where} hold NaN or infinity in {_listing(broken)}. Copy them again, or use an "
            "earlier checkpoint: training had diverged before this one was written."
        )


def _floating(tensors: Iterable[tuple[str, Tensor]]) -> Iterable[tuple[str, Tensor]]:
    # A quantized layer's tensor is of a type of its own, which has no isfinite.
    plain = (Tensor, nn.Parameter)
    return (
        (name, tensor)
        for name, tensor in tensors
        if type(tensor) in plain and tensor.dtype in _CHECKED_DTYPES and not tensor.is_meta
    )


_CHECKED_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more tensors"
