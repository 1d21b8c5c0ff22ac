"""Every number of a training run in one validated, serializable object."""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

from prolab_hf.files import read_json_object, write_json
from prolab_hf.suggestions import did_you_mean
from prolab_hf.training.recipe_fields.adaptation import (
    BalanceFields,
    FeatureCacheFields,
    PeftFields,
    check_frozen_parts,
)
from prolab_hf.training.recipe_fields.bounds import RecipeGroup
from prolab_hf.training.recipe_fields.config_fields import check_config, config_defaults
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
from prolab_hf.training.recipe_fields.names import FLAT_NAMES, GROUPS, PLAIN_FIELDS, field_names

WARMUP_ITERATIONS = 1500  # of the published runs


class RecipeValues(TypedDict, total=False):
    """Keyword arguments of `TrainingRecipe`; a group is its object or a mapping of its fields."""

    name: str
    seed: int
    log_every: int
    optimizer: OptimizerFields | Mapping[str, object]
    schedule: ScheduleFields | Mapping[str, object]
    data: DataFields | Mapping[str, object]
    evaluation: EvaluationFields | Mapping[str, object]
    checkpoints: CheckpointFields | Mapping[str, object]
    device: DeviceFields | Mapping[str, object]
    model: ModelFields | Mapping[str, object]
    closed_form: ClosedFormFields | Mapping[str, object]
    balance: BalanceFields | Mapping[str, object]
    peft: PeftFields | Mapping[str, object]
    features: FeatureCacheFields | Mapping[str, object]
    config: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, init=False)
class TrainingRecipe:
    """All hyper-parameters of a run; two runs with equal recipes, data and seeds do the same steps.

    Say how long to train with one of `schedule.max_iterations` (optimizer steps), `schedule.epochs` and
    `schedule.max_minutes`.

    Attributes:
        name: Name of a published recipe, or free text.
        seed: Of data order, augmentation, dropout; at least 0.
        log_every: Steps between two lines of the log; at least 1.
        optimizer: AdamW, layer decay, clipping, averaging.
        schedule: Length, batch sizes, learning-rate schedule.
        data: Crops, augmentation, normalization, label coding, reading processes.
        evaluation: When and how the model is measured; window `crop_size` and `stride`.
        checkpoints: What is kept, and which weights are exported.
        device: Precision and memory layout.
        model: Backbone and property space.
        closed_form: Where the last layer is solved instead of trained.
        balance: What is done for rare classes.
        peft: Low-rank adapters on the backbone.
        features: Cached features of a frozen backbone.
        config: Fields of `ProLabConfig` that differ from its defaults (`decoder`, `hidden_size`, ...).

    Raises:
        ValueError: A value is outside its range; the message names field, value and what is allowed.

    Example:
        ```python
        recipe = TrainingRecipe(
            schedule={"epochs": 40, "batch_size": 8}, optimizer={"learning_rate": 5e-4}, data={"crop_size": 320}
        )
        recipe = recipe.replace(**{"data.crop_size": 384, "config.hidden_size": 128})
        ```
    """

    name: str
    seed: int
    log_every: int
    optimizer: OptimizerFields
    schedule: ScheduleFields
    data: DataFields
    evaluation: EvaluationFields
    checkpoints: CheckpointFields
    device: DeviceFields
    model: ModelFields
    closed_form: ClosedFormFields
    balance: BalanceFields
    peft: PeftFields
    features: FeatureCacheFields
    config: Mapping[str, object] = field(hash=False)

    def __init__(self, **values: Unpack[RecipeValues]) -> None:
        nested = _nested(values, warn=True)
        for name, default in PLAIN_FIELDS.items():
            object.__setattr__(self, name, nested.get(name, default))
        for name, kind in GROUPS.items():
            given = nested.get(name, {})
            object.__setattr__(self, name, given if isinstance(given, kind) else kind(**given))
        object.__setattr__(self, "config", dict(nested.get("config", {})))
        self._check()

    def _check(self) -> None:
        if not isinstance(self.name, str):
            raise ValueError(f"name is {self.name!r}; it must be text.")
        for name, least in (("seed", 0), ("log_every", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}.")
        if self.schedule.min_learning_rate > self.optimizer.learning_rate:
            raise ValueError(
                f"schedule.min_learning_rate is {self.schedule.min_learning_rate}; it must not exceed "
                f"learning_rate {self.optimizer.learning_rate}."
            )
        check_config(self.config)
        check_frozen_parts(self.model, self.peft, self.features)

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is no field: the names of before.
        if name not in FLAT_NAMES:  # pickle and copy ask, too
            raise AttributeError(f"TrainingRecipe has no field {name!r}.")
        _warn_of(name, stacklevel=3)
        return self[FLAT_NAMES[name]]

    def __getitem__(self, dotted: str) -> Any:
        """The value of a field by its dotted name: `recipe["data.crop_size"]`.

        Raises:
            ValueError: A recipe has no such field.
        """
        group, _, name = _path(dotted).partition(".")
        if not name:
            return getattr(self, group)
        if group == "config":
            return self.config.get(name, config_defaults().get(name))
        return getattr(getattr(self, group), name)

    # ---- derived numbers ----------------------------------------------------------------------------------

    @property
    def crop_height_width(self) -> tuple[int, int]:
        """The training crop as (height, width)."""
        return height_width(self.data.crop_size)

    def accumulation_for(self, num_processes: int) -> int:
        """Forward passes per optimizer step on a number of devices.

        Args:
            num_processes: Number of devices, 1 or more.

        Raises:
            ValueError: `total_batch_size` is not a multiple of `batch_size` times the number of devices.
        """
        schedule = self.schedule
        if schedule.total_batch_size is None:
            return schedule.gradient_accumulation
        per_pass = schedule.batch_size * num_processes
        if schedule.total_batch_size % per_pass:
            raise ValueError(
                f"schedule.total_batch_size {schedule.total_batch_size} is not a multiple of batch_size "
                f"{schedule.batch_size} x {num_processes} device(s); change batch_size or the number of devices."
            )
        return schedule.total_batch_size // per_pass

    def total_iterations(self, num_images: int, *, num_processes: int = 1) -> int:
        """Number of optimizer steps.

        Args:
            num_images: Length of the training set.
            num_processes: Number of devices.

        Raises:
            ValueError: The warm-up would not end before the run does, or the run has not planned its steps yet.
        """
        schedule = self.schedule
        total = schedule.max_iterations or schedule.planned_iterations
        if total is None and schedule.max_minutes is not None:
            raise ValueError(
                f"schedule.max_minutes is {schedule.max_minutes:g}: the number of steps is known once the run has "
                "timed its first ones."
            )
        if total is None:
            per_step = schedule.batch_size * num_processes * self.accumulation_for(num_processes)
            total = max(1, math.ceil((schedule.epochs or 0) * num_images / per_step))
        if (schedule.warmup_iterations or 0) >= total:
            raise ValueError(
                f"schedule.warmup_iterations is {schedule.warmup_iterations}, but the run has {total} steps; "
                "shorten the warm-up (None chooses its length) or train longer."
            )
        return total

    def warmup_for(self, total_iterations: int) -> int:
        """Length of the warm-up of a run of `total_iterations` steps."""
        if self.schedule.warmup_iterations is not None:
            return self.schedule.warmup_iterations
        return min(WARMUP_ITERATIONS, total_iterations // 20)

    def evaluation_interval(self, total_iterations: int) -> int:
        """Steps between two evaluations of a run of `total_iterations` steps."""
        return self.evaluation.every or max(1, math.ceil(total_iterations / 10))

    def save_interval(self, total_iterations: int) -> int:
        """Steps between two checkpoints of a run of `total_iterations` steps."""
        return self.checkpoints.every or self.evaluation_interval(total_iterations)

    # ---- copies and files ---------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> Self:
        """A copy with other values; setting one of `max_iterations`, `epochs` and `max_minutes` clears the others.

        Args:
            changes: By dotted name (`**{"optimizer.learning_rate": 1e-4}`), or a whole group by its name. The
                flat names of before (`learning_rate=1e-4`) still work, with a `DeprecationWarning`.

        Raises:
            ValueError: A name is not a field, or a value is outside its range.
        """
        nested = _nested(changes, warn=True)
        length = nested.get("schedule")
        if isinstance(length, dict):
            lengths = ("max_iterations", "epochs", "max_minutes", "planned_iterations")
            if any(length.get(name) is not None for name in lengths[:3]):
                length = nested["schedule"] = {**dict.fromkeys(lengths), **length}
        values = self.to_dict()
        for name, value in nested.items():
            if (
                isinstance(value, RecipeGroup)
                or name in PLAIN_FIELDS
                or (name == "config" and name in changes)
            ):
                values[name] = value
            else:
                values[name] = {**values[name], **value}
        return type(self)(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the JSON file."""
        values: dict[str, Any] = {name: getattr(self, name) for name in PLAIN_FIELDS}
        for name in GROUPS:
            group = dataclasses.asdict(getattr(self, name))
            values[name] = {key: _plain(value) for key, value in group.items()}
        values["config"] = {key: _plain(value) for key, value in self.config.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """The inverse of `to_dict`; fields that are left out have their default.

        Args:
            values: Groups of fields; the flat fields that recipes had before are read, too.

        Raises:
            ValueError: A name is not a field, or a value is outside its range.
        """
        return cls(**_nested(values, warn=False))

    def to_json(self, path: str | Path) -> None:
        """Writes the recipe to a file, in one step."""
        write_json(path, self.to_dict())

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Reads a recipe that `to_json` wrote, now or before recipes had groups, or one written by hand.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not a JSON object of recipe fields.
        """
        values = read_json_object(path, what="recipe")
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"The recipe {path}: {error}") from error


def flat_values(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a recipe file by dotted name, whichever form the file has.

    Args:
        recipe: What `to_dict` gives, now or before recipes had groups; it need not be complete.
    """
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            flat[FLAT_NAMES.get(name, name)] = value
    return flat


def height_width(value: int | tuple[int, int] | None) -> tuple[int, int]:
    """A size given as one number or as (height, width).

    Raises:
        ValueError: There is none.
    """
    if value is None:
        raise ValueError("The size is None; give one number of pixels or (height, width).")
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _nested(values: Mapping[str, Any], *, warn: bool) -> dict[str, Any]:
    """Values by dotted, flat or group name as a dictionary of groups."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        path = _path(name)
        if warn and path != name:
            _warn_of(name, stacklevel=4)
        group, _, inner = path.partition(".")
        if inner:
            nested.setdefault(group, {})[inner] = value
        elif group in PLAIN_FIELDS or isinstance(value, RecipeGroup):
            nested[group] = value
        elif not isinstance(value, Mapping):
            raise ValueError(f"{group} is {value!r}; it must be a group of fields (an object in JSON).")
        else:
            for key, content in value.items():
                _path(f"{group}.{key}")
                nested.setdefault(group, {})[key] = content
    return nested


def _path(name: str) -> str:
    """The dotted name of a field by its dotted or flat name, or the name of a group.

    Raises:
        ValueError: There is no such field.
    """
    if name in FLAT_NAMES:
        return FLAT_NAMES[name]
    known = [*field_names(), *(f"config.{key}" for key in config_defaults())]
    if name in known or name in GROUPS or name == "config" or name.startswith("config."):
        return name
    by_last = {key.rpartition(".")[2]: key for key in reversed(known)}
    near = did_you_mean(name, known)
    if not near and "." not in str(name):
        close = did_you_mean(name, by_last).partition("'")[2].partition("'")[0]
        near = f"; did you mean {by_last[close]!r}?" if close else ""
    near = near or f"; the fields are: {', '.join(known)}."
    raise ValueError(f"A training recipe has no field {name!r}{near}")


def _warn_of(name: str, *, stacklevel: int) -> None:
    warnings.warn(
        f"The field {name!r} of a training recipe is called {FLAT_NAMES[name]!r} now.",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def _plain(value: object) -> Any:
    return list(value) if isinstance(value, tuple) else value


__all__ = [
    "FLAT_NAMES",
    "BalanceFields",
    "CheckpointFields",
    "ClosedFormFields",
    "DataFields",
    "DeviceFields",
    "EvaluationFields",
    "FeatureCacheFields",
    "ModelFields",
    "OptimizerFields",
    "PeftFields",
    "ScheduleFields",
    "TrainingRecipe",
    "config_defaults",
    "field_names",
]
