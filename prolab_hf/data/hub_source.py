"""Images and masks from `datasets` sets: on the Hub, saved to disk, or built in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prolab_hf.data.image_files import RawSample, Sample, class_space, read_raw
from prolab_hf.data.label_coding import LabelCoding

_NEEDS_DATASETS = "reading `datasets` sets needs the package datasets: pip install datasets"


class HubSource:
    """A `datasets` data set with an image column and a mask column.

    Args:
        dataset: A `datasets.Dataset` (one split).
        image_column: Column with images (`Image` feature, bytes, paths or arrays).
        mask_column: Column with masks (the same kinds, or integer arrays `(height, width)`).
        name_column: Column with a name for messages; row numbers by default.
        coding: Declared meaning of the mask's values.
        class_names: Names in class order.
        num_classes: Size of the class space where names are not known.

    Raises:
        ValueError: If a column is missing (the message lists those that exist) or a `DatasetDict` was passed.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        image_column: str = "image",
        mask_column: str = "label",
        name_column: str | None = None,
        coding: LabelCoding | None = None,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
    ) -> None:
        if isinstance(dataset, dict):
            raise ValueError(f"a DatasetDict was passed; take one of its splits: {sorted(dataset)}")
        columns = list(dataset.column_names)
        for column in (image_column, mask_column, *([name_column] if name_column else [])):
            if column not in columns:
                raise ValueError(
                    f"the data set has no column {column!r}; its columns are {columns} (--image-column and "
                    "--mask-column name others)"
                )
        if len(dataset) == 0:
            raise ValueError("the data set holds no rows")
        self.coding = coding or LabelCoding()
        self.class_names, self.num_classes = class_space(class_names, num_classes)
        self.coding.check_classes(self.num_classes)
        self.image_column, self.mask_column, self.name_column = image_column, mask_column, name_column
        self.dataset = _undecoded(dataset, [image_column, mask_column])

    @classmethod
    def load(
        cls, name_or_path: str | Path, split: str, *, config_name: str | None = None, **kwargs: Any
    ) -> "HubSource":
        """Load a data set by its Hub name or from a `save_to_disk` folder.

        Args:
            name_or_path: Repository id, or folder.
            split: Name of the split; not read where the folder holds a single one.
            config_name: Configuration of the data set on the Hub.
            **kwargs: Arguments of the constructor; `revision` goes to `datasets.load_dataset`.

        Raises:
            ImportError: If `datasets` is not installed.
            FileNotFoundError: If it does not exist.
            ValueError: If the split does not exist or the set is a script that `datasets` refuses.
        """
        revision = kwargs.pop("revision", None)
        return cls(_load_dataset(str(name_or_path), split, config_name, revision), **kwargs)

    @property
    def ignore_index(self) -> int:
        """Value of void pixels in the masks that this source gives."""
        return self.coding.ignore_index

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.read_raw(index).decode(self.coding, self.num_classes)

    def read_raw(self, index: int) -> RawSample:
        """Image and mask as the data set holds them, for `prolab check-data`."""
        # An index past the end: `datasets` raises IndexError itself, which also ends iteration.
        row = self.dataset[index]
        image, mask = row[self.image_column], row[self.mask_column]
        name = f"row {index}"
        if self.name_column:
            name = f"{row[self.name_column]} ({name})"
        elif isinstance(image, dict) and image.get("path"):
            name = f"{Path(image['path']).name} ({name})"
        if image is None or mask is None:
            raise ValueError(f"{name} of the data set has no {'image' if image is None else 'mask'}")
        names = {"name": name, "mask_name": f"{self.mask_column} of {name}"}
        return read_raw(_content(image, image=True), _content(mask), coding=self.coding, **names)


def _content(value: Any, *, image: bool = False) -> Any:
    """The content of a cell: undecoded `Image` features are dictionaries of bytes and path."""
    if isinstance(value, dict) and ("bytes" in value or "path" in value):
        return value["path"] if value.get("bytes") is None else value["bytes"]
    if image and isinstance(value, np.ndarray | list):
        return Image.fromarray(np.asarray(value, dtype=np.uint8))
    return value


def _undecoded(dataset: Any, columns: list[str]) -> Any:
    """Switch off the decoding of `Image` columns: our reader names the file when one is damaged."""
    try:
        from datasets import Image as ImageFeature
    except ImportError as error:
        raise ImportError(
            "reading `datasets` sets needs the package datasets: pip install datasets"
        ) from error
    for column in columns:
        if isinstance(dataset.features.get(column), ImageFeature):
            dataset = dataset.cast_column(column, ImageFeature(decode=False))
    return dataset


def _load_dataset(name: str, split: str, config_name: str | None, revision: str | None) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "reading `datasets` sets needs the package datasets: pip install datasets"
        ) from error
    folder = Path(name)
    if folder.is_dir() and any((folder / marker).is_file() for marker in ("state.json", "dataset_dict.json")):
        loaded = datasets.load_from_disk(name)
        if isinstance(loaded, dict):
            if split not in loaded:
                raise ValueError(f"data set {name} has no split {split!r}; its splits are {sorted(loaded)}")
            return loaded[split]
        return loaded
    try:
        return datasets.load_dataset(name, config_name, split=split, revision=revision)
    except ConnectionError as error:
        raise FileNotFoundError(
            f"{name} is no folder here, and no data set of that name can be reached: {error}"
        ) from error
    except RuntimeError as error:
        if "scripts are no longer supported" in str(error):
            raise ValueError(
                f"data set {name} is a loading script, which `datasets` refuses; try "
                "revision='refs/convert/parquet', or read its official download (prolab_hf.data.published_datasets)"
            ) from error
        raise
