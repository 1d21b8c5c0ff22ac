"""Small drawn data sets for the tests of this room."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Writer = Callable[..., Path]


@pytest.fixture
def write_image() -> Writer:
    def write(path: Path, size: tuple[int, int] = (12, 8), seed: int = 0, **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(values).save(path, **options)
        return path

    return write


@pytest.fixture
def write_mask() -> Writer:
    def write(path: Path, values: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = np.asarray(values)
        Image.fromarray(array if array.dtype == np.uint16 else array.astype(np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, write_image: Writer, write_mask: Writer) -> Path:
    """Six images of 40 x 32 with 3 classes and void, layout `train/images` + `train/masks`."""
    for index in range(6):
        rng = np.random.default_rng(index)
        write_image(tmp_path / "train/images" / f"p{index}.png", (40, 32), index)
        mask = rng.integers(0, 3, (8, 10)).repeat(4, 0).repeat(4, 1)
        mask[0, :] = 255
        write_mask(tmp_path / "train/masks" / f"p{index}.png", mask)
    return tmp_path
