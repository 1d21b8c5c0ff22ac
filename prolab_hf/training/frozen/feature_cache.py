"""Feature maps of a frozen backbone on disk: computed once per augmented copy of an image, read in every epoch.

An entry's path says everything that it depends on: backbone and weights, augmentation, precision, image and mask. What
changes gets another path, so an entry can be missing but never stale. Files appear in one step, which makes a folder
safe to share between processes and between runs.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from prolab_hf.data.image_files import BrokenImageError
from prolab_hf.protocols import Examples, ImageMaskPairs
from prolab_hf.training.data_loading import TrainingExample, TrainingExamples, source_of
from prolab_hf.training.recipe import TrainingRecipe

FORMAT = 1
DEFAULT_FOLDER = "feature_cache"
LEAST_FREE_BYTES = 2**28  # left for the run itself
_MAP = "feature_map_"


class FeatureMaps(tuple[Tensor, ...]):
    """Feature maps `(batch_size, channels, height, width)` of one batch, finest first, that move together."""

    @classmethod
    def stack(cls, examples: Sequence["FeatureMaps"]) -> Self:
        """Maps of a batch from those `(channels, height, width)` of its images."""
        return cls(torch.stack(maps) for maps in zip(*examples))

    def to(self, *arguments: Any, **options: Any) -> Self:
        """As `Tensor.to`, for each."""
        return type(self)(maps.to(*arguments, **options) for maps in self)

    def pin_memory(self) -> Self:
        """As `Tensor.pin_memory`, for each."""
        return type(self)(maps.pin_memory() for maps in self)


@dataclass(frozen=True)
class CachePlace:
    """Where the entries of one backbone under one augmentation lie.

    Attributes:
        folder: Theirs alone.
        entries: Per image of the data set the name of its entries.
        copies: Augmented versions of each image.
    """

    folder: Path
    entries: Sequence[str]
    copies: int

    def path(self, copy: int, index: int) -> Path:
        """The file of one version of one image."""
        name = self.entries[index]
        return self.folder / f"copy-{copy}" / name[:2] / f"{name}.safetensors"


class CachedExamples(TrainingExamples):
    """Training examples whose images are feature maps; epoch n sees version n modulo the number of copies.

    Args:
        examples: Those with images.
        place: Where the entries lie; all must be there.
    """

    def __init__(self, examples: TrainingExamples, place: CachePlace) -> None:
        super().__init__(
            examples.dataset, examples.transform, seed=examples.seed, skip_broken=examples.skip_broken
        )
        self.place = place

    def __getitem__(self, place: tuple[int, int]) -> TrainingExample:
        epoch, index = place
        return read_entry(self.place.path(epoch % self.place.copies, index))


def write_entry(path: Path, maps: Sequence[Tensor], example: TrainingExample, *, half: bool) -> None:
    """Writes one entry, in one step.

    Args:
        path: Of the entry.
        maps: `(channels, height, width)` each.
        example: Whose labels, name and remarks are kept, too.
        half: Store maps in half precision.

    Raises:
        ValueError: A number is not finite, or too large for half precision.
    """
    tensors = {
        f"{_MAP}{k}": maps_.to(torch.float16 if half else torch.float32) for k, maps_ in enumerate(maps)
    }
    for value in tensors.values():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"The features of {example.name} hold numbers that are not finite"
                + (", or too large for half precision: set features.half to false." if half else ".")
            )
    tensors["labels"] = example.tensors["labels"]
    words = {"name": example.name, "skipped": json.dumps(example.skipped)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(
            {name: value.cpu().contiguous() for name, value in tensors.items()}, temporary, metadata=words
        )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_entry(path: Path) -> TrainingExample:
    """Reads one entry: `labels` and `feature_maps`, in full precision.

    Raises:
        FileNotFoundError: It is gone.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"The cached features {path} are gone. Start the run again with resume: what is missing is computed anew."
        )
    with safe_open(path, framework="pt") as file:
        words = file.metadata() or {}
        tensors: dict[str, Any] = {"labels": file.get_tensor("labels")}
        number = sum(name.startswith(_MAP) for name in file.keys())  # noqa: SIM118 - no mapping
        tensors["feature_maps"] = FeatureMaps(file.get_tensor(f"{_MAP}{k}").float() for k in range(number))
    return TrainingExample(
        tensors, words.get("name", path.stem), tuple(json.loads(words.get("skipped", "[]")))
    )


# ---- what an entry depends on ------------------------------------------------------------------------------


def cache_key(model: nn.Module, examples: TrainingExamples, recipe: TrainingRecipe, precision: str) -> str:
    """Digest of all that the features of an image depend on, the image itself aside.

    Args:
        model: Its backbone's configuration and weights are read.
        examples: Their transform is read.
        recipe: Its augmentation, seed and batch size.
        precision: Mixed precision of the run.
    """
    backbone: Any = model.backbone
    digest = hashlib.sha256(f"format {FORMAT}, {precision}, {recipe.features.half}\n".encode())
    config = getattr(backbone, "config", None)
    digest.update((config.to_json_string() if config is not None else repr(backbone)).encode())
    for name, value in backbone.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    digest.update(f"seed {examples.seed}, batches of {recipe.schedule.batch_size}\n".encode())
    digest.update(repr(_transform_facts(examples.transform)).encode())
    return digest.hexdigest()[:24]


def _transform_facts(transform: object) -> object:
    if transform is None:
        return None
    return type(transform).__name__, sorted((name, repr(value)) for name, value in vars(transform).items())


def entry_names(dataset: ImageMaskPairs | Examples) -> list[str]:
    """A digest per image that changes with the image or its mask.

    Files count by path, size and time of their last change, everything else by its content.

    Args:
        dataset: The training set.
    """
    source: Any = source_of(dataset)
    pairs = getattr(source, "pairs", None)
    coding = repr(getattr(source, "coding", None))
    if pairs is not None:
        files = [tuple(map(Path, pair)) for pair in pairs]
        return [_digest([f"{index}", coding, *map(_file_facts, pair)]) for index, pair in enumerate(files)]
    return [_digest([f"{index}", coding, *_content(dataset, index)]) for index in range(len(dataset))]


def _file_facts(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return f"{path.resolve()} -"
    return f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns}"


def _content(dataset: Any, index: int) -> Iterable[str]:
    try:
        item = dataset[index]
    except BrokenImageError as error:
        return [str(error)]
    if isinstance(item, tuple):
        parts = list(item)
    elif hasattr(item, "keys"):
        parts = [item[name] for name in ("pixel_values", "labels")]
    else:
        parts = [item.image, item.mask]
    return [_digest_of(part) for part in parts]


def _digest_of(part: Any) -> str:
    if isinstance(part, str | Path):
        return _file_facts(Path(part))
    if isinstance(part, Image.Image):
        part = np.asarray(part)
    array = np.ascontiguousarray(part)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", errors="surrogateescape")).hexdigest()[:32]


# ---- filling -----------------------------------------------------------------------------------------------


def cache_features(
    model: nn.Module,
    examples: TrainingExamples,
    recipe: TrainingRecipe,
    output_dir: Path,
    accelerator: Accelerator,
    tell: Callable[[str], None],
) -> CachedExamples:
    """Computes the features that are missing and gives the examples that read them.

    Batches are those of a fixed order, whatever is missing, so that what is computed again comes out the same.

    Args:
        model: With a frozen backbone.
        examples: Of the run.
        recipe: Its cache.
        output_dir: Folder of the run.
        accelerator: Of the run; every process must call this and computes its share.
        tell: Gets a line about size and place before anything is computed.

    Raises:
        ValueError: The model cannot be trained on feature maps, or the data set draws its own augmentation.
        OSError: The disk lacks the space.
    """
    _check(model, examples)
    model.to(accelerator.device)
    fields = recipe.features
    root = Path(fields.folder) if fields.folder is not None else output_dir / DEFAULT_FOLDER
    key = cache_key(model, examples, recipe, accelerator.mixed_precision)
    names = gather_object([entry_names(examples.dataset) if accelerator.is_main_process else None])[0]
    place = CachePlace(root / key, names, fields.copies)
    groups = _missing_groups(place, recipe.schedule.batch_size)
    groups = gather_object([groups if accelerator.is_main_process else None])[0]
    if accelerator.is_main_process:
        _tell_size(model, examples, place, groups, recipe, accelerator, tell)
    accelerator.wait_for_everyone()
    was_training = model.training
    model.eval()
    for copy, indices in groups[accelerator.process_index :: accelerator.num_processes]:
        _fill(model, examples, place, copy, indices, accelerator, half=fields.half)
    model.train(was_training)
    accelerator.wait_for_everyone()
    return CachedExamples(examples, place)


def _check(model: nn.Module, examples: TrainingExamples) -> None:
    if not hasattr(getattr(model, "config", None), "class_properties"):
        raise ValueError(
            f"features.cache is true, but a {type(model).__name__} cannot be trained on feature maps; set it to false."
        )
    if examples.transform is None:
        raise ValueError(
            "features.cache is true, but the data set gives tensors, whose augmentation cannot be told; give images "
            "and masks, or set it to false."
        )


def _missing_groups(place: CachePlace, batch_size: int) -> list[tuple[int, list[int]]]:
    """Batches of which an entry is missing, as (copy, indices)."""
    found = []
    for copy in range(place.copies):
        for start in range(0, len(place.entries), batch_size):
            indices = list(range(start, min(start + batch_size, len(place.entries))))
            if not all(place.path(copy, index).is_file() for index in indices):
                found.append((copy, indices))
    return found


@torch.no_grad()
def _feature_maps(model: Any, pixel_values: Tensor, accelerator: Accelerator) -> tuple[Tensor, ...]:
    with accelerator.autocast():
        outputs = model.backbone.forward_with_filtered_kwargs(
            pixel_values.to(accelerator.device), output_hidden_states=False, output_attentions=False
        )
    return tuple(outputs.feature_maps)


def _fill(
    model: nn.Module,
    examples: TrainingExamples,
    place: CachePlace,
    copy: int,
    indices: Sequence[int],
    accelerator: Accelerator,
    *,
    half: bool,
) -> None:
    batch = [examples[copy, index] for index in indices]
    pixel_values = torch.stack([example.tensors["pixel_values"] for example in batch])
    maps = _feature_maps(model, pixel_values, accelerator)
    for row, (index, example) in enumerate(zip(indices, batch)):
        write_entry(place.path(copy, index), [each[row] for each in maps], example, half=half)


def _tell_size(
    model: nn.Module,
    examples: TrainingExamples,
    place: CachePlace,
    groups: Sequence[tuple[int, list[int]]],
    recipe: TrainingRecipe,
    accelerator: Accelerator,
    tell: Callable[[str], None],
) -> None:
    """Says what the cache takes, and refuses where the disk lacks it; one image is run to know."""
    height, width = recipe.crop_height_width
    channels = len(getattr(examples.transform, "mean", (0, 0, 0)))
    was_training = model.training
    model.eval()
    maps = _feature_maps(model, torch.zeros(1, channels, height, width), accelerator)
    model.train(was_training)
    per_entry = sum(each.numel() for each in maps) * (2 if recipe.features.half else 4) + 8 * height * width
    missing = sum(len(indices) for _, indices in groups)
    total = len(place.entries) * place.copies
    folder = place.folder.parent
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, missing * per_entry
    tell(
        f"feature cache: {len(place.entries)} images x {place.copies} copies, {_size(total * per_entry)} in "
        f"{folder}; {missing} of {total} to be computed"
    )
    if needed and needed + LEAST_FREE_BYTES > free:
        raise OSError(
            f"The feature cache needs {_size(needed)} more in {folder}, where {_size(free)} are free; lower "
            f"features.copies (now {place.copies}), set features.folder to another disk, or features.cache to false."
        )


def _size(number: float) -> str:
    return f"{number / 2**30:,.1f} GiB" if number >= 2**30 else f"{number / 2**20:,.1f} MiB"
