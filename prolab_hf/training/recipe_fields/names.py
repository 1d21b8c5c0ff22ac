"""The groups of a recipe by name, and the names that its fields had when recipes were flat."""

import dataclasses

from prolab_hf.training.recipe_fields.adaptation import BalanceFields, FeatureCacheFields, PeftFields
from prolab_hf.training.recipe_fields.bounds import RecipeGroup
from prolab_hf.training.recipe_fields.groups import (
    CheckpointFields,
    ClosedFormFields,
    DataFields,
    DeviceFields,
    EvaluationFields,
    ModelFields,
    OptimizerFields,
    ScheduleFields,
)

GROUPS: dict[str, type[RecipeGroup]] = {
    kind.group: kind
    for kind in (
        OptimizerFields,
        ScheduleFields,
        DataFields,
        EvaluationFields,
        CheckpointFields,
        DeviceFields,
        ModelFields,
        ClosedFormFields,
        BalanceFields,
        PeftFields,
        FeatureCacheFields,
    )
}
PLAIN_FIELDS = {"name": "", "seed": 0, "log_every": 10}
# Fields that had another name when recipes were flat; the others kept theirs.
_RENAMED = {
    "eval_every": "evaluation.every",
    "eval_batch_size": "evaluation.batch_size",
    "test_mode": "evaluation.mode",
    "test_crop_size": "evaluation.crop_size",
    "test_stride": "evaluation.stride",
    "test_scale": "evaluation.scale",
    "test_size_multiple": "evaluation.size_divisor",
    "save_every": "checkpoints.every",
    "keep_checkpoints": "checkpoints.keep",
}
_ONCE_FLAT_CONFIG = (
    "decoder",
    "hidden_size",
    "temperature",
    "normalize_pixel_embeddings",
    "auxiliary_loss_weight",
    "property_loss_weight",
    "class_loss_weight",
    "void_pixels",
    "classifier_dropout_prob",
)
FLAT_NAMES: dict[str, str] = {
    **{
        item.name: f"{name}.{item.name}"
        for name, kind in GROUPS.items()
        if name in ("optimizer", "schedule", "data", "device", "model")
        for item in dataclasses.fields(kind)
        if item.name not in ("max_minutes", "planned_iterations", "freeze")
    },
    "final_weights": "checkpoints.final_weights",
    **_RENAMED,
    **{name: f"config.{name}" for name in _ONCE_FLAT_CONFIG},
}
"""Name of a field in the flat recipes of before -> its dotted name."""


def field_names() -> list[str]:
    """Dotted names of all fields, without those of `ProLabConfig` (`config.NAME`)."""
    grouped = (f"{name}.{item.name}" for name, kind in GROUPS.items() for item in dataclasses.fields(kind))
    return [*PLAIN_FIELDS, *grouped]
