"""Images and masks from `datasets` sets: on the Hub, saved to disk, or built in memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from PIL import Image

from prolab_hf.data.image_files import CodedSource, RawSample, SourceOptions
from prolab_hf.model.image_conversion_prolab import ImageContent


class HubSource(CodedSource):
    """A `datasets` data set with an image column and a mask column.

    Args:
        dataset: A `datasets.Dataset` (one split) in any format, or an `IterableDataset`, which is read once and held
            as it is stored (compressed).
        image_column: Column with images (`Image` feature, bytes, paths or arrays).
        mask_column: Column with masks (the same kinds, or integer arrays `(height, width)`).
        name_column: Column with a name for messages; row numbers by default.
        **options: See `SourceOptions`.

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
        **options: Unpack[SourceOptions],
    ) -> None:
        if isinstance(dataset, dict):
            raise ValueError(f"a DatasetDict was passed; take one of its splits: {sorted(dataset)}")
        needed = [image_column, mask_column, *([name_column] if name_column else [])]
        rows: Any = without_decoding(dataset, [image_column, mask_column])
        if not hasattr(rows, "__len__"):
            rows = list(rows)
        columns = list(dataset.column_names or (rows[0] if len(rows) else []))
        for column in needed:
            if column not in columns:
                raise ValueError(
                    f"the data set has no column {column!r}; its columns are {columns} (--image-column and "
                    "--mask-column name others)"
                )
        if len(rows) == 0:
            raise ValueError("the data set holds no rows")
        super().__init__(**options)
        self.image_column, self.mask_column, self.name_column = image_column, mask_column, name_column
        self.dataset = rows

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

    def __len__(self) -> int:
        return len(self.dataset)

    def read_raw(self, index: int) -> RawSample:
        """Image and mask as the data set holds them, for `prolab check-data`."""
        # An index past the end: `datasets` raises IndexError itself, which also ends iteration.
        columns = (self.image_column, self.mask_column, self.name_column)
        return read_row(self, self.dataset[index], f"row {index}", columns=columns)


def read_row(
    source: CodedSource, row: Mapping[str, Any], number: str, *, columns: tuple[str, str, str | None]
) -> RawSample:
    """Image and mask of a row, undecoded as `datasets` holds it.

    Args:
        source: Knows how a pair is read.
        row: Of the data set.
        number: What to call it in messages, beside its name.
        columns: Of images, of masks, and of names where there is one.

    Raises:
        ValueError: It has no image or mask, or one that cannot be decoded.
    """
    image_column, mask_column, name_column = columns
    image, mask, name = row[image_column], row[mask_column], number
    if name_column:
        name = f"{row[name_column]} ({number})"
    elif isinstance(image, dict) and image.get("path"):
        name = f"{Path(image['path']).name} ({number})"
    elif isinstance(image, str):
        name = f"{Path(image).name} ({number})"
    if image is None or mask is None:
        raise ValueError(f"{name} of the data set has no {'image' if image is None else 'mask'}")
    mask_name = f"{mask_column} of {name}"
    return source.read_pair(
        _content(image, name, "image"), _content(mask, mask_name, "mask"), name, mask_name
    )


def _content(value: object, name: str, what: str) -> ImageContent:
    """The content of a cell: undecoded `Image` features are dictionaries of bytes and path."""
    if isinstance(value, dict) and ("bytes" in value or "path" in value):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, str | bytes | Image.Image):
        return value
    if hasattr(value, "detach"):  # columns in torch format
        value = value.detach().cpu().numpy()
    if isinstance(value, list | tuple | np.ndarray):
        try:
            array = np.asarray(value)
        except ValueError as error:  # rows of different lengths
            raise ValueError(f"{what} {name} is a list that is no array: {error}") from error
        small = what == "image" and np.issubdtype(array.dtype, np.integer) and array.size
        if small and array.min() >= 0 and array.max() <= 255:
            array = array.astype(np.uint8)  # lists come back from Arrow as 64-bit numbers
        if (
            what == "image"
            and array.ndim == 3
            and array.shape[0] in (1, 3)
            and array.shape[2] not in (1, 3, 4)
        ):
            array = np.moveaxis(array, 0, -1)
        return array
    raise ValueError(
        f"{what} {name} is a {type(value).__name__}; a cell holds an image, the path or content of a file, or an array"
    )


def without_decoding(dataset: Any, columns: list[str]) -> Any:
    """Switch off the decoding of `Image` columns: our reader names the file when one is damaged."""
    try:
        from datasets import Image as ImageFeature
    except ImportError as error:
        raise ImportError(
            "reading `datasets` sets needs the package datasets: pip install datasets"
        ) from error
    # Formats (torch, numpy) would decode again; a transform of the user's own is theirs to keep.
    if (getattr(dataset, "format", None) or {}).get("type") not in (None, "custom"):
        dataset = dataset.with_format(None)
    for column in columns:
        if isinstance((dataset.features or {}).get(column), ImageFeature):
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
