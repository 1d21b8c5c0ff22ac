"""The balance of classes of one run: counted or read once, recorded, printed, and given to model and augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from prolab_hf.data.rare_crops import RareCrops
from prolab_hf.evaluation.inference import class_names_of
from prolab_hf.files import read_json_object, write_json
from prolab_hf.protocols import Examples, ImageMaskPairs
from prolab_hf.training.balance.class_counts import (
    ClassCounts,
    count_classes,
    counted_weights,
    weights_from_file,
)
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.run_folder import BALANCE_FILE

_SHOWN = 12


@dataclass(frozen=True)
class ClassBalance:
    """What a run does for rare classes.

    Attributes:
        class_names: In the order of their ids.
        weights: Per class what its pixels weigh; `None` = all alike.
        counts: Of the training masks, where something needed them.
        rare_crops: Where crops are laid; `None` = anywhere.
    """

    class_names: Sequence[str]
    weights: list[float] | None = None
    counts: ClassCounts | None = None
    rare_crops: RareCrops | None = None

    def lines(self) -> list[str]:
        """It in words, the heaviest classes first."""
        if self.weights is None:
            return []
        order = sorted(range(len(self.weights)), key=lambda index: -self.weights[index])
        shown = [f"{self.class_names[index]} {self.weights[index]:.3g}" for index in order[:_SHOWN]]
        more = f", and {len(order) - _SHOWN} more" if len(order) > _SHOWN else ""
        return [f"class weights: {', '.join(shown)}{more}"]


def prepare_balance(
    model: nn.Module,
    dataset: ImageMaskPairs | Examples,
    recipe: TrainingRecipe,
    output_dir: Path,
    accelerator: Accelerator,
    *,
    resume: bool,
    skip_broken: bool = False,
) -> ClassBalance:
    """Counts what the recipe needs, sets the model's class weights and records both in the folder of the run.

    Args:
        model: Its configuration gets `class_weights`.
        dataset: The training set.
        recipe: Its balance.
        output_dir: Folder of the run; a resumed run goes on with what is recorded there.
        accelerator: Of the run; every process must call this.
        resume: Whether the run goes on from a checkpoint.
        skip_broken: Leave out images that cannot be decoded.

    Raises:
        FileNotFoundError: A file of weights is not there.
        ValueError: It does not fit the classes, or the model knows no class weights.
    """
    names, wanted = class_names_of(model), recipe.balance
    config = getattr(model, "config", None)
    if hasattr(config, "class_weights"):
        config.class_weights = None
    if wanted.class_weights == "none" and not wanted.rare_class_crops:
        return ClassBalance(names)
    if wanted.class_weights != "none" and not hasattr(config, "class_weights"):
        raise ValueError(
            f"balance.class_weights is {wanted.class_weights!r}, but the loss of a {type(model).__name__} takes no "
            "class weights; set it to 'none'."
        )
    path = output_dir / BALANCE_FILE
    recorded = gather_object([_recorded(path, names) if resume else None])[0]
    counts, weights = recorded if recorded is not None else (None, None)
    counted = wanted.class_weights in ("sqrt", "effective")
    if counts is None and (counted or wanted.rare_class_crops):
        ignore_index = getattr(config, "semantic_loss_ignore_index", 255)
        counts = count_classes(
            dataset,
            len(names),
            ignore_index=ignore_index,
            skip_broken=skip_broken,
            accelerator=accelerator if accelerator.num_processes > 1 else None,
        )
    if weights is None and wanted.class_weights != "none":
        weights = (
            counted_weights(counts, wanted.class_weights)
            if counted and counts is not None
            else weights_from_file(wanted.class_weights, names)
        )
    balance = ClassBalance(names, weights, counts, rare_crops_of(counts, wanted.rare_class_crops))
    if weights is not None:
        config.class_weights = list(weights)
        config.validate_property_fields()
    if accelerator.is_main_process:
        _record(path, wanted.class_weights, balance)
    return balance


def rare_crops_of(counts: ClassCounts | None, probability: float) -> RareCrops | None:
    """Crops around rare classes, a class of a quarter of the pixels twice as often; `None` without any.

    Args:
        counts: Of the training masks.
        probability: That a crop is laid around a class.
    """
    if counts is None or not probability:
        return None
    shares = np.where(counts.pixels > 0, counts.shares, 1)
    return RareCrops(probability, tuple((1 / np.sqrt(shares)).tolist()))


def _record(path: Path, scheme: str, balance: ClassBalance) -> None:
    """What was counted and what it led to, by class name, for readers and for resuming."""
    content: dict[str, object] = {"class_weights": scheme}
    if balance.weights is not None:
        content["weights"] = dict(zip(balance.class_names, balance.weights))
    if balance.counts is not None:
        content["num_images"] = balance.counts.num_images
        for field, values in (("pixels", balance.counts.pixels), ("images", balance.counts.images)):
            content[field] = dict(zip(balance.class_names, values.tolist()))
    write_json(path, content)


def _recorded(path: Path, names: Sequence[str]) -> tuple[ClassCounts | None, list[float] | None] | None:
    """Counts and weights of the run to resume; `None` where there are none, or of other classes."""
    if not path.is_file():
        return None
    try:
        content = read_json_object(path, what="class balance")
        weights = [float(content["weights"][name]) for name in names] if "weights" in content else None
        counts = None
        if "pixels" in content:
            pixels, images = (
                np.array([content[field][name] for name in names], dtype=np.int64)
                for field in ("pixels", "images")
            )
            counts = ClassCounts(pixels, images, int(content["num_images"]))
    except (ValueError, KeyError, TypeError):
        return None
    return counts, weights
