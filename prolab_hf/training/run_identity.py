"""What a run is trained on, kept with its progress: a resumed run must not go on with something else unnoticed."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import nn
from torch.utils.data import Subset

from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.transforms import SegmentationDataset
from prolab_hf.training.recipe import TrainingRecipe, config_defaults, flat_values

if TYPE_CHECKING:
    from prolab_hf.training.training_state import Progress

logger = logging.getLogger(__name__)

# A resumed run may change these without becoming another run.
FREE_FIELDS = {
    "name",
    "log_every",
    "evaluation.every",
    "evaluation.batch_size",
    "checkpoints.every",
    "checkpoints.keep",
    "checkpoints.final_weights",
    "data.num_workers",
}
_READERS = 16
_SHOWN_DIFFERENCES = 4
_DIGESTED_SAMPLES = 16
_WORDS = {
    "property_space": "the property space (fingerprint)",
    "class_names": "class",
    "ignore_index": "the ignore index",
    "label_coding": "the label coding",
    "train_images": "the list of training images (names and sizes of the files)",
    "eval_images": "the list of evaluation images (names and sizes of the files)",
}


def run_identity(model: nn.Module, train_dataset: object, eval_dataset: object | None) -> dict[str, Any]:
    """What decides which run this is, as JSON holds it; `None` where it cannot be told.

    Args:
        model: The model; its property space, class names and ignore index are read.
        train_dataset: Its label coding and list of images are read.
        eval_dataset: Its list of images is read.
    """
    config: Any = getattr(model, "config", None)
    names = getattr(config, "id2label", None)
    space = getattr(model, "property_space", None) if getattr(config, "class_properties", None) else None
    return {
        "property_space": getattr(space, "fingerprint", None),
        "class_names": None if names is None else [names[index] for index in sorted(names)],
        "ignore_index": getattr(config, "semantic_loss_ignore_index", None),
        "label_coding": decoded_coding(getattr(_source(train_dataset), "coding", None)),
        "train_images": images_digest(train_dataset),
        "eval_images": None if eval_dataset is None else images_digest(eval_dataset),
    }


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed, one line each; what one of both cannot tell is no change.

    Args:
        saved: Identity of the run to resume.
        now: Identity of the run that is asked for.
    """
    found: list[str] = []
    for name, words in _WORDS.items():
        before, after = saved.get(name), now.get(name)
        if before is None or after is None or before == after:
            continue
        if name == "class_names":
            found += _changed_classes(before, after)
        elif isinstance(before, dict) and isinstance(after, dict):
            found += [f"{words}, {line}" for line in _changed_entries(before, after)]
        elif name in ("train_images", "eval_images"):
            found.append(f"{words} is another one")
        else:
            found.append(f"{words}: {_short(before)} -> {_short(after)}")
    return found


def check_changes(saved: "Progress", now: "Progress", *, accept_changes: bool) -> bool:
    """Refuses to go on with other data or classes, and says which numbers of the recipe have changed.

    Args:
        saved: Of the checkpoint.
        now: Of the run that is asked for, at step 0.
        accept_changes: Go on nevertheless.

    Returns:
        Whether data or classes have changed.

    Raises:
        ValueError: They have, and that was not accepted.
    """
    if saved.identity is None:
        logger.warning(
            "The run to resume was started by an earlier version, which kept no record of its data and classes: "
            "whether they are the same cannot be told."
        )
    changes = differences(saved.identity or {}, now.identity or {})
    if saved.num_images != now.num_images:
        changes.insert(0, f"it was trained on {saved.num_images} images, this data set has {now.num_images}")
    if changes and not accept_changes:
        raise ValueError(
            f"The run to resume is another one: {'; '.join(changes)}. Resume with the data and classes that it was "
            "started with, start a new run from its exported model, or go on nevertheless with "
            "accept_changes=True (--accept-changes)."
        )
    changed = changes + _changed_fields(saved.recipe, now.recipe)
    if saved.effective_batch_size != now.effective_batch_size:
        changed.append(f"images per step: {saved.effective_batch_size} -> {now.effective_batch_size}")
    if changed:
        logger.warning(
            "Resuming at step %d with changes, so this is not exactly the run that it continues: %s.",
            saved.step,
            "; ".join(changed),
        )
    return bool(changes)


def _changed_fields(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    before, after = _comparable(saved), _comparable(now)
    return [
        f"{name}: {before.get(name)!r} -> {after.get(name)!r}"
        for name in dict.fromkeys([*after, *before])
        if name not in FREE_FIELDS and before.get(name) != after.get(name)
    ]


def _comparable(recipe: dict[str, Any]) -> dict[str, Any]:
    """By dotted name, complete, whatever form the recipe was saved in."""
    try:
        values = flat_values(TrainingRecipe.from_dict(recipe).to_dict())
    except (ValueError, TypeError):
        values = flat_values(recipe)
    defaults = {f"config.{name}": value for name, value in config_defaults().items()}
    return {**defaults, **values}


def _changed_classes(before: list[str], after: list[str]) -> list[str]:
    if len(before) != len(after):
        return [f"the number of classes: {len(before)} -> {len(after)}"]
    pairs = [(k, one, other) for k, (one, other) in enumerate(zip(before, after)) if one != other]
    return [f"class {k}: {one!r} -> {other!r}" for k, one, other in pairs[:_SHOWN_DIFFERENCES]]


def _changed_entries(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    lines = []
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            lines += [f"{key} {line}" for line in _changed_entries(one, other)]
        else:
            lines.append(f"{key}: {_short(one)} -> {_short(other)}")
    return lines[:_SHOWN_DIFFERENCES]


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def decoded_coding(coding: LabelCoding | None) -> dict[str, Any] | None:
    """The content of a label coding, whatever file it was read from."""
    if not isinstance(coding, LabelCoding):
        return None
    tables = {
        name: None if entries is None else {str(raw): target for raw, target in sorted(entries.items())}
        for name, entries in (("table", coding.table), ("palette", coding.palette))
    }
    voids = None if coding.void_values is None else sorted(coding.void_values)
    return {"kind": coding.kind, "void_values": voids, "unlisted": coding.unlisted, **tables}


def images_digest(dataset: object) -> str | None:
    """Digest of which images a data set lists, in order; no image is decoded.

    Args:
        dataset: A source of `prolab_hf.data` (names and sizes of its files), a list of pairs (paths, or the
            content of some), a `torch` subset of one, or anything with an attribute `fingerprint`.

    Returns:
        Hexadecimal digits; `None` for data sets that do not say what they hold.
    """
    if isinstance(dataset, Subset):
        inner = images_digest(dataset.dataset)
        return None if inner is None else _digest([inner, *map(str, dataset.indices)])
    source: Any = _source(dataset)
    fingerprint = getattr(source, "fingerprint", None)
    if isinstance(fingerprint, str):
        return fingerprint
    pairs = getattr(source, "pairs", None)
    if pairs is not None:
        return _digest(_file_lines(pairs, getattr(source, "root", None)))
    table = getattr(source, "dataset", None)
    if hasattr(table, "data") and hasattr(source, "image_column"):
        return _digest(_table_lines(table, [source.image_column, source.mask_column]))
    if isinstance(source, list | tuple):
        return _digest(_sample_lines(source))
    return None


def _source(dataset: object) -> object:
    return dataset.source if isinstance(dataset, SegmentationDataset) else dataset


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", errors="surrogateescape") + b"\n")
    return digest.hexdigest()


def _file_lines(pairs: Iterable[tuple[Path, Path]], root: Path | None) -> list[str]:
    """Names relative to the data set's folder, which may have moved, and sizes."""

    def line(path: Path) -> str:
        name = path.relative_to(root) if root is not None and path.is_relative_to(root) else path
        try:
            return f"{name.as_posix()} {path.stat().st_size}"
        except OSError:
            return f"{name.as_posix()} -"

    # Threads: on network disks every file costs a round trip.
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(line, [Path(path) for pair in pairs for path in pair]))


def _table_lines(table: Any, columns: list[str]) -> list[str]:
    """Paths and byte counts of the cells of a `datasets` set; the bytes themselves are not read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lines = [str(len(table))]
    for name in columns:
        column = table.data.column(name)
        if pa.types.is_struct(column.type):
            fields = {field.name for field in column.type}
            if "path" in fields:
                lines += map(str, pc.struct_field(column, "path").to_pylist())
            if "bytes" in fields:
                lines += map(str, pc.binary_length(pc.struct_field(column, "bytes")).to_pylist())
    indices = getattr(table, "_indices", None)
    return lines if indices is None else [*lines, *map(str, indices.column(0).to_pylist())]


def _sample_lines(samples: list[Any] | tuple[Any, ...]) -> list[str]:
    """Names where a list holds paths; the content of some entries where it holds images."""
    lines = [str(len(samples))]
    step = max(1, len(samples) // _DIGESTED_SAMPLES)
    for number, sample in enumerate(samples):
        parts = (
            sample
            if isinstance(sample, tuple)
            else (getattr(sample, "image", None), getattr(sample, "mask", None))
        )
        for part in parts:
            if isinstance(part, str | Path):
                lines.append(str(part))
            elif number % step == 0 and isinstance(part, np.ndarray | Image.Image):
                lines.append(hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest())
    return lines
