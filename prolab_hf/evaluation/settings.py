"""The choices of inference: whole image or sliding window, flipping, scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from prolab_hf.protocols import ImageProcessor


class InferenceOptions(TypedDict, total=False):
    """Keyword arguments of `segment` and `evaluate`; see `InferenceSettings`."""

    mode: Literal["whole", "slide"]
    crop_size: int | tuple[int, int] | None
    stride: int | tuple[int, int] | None
    flip: bool
    scales: Sequence[float]
    batch_size: int
    resize_twice: bool


@dataclass(frozen=True)
class InferenceSettings:
    """How an image is run through a model.

    Attributes:
        mode: `"whole"`: one forward pass, as the pipeline does. `"slide"`: a window moved over the image.
        crop_size: Window in pixels of the processed image, one number or `(height, width)`. Default: the
            processor's `crop_size`, else its `size["shortest_edge"]`.
        stride: Step of the window, one number or two. Default: the processor's `stride` where the
            window is the processor's, too, else two thirds of the window.
        flip: Whether the mirrored image is run, too; class probabilities are averaged.
        scales: Factors of the processed size whose class probabilities are averaged.
        batch_size: Windows, or in `evaluate` images of equal size, that are run together.
        resize_twice: In mode `"whole"`, bring logits to the processed size first and from there to the size of
            the image, as the published evaluations do; needs memory for all classes at the processed size.
            Mode `"slide"` does so in any case.
    """

    mode: Literal["whole", "slide"] = "whole"
    crop_size: int | tuple[int, int] | None = None
    stride: int | tuple[int, int] | None = None
    flip: bool = False
    scales: Sequence[float] = (1.0,)
    batch_size: int = 1
    resize_twice: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "slide"):
            raise ValueError(f"mode is {self.mode!r}; it must be 'whole' or 'slide'.")
        if self.mode == "whole" and (self.crop_size is not None or self.stride is not None):
            raise ValueError("crop_size and stride belong to mode='slide'; the mode is 'whole'.")
        for name in ("crop_size", "stride"):
            value = getattr(self, name)
            if value is not None and min(_pair(value)) < 1:
                raise ValueError(f"{name} is {value}; it must be one or two positive numbers of pixels.")
        scales = (self.scales,) if isinstance(self.scales, int | float) else tuple(self.scales)
        if not scales or not all(0 < scale < float("inf") for scale in scales):
            raise ValueError(f"scales is {self.scales!r}; it must hold at least one positive factor.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be at least 1.")
        object.__setattr__(self, "scales", scales)

    @property
    def is_plain(self) -> bool:
        """Whether one forward pass over the whole image is all there is to do."""
        return self.mode == "whole" and not (self.flip or self.resize_twice) and self.scales == (1.0,)

    @property
    def flips(self) -> tuple[bool, ...]:
        """Whether each run of one scale is mirrored."""
        return (False, True) if self.flip else (False,)

    def to_dict(self, processor: ImageProcessor | None = None) -> dict[str, Any]:
        """The settings as JSON holds them, for the record; with a processor the window is filled in."""
        record: dict[str, Any] = {"mode": self.mode, "flip": self.flip, "scales": list(self.scales)}
        if self.resize_twice:
            record["resize_twice"] = True
        if self.mode == "slide":
            record["crop_size"], record["stride"] = map(list, self.window(processor))
        return record

    def window(self, processor: ImageProcessor | None) -> tuple[tuple[int, int], tuple[int, int]]:
        """Crop size and stride, each `(height, width)`, with the defaults filled in.

        Raises:
            ValueError: If no crop size is given and the processor names no shortest edge.
        """
        crop_size, stride = self.crop_size, self.stride
        if crop_size is None:
            crop_size, recorded_stride = recorded_window(processor)
            if crop_size is not None and stride is None:
                stride = recorded_stride
        if crop_size is None:
            size: Any = getattr(processor, "size", None)
            crop_size = size.get("shortest_edge") if hasattr(size, "get") else None
        if crop_size is None:
            raise ValueError(
                "mode='slide' needs crop_size (the training crop of the model, for example 512)."
            )
        crop = _pair(crop_size)
        step = _pair(stride) if stride is not None else tuple(max(1, 2 * c // 3) for c in crop)
        return crop, (step[0], step[1])


def recorded_window(processor: object) -> tuple[Any, Any]:
    """Crop size and stride that an image processor records, `None` where it does not.

    Processors of the first version call them `window_size` and `window_stride`.
    """
    crop_size = getattr(processor, "crop_size", None)
    if not isinstance(crop_size, int | tuple | list):  # other processors keep the size of a center crop there
        crop_size = getattr(processor, "window_size", None)
    return crop_size, getattr(processor, "stride", None) or getattr(processor, "window_stride", None)


def recorded_mode(processor: object) -> Literal["whole", "slide"]:
    """How a model was measured when it was trained, as its image processor records it."""
    crop_size, stride = recorded_window(processor)
    return "slide" if crop_size is not None and stride is not None else "whole"


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(value, tuple | list):
        height, width = value
        return int(height), int(width)
    return int(value), int(value)
