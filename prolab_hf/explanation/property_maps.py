"""What a network saw in one image, kept: explanations, interventions and label maps without another pass."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prolab_hf.data.image_files import image_size
from prolab_hf.evaluation.inference import (
    ImageLike,
    InferenceOptions,
    InferenceSettings,
    PreparedRun,
    Run,
    Segmentation,
    as_image,
    class_names_of,
    combined,
    inference_state,
    model_output,
    prepared_runs,
    score_blocks,
)
from prolab_hf.evaluation.sliding_window import StripedPixels
from prolab_hf.explanation.pixel_weights import Size, Stream, Weights
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.protocols import ImageProcessor

MAX_BYTES = 2**30
"""Of kept maps; passes beyond it run again when they are needed."""


def network_of(model: nn.Module) -> Any:
    """The ProLab network inside of what wraps it (a cache, `DistributedDataParallel`).

    Raises:
        ValueError: There is none.
    """
    network: Any = model
    while not hasattr(network, "similarity_of_scores"):
        inner = getattr(network, "module", None) or getattr(network, "model", None)
        if not isinstance(inner, nn.Module):
            raise ValueError(
                f"{type(model).__name__} has no properties to explain with; a ProLab model is needed."
            )
        network = inner
    return network


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, numbered where one occurs twice: lists by name must not mix two properties."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


@dataclass(frozen=True)
class PassMaps:
    """What one forward pass gave.

    Attributes:
        compared: What the class rows are compared with, `(num_properties, height, width)`, at least float32; the
            properties without words of a solved model at the end.
        scores: Class scores with offsets, `(num_labels, height, width)`.
    """

    compared: Tensor
    scores: Tensor

    @property
    def size(self) -> Size:
        """Height and width of the maps."""
        return int(self.compared.shape[-2]), int(self.compared.shape[-1])


class PropertyMaps:
    """The property maps of one image, for all windows, flips and scales that `segment` would run.

    A pass of the network runs when it is first needed and is kept: for one point of a large image only the windows
    that cover it run. The classes and rows are the model's of the moment: after `model.set_property_space` a solved
    model answers in the new words without another pass; a model that was trained by gradient does so as long as its
    properties stay the same, and else runs again.

    Args:
        model: A `ProLabForSemanticSegmentation`. Its weights must not change from here on.
        processor: Its image processor.
        image: PIL image, path, or array `(height, width, channels)`.
        max_bytes: Bound of what is kept.
        **options: `mode`, `crop_size`, `stride`, `flip`, `scales`, `batch_size`, `resize_twice`: see
            `InferenceSettings`.

    Attributes:
        image: The upright image.
        name: Its path, if one was given.
        size: Its height and width.
        settings: How it is run through the model.
        streams: The runs whose scores or probabilities are averaged.

    Raises:
        ValueError: If the model has no properties, an option is out of range or the image cannot be decoded.
        FileNotFoundError: If the path does not exist.

    Example:
        ```python
        maps = PropertyMaps(model, processor, "room.jpg", flip=True)
        maps.explain(class_name="sofa", rival="armchair").to_text()
        maps.intervene({"four legs": 0.0}).labels
        ```
    """

    def __init__(
        self,
        model: nn.Module,
        processor: ImageProcessor,
        image: ImageLike,
        *,
        max_bytes: int = MAX_BYTES,
        **options: Unpack[InferenceOptions],
    ) -> None:
        self.settings = InferenceSettings(**options)
        self.model, self.network = model, network_of(model)
        self.processor = processor
        self.image = as_image(
            image, processor, max_pixels=math.inf if self.settings.mode == "slide" else None
        )
        self.name = str(image) if isinstance(image, str | os.PathLike) else None
        width, height = image_size(self.image)
        self.size: Size = (height, width)
        self.max_bytes = max_bytes
        self._runs = prepared_runs(self.image, processor, self.settings)
        self.streams = [
            Stream.plan(index, flip, _source_size(run), self.size, self.settings, processor)
            for index, run in enumerate(self._runs)
            for flip in self.settings.flips
        ]
        self._kept: dict[tuple[int, int], Tensor] = {}
        self._kept_bytes = 0
        self._scored: OrderedDict[tuple[int, int], PassMaps] = OrderedDict()
        self._labels: Tensor | None = None
        self._mean_maps: Tensor | None = None
        self._words = self._buffers()

    # ---- names ----------------------------------------------------------------------------------------------

    @property
    def class_names(self) -> list[str]:
        """Names of the model's classes in the order of their ids."""
        return class_names_of(self.network)

    @property
    def property_names(self) -> list[str]:
        """Names of the properties, numbered where one occurs twice."""
        number = int(self.network.class_property_matrix.shape[1])
        return distinct_names(self.network.config.property_names or [f"property {k}" for k in range(number)])

    @property
    def is_solved(self) -> bool:
        """Whether the last layer was solved: its answers are kept before words enter."""
        return bool(self.network.config.similarity == "linear_cosine")

    @property
    def offsets(self) -> Tensor | None:
        """Offsets of the class scores `(num_labels,)`, `None` where the model has none."""
        given = self.network.config.class_offsets
        return self.network.class_offsets if given is not None and any(given) else None

    @property
    def num_named(self) -> int | None:
        """Number of properties with words where described classes are compared by these alone, otherwise `None`."""
        config = self.network.config
        return int(config.num_properties) if config.described_by_words else None

    def rows(self, width: int) -> Tensor:
        """Class rows for maps of `width` channels, with or without the properties that have no words."""
        named: Tensor = self.network.class_property_matrix
        return named if named.shape[1] == width else self.network.class_rows

    # ---- passes ---------------------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Whether every pass is kept."""
        return len(self._kept) == sum(len(stream.windows) for stream in self.streams)

    def maps(self, stream: int, window: int) -> PassMaps:
        """What one forward pass gave; it runs if it is not kept.

        Args:
            stream: Index into `streams`.
            window: Index into its windows.
        """
        return next(self.maps_of(stream, [window]))[1]

    def maps_of(self, stream: int, windows: Sequence[int]) -> Iterator[tuple[int, PassMaps]]:
        """What several forward passes of one stream gave, those that are missing run in batches.

        Args:
            stream: Index into `streams`.
            windows: Indices into its windows.

        Yields:
            Index of the window and its maps, in the given order.
        """
        self._follow_words()
        step = self.settings.batch_size
        for first in range(0, len(windows), step):
            part = windows[first : first + step]
            ready = {index: self._scored[stream, index] for index in part if (stream, index) in self._scored}
            for index, answer in self._answers(stream, [i for i in part if i not in ready]).items():
                ready[index] = self._score(answer)
                self._keep_scored((stream, index), ready[index])
            for index in part:
                yield index, ready[index]

    def _answers(self, stream: int, windows: Sequence[int]) -> dict[int, Tensor]:
        """Answers of the last layer: responses of a solved model, else property logits."""
        answers = {index: self._kept[stream, index] for index in windows if (stream, index) in self._kept}
        missing = [index for index in windows if index not in answers]
        if not missing:
            return answers
        pixel_values = torch.cat([self._pixels(self.streams[stream], index) for index in missing])
        with inference_state(self.model):
            if self.is_solved:
                parameter = next(p for p in self.network.parameters() if p.is_floating_point())
                batch = self.network.responses(pixel_values.to(parameter.device, parameter.dtype))
            else:
                batch = model_output(self.model, pixel_values).property_logits
        for index, answer in zip(missing, batch):
            answers[index] = (
                answer if len(missing) == 1 else answer.clone()
            )  # a view would keep the whole batch
            if self._kept_bytes + answer.nbytes <= self.max_bytes:
                self._kept[stream, index] = answers[index]
                self._kept_bytes += answer.nbytes
        return answers

    @torch.no_grad()
    def _score(self, answer: Tensor) -> PassMaps:
        compared = self.compared(answer)
        scores = self.network.similarity_of_scores(compared[None])[0]
        if self.network.config.class_offsets is not None:
            scores = scores + self.network.class_offsets.to(scores)[:, None, None]
        return PassMaps(compared, scores)

    def compared(self, answer: Tensor) -> Tensor:
        """What the class rows are compared with, of what the last layer gave.

        Args:
            answer: Responses of a solved model `(num_responses, height, width)`, else property logits
                `(num_properties, height, width)`.
        """
        network, dtype = self.network, torch.promote_types(answer.dtype, torch.float32)
        if not self.is_solved:
            return network.property_scores(answer[None].to(dtype))[0]
        # The words of the moment enter here, as in the model's own forward pass.
        named, unspoken = network._logits_of_responses(answer[None])
        unspoken = None if unspoken is None else unspoken.to(dtype)
        return network._scores(named.to(dtype), unspoken)[0]

    def _pixels(self, stream: Stream, index: int) -> Tensor:
        """Pixel values `(1, num_channels, height, width)` of a window."""
        window = stream.windows[index]
        values = self._runs[stream.run].pixel_values
        columns = slice(window.left, window.left + window.width)
        rows = window.top, window.top + window.height
        if isinstance(values, StripedPixels):
            return (values.flip(-1) if stream.flip else values).rows(*rows)[..., columns]
        if stream.flip:
            values = values.flip(-1)
        return values[..., rows[0] : rows[1], columns]

    def _keep_scored(self, key: tuple[int, int], found: PassMaps) -> None:
        """Keep the newest passes with their class scores, at least one batch of them."""
        self._scored[key] = found
        size = sum(each.compared.nbytes + each.scores.nbytes for each in self._scored.values())
        while len(self._scored) > self.settings.batch_size and size > self.max_bytes / 4:
            _, oldest = self._scored.popitem(last=False)
            size -= oldest.compared.nbytes + oldest.scores.nbytes

    def _buffers(self) -> tuple[Tensor, ...]:
        """What answers are compared with; the model replaces these tensors when its words change."""
        network = self.network
        return network.property_embeddings, network.class_rows, network.class_offsets

    def _follow_words(self) -> None:
        """Forget scores of other words, and passes whose property logits belong to other properties."""
        before, now = self._words, self._buffers()
        if all(old is new for old, new in zip(before, now)):
            return
        self._scored.clear()
        self._labels = self._mean_maps = None
        if not self.is_solved and not torch.equal(before[0], now[0]):
            self._kept.clear()
            self._kept_bytes = 0
        self._words = now

    # ---- places ---------------------------------------------------------------------------------------------

    def cells(self, weights: Weights, stream: int) -> Iterator[tuple[int, PassMaps, Weights]]:
        """The passes of a stream that count for pixels of the image, with the weights of their cells.

        Args:
            weights: Of pixels of the image.
            stream: Index into `streams`.

        Yields:
            Index of the window, what its pass gave, and weights of its cells.
        """
        plan = self.streams[stream]
        on_source = plan.on_source(weights)
        parts = {index: plan.on_window(on_source, index) for index in range(len(plan.windows))}
        used = [index for index, part in parts.items() if part is not None]
        for index, found in self.maps_of(stream, used):
            part = parts[index]
            if part is not None:
                yield index, found, plan.on_cells(part, found.size)

    def class_scores(self, weights: Weights, stream: int) -> Tensor:
        """Weighted sums of the class scores of one stream, float64 `(number of weights, num_labels)`."""
        total = torch.zeros(len(weights.values), len(self.class_names), dtype=torch.float64)
        for _, found, cell_weights in self.cells(weights, stream):
            total += cell_weights.sum_of(found.scores)
        return total

    # ---- the image as a whole -------------------------------------------------------------------------------

    def segmentation(
        self, *, return_scores: bool = False, edit: Callable[[PassMaps, int, int], Tensor] | None = None
    ) -> Segmentation:
        """The label map, as `segment` gives it for the same options.

        Args:
            return_scores: Whether class probabilities are returned as well.
            edit: Gives other class scores `(num_labels, height, width)` for a pass, its stream and its window.
        """
        names = self.class_names
        self._follow_words()
        is_usual = edit is None and not return_scores
        if is_usual and self._labels is not None:
            return Segmentation(self._labels, names)

        def scores_of(found: PassMaps, stream: int, window: int) -> Tensor:
            return found.scores if edit is None else edit(found, stream, window)

        if self.settings.is_plain and not return_scores and isinstance(self._runs[0], Run):
            labels, probabilities = resize_argmax(scores_of(self.maps(0, 0), 0, 0)[None], self.size)[0], None
        else:
            streams = [self._score_blocks(index, scores_of) for index in range(len(self.streams))]
            labels, probabilities = combined(streams, return_scores=return_scores)
        if is_usual:
            self._labels = labels.cpu()
        return Segmentation(labels.cpu(), names, None if probabilities is None else probabilities.cpu())

    def score_blocks(self, stream: int) -> Iterator[Tensor]:
        """Class scores of a stream at the size of the image, `(num_labels, rows, width)` from top to bottom."""
        return self._score_blocks(stream, lambda found, *_: found.scores)

    def _score_blocks(
        self, stream: int, scores_of: Callable[[PassMaps, int, int], Tensor]
    ) -> Iterator[Tensor]:
        """`segment`'s own averaging over windows and resizing, with kept passes in the place of the network."""
        plan = self.streams[stream]
        ahead = iter(range(len(plan.windows)))

        def next_windows(pixel_values: Tensor) -> Tensor:
            indices = [next(ahead) for _ in range(len(pixel_values))]
            return torch.stack(
                [scores_of(found, stream, index) for index, found in self.maps_of(stream, indices)]
            )

        placeholder = _Placeholder(plan.source_size, self.processor)
        yield from score_blocks(next_windows, placeholder, self.size, self.settings, plan.flip)  # type: ignore[arg-type]  # looks like a run

    def mean_property_maps(self, indices: Sequence[int] | None = None) -> Tensor:
        """Property scores over the whole image, averaged over all passes: for figures.

        Args:
            indices: Properties; `None` takes all that have words.

        Returns:
            Float32 `(number, height, width)` on the CPU, at the resolution of the network's maps for one pass, else at
            most about 256 cells wide.
        """
        self._follow_words()
        if indices is None:
            if self._mean_maps is None:
                number = int(self.network.class_property_matrix.shape[1])
                self._mean_maps = self._averaged_maps(list(range(number)))
            return self._mean_maps
        return self._averaged_maps(list(indices))

    def _averaged_maps(self, chosen: list[int]) -> Tensor:
        if len(self.streams) == 1 and len(self.streams[0].windows) == 1:
            return self.maps(0, 0).compared[chosen].float().cpu()
        scale = min(1.0, 256 / max(self.size))
        size = max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale))
        total = torch.zeros(len(chosen), *size)
        for index, plan in enumerate(self.streams):
            sums, counts = torch.zeros(len(chosen), *size), torch.zeros(size)
            for window, found in self.maps_of(index, range(len(plan.windows))):
                place = plan.windows[window]
                rows, columns = (
                    slice(start * cells // length, max(start * cells // length + 1, stop * cells // length))
                    for start, stop, cells, length in (
                        (place.top, place.top + place.height, size[0], plan.source_size[0]),
                        (place.left, place.left + place.width, size[1], plan.source_size[1]),
                    )
                )
                target = rows.stop - rows.start, columns.stop - columns.start
                maps = found.compared[chosen].float().cpu()
                sums[:, rows, columns] += F.interpolate(maps[None], target, mode="bilinear")[0]
                counts[rows, columns] += 1
            mean = sums / counts.clamp_min(1)
            total += mean.flip(-1) if plan.flip else mean
        return total / len(self.streams)


class _Placeholder:
    """In the place of a prepared image: one number with an image's shape, which needs no memory."""

    def __init__(self, size: Size, processor: ImageProcessor) -> None:
        self.pixel_values = torch.zeros(1).expand(1, 1, *size)
        self.processor = processor


def _source_size(run: PreparedRun) -> Size:
    height, width = run.pixel_values.shape[-2:]
    return int(height), int(width)
