"""Label maps on their way into a batch, and from the output of a network to label and property maps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.image_utils import SizeDict

from .image_bands_prolab import NPY_MAGIC, hidden_bands, read_npy, read_pnm
from .image_conversion_prolab import BrokenImageError, ImageContent, open_image, open_unloaded, read_content
from .resize_prolab import resize_argmax

Sizes: TypeAlias = Sequence[tuple[int, int]] | Tensor
"""One `(height, width)` per image, or a tensor `(batch_size, 2)`."""

LabelMap: TypeAlias = str | Path | Image.Image | NDArray[np.generic] | Tensor
LabelMaps: TypeAlias = LabelMap | list[LabelMap] | tuple[LabelMap, ...]


def read_label_maps(segmentation_maps: LabelMaps) -> list[Tensor]:
    """Label maps of any common kind as new int64 tensors `(height, width)`; ids of any size survive.

    Args:
        segmentation_maps: One map or a list of maps. A map is a single-channel image (modes L, P, I, I;16),
            the path of one, or an integer array or tensor `(height, width)`; an array
            `(batch_size, height, width)` is a list. The caller's arrays are never changed.

    Raises:
        ValueError: A map has several channels or values that are no whole numbers, or is of a format that changes
            ids.
        FileNotFoundError: A path does not exist.
        TypeError: A map is of another kind.
    """
    maps: list[Any] = [segmentation_maps]
    if isinstance(segmentation_maps, list | tuple) or (
        isinstance(segmentation_maps, np.ndarray | Tensor) and segmentation_maps.ndim == 3
    ):
        maps = list(segmentation_maps)
    return [_read_label_map(label_map, index) for index, label_map in enumerate(maps)]


def open_mask(content: ImageContent, *, name: str) -> "Image.Image | NDArray[np.generic]":
    """A mask as it is stored, if its format keeps what is stored.

    Args:
        content: Path or content of a file, or a PIL image.
        name: File or row, for messages.

    Returns:
        The loaded image, or an array of whole numbers for what Pillow would change: array files, portable maps.

    Raises:
        FileNotFoundError: The path does not exist.
        ValueError: It cannot be decoded, is compressed with loss, or has several bands.
    """
    data = None
    if not isinstance(content, Image.Image):
        data = read_content(content, name=name, what="mask")  # type: ignore[arg-type]
        if data.startswith(NPY_MAGIC):
            return read_npy(data, name, 1).squeeze()
        content = data
    image = open_unloaded(content, name=name, what="mask")
    loss = lossy_format(image, data)
    if loss is not None:
        raise ValueError(
            f"mask {name} is a {loss} file, and that format changes the ids; export masks as PNG (or lossless TIFF)"
        )
    try:
        reason = hidden_bands(image, data, 1)
        if image.format == "PPM" and image.mode != "1" and data is not None:
            return read_pnm(data).squeeze(-1) if data[:2] in (b"P2", b"P5") else read_pnm(data)
    except Exception as error:  # a damaged header raises whatever its parser raises
        raise BrokenImageError(
            f"mask {name} cannot be decoded: {error}; replace or remove the file"
        ) from error
    if reason is not None:
        raise ValueError(f"mask {name} holds {reason}; a mask has one band of class ids, or 8-bit colors")
    return open_image(image, name=name, what="mask")


def lossy_format(image: Image.Image, data: bytes | None = None) -> str | None:
    """Name of an image's format if its compression changes values, else `None`.

    Args:
        image: An opened image.
        data: Content of its file, where it is at hand; without it WebP is judged by the file it was opened from.
    """
    if image.format in ("JPEG", "MPO"):
        return "JPEG"
    if image.format in ("AVIF", "JPEG2000", "HEIF"):
        return str(image.format)
    if image.format == "TIFF" and image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
        return f"{image.info['compression']}-compressed TIFF"
    if image.format == "WEBP":
        if data is None:
            path = Path(str(getattr(image, "filename", "") or ""))
            data = path.read_bytes() if path.is_file() else b""
        return "lossy WebP" if _has_lossy_chunk(data) else None
    return None


def _has_lossy_chunk(data: bytes) -> bool:
    """Whether a WebP holds a `VP8 ` chunk; lossless ones hold `VP8L`."""
    position = 12
    while position + 8 <= len(data):
        kind, size = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        if kind == b"VP8 " or (kind == b"ANMF" and b"VP8 " in data[position : position + 64]):
            return True
        position += 8 + size + size % 2
    return False


def _read_label_map(label_map: LabelMap, index: int) -> Tensor:
    if isinstance(label_map, str | Path | Image.Image):
        # Not transformers' loader: it converts to RGB, which destroys ids.
        name = str(label_map) if isinstance(label_map, str | Path) else f"segmentation map {index}"
        label_map = np.asarray(open_mask(label_map, name=name))
    if not isinstance(label_map, np.ndarray | Tensor):
        raise TypeError(
            f"segmentation map {index} is a {type(label_map).__name__}; "
            "allowed: a PIL image, a path, a numpy array or a torch tensor of class ids."
        )
    values = label_map.detach().cpu().numpy() if isinstance(label_map, Tensor) else label_map
    if values.ndim == 3 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2:
        raise ValueError(
            f"segmentation map {index} has the shape {values.shape}; it must be (height, width), one class "
            "id per pixel. Translate a color-coded mask into class ids first."
        )
    with np.errstate(invalid="ignore"):  # not-a-number is refused below
        ids = values.astype(np.int64)  # a copy, so that nothing below can reach the caller's memory
    if not np.issubdtype(values.dtype, np.integer) and not np.array_equal(ids, values):
        raise ValueError(
            f"segmentation map {index} has values that are no whole numbers; class ids are integers."
        )
    return torch.from_numpy(ids)


def reduce_labels(labels: Tensor, ignore_index: int) -> Tensor:
    """Ids of a map whose 0 means "no class": 0 becomes `ignore_index`, k becomes k - 1.

    Args:
        labels: `(height, width)`, int64. Pixels that already hold `ignore_index` keep it, as in transformers.
        ignore_index: The value of pixels without a class.
    """
    no_class = (labels == 0) | (labels == ignore_index)
    return torch.where(no_class, ignore_index, labels - 1)


def pad_label_maps(maps: list[Tensor], size: SizeDict | None, ignore_index: int) -> list[Tensor]:
    """Label maps `(height, width)` extended at the bottom and right with `ignore_index`.

    Args:
        maps: int64.
        size: Height and width to pad to; `None` takes the largest of the maps.
        ignore_index: The value of pixels without a class.
    """
    height = (size and size.height) or max(labels.shape[0] for labels in maps)
    width = (size and size.width) or max(labels.shape[1] for labels in maps)
    margins = [(0, width - labels.shape[1], 0, height - labels.shape[0]) for labels in maps]
    return [F.pad(labels, margin, value=ignore_index) for labels, margin in zip(maps, margins)]


def fit_size(height: int, width: int, *, size: SizeDict, size_divisor: int | None) -> tuple[int, int]:
    """Height and width that an image is resized to.

    `height` and `width` in `size` are taken exactly. Every other form keeps the aspect ratio, at the largest
    scale that respects all given bounds. With `size_divisor` the sides are rounded to the nearest pixel and
    then up to its multiples: `{"shortest_edge": 512, "longest_edge": 2048}` with 32 is the protocol of the
    published evaluations (mmsegmentation's keep-ratio `Resize` followed by `ResizeToMultiple`). Without it,
    edges are rounded as in transformers' other processors.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        size: `height` + `width`, or any of `shortest_edge`, `longest_edge`, `max_height`, `max_width`.
        size_divisor: Sides become multiples of it; `None` or 1 leaves them.

    Raises:
        ValueError: `size` has none of these entries.
    """
    if size.height and size.width:
        return size.height, size.width
    divisor = size_divisor or 1
    if size.shortest_edge and divisor == 1:
        return get_size_with_aspect_ratio((height, width), size.shortest_edge, size.longest_edge)
    bounds = (
        (size.shortest_edge, min(height, width)),
        (size.longest_edge, max(height, width)),
        (size.max_height, height),
        (size.max_width, width),
    )
    scales = [wanted / present for wanted, present in bounds if wanted]
    if not scales:
        raise ValueError(
            f"size is {dict(size)}; allowed: height and width, or shortest_edge and/or longest_edge, "
            "or max_height and max_width."
        )
    scaled = [max(1, int(side * min(scales) + 0.5)) for side in (height, width)]
    return math.ceil(scaled[0] / divisor) * divisor, math.ceil(scaled[1] / divisor) * divisor


def semantic_maps(
    logits: Tensor, target_sizes: Sizes | None = None, *, return_segmentation_scores: bool = False
) -> list[Tensor] | list[SemanticSegmentationPostProcessorOutput]:
    """Class ids of every image.

    Args:
        logits: `(batch_size, num_labels, height, width)` class similarities at feature resolution.
        target_sizes: One `(height, width)` per image, or a tensor `(batch_size, 2)`; `None` keeps the
            resolution of `logits`.
        return_segmentation_scores: Return the upsampled class scores `(num_labels, height, width)`, too.

    Returns:
        Per image an int64 map `(height, width)`, or, with scores, an output with `segmentation` and
        `segmentation_scores`.

    Raises:
        ValueError: There is not one positive size per image.
    """
    sizes = _checked_sizes(target_sizes, len(logits))
    if sizes is None:
        maps = list(logits.argmax(dim=1))
    else:
        maps = [resize_argmax(logits[i : i + 1], size)[0] for i, size in enumerate(sizes)]
    if not return_segmentation_scores:
        return maps
    scores = _resized(logits.float(), sizes)
    return [
        SemanticSegmentationPostProcessorOutput(data={"segmentation": labels, "segmentation_scores": score})
        for labels, score in zip(maps, scores)
    ]


def property_maps(
    property_logits: Tensor, target_sizes: Sizes | None = None, *, temperature: float
) -> list[Tensor]:
    """Property scores of every image: `sigmoid(logit / temperature)`, then bilinear upsampling.

    Scores come before upsampling, the order in which the classes are decided, too.

    Args:
        property_logits: `(batch_size, num_properties, height, width)` before temperature and sigmoid.
        target_sizes: As in `semantic_maps`.
        temperature: The model's `config.temperature`.

    Returns:
        Per image float32 scores `(num_properties, height, width)` in [0, 1].

    Raises:
        ValueError: There is not one positive size per image.
    """
    sizes = _checked_sizes(target_sizes, len(property_logits))
    return _resized(torch.sigmoid(property_logits.float() / temperature), sizes)


def _resized(maps: Tensor, sizes: Sequence[tuple[int, int]] | None) -> list[Tensor]:
    if sizes is None:
        return list(maps)
    return [
        F.interpolate(maps[i : i + 1], size=size, mode="bilinear", align_corners=False)[0]
        for i, size in enumerate(sizes)
    ]


def _checked_sizes(target_sizes: Sizes | None, batch_size: int) -> list[tuple[int, int]] | None:
    if target_sizes is None:
        return None
    sizes = target_sizes.tolist() if isinstance(target_sizes, Tensor) else list(target_sizes)
    if len(sizes) != batch_size:
        raise ValueError(
            f"target_sizes has {len(sizes)} entries for {batch_size} images; "
            "pass one (height, width) per image."
        )
    for size in sizes:
        if len(size) != 2 or int(size[0]) < 1 or int(size[1]) < 1:
            raise ValueError(
                f"target_sizes contains {size!r}; each entry is (height, width) with positive integers."
            )
    return [(int(height), int(width)) for height, width in sizes]
