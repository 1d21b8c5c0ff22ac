"""Every number of a training run in one validated, serializable object."""

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from prolab_hf.training.recipe_checks import check_recipe

WARMUP_ITERATIONS = 1500  # of the published runs


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """All hyper-parameters of a run; two runs with equal recipes, data and seeds do the same steps.

    Say how long to train with `max_iterations` (optimizer steps) or `epochs`, not both.

    Attributes:
        name: Name of a published recipe, or free text.
        max_iterations: Number of optimizer steps.
        epochs: Passes over the training set, where `max_iterations` is not given; fractions are allowed.
        batch_size: Images per device and forward pass.
        gradient_accumulation: Forward passes per optimizer step.
        total_batch_size: Images per optimizer step over all devices; where given, the number of accumulated
            passes is derived from it, so that one recipe means the same on 1 and on 8 devices.
        learning_rate: Of AdamW, after warm-up, for the last layer group.
        weight_decay: Of AdamW; not applied to biases and other one-dimensional parameters.
        betas: Of AdamW.
        layer_decay: Factor between the learning rates of neighboring transformer layers; `None` = off.
        num_layers: Number of transformer layers of the backbone; needed with `layer_decay`.
        layer_naming: How `layer_id` reads parameter names: `"transformers"` or `"reference"`.
        head_learning_rate_multiplier: Factor for everything outside the backbone.
        no_decay_names: Parameters whose name contains one of these are not decayed either.
        warmup_iterations: Length of the linear warm-up; `None` = 1500, or a twentieth of a shorter run.
        warmup_ratio: Share of the scheduled learning rate that the first step gets.
        poly_power: Exponent of the polynomial decay (1.0 = linear).
        min_learning_rate: Where the decay ends.
        max_gradient_norm: Clip gradients to this norm; `None` = off.
        ema_decay: Decay per step of an averaged copy of the weights that is evaluated and exported; `None`
            = off.
        mixed_precision: `"no"`, `"bf16"`, `"fp16"` or `"auto"` (the best that the device has).
        channels_last: Keep images and feature maps channels-last in memory, which some devices and networks
            (depthwise convolutions on a CPU) are faster with.
        sync_batch_norm: Share batch-norm statistics between CUDA devices.
        seed: Of data order, augmentation, dropout.
        num_workers: Processes that read and augment images; `None` = as many as the cores allow, at most 8.
        log_every: Steps between two lines of the log.
        eval_every: Steps between two evaluations; `None` = ten in a run.
        save_every: Steps between two checkpoints; `None` = as `eval_every`.
        keep_checkpoints: How many of the newest are kept, beside the best.
        final_weights: `"best"` (highest mean IoU of the evaluations) or `"last"`: what the run exports.
        eval_batch_size: Images per forward pass in evaluation; above 1 they must have one size.
        crop_size: Height and width of a training crop, or one number for both.
        base_scale: (Long edge, short edge) that images are fitted into before random scaling; `None` = as
            they are.
        scale_range: Bounds of the random scale factor.
        category_max_ratio: Largest share of a crop that one class may have before another crop is tried.
        flip_probability: Of a horizontal flip.
        photometric_distortion: Random brightness, contrast, saturation and hue.
        test_mode: `"whole"` or `"slide"`.
        test_crop_size: Of the sliding window.
        test_stride: Of the sliding window.
        test_scale: (Long edge, short edge) that test images are fitted into; `None` = as they are.
        test_size_multiple: With `test_scale`, test sizes are rounded up to multiples of this; 1 = off.
        image_mean: Mean per channel that images are normalized with; `None` = the backbone's own.
        image_std: Standard deviation per channel; `None` = the backbone's own.
        backbone: What `ProLabForSemanticSegmentation.from_backbone` takes (Hub id, folder, timm name).
        vit_adapter: Wrap the plain vision transformer `backbone` in a ViT-Adapter.
        backbone_image_size: Image size that the backbone is built for, where it matters (BEiT).
        property_space: Name of the bundled property space of the run.
        num_properties: K of that space.
        label_coding: What the masks' values mean, as `LabelCoding.parse` reads it; here so that a resumed run
            cannot read its masks differently.
        decoder: See `ProLabConfig`, as for all that follow.
        hidden_size: Width of the decoder.
        temperature: T of the property scores.
        normalize_pixel_embeddings: Normalized pixel embeddings.
        auxiliary_loss_weight: 1.0 in the published runs, whose code never applied the 0.4 of its
            configuration.
        property_loss_weight: Weight of the property loss.
        class_loss_weight: Weight of the class loss; 0 in the paper.
        void_pixels: `"mask"`, or `"dilute"` as in the published runs.
        classifier_dropout_prob: Channel dropout before the last convolution.
        drop_path: Stochastic depth of the backbone; `None` = the backbone's own value.

    Raises:
        ValueError: A value is outside its range; the message names field, value and what is allowed.
    """

    name: str = ""
    max_iterations: int | None = None
    epochs: float | None = None
    batch_size: int = 2
    gradient_accumulation: int = 1
    total_batch_size: int | None = None
    learning_rate: float = 6e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float | None = None
    num_layers: int | None = None
    layer_naming: str = "transformers"
    head_learning_rate_multiplier: float = 1.0
    no_decay_names: tuple[str, ...] = ()
    warmup_iterations: int | None = None
    warmup_ratio: float = 1e-6
    poly_power: float = 1.0
    min_learning_rate: float = 0.0
    max_gradient_norm: float | None = None
    ema_decay: float | None = None
    mixed_precision: str = "auto"
    channels_last: bool = False
    sync_batch_norm: bool = True
    seed: int = 0
    num_workers: int | None = None
    log_every: int = 10
    eval_every: int | None = None
    save_every: int | None = None
    keep_checkpoints: int = 2
    final_weights: str = "best"
    eval_batch_size: int = 1
    crop_size: int | tuple[int, int] = 512
    base_scale: tuple[int, int] | None = None
    scale_range: tuple[float, float] = (0.5, 2.0)
    category_max_ratio: float = 0.75
    flip_probability: float = 0.5
    photometric_distortion: bool = True
    test_mode: str = "whole"
    test_crop_size: int | tuple[int, int] | None = None
    test_stride: int | tuple[int, int] | None = None
    test_scale: tuple[int, int] | None = None
    test_size_multiple: int = 1
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None
    backbone: str | None = None
    vit_adapter: bool = False
    backbone_image_size: int | None = None
    property_space: str | None = None
    num_properties: int | None = None
    label_coding: str = "ids"
    decoder: str = "uper"
    hidden_size: int = 512
    temperature: float = 0.04
    normalize_pixel_embeddings: bool = False
    auxiliary_loss_weight: float = 0.4
    property_loss_weight: float = 1.0
    class_loss_weight: float = 0.0
    void_pixels: str = "mask"
    classifier_dropout_prob: float = 0.1
    drop_path: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # what JSON makes of a tuple
                object.__setattr__(self, field.name, tuple(value))
        check_recipe(self)

    # ---- derived numbers ----------------------------------------------------------------------------------

    @property
    def crop_height_width(self) -> tuple[int, int]:
        """The training crop as (height, width)."""
        return height_width(self.crop_size)

    def accumulation_for(self, num_processes: int) -> int:
        """Forward passes per optimizer step on a number of devices.

        Args:
            num_processes: Number of devices, 1 or more.

        Raises:
            ValueError: `total_batch_size` is not a multiple of `batch_size` times the number of devices.
        """
        if self.total_batch_size is None:
            return self.gradient_accumulation
        per_pass = self.batch_size * num_processes
        if self.total_batch_size % per_pass:
            raise ValueError(
                f"total_batch_size {self.total_batch_size} is not a multiple of batch_size {self.batch_size} "
                f"x {num_processes} device(s); change batch_size or the number of devices."
            )
        return self.total_batch_size // per_pass

    def total_iterations(self, num_images: int, *, num_processes: int = 1) -> int:
        """Number of optimizer steps.

        Args:
            num_images: Length of the training set.
            num_processes: Number of devices.

        Raises:
            ValueError: The warm-up would not end before the run does.
        """
        total = self.max_iterations
        if total is None:
            per_step = self.batch_size * num_processes * self.accumulation_for(num_processes)
            total = max(1, math.ceil((self.epochs or 0) * num_images / per_step))
        if (self.warmup_iterations or 0) >= total:
            raise ValueError(
                f"warmup_iterations is {self.warmup_iterations}, but the run has {total} steps; "
                "shorten the warm-up (None chooses its length) or train longer."
            )
        return total

    def warmup_for(self, total_iterations: int) -> int:
        """Length of the warm-up of a run of `total_iterations` steps."""
        if self.warmup_iterations is not None:
            return self.warmup_iterations
        return min(WARMUP_ITERATIONS, total_iterations // 20)

    def evaluation_interval(self, total_iterations: int) -> int:
        """Steps between two evaluations of a run of `total_iterations` steps."""
        return self.eval_every or max(1, math.ceil(total_iterations / 10))

    def save_interval(self, total_iterations: int) -> int:
        """Steps between two checkpoints of a run of `total_iterations` steps."""
        return self.save_every or self.evaluation_interval(total_iterations)

    def precision_on(self, device: torch.device) -> str:
        """The mixed precision that this run uses on a device: `"no"`, `"bf16"` or `"fp16"`.

        Raises:
            ValueError: fp16 was asked for on a CPU, where it cannot train.
        """
        if self.mixed_precision == "fp16" and device.type == "cpu":
            raise ValueError(
                "mixed_precision is 'fp16' but the device is a CPU; use 'no' or 'bf16', or 'auto' to let the "
                "device decide."
            )
        if self.mixed_precision != "auto":
            return self.mixed_precision
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        return "no"

    def model_kwargs(self) -> dict[str, Any]:
        """The fields of `ProLabConfig` that this recipe decides."""
        names = (
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
        return {name: getattr(self, name) for name in names}

    # ---- copies and files ---------------------------------------------------------------------------------

    def replace(self, **changes: Any) -> Self:
        """A copy with other values; setting one of `max_iterations` and `epochs` clears the other.

        Raises:
            ValueError: A name is not a field, or a value is outside its range.
        """
        _refuse_unknown(changes)
        for one, other in (("max_iterations", "epochs"), ("epochs", "max_iterations")):
            if changes.get(one) is not None:
                changes.setdefault(other, None)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in the JSON file."""
        return {name: _plain(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; fields that are left out have their default.

        Raises:
            ValueError: A name is not a field, or a value is outside its range.
        """
        _refuse_unknown(values)
        return cls(**values)

    def to_json(self, path: str | Path) -> None:
        """Writes the recipe to a file."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Reads a recipe that `to_json` wrote, or one written by hand.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is not a JSON object of recipe fields.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no recipe file {path}.")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"The recipe {path} is not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise ValueError(
                f"The recipe {path} holds a {type(values).__name__}; expected an object of fields."
            )
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"The recipe {path}: {error}") from error


def height_width(value: int | tuple[int, int] | None) -> tuple[int, int]:
    """A size given as one number or as (height, width).

    Raises:
        ValueError: There is none.
    """
    if value is None:
        raise ValueError("The size is None; give one number of pixels or (height, width).")
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    known = [field.name for field in dataclasses.fields(TrainingRecipe)]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; the fields are: {', '.join(known)}."
            raise ValueError(f"A training recipe has no field {name!r}{hint}")
