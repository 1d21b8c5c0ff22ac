"""`transformers.Trainer` for segmentation in properties."""

import importlib
from typing import Any

# Loaded when used: transformers' Trainer loads `datasets`, its arguments do not.
_MODULES = {
    "EpochCallback": "trainer",
    "ProLabTrainer": "trainer",
    "ProLabTrainingArguments": "arguments",
    "build_trainer": "trainer",
    "training_arguments_defaults": "arguments",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
