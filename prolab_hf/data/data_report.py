"""What is in a data source, before a training run finds out: ids, sizes, shares, and all that is wrong."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from prolab_hf.data.image_files import SegmentationSource, image_size
from prolab_hf.data.label_checks import MANY_VOID, LabelFindings, check_label_counts

_MOST_IDS = 300


@dataclass(frozen=True)
class Problem:
    """Something in an image or mask that training would stop at.

    Attributes:
        index: Position in the source.
        kind: `unreadable` (file missing, corrupted, of another size) or `label` (outside the space).
        message: What is wrong and where.
    """

    index: int
    kind: str
    message: str


@dataclass
class DataReport:
    """Counts over a source.

    Attributes:
        num_images: Images looked at.
        class_names: Names in class order.
        image_modes: Images per mode of the file.
        mask_modes: Masks per mode of the file.
        sizes: Images per (width, height).
        raw_ids: Pixels per raw value of the masks; colors as `#rrggbb`.
        class_pixels: `(num_classes,)` pixels per class.
        class_images: `(num_classes,)` images per class.
        void_pixels: Pixels that are void.
        void_by_image: Share of void per image, in the order of the source; problems left out.
        problems: What is wrong, in the order of the source.
    """

    num_images: int
    class_names: list[str]
    image_modes: Counter[str] = field(default_factory=Counter)
    mask_modes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    raw_ids: Counter[int | str] = field(default_factory=Counter)
    class_pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    class_images: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    void_pixels: int = 0
    void_by_image: list[float] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether training can read every image."""
        return not self.problems

    @property
    def void_share(self) -> float:
        """Share of void pixels, 0 ... 1."""
        total = int(self.class_pixels.sum()) + self.void_pixels
        return self.void_pixels / total if total else 0.0

    @property
    def class_shares(self) -> np.ndarray:
        """`(num_classes,)` share of the labeled pixels per class."""
        return self.class_pixels / max(int(self.class_pixels.sum()), 1)

    def remarks(self) -> list[str]:
        """What is no error but worth a look."""
        remarks = [] if self.problems else list(self.label_findings().warnings)
        if self.problems and self.void_share > MANY_VOID:
            remarks.append(
                f"{self.void_share:.0%} of all pixels are void; is the label coding the right one?"
            )
        empty = sum(share == 1 for share in self.void_by_image)
        if empty:
            remarks.append(f"{empty} images hold nothing but void; they teach nothing")
        return remarks

    def label_findings(self) -> LabelFindings:
        """Whether the labels can teach anything; see `check_label_counts`."""
        return check_label_counts(
            self.class_pixels,
            self.void_pixels,
            class_names=self.class_names,
            class_images=self.class_images,
            num_images=self.num_images,
            raw_ids=self.raw_ids,
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready data."""
        return {
            "ok": self.ok,
            "num_images": self.num_images,
            "num_classes": len(self.class_names),
            "image_modes": dict(self.image_modes),
            "mask_modes": dict(self.mask_modes),
            "sizes": [{"width": w, "height": h, "images": n} for (w, h), n in self.sizes.most_common()],
            "raw_ids": {
                str(raw): count for raw, count in sorted(self.raw_ids.items(), key=lambda item: str(item[0]))
            },
            "void_share": self.void_share,
            "classes": [
                {"id": index, "name": name, "pixel_share": float(share), "images": int(count)}
                for index, (name, share, count) in enumerate(
                    zip(self.class_names, self.class_shares, self.class_images)
                )
            ],
            "remarks": self.remarks(),
            "error": self.label_findings().error,
            "problems": [{"index": p.index, "kind": p.kind, "message": p.message} for p in self.problems],
        }


@dataclass
class _Findings:
    """What one image contributes to the report."""

    modes: tuple[str, str] | None = None
    size: tuple[int, int] | None = None
    raw_ids: dict[int | str, int] = field(default_factory=dict)
    counts: np.ndarray | None = None
    void: int = 0
    problem: Problem | None = None


def check_source(
    source: SegmentationSource,
    *,
    workers: int = 4,
    limit: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> DataReport:
    """Read a source completely and count what is in it.

    Args:
        source: Any data source.
        workers: Threads that read (decoding images releases Python's lock).
        limit: Look only at the first images.
        on_progress: Called with the number of images done after each one.

    Returns:
        The report; problems are collected, not raised.
    """
    total = len(source) if limit is None else min(limit, len(source))
    names = source.class_names or [f"class {index}" for index in range(source.num_classes)]
    report = DataReport(total, list(names))
    report.class_pixels = np.zeros(source.num_classes, dtype=np.int64)
    report.class_images = np.zeros(source.num_classes, dtype=np.int64)
    for done, findings in enumerate(
        _in_parallel(lambda i: _examine(source, i), range(total), workers), start=1
    ):
        _add(report, findings)
        if on_progress is not None:
            on_progress(done)
    return report


def require_teaching_labels(source: SegmentationSource, *, name: str = "data set") -> None:
    """Stop before a training run whose labels can teach nothing.

    Masks are read until two classes were seen, which usually takes one or two; only suspicious data is read to its
    end. Images that cannot be read are left to whoever reads them next.

    Args:
        source: Any data source.
        name: What to call it in messages.

    Raises:
        ValueError: If all pixels are void, or all labeled ones are of one of several classes; the message names the
            label coding that was probably meant.
    """
    names = list(source.class_names or [f"class {index}" for index in range(source.num_classes)])
    enough = min(2, len(names))
    total = DataReport(0, names, class_pixels=np.zeros(len(names), dtype=np.int64))
    total.class_images = np.zeros(len(names), dtype=np.int64)
    # Not in order: neighbors are often frames of one video.
    for index in np.random.default_rng(0).permutation(len(source)).tolist():
        found = _examine(source, index)
        if found.problem is not None:
            return
        _add(total, found)
        if np.count_nonzero(total.class_pixels) >= enough:
            return
    error = total.label_findings().error
    if error is not None:
        raise ValueError(f"The labels of the {name} teach nothing. {error}")


def _in_parallel(
    work: Callable[[int], _Findings], indices: Iterable[int], workers: int
) -> Iterator[_Findings]:
    """Results in order, with a bounded number of images in flight so that memory stays flat."""
    remaining = iter(indices)
    with ThreadPoolExecutor(max_workers=max(workers, 1)) as pool:
        pending = [pool.submit(work, index) for index in islice(remaining, 2 * max(workers, 1))]
        while pending:
            yield pending.pop(0).result()
            pending.extend(pool.submit(work, index) for index in islice(remaining, 1))


def _examine(source: Any, index: int) -> _Findings:
    found = _Findings()
    try:
        if hasattr(source, "read_raw"):
            raw = source.read_raw(index)
            found.modes, found.size = (raw.image_mode, raw.mask_mode), image_size(raw.image)
            found.raw_ids = _count_raw(raw.raw_mask)
            mask = raw.decode(source.coding, source.num_classes).mask
        else:
            sample = source[index]
            found.size, mask = image_size(sample.image), sample.mask
            found.raw_ids = _count_raw(mask)
    except (ValueError, OSError) as error:
        kind = "unreadable" if found.size is None else "label"
        found.problem = Problem(index, kind, str(error))
        return found
    labeled = mask[mask != source.ignore_index]
    found.counts = np.bincount(labeled, minlength=source.num_classes)
    found.void = mask.size - labeled.size
    return found


def _count_raw(mask: np.ndarray) -> dict[int | str, int]:
    if mask.ndim == 3:
        wide = mask.astype(np.int32)
        values, counts = np.unique(
            (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2], return_counts=True
        )
        return {f"#{value:06x}": count for value, count in zip(values.tolist(), counts.tolist())}
    if mask.dtype == np.uint8:
        counts = np.bincount(mask.ravel(), minlength=1)
        return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}
    values, counts = np.unique(mask, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


def _add(report: DataReport, found: _Findings) -> None:
    if found.modes is not None:
        report.image_modes[found.modes[0]] += 1
        report.mask_modes[found.modes[1]] += 1
    if found.size is not None:
        report.sizes[found.size] += 1
    for raw, count in found.raw_ids.items():
        # A photograph among the masks holds thousands of colors; the first ones tell enough.
        if raw in report.raw_ids or len(report.raw_ids) < _MOST_IDS:
            report.raw_ids[raw] += count
    if found.problem is not None:
        report.problems.append(found.problem)
    if found.counts is not None:
        report.class_pixels += found.counts
        report.class_images += found.counts > 0
        report.void_pixels += found.void
        report.void_by_image.append(found.void / max(int(found.counts.sum()) + found.void, 1))
