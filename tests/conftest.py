"""Fixtures shared by all tests: the optional folder of reference data and a tiny property space."""

import os
import random
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def same_numbers_every_time() -> None:
    """Every test draws the same random numbers, whichever ran before it: what fails once fails again."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with goldens and real images, beside the checkout; absent on most machines."""
    folder = Path(os.environ.get("PROLAB_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"reference data not found at {folder} (set PROLAB_SHARED to its folder)")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY
