"""What a solution needs of the images: sums over labeled pixels that add up over images, processes and days.

Per pixel a feature `x` with a constant 1 at its end. Kept are the number of pixels and the sum of `x` of every class,
and the second moments `x x^T`: of every class for itself, or added up with a weight per class.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

STATISTICS_NAME = "solve_statistics.safetensors"
FORMAT_VERSION = 1
FLUSH_ROWS = 8192
BLOCK_COLUMNS = 256  # only the upper triangle is computed, in strips of this width
MAX_PER_CLASS_BYTES = 2**30


def add_outer_products(total: Tensor, rows: Tensor) -> None:
    """Adds the upper triangle of `rows^T rows` to `total`, with a bit more than half of the products.

    Args:
        total: float64 `(num_features, num_features)`; what is below the triangle's blocks is left alone.
        rows: float64 `(pixels, num_features)`.
    """
    for start in range(0, rows.shape[1], BLOCK_COLUMNS):
        stop = start + BLOCK_COLUMNS
        total[start:stop, start:].addmm_(rows[:, start:stop].t(), rows[:, start:])


def symmetric(upper: Tensor) -> Tensor:
    """The full matrix `(..., n, n)` of an upper triangle."""
    triangle = upper.triu()
    return triangle + triangle.triu(1).transpose(-1, -2)


@dataclass
class ClassStatistics:
    """Sums over the labeled pixels of the images that were looked at.

    Attributes:
        class_names: The classes.
        counts: float64 `(num_labels,)` labeled pixels of every class.
        sums: float64 `(num_labels, num_features)` of features.
        moments: float64 `(num_labels, num_features, num_features)`, or without the first dimension the sum over the
            classes with `class_weights`; upper triangles.
        class_weights: `(num_labels,)`, where the moments are summed up: then the weights are decided for good.
        class_exponent: rho of these weights, `counts^-rho`.
        num_images: How many images were looked at.
        fingerprints: What the features come from (network, transform): only equal ones add up.
    """

    class_names: list[str]
    counts: Tensor
    sums: Tensor
    moments: Tensor
    class_weights: Tensor | None = None
    class_exponent: float | None = None
    num_images: int = 0
    fingerprints: dict[str, str] = field(default_factory=dict)

    @classmethod
    def empty(
        cls,
        class_names: Sequence[str],
        num_features: int,
        *,
        class_weights: Tensor | None = None,
        class_exponent: float | None = None,
        fingerprints: Mapping[str, str] | None = None,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Nothing counted yet.

        Args:
            class_names: The classes.
            num_features: Length of a feature, the constant included.
            class_weights: `(num_labels,)` to sum the moments up with; `None` keeps them per class.
            class_exponent: rho of these weights.
            fingerprints: See the class.
            device: Where the sums are kept.
        """
        number = len(class_names)
        shape = (
            (num_features, num_features)
            if class_weights is not None
            else (number, num_features, num_features)
        )
        return cls(
            list(class_names),
            torch.zeros(number, dtype=torch.float64, device=device),
            torch.zeros(number, num_features, dtype=torch.float64, device=device),
            torch.zeros(shape, dtype=torch.float64, device=device),
            None if class_weights is None else class_weights.to(device, torch.float64),
            class_exponent,
            fingerprints=dict(fingerprints or {}),
        )

    @property
    def num_features(self) -> int:
        """Length of a feature, the constant included."""
        return self.sums.shape[1]

    @property
    def is_per_class(self) -> bool:
        """Whether the moments are kept for every class."""
        return self.class_weights is None

    def add(self, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
        """Counts pixels.

        Args:
            features: `(pixels, num_features)`, the last one 1.
            labels: Class ids `(pixels,)`.
            weights: How many pixels each one stands for `(pixels,)`; 1 by default.

        Raises:
            ValueError: A feature is not finite.
        """
        check_finite(features)
        if weights is None:
            weights = torch.ones(len(labels), dtype=torch.float64, device=features.device)
        device = self.sums.device
        features, labels, weights = features.to(device), labels.to(device, torch.int64), weights.to(device)
        weights = weights.double()
        self.counts.index_add_(0, labels, weights)
        for label in labels.unique().tolist():
            inside = labels == label
            rows, weight = features[inside].double(), weights[inside]
            self.sums[label] += weight @ rows
            factor = weight if self.class_weights is None else weight * self.class_weights[label]
            target = self.moments[label] if self.class_weights is None else self.moments
            add_outer_products(target, rows * factor.sqrt()[:, None])

    def __iadd__(self, other: ClassStatistics) -> Self:
        self.check_same_features(other.fingerprints, other.num_features)
        if self.class_names != other.class_names:
            raise ValueError(
                f"Statistics of the classes {_shown(other.class_names)} cannot be added to those of "
                f"{_shown(self.class_names)}; the classes and their order must be the same."
            )
        if self.is_per_class != other.is_per_class:
            raise ValueError(
                "Statistics with moments per class and statistics without do not add up; use pooled()."
            )
        mine, theirs = self.class_weights, other.class_weights
        if mine is not None and theirs is not None and not torch.equal(mine, theirs):
            raise ValueError("The statistics weigh their classes differently, so they do not add up.")
        self.counts += other.counts
        self.sums += other.sums
        self.moments += other.moments
        self.num_images += other.num_images
        return self

    def __add__(self, other: ClassStatistics) -> ClassStatistics:
        total = self.copy()
        total += other
        return total

    def copy(self) -> ClassStatistics:
        """Independent sums."""
        return replace(
            self,
            counts=self.counts.clone(),
            sums=self.sums.clone(),
            moments=self.moments.clone(),
            fingerprints=dict(self.fingerprints),
        )

    def check_same_features(self, fingerprints: Mapping[str, str], num_features: int | None = None) -> None:
        """Refuses features of another network or transform.

        Raises:
            ValueError: What differs.
        """
        if num_features is not None and num_features != self.num_features:
            raise ValueError(
                f"The statistics are of {self.num_features} features, the network gives {num_features}; "
                "they are of another backbone. Solve anew without them."
            )
        for name, value in self.fingerprints.items():
            if name in fingerprints and fingerprints[name] != value:
                raise ValueError(
                    f"The statistics were made with another {name} (fingerprint {value[:12]}, now "
                    f"{fingerprints[name][:12]}); use the {name} of that time, or solve anew without them."
                )

    def weights_for(self, exponent: float) -> Tensor:
        """Class weights `counts^-exponent` `(num_labels,)`, 0 for a class without pixels; mean 1 over pixels."""
        weights = torch.where(self.counts > 0, self.counts.clamp_min(1e-300) ** -exponent, 0.0)
        return weights * self.counts.sum() / (weights * self.counts).sum().clamp_min(1e-300)

    def pooled(self, exponent: float, *, without: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """What is solved: weighted moments and sums.

        Args:
            exponent: rho of the class weights; where the moments are summed up already, theirs is used.
            without: Classes to leave out, as if no image had shown them; needs moments per class.

        Returns:
            Symmetric `(num_features, num_features)` and `(num_labels, num_features)`, float64.

        Raises:
            ValueError: Classes are to be left out of moments that are summed up.
        """
        if self.class_weights is not None:
            if len(without):
                raise ValueError(
                    "Leaving a class out needs statistics per class; solve with statistics='per_class'."
                )
            return symmetric(self.moments), self.sums * self.class_weights[:, None]
        weights = self.weights_for(exponent)
        weights[list(without)] = 0
        moments = torch.zeros_like(self.moments[0])
        for weight, matrix in zip(weights.tolist(), self.moments):
            if weight:
                moments.add_(matrix, alpha=weight)
        return symmetric(moments), self.sums * weights[:, None]

    def summed_up(self, exponent: float) -> ClassStatistics:
        """The same with moments added up over the classes: small enough to travel with a model."""
        if not self.is_per_class:
            return self
        weights = self.weights_for(exponent)
        moments, _ = self.pooled(exponent)
        return replace(self.copy(), moments=moments, class_weights=weights, class_exponent=exponent)

    def reduce(self, accelerator: Accelerator | None) -> ClassStatistics:
        """The sum over all processes, on each of them."""
        if accelerator is None or accelerator.num_processes == 1:
            return self
        counted = torch.tensor([float(self.num_images)], dtype=torch.float64, device=self.counts.device)
        for tensor in (self.counts, self.sums, self.moments, counted):
            tensor.copy_(accelerator.reduce(tensor.to(accelerator.device), reduction="sum"))
        return replace(self, num_images=round(counted.item()))

    # ---- disk -------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a number, as files hold it."""
        upper = torch.triu_indices(self.num_features, self.num_features)
        packed = self.moments[..., upper[0], upper[1]].contiguous()
        found = {"counts": self.counts, "sums": self.sums, "moments": packed}
        if self.class_weights is not None:
            found["class_weights"] = self.class_weights
        return {name: value.cpu() for name, value in found.items()}

    def facts(self) -> dict[str, object]:
        """Everything else."""
        return {
            "format_version": FORMAT_VERSION,
            "class_names": self.class_names,
            "class_exponent": self.class_exponent,
            "num_images": self.num_images,
            "fingerprints": self.fingerprints,
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, object], tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of `tensors` and `facts`."""
        sums, packed = tensors["sums"], tensors["moments"]
        number = sums.shape[1]
        moments = torch.zeros(*packed.shape[:-1], number, number, dtype=torch.float64)
        upper = torch.triu_indices(number, number)
        moments[..., upper[0], upper[1]] = packed.double()  # may be stored in float32
        values: dict[str, object] = dict(facts)
        values.pop("format_version")
        return cls(
            counts=tensors["counts"].clone(),
            sums=sums.clone(),
            moments=moments,
            class_weights=tensors.get("class_weights"),
            **values,  # type: ignore[arg-type]
        )

    def save(self, folder: str | Path) -> Path:
        """Writes `solve_statistics.safetensors`, all or nothing.

        Args:
            folder: An existing folder.
        """
        path = Path(folder) / STATISTICS_NAME
        write_tensors(path, self.tensors(), {"statistics": self.facts()})
        return path

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads what `save` wrote.

        Args:
            folder: The folder, or the file itself.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It is damaged or of another format.
        """
        path = Path(folder)
        path = path / STATISTICS_NAME if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: no statistics were kept with this model; solve with statistics=True."
            )
        tensors, facts = read_tensors(path)
        content = facts.get("statistics")
        if not isinstance(content, dict) or content.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"{path} holds no statistics of format {FORMAT_VERSION}; solve anew.")
        return cls.from_parts(content, tensors)


class WaitingRows:
    """Pixels that wait until there are enough for one large product: many small ones would only move memory.

    Args:
        target: Where they are added.
    """

    def __init__(self, target: ClassStatistics) -> None:
        self.target = target
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, features: Tensor, labels: Tensor, weights: Tensor) -> None:
        """As `ClassStatistics.add`, sooner or later."""
        check_finite(features)
        self._waiting.append((features, labels, weights))
        if sum(len(rows) for rows, _, _ in self._waiting) >= FLUSH_ROWS:
            self.flush()

    def flush(self) -> None:
        """Adds all that wait."""
        if self._waiting:
            self.target.add(*(torch.cat(column) for column in zip(*self._waiting)))
            self._waiting.clear()


def check_finite(features: Tensor) -> None:
    """Refuses features that would spoil every sum.

    Raises:
        ValueError: One is NaN or infinite.
    """
    if not torch.isfinite(features).all():
        raise ValueError(
            "The network gives features that are not finite (NaN or infinity); check its weights and the "
            "normalization of the images."
        )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> None:
    """Writes a safetensors file atomically.

    Args:
        path: The file.
        tensors: Its tensors.
        facts: JSON values for its header.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        partial,
        metadata={name: json.dumps(value) for name, value in facts.items()},
    )
    partial.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and facts that `write_tensors` wrote.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  # not a mapping
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error}; delete it and solve anew.") from error


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
