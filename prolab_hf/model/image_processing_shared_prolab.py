"""What both image processors of ProLab share: options, label maps, post-processing and how they are saved."""

import math
import os
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs, Unpack

from .image_conversion_prolab import (
    array_to_channels,
    as_bytes_scale,
    check_values,
    checked_range,
    fetch,
    read_image,
)
from .label_maps_prolab import (
    LabelMaps,
    Sizes,
    fit_size,
    pad_label_maps,
    property_maps,
    read_label_maps,
    reduce_labels,
    semantic_maps,
)
from .remote_code_prolab import CompleteUploadMixin
from .resize_prolab import resize_nearest_labels

if TYPE_CHECKING:
    # Read by transformers' scan for files to ship: whichever backend is saved, the other one travels with it.
    from .image_processing_pil_prolab import ProLabImageProcessorPil  # noqa: F401
    from .image_processing_prolab import ProLabImageProcessor  # noqa: F401

REMOTE_CLASSES = {
    "torchvision": "image_processing_prolab.ProLabImageProcessor",
    "pil": "image_processing_pil_prolab.ProLabImageProcessorPil",
}


class ProLabImageProcessorKwargs(ImagesKwargs, total=False):
    """Options of the ProLab image processors beyond those of every transformers image processor.

    Attributes:
        size_divisor: Where resizing keeps the aspect ratio, both sides are rounded up to multiples of it.
        do_reduce_labels: Label maps count classes from 1 and use 0 for "no class".
        ignore_index: Label of pixels without a class (`semantic_loss_ignore_index` of the model).
        temperature: Temperature of the property scores (`temperature` of the model).
        crop_size: Side of the sliding window that the model was evaluated with, or (height, width).
        stride: Step of that window.
        value_range: Stored values of black and white, for images of more than 8 bits.
    """

    size_divisor: int | None
    do_reduce_labels: bool | None
    ignore_index: int
    temperature: float | int
    crop_size: int | tuple[int, int] | list[int] | None  # type: ignore[misc]  # transformers crops the center with it
    stride: int | tuple[int, int] | list[int] | None
    value_range: tuple[float, float] | tuple[int, int] | list[float] | list[int] | None


OLD_NAMES = {"window_size": "crop_size", "window_stride": "stride"}
"""Options under the names that processors were saved with before 0.2."""

Backend: Any = BaseImageProcessor  # what TorchvisionBackend and PilBackend share; typed loosely, they differ


class ProLabImageProcessorMixin(CompleteUploadMixin, Backend):  # type: ignore[misc]  # one of two backends
    """Images to `pixel_values`, label maps to `labels`, network outputs to label maps and property maps.

    Every option may be given to the constructor (then it is saved) or to a single call.

    Args:
        do_convert_rgb: Turn gray, palette and CMYK images into RGB, and lay transparent ones over white. Where
            `image_mean` has not exactly three entries, images must have as many channels as it has; `False` takes
            channels as they are.
        do_resize: Resize images and label maps. Off, sizes stay as they are (a ViT-Adapter needs multiples
            of 32).
        size: `{"height", "width"}` is exact; `{"shortest_edge", "longest_edge"}` (default 512 and 2048, the
            published evaluation protocol), `{"longest_edge"}` or `{"max_height", "max_width"}` keep the
            aspect ratio. An integer is a shortest edge.
        size_divisor: Default 32, as the published protocol rounds. `None` does not round.
        resample: Filter for images (default bilinear, antialiased). Label maps always use exact nearest
            neighbors.
        do_rescale: Multiply by `rescale_factor` (1 / 255).
        do_normalize: Subtract `image_mean` and divide by `image_std` (ImageNet's).
        do_pad: Pad at the bottom and right to `pad_size`, or to the largest of the batch: images with 0
            after normalization, label maps with `ignore_index`. Meant for training batches. Off by default:
            the network sees the padding, and a prediction resized to the image's size would be stretched.
        do_reduce_labels: 0 in label maps becomes `ignore_index`, k becomes k - 1.
        ignore_index: Default 255. Sets with more than 254 classes use another value.
        temperature: Default 0.04. Must be the model's, otherwise property scores are too sharp or too soft;
            `from_model_config` copies it.
        crop_size: For the record and for `prolab_hf.segment(mode="slide")`: the sliding window that the model
            was evaluated with, one side or (height, width) in pixels of the processed image. Preparing an
            image does not depend on it.
        stride: Step of that window, likewise.
        value_range: Stored values that mean black and white, for images of more than 8 bits per channel:
            `(0, 4095)` for 12 bits. They are brought to the scale of 8-bit images before anything else. Without
            it such images are refused, because their files do not say how many bits are used.
    """

    valid_kwargs = ProLabImageProcessorKwargs
    model_input_names = ["pixel_values"]
    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 512, "longest_edge": 2048}
    default_to_square = False
    size_divisor = 32
    resample = PILImageResampling.BILINEAR
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    do_pad = False
    do_reduce_labels = False
    ignore_index = 255
    temperature = 0.04
    crop_size = None
    stride = None
    value_range = None

    def __init__(self, **kwargs: Any) -> None:
        for old, new in OLD_NAMES.items():
            if old in kwargs:
                value = kwargs.pop(old)
                if kwargs.get(new) is None:
                    kwargs[new] = value
        super().__init__(**kwargs)

    @classmethod
    def from_model_config(cls, config: Any, **options: Any) -> Self:
        """A processor that agrees with a model about temperature and ignore index.

        Args:
            config: The `ProLabConfig`.
            options: Any other option of the processor.

        Raises:
            ValueError: There is not one mean and one deviation per channel of the backbone.
        """
        backbone = getattr(config, "backbone_config", None)
        channels = getattr(getattr(backbone, "vit_config", backbone), "num_channels", None)
        for name in ("image_mean", "image_std"):
            given = options.get(name) or getattr(cls, name)
            if isinstance(channels, int) and len(given) != channels:
                raise ValueError(
                    f"The backbone takes {channels} channels, but {name} has {len(given)} numbers; give one per "
                    "channel."
                )
        shared = {"temperature": config.temperature, "ignore_index": config.semantic_loss_ignore_index}
        return cls(**{**shared, **options})

    # ---- images and label maps --------------------------------------------------------------------------

    def preprocess(
        self,
        images: ImageInput,
        segmentation_maps: LabelMaps | None = None,
        **kwargs: Unpack[ProLabImageProcessorKwargs],
    ) -> BatchFeature:
        """Prepares one image or a list, with label maps where the images are annotated.

        Args:
            images: PIL images, paths, URLs or base64 data (strings), arrays or tensors (channels first or last);
                values 0 to 255, those of `value_range`, or 0 to 1 with `do_rescale=False`.
            segmentation_maps: One label map per image, of the image's size (see `read_label_maps`).
            kwargs: Options for this call, see the class; `return_tensors="pt"` stacks the batch.

        Returns:
            `pixel_values` `(batch_size, num_channels, height, width)` float32 and, if maps were given, `labels`
            `(batch_size, height, width)` int64; lists without `return_tensors`.

        Raises:
            ValueError: An image cannot be decoded or has other channels or values than declared, a map does not
                fit its image, sizes in a batch differ, or an option is out of range.
            FileNotFoundError: A path does not exist.
        """
        return super().preprocess(images, segmentation_maps, **kwargs)

    def _standardize_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        crop_size = kwargs.pop("crop_size", None)  # transformers would make a center crop's size of it
        kwargs = super()._standardize_kwargs(**kwargs)
        kwargs["crop_size"] = crop_size
        kwargs["value_range"] = checked_range(kwargs.get("value_range"))
        divisor, temperature = kwargs.get("size_divisor"), kwargs.get("temperature")
        if divisor is not None and divisor < 1:
            raise ValueError(
                f"size_divisor is {divisor!r}; it must be a positive integer, or None for no rounding."
            )
        if temperature is not None and not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature!r}; it must be a positive number.")
        for name in ("crop_size", "stride"):
            window = kwargs.get(name)
            sides = [window] if isinstance(window, int) else list(window or [1])
            if len(sides) > 2 or not all(isinstance(side, int) and side > 0 for side in sides):
                raise ValueError(f"{name} is {window!r}; it must be one or two positive numbers of pixels.")
        if kwargs.get("do_center_crop"):
            raise ValueError(
                "do_center_crop is not supported: a segmentation covers the whole image. Use size."
            )
        return kwargs

    def _preprocess_image_like_inputs(
        self, images: ImageInput, segmentation_maps: LabelMaps | None = None, **kwargs: Any
    ) -> BatchFeature:
        source = {key: kwargs.pop(key, None) for key in ("do_convert_rgb", "input_data_format", "device")}
        return_tensors = kwargs.pop("return_tensors", None)
        mean = kwargs.get("image_mean")
        num_channels: int | None = len(mean) if isinstance(mean, tuple) else 3
        if num_channels == 3 and not source["do_convert_rgb"]:
            num_channels = None
        first = source["input_data_format"] in ("channels_first", ChannelDimension.FIRST)
        axis = None if source["input_data_format"] is None else 0 if first else -1
        prepared = []
        for index, image in enumerate(_flat(images)):
            array, device = _standard(image, index, num_channels, axis, kwargs)
            place = source["device"] if source["device"] is not None else device
            prepared.append(self._to_backend_image(np.ascontiguousarray(array.transpose(2, 0, 1)), place))
        if not prepared:
            raise ValueError("There are no images; pass one or a list of them.")
        data = {}
        if segmentation_maps is not None:
            sizes = [image.shape[-2:] for image in prepared]
            labels = self._prepare_labels(segmentation_maps, sizes, kwargs)
            data["labels"] = self._to_backend(labels, source["device"])
        data["pixel_values"] = self._prepare_images(prepared, kwargs)
        if return_tensors is not None:
            _require_one_size(data["pixel_values"])
        return BatchFeature(data=data, tensor_type=return_tensors)

    def _prepare_images(self, images: list[Any], options: dict[str, Any]) -> list[Any]:
        """Backend images `(channels, height, width)` resized, scaled and padded as the options say."""
        if options["do_resize"]:
            images = [self._resize_image(image, options) for image in images]
        images = [self._scale(image, options) for image in images]
        return self.pad(images, pad_size=options["pad_size"]) if options["do_pad"] else images

    def _resize_image(self, image: Any, options: dict[str, Any]) -> Any:
        bounds = {name: options[name] for name in ("size", "size_divisor")}
        height, width = fit_size(*image.shape[-2:], **bounds)
        return self.resize(image, SizeDict(height=height, width=width), resample=options["resample"])

    def _prepare_labels(
        self, segmentation_maps: LabelMaps, sizes: list[Any], options: dict[str, Any]
    ) -> list[Tensor]:
        """Label maps that went through the same geometry as images of the given original sizes."""
        maps = read_label_maps(segmentation_maps)
        if len(maps) != len(sizes):
            raise ValueError(
                f"There are {len(sizes)} images but {len(maps)} segmentation maps; pass one per image."
            )
        for index, (labels, size) in enumerate(zip(maps, sizes)):
            if tuple(labels.shape) != tuple(size):
                raise ValueError(
                    f"segmentation map {index} is {labels.shape[0]} x {labels.shape[1]} (height x width), "
                    f"but its image is {size[0]} x {size[1]}; they must have one size."
                )
        if options["do_reduce_labels"]:
            maps = [reduce_labels(labels, options["ignore_index"]) for labels in maps]
        if options["do_resize"]:
            bounds = {name: options[name] for name in ("size", "size_divisor")}
            maps = [resize_nearest_labels(labels, fit_size(*labels.shape, **bounds)) for labels in maps]
        if options["do_pad"]:
            maps = pad_label_maps(maps, options["pad_size"], options["ignore_index"])
        return maps

    # ---- outputs of the network ---------------------------------------------------------------------------

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: Sizes | None = None, return_segmentation_scores: bool = False
    ) -> list[Any]:
        """Class ids of every image: the arg-max of the class similarities, upsampled bilinearly.

        Args:
            outputs: Output of `ProLabForSemanticSegmentation` (its `logits` are used).
            target_sizes: One `(height, width)` per image; `None` keeps the resolution of the logits.
            return_segmentation_scores: Return the class similarities at that size, too.

        Returns:
            Per image an int64 tensor `(height, width)`; with scores, an output with `segmentation` and
            `segmentation_scores` `(num_labels, height, width)`.

        Raises:
            ValueError: There is not one positive size per image.
        """
        return semantic_maps(
            outputs.logits, target_sizes, return_segmentation_scores=return_segmentation_scores
        )

    def post_process_properties(
        self, outputs: Any, target_sizes: Sizes | None = None, *, temperature: float | None = None
    ) -> list[Tensor]:
        """How strongly every pixel has every property, `sigmoid(property logit / temperature)`.

        With `similarity="cosine"` the classes are decided on the raw logits; the scores here are the same
        monotone reading of them.

        Args:
            outputs: Output of `ProLabForSemanticSegmentation` (its `property_logits` are used).
            target_sizes: One `(height, width)` per image; `None` keeps the resolution of the logits.
            temperature: Of the model; `None` takes the one saved with this processor.

        Returns:
            Per image float32 scores `(num_properties, height, width)` in [0, 1].

        Raises:
            ValueError: There is not one positive size per image, or the temperature is not positive.
        """
        temperature = self.temperature if temperature is None else temperature
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature!r}; it must be a positive number.")
        return property_maps(outputs.property_logits, target_sizes, temperature=temperature)

    # ---- backends and saving ------------------------------------------------------------------------------

    def _scale(self, image: Any, options: dict[str, Any]) -> Any:
        """An image rescaled and normalized as the options say; each backend has its own arithmetic."""
        raise TypeError(
            f"{type(self).__name__} has no backend; use ProLabImageProcessor or ProLabImageProcessorPil."
        )

    def _to_backend_image(self, array: NDArray[np.generic], device: str | torch.device | None) -> Any:
        """An array `(channels, height, width)` as the backend's image."""
        # Pillow's own memory must not be written to.
        image = torch.from_numpy(array if array.flags.writeable else array.copy())
        return image if device is None else image.to(device)

    def _to_backend(self, labels: list[Tensor], device: str | torch.device | None) -> list[Any]:
        """Label maps as the backend's arrays."""
        return labels if device is None else [label.to(device) for label in labels]

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> Any:
        """Like transformers'; code that is saved with it comes in few files."""
        result = super().save_pretrained(save_directory, push_to_hub, **kwargs)
        self.complete_folder(save_directory)
        return result

    def to_dict(self) -> dict[str, Any]:
        """The options as they are saved; code shared with them serves both backends."""
        options = super().to_dict()
        auto_map = options.pop("auto_map", None)
        if auto_map and self._auto_class is not None:
            options["auto_map"] = {**auto_map, "AutoImageProcessor": dict(REMOTE_CLASSES)}
        return options


def _flat(images: Any) -> list[Any]:
    """Images one by one, from an image, a batch as one array, or lists of them."""
    if isinstance(images, list | tuple):
        return [image for part in images for image in _flat(part)]
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        return list(images)
    return [images]


def _standard(
    image: Any, index: int, num_channels: int | None, channel_axis: int | None, options: dict[str, Any]
) -> tuple[NDArray[np.generic], torch.device | None]:
    """An image `(height, width, channels)` on the scale of 8-bit images, and the device that it was on."""
    name, device = f"number {index}", None
    if isinstance(image, str | os.PathLike):
        name = os.fspath(image) if len(os.fspath(image)) < 260 else f"{os.fspath(image)[:40]}..."
        image = fetch(os.fspath(image))
    elif isinstance(image, Image.Image):
        name = getattr(image, "filename", "") or name
    elif isinstance(image, Tensor):
        image, device = image.detach(), image.device
        image = _channels_last(image.cpu().numpy(), num_channels, channel_axis, first=True)
    elif isinstance(image, np.ndarray):
        image = _channels_last(image, num_channels, channel_axis, first=False)
    elif not isinstance(image, bytes):
        raise TypeError(
            f"image {name} is a {type(image).__name__}; an image is a path, a PIL image, an array or a tensor"
        )
    value_range = options["value_range"]
    if isinstance(image, np.ndarray) and value_range is None:
        _check_given(image, name, options["do_rescale"])
        array = array_to_channels(image, num_channels, name)
    else:
        array = np.asarray(read_image(image, name=name, num_channels=num_channels, value_range=value_range))
    array = array[..., None] if array.ndim == 2 else array
    return as_bytes_scale(array, value_range), device


def _check_given(array: NDArray[np.generic], name: str, do_rescale: bool) -> None:
    """Arrays in memory may hold any type of number, but on the scale of 8 bits if they are rescaled."""
    if not do_rescale or array.dtype == np.uint8 or array.dtype == bool or not array.size:
        return
    if not (array.min() >= 0 and array.max() <= 255):
        check_values(array, None, name)


def _channels_last(
    array: NDArray[np.generic], num_channels: int | None, axis: int | None, *, first: bool
) -> NDArray[np.generic]:
    """An array with channels last; without a declared axis it is the one with as many entries as there are channels."""
    if array.ndim != 3:
        return array
    if axis is None:
        allowed = {1, num_channels, 3, 4} - {None} if num_channels in (None, 3) else {1, num_channels}
        fits = [array.shape[end] in allowed for end in (0, 2)]
        axis = 0 if fits[0] and (first or not fits[1]) else -1
    return np.moveaxis(array, axis, -1)


def _require_one_size(images: list[Any]) -> None:
    sizes = sorted({tuple(image.shape[-2:]) for image in images})
    if len(sizes) > 1:
        found = ", ".join(f"{height} x {width}" for height, width in sizes[:4])
        raise ValueError(
            f"The images of this batch have different sizes after resizing ({found}); process them one by "
            "one, pass size={'height': ..., 'width': ...}, or, for training, do_pad=True."
        )


__all__ = ["ProLabImageProcessorKwargs", "ProLabImageProcessorMixin"]
