"""One pass over labeled images: statistics, and a sample of pixels of images that are held back to choose and check.

The pass can be killed and taken up again: statistics and the list of finished images stand in one file that is
replaced as a whole. Random numbers depend on the image's number only, so processes and interruptions change nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prolab_hf.evaluation.evaluate import as_sample
from prolab_hf.evaluation.inference import prepare
from prolab_hf.model.image_conversion_prolab import StandardImage
from prolab_hf.progress import progress
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.pixel_features import MapsFunction, features_at, sample_pixels
from prolab_hf.solving.solution import Pixels
from prolab_hf.solving.statistics import (
    MAX_PER_CLASS_BYTES,
    ClassStatistics,
    WaitingRows,
    read_tensors,
    write_tensors,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

CALIBRATION_PIXELS = 8192
VALIDATION_SHARE = 0.2
FEWEST_TO_VALIDATE = 5
SAVE_SECONDS = 30.0
PROGRESS_NAME = "solve_progress"


class LabeledImages(Protocol):
    """Anything that gives images with masks of class ids."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def __getitem__(self, index: int) -> Any:
        """A `Sample`, or a pair of an image and class ids `(height, width)`."""
        ...


class NamedClasses:
    """The classes of a run, and how the data set's ids map onto them.

    Args:
        class_names: Names of the classes that are solved for, in order.
        dataset: The images; its `class_names`, where it has any, may be in another order.
        held_out: Classes whose pixels are not looked at.

    Raises:
        ValueError: The data set has a class that is unknown here.
    """

    def __init__(
        self, class_names: Sequence[str], dataset: LabeledImages, held_out: Sequence[str] = ()
    ) -> None:
        self.class_names = list(class_names)
        names = getattr(dataset, "class_names", None)
        self.data_names = self.class_names if names is None else list(names)
        self.ignore_index = int(getattr(dataset, "ignore_index", 255))
        position = {name: index for index, name in enumerate(self.class_names)}
        unknown = [name for name in self.data_names if name not in position]
        if unknown:
            raise ValueError(
                f"The data set has the class {unknown[0]!r}, which the property space does not describe; its classes "
                f"are {', '.join(self.class_names[:8])}. Add it to the space, or rename it there or in the data set."
            )
        missing = [name for name in held_out if name not in position]
        if missing:
            raise ValueError(f"held_out names {missing[0]!r}, which is no class of the property space.")
        self.table = np.array([-1 if name in held_out else position[name] for name in self.data_names])

    def decode(self, mask: NDArray[np.integer], name: str) -> NDArray[np.int64]:
        """Class ids of a mask, -1 where a pixel does not count.

        Raises:
            ValueError: A label is outside the data set's classes.
        """
        ids = np.asarray(mask)
        void = ids == self.ignore_index
        wrong = ids[~void & ((ids < 0) | (ids >= len(self.table)))]
        if wrong.size:
            raise ValueError(
                f"The labels of image {name} hold {int(wrong[0])}; allowed are 0 to {len(self.table) - 1} and "
                f"{self.ignore_index} for pixels without a class. Check the label coding (prolab check-data)."
            )
        return np.where(void, -1, self.table[np.where(void, 0, ids)])


class Reservoir:
    """A sample of pixels, spread over the classes, that does not depend on the order in which they come.

    Every pixel has a random key; of each class those with the largest keys stay.

    Args:
        per_class: Most pixels of one class.
    """

    def __init__(self, per_class: int) -> None:
        self.per_class = per_class
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, features: Tensor, labels: Tensor, keys: Tensor) -> None:
        """Offers pixels.

        Args:
            features: `(pixels, num_features)` float32.
            labels: `(pixels,)`.
            keys: float64 `(pixels,)`.
        """
        self._parts.append((features, labels, keys))
        waiting = sum(len(part[1]) for part in self._parts[1:])
        if waiting > max(CALIBRATION_PIXELS // 2, len(self._parts[0][1])):  # so that sorting is rare
            self._compact()

    def _compact(self) -> None:
        features, labels, keys = (torch.cat(column) for column in zip(*self._parts))
        order = torch.argsort(keys, descending=True)
        ordered = labels[order]
        kept = torch.cat([order[ordered == label][: self.per_class] for label in labels.unique().tolist()])
        kept = kept[torch.argsort(keys[kept], stable=True)]  # one order however the parts came together
        self._parts = [(features[kept], labels[kept], keys[kept])]

    def content(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features, labels and keys of the sample; all empty without pixels."""
        if not self._parts:
            return torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
        self._compact()
        return self._parts[0]

    def pixels(self, counts: Tensor) -> Pixels:
        """The sample; each pixel stands for its share of the class's `counts` `(num_labels,)`."""
        features, labels, _ = self.content()
        kept = torch.bincount(labels, minlength=len(counts)).clamp_min(1)
        return Pixels(features, labels, (counts.cpu() / kept)[labels])


@dataclass
class Collected:
    """What a pass gives.

    Attributes:
        fit: Statistics of the images that numbers are fitted on.
        held: Statistics of the validation images.
        reservoir: Pixels of the validation images.
        done: Numbers of the images that are finished.
    """

    fit: ClassStatistics
    held: ClassStatistics
    reservoir: Reservoir
    done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.waiting = {False: WaitingRows(self.fit), True: WaitingRows(self.held)}

    def flush(self) -> None:
        """Adds the pixels that wait for a larger product."""
        for rows in self.waiting.values():
            rows.flush()

    @property
    def validation(self) -> Pixels:
        """Pixels of the validation images."""
        return self.reservoir.pixels(self.held.counts if self.held.num_images else self.fit.counts)

    def reduce(self, accelerator: Accelerator | None) -> Collected:
        """The sum over all processes."""
        self.flush()
        if accelerator is None or accelerator.num_processes == 1:
            return self
        from accelerate.utils import gather_object

        own = tuple(part.numpy() for part in self.reservoir.content())
        merged = Reservoir(self.reservoir.per_class)
        for features, labels, keys in gather_object([own]):
            if len(labels):
                merged.add(torch.from_numpy(features), torch.from_numpy(labels), torch.from_numpy(keys))
        done = set(gather_object(sorted(self.done)))
        return Collected(self.fit.reduce(accelerator), self.held.reduce(accelerator), merged, done)


def validation_images(number: int, seed: int = 0) -> set[int]:
    """Which images are held back to choose the numbers of the solution: a fifth; none of fewer than five."""
    if number < FEWEST_TO_VALIDATE:
        return set()
    order = np.random.default_rng((seed, number)).permutation(number)
    return {int(index) for index in order[: max(1, round(VALIDATION_SHARE * number))]}


def moments_fit(num_labels: int, num_features: int) -> bool:
    """Whether moments per class fit into memory twice over."""
    return 2 * num_labels * num_features**2 * 8 <= MAX_PER_CLASS_BYTES


class Pass:
    """One pass over the images.

    Args:
        maps_of: The network up to what the last layer sees, for pixel values on the CPU.
        processor: Image processor.
        dataset: The images.
        classes: Their classes.
        samples: Pixels per image; `None`: one per 14 x 14.
        seed: Of the choice of pixels and of validation images.
        fingerprints: What the features come from.
        device: Where sums are kept.
    """

    def __init__(
        self,
        maps_of: MapsFunction,
        processor: ImageProcessor,
        dataset: LabeledImages,
        classes: NamedClasses,
        *,
        samples: int | None = None,
        seed: int = 0,
        fingerprints: Mapping[str, str] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if not len(dataset):
            raise ValueError("The data set holds no images; check the folder and the split.")
        self.maps_of, self.processor, self.dataset, self.classes = maps_of, processor, dataset, classes
        self.samples, self.seed, self.device = samples, seed, device
        self.fingerprints = dict(fingerprints or {})
        self.held = validation_images(len(dataset), seed)

    def read(self, index: int) -> tuple[StandardImage, NDArray[np.int64], str]:
        """Image, class ids (-1 = none) and name."""
        sample = as_sample(self.dataset[index], index, self.processor)
        return sample.image, self.classes.decode(sample.mask, sample.name), sample.name

    def prepare(self, image: StandardImage) -> Tensor:
        """`pixel_values` `(1, num_channels, height, width)` of an image."""
        return prepare(self.processor, image)

    def count_masks(self, accelerator: Accelerator | None = None, *, show_progress: bool = False) -> Tensor:
        """Labeled pixels per class, float64 `(num_labels,)`, before any feature is computed."""
        counts = np.zeros(len(self.classes.class_names))
        mine = _share(range(len(self.dataset)), accelerator)
        with progress(show_progress, "counting labels", len(mine)) as bar:
            for index in mine:
                _, ids, _ = self.read(index)
                counts += np.bincount(ids[ids >= 0], minlength=len(counts))
                bar.advance()
        total = torch.from_numpy(counts)
        if accelerator is not None and accelerator.num_processes > 1:
            total = accelerator.reduce(total.to(accelerator.device), reduction="sum").cpu()
        return total

    def empty(
        self, class_weights: Tensor | None, class_exponent: float | None, num_features: int
    ) -> Collected:
        """Sums of nothing."""
        names = self.classes.class_names
        options: dict[str, Any] = {
            "class_weights": class_weights,
            "class_exponent": class_exponent,
            "fingerprints": self.fingerprints,
            "device": self.device,
        }
        parts = [ClassStatistics.empty(names, num_features, **options) for _ in range(2)]
        return Collected(parts[0], parts[1], Reservoir(max(16, CALIBRATION_PIXELS // len(names))))

    @torch.no_grad()
    def add_image(self, index: int, total: Collected) -> None:
        """Adds one image to the sums."""
        image, ids, name = self.read(index)
        rng = np.random.default_rng((self.seed, index))
        sample = sample_pixels(ids, -1, self.samples, rng)
        is_held = index in self.held
        target = total.held if is_held else total.fit
        if len(sample.labels):
            # Moved at once: not every device knows float64, in which sums and weights are.
            features = features_at(self.maps_of(self.prepare(image)), sample, ids.shape).to(self.device)
            labels = torch.from_numpy(sample.labels).to(self.device)
            weights = torch.from_numpy(sample.weights)
            try:
                total.waiting[is_held].add(features, labels, weights.to(self.device))
            except ValueError as error:
                raise ValueError(f"Image {name}: {error}") from error
            if is_held or not self.held:
                # Weighted sampling without replacement: every labeled pixel has the same chance.
                keys = torch.from_numpy(rng.random(len(weights))).log() / weights
                total.reservoir.add(features.cpu(), labels.cpu(), keys)
        target.num_images += 1
        total.done.add(index)

    def run(
        self,
        total: Collected,
        *,
        accelerator: Accelerator | None = None,
        progress_dir: Path | None = None,
        show_progress: bool = False,
    ) -> Collected:
        """Adds all images that are not finished yet.

        Args:
            total: Sums so far, of this process.
            accelerator: Run of `accelerate`: every process takes its part of the images.
            progress_dir: Existing folder for files from which a killed run goes on; at most a minute is lost.
            show_progress: Show a bar with an estimate.

        Returns:
            The sums over all processes.
        """
        files = _ProgressFiles(progress_dir, accelerator, self)
        done = files.resume(total)
        mine = _share([index for index in range(len(self.dataset)) if index not in done], accelerator)
        show = show_progress and (accelerator is None or accelerator.is_main_process)
        saved = time.monotonic()
        with progress(show, "solving", len(mine)) as bar:
            for index in mine:
                self.add_image(index, total)
                bar.advance()
                if progress_dir is not None and time.monotonic() - saved > SAVE_SECONDS:
                    files.save(total)
                    saved = time.monotonic()
        return total.reduce(accelerator)


def _share(indices: Sequence[int], accelerator: Accelerator | None) -> list[int]:
    if accelerator is None:
        return list(indices)
    return list(indices)[accelerator.process_index :: accelerator.num_processes]


class _ProgressFiles:
    """Progress of all processes in one folder; a run may go on with another number of processes."""

    def __init__(self, folder: Path | None, accelerator: Accelerator | None, work: Pass) -> None:
        self.folder, self.accelerator = folder, accelerator
        self.rank = 0 if accelerator is None else accelerator.process_index
        self.facts: dict[str, object] = {
            "fingerprints": work.fingerprints,
            "class_names": work.classes.class_names,
            "num_images": len(work.dataset),
            "settings": [work.samples, work.seed],
        }
        self.replaced: list[str] = []
        self.path: Path | None = None

    def resume(self, total: Collected) -> set[int]:
        """Takes up what earlier runs left: the first process adopts their sums, all learn what is done."""
        if self.folder is None:
            return set()
        found = {
            path.name: read_tensors(path)
            for path in sorted(self.folder.glob(f"{PROGRESS_NAME}-*.safetensors"))
        }
        gone = {name for _, facts in found.values() for name in _strings(facts["replaced"])}
        live = {name: content for name, content in found.items() if name not in gone}
        for name, (_, facts) in live.items():
            if any(facts.get(key) != value for key, value in self.facts.items()):
                raise ValueError(
                    f"{self.folder / name} is the progress of another run (other images, classes, network or "
                    "settings); delete it, or choose another output folder."
                )
        done = {int(index) for tensors, _ in live.values() for index in tensors["done"]}
        numbers = [int(name.split("-")[1]) for name in found]
        run = max(numbers, default=-1) + 1
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()  # all have read before anything is written or deleted
        self.path = self.folder / f"{PROGRESS_NAME}-{run}-{self.rank}.safetensors"
        if self.rank == 0:
            for tensors, facts in live.values():
                _adopt(total, tensors, facts)
            self.replaced = sorted(found)
            if found:
                self.save(total)
                for name in found:
                    (self.folder / name).unlink()
        return done

    def save(self, total: Collected) -> None:
        """Sums and the list of finished images in one file, replaced as a whole."""
        if self.path is None:
            return
        total.flush()
        tensors = {f"fit.{name}": value for name, value in total.fit.tensors().items()}
        tensors |= {f"held.{name}": value for name, value in total.held.tensors().items()}
        tensors |= {
            **dict(zip(("sample.features", "sample.labels", "sample.keys"), total.reservoir.content())),
            "done": torch.tensor(sorted(total.done), dtype=torch.int64),
        }
        facts = {
            "fit": total.fit.facts(),
            "held": total.held.facts(),
            "replaced": self.replaced,
            **self.facts,
        }
        write_tensors(self.path, tensors, facts)


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _adopt(total: Collected, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    for name, target in (("fit", total.fit), ("held", total.held)):
        part = {
            key.removeprefix(f"{name}."): value
            for key, value in tensors.items()
            if key.startswith(f"{name}.")
        }
        content = facts[name]
        if isinstance(content, dict):  # in place, where the waiting rows go
            target += ClassStatistics.from_parts(content, part)
    if len(tensors["sample.labels"]):
        total.reservoir.add(tensors["sample.features"], tensors["sample.labels"], tensors["sample.keys"])
    total.done.update(int(index) for index in tensors["done"])


def remove_progress(folder: Path) -> None:
    """Deletes the progress of a run whose result is saved."""
    for path in folder.glob(f"{PROGRESS_NAME}-*.safetensors"):
        path.unlink()
