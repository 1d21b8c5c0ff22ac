"""Mixed precision: which number format a run computes in on a device."""

import torch


def precision_on(device: torch.device, asked: str) -> str:
    """The mixed precision of a run: `"no"`, `"bf16"` or `"fp16"`, as Accelerate takes it.

    Args:
        device: Where it computes.
        asked: `device.mixed_precision` of its recipe: one of these, or `"auto"` for the best that the device has.

    Raises:
        ValueError: fp16 was asked for on a CPU, where it cannot train.
    """
    if asked == "fp16" and device.type == "cpu":
        raise ValueError(
            "device.mixed_precision is 'fp16' but the device is a CPU; use 'no' or 'bf16', or 'auto' to let "
            "the device decide."
        )
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "no"
