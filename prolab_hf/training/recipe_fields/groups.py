"""Optimizer, schedule, data, evaluation, checkpoints, device and model: what every run has."""

import re
from dataclasses import dataclass
from typing import ClassVar

from prolab_hf.training.recipe_fields.bounds import (
    RecipeGroup,
    bounded,
    choice,
    edges,
    flag,
    is_number,
    number,
    numbers,
    size,
    text,
    whole,
)


@dataclass(frozen=True, kw_only=True)
class OptimizerFields(RecipeGroup):
    """AdamW and what is done to gradients and weights.

    Attributes:
        learning_rate: After warm-up, for the last layer group.
        weight_decay: Not applied to biases and other one-dimensional parameters.
        betas: Of AdamW.
        layer_decay: Factor between the learning rates of neighboring transformer layers; `None` = off.
        num_layers: Number of transformer layers of the backbone; needed with `layer_decay`.
        layer_naming: How `layer_id` reads parameter names: `"transformers"` or `"reference"`.
        head_learning_rate_multiplier: Factor for everything outside the backbone.
        no_decay_names: Parameters whose name contains one of these are not decayed either.
        max_gradient_norm: Clip gradients to this norm; `None` = off.
        ema_decay: Decay per step of an averaged copy of the weights that is evaluated and exported; `None`
            = off.
    """

    group: ClassVar[str] = "optimizer"
    learning_rate: float = number(6e-5, above=0)
    weight_decay: float = number(0.01, least=0)
    betas: tuple[float, float] = numbers(
        (0.9, 0.999), "two numbers of at least 0 and less than 1", 2, least=0, below=1
    )
    layer_decay: float | None = number(None, above=0, most=1)
    num_layers: int | None = whole(None, least=1)
    layer_naming: str = choice("transformers", "transformers", "reference")
    head_learning_rate_multiplier: float = number(1.0, above=0)
    no_decay_names: tuple[str, ...] = bounded(
        (),
        "a list of parts of parameter names",
        lambda value: isinstance(value, tuple) and all(isinstance(name, str) and name for name in value),
    )
    max_gradient_norm: float | None = number(None, above=0)
    ema_decay: float | None = number(None, above=0, below=1)

    def check_together(self) -> None:
        """Layer decay needs the number of layers."""
        if self.layer_decay is not None and self.num_layers is None:
            raise ValueError(
                f"optimizer.layer_decay is {self.layer_decay} but num_layers is None; give the number of "
                "transformer layers of the backbone (12 for base, 24 for large)."
            )


@dataclass(frozen=True, kw_only=True)
class ScheduleFields(RecipeGroup):
    """How long a run is, what a step is, and how the learning rate moves.

    Attributes:
        max_iterations: Number of optimizer steps.
        epochs: Passes over the training set, where `max_iterations` is not given; fractions are allowed.
        max_minutes: Time for the whole call of `train`, where neither is given: the first steps are timed, and as many
            as fit are planned once.
        planned_iterations: What a run with `max_minutes` planned; written by the run, so that resuming keeps it.
        batch_size: Images per device and forward pass.
        gradient_accumulation: Forward passes per optimizer step.
        total_batch_size: Images per optimizer step over all devices; where given, the number of accumulated
            passes is derived from it, so that one recipe means the same on 1 and on 8 devices.
        warmup_iterations: Length of the linear warm-up; `None` = 1500, or a twentieth of a shorter run.
        warmup_ratio: Share of the scheduled learning rate that the first step gets.
        poly_power: Exponent of the polynomial decay (1.0 = linear).
        min_learning_rate: Where the decay ends.
    """

    group: ClassVar[str] = "schedule"
    max_iterations: int | None = whole(None, least=1)
    epochs: float | None = number(None, above=0)
    max_minutes: float | None = number(None, above=0)
    planned_iterations: int | None = whole(None, least=1)
    batch_size: int = whole(2, least=1)
    gradient_accumulation: int = whole(1, least=1)
    total_batch_size: int | None = whole(None, least=1)
    warmup_iterations: int | None = whole(None, least=0)
    warmup_ratio: float = number(1e-6, least=0, most=1)
    poly_power: float = number(1.0, least=0)
    min_learning_rate: float = number(0.0, least=0)

    def check_together(self) -> None:
        """One length, one batch size, a warm-up that ends."""
        if [self.max_iterations, self.epochs, self.max_minutes].count(None) != 2:
            raise ValueError(
                f"schedule.max_iterations is {self.max_iterations!r}, schedule.epochs is {self.epochs!r} and "
                f"schedule.max_minutes is {self.max_minutes!r}; give exactly one of them."
            )
        if self.planned_iterations is not None and self.max_minutes is None:
            raise ValueError(
                f"schedule.planned_iterations is {self.planned_iterations}, but max_minutes is None; a run with "
                "max_minutes writes it, say max_iterations for a length of your own."
            )
        if self.total_batch_size is not None and self.gradient_accumulation != 1:
            raise ValueError(
                f"schedule.total_batch_size is {self.total_batch_size} and gradient_accumulation is "
                f"{self.gradient_accumulation}; give one of them, the other follows."
            )
        if self.max_iterations is not None and (self.warmup_iterations or 0) >= self.max_iterations:
            raise ValueError(
                f"schedule.warmup_iterations is {self.warmup_iterations}; it must be less than max_iterations "
                f"{self.max_iterations}."
            )


@dataclass(frozen=True, kw_only=True)
class DataFields(RecipeGroup):
    """How training images are read, augmented and normalized.

    Attributes:
        crop_size: Height and width of a training crop, or one number for both.
        base_scale: (Long edge, short edge) that images are fitted into before random scaling; `None` = as
            they are.
        scale_range: Bounds of the random scale factor.
        category_max_ratio: Largest share of a crop that one class may have before another crop is tried.
        flip_probability: Of a horizontal flip.
        photometric_distortion: Random brightness, contrast, saturation and hue.
        image_mean: Mean per channel that images are normalized with; `None` = the backbone's own.
        image_std: Standard deviation per channel; `None` = the backbone's own.
        label_coding: What the masks' values mean, as `LabelCoding.parse` reads it; here so that a resumed run
            cannot read its masks differently.
        num_workers: Processes that read and augment images; `None` = as many as the cores allow, at most 8.
    """

    group: ClassVar[str] = "data"
    crop_size: int | tuple[int, int] = size(512)
    base_scale: tuple[int, int] | None = edges(None)
    scale_range: tuple[float, float] = bounded(
        (0.5, 2.0),
        "two factors with 0 < smallest <= largest",
        lambda value: (
            isinstance(value, tuple)
            and len(value) == 2
            and all(map(is_number, value))
            and 0 < value[0] <= value[1]
        ),
    )
    category_max_ratio: float = number(0.75, above=0, most=1)
    flip_probability: float = number(0.5, least=0, most=1)
    photometric_distortion: bool = flag(True)
    image_mean: tuple[float, float, float] | None = numbers(None, "three numbers, one per channel", 3)
    image_std: tuple[float, float, float] | None = numbers(
        None, "three numbers above 0, one per channel", 3, above=0
    )
    label_coding: str = text("ids")
    num_workers: int | None = whole(None, least=0)


@dataclass(frozen=True, kw_only=True)
class EvaluationFields(RecipeGroup):
    """How the model is measured while it trains, and which geometry its image processor records.

    Attributes:
        every: Steps between two evaluations; `None` = ten in a run.
        mode: `"whole"` or `"slide"`.
        crop_size: Of the sliding window.
        stride: Of the sliding window.
        scale: (Long edge, short edge) that images are fitted into; `None` = as they are.
        size_divisor: With `scale`, sizes are rounded up to multiples of this; 1 = off.
        batch_size: Windows, or images of one size, per forward pass.
        early_stopping: Stop after so many evaluations in a row without a better mean IoU; `None` = never.
        least_improvement: What counts as better, in mean IoU (0 to 1).
    """

    group: ClassVar[str] = "evaluation"
    every: int | None = whole(None, least=1)
    mode: str = choice("whole", "whole", "slide")
    crop_size: int | tuple[int, int] | None = size(None)
    stride: int | tuple[int, int] | None = size(None)
    scale: tuple[int, int] | None = edges(None)
    size_divisor: int = whole(1, least=1)
    batch_size: int = whole(1, least=1)
    early_stopping: int | None = whole(None, least=1)
    least_improvement: float = number(0.0, least=0, below=1)

    def check_together(self) -> None:
        """A window needs its numbers, and rounding a scale."""
        if self.mode == "slide" and (self.crop_size is None or self.stride is None):
            raise ValueError(
                f"evaluation.mode is 'slide' with crop_size {self.crop_size!r} and stride {self.stride!r}; "
                "give both."
            )
        if self.size_divisor > 1 and self.scale is None:
            raise ValueError(
                f"evaluation.size_divisor is {self.size_divisor} but scale is None, which leaves images as "
                "they are; give scale, too."
            )


@dataclass(frozen=True, kw_only=True)
class CheckpointFields(RecipeGroup):
    """What is kept of a run.

    Attributes:
        every: Steps between two checkpoints; `None` = as between two evaluations.
        keep: How many of the newest are kept, beside the best.
        final_weights: `"best"` (highest mean IoU of the evaluations) or `"last"`: what the run exports.
    """

    group: ClassVar[str] = "checkpoints"
    every: int | None = whole(None, least=1)
    keep: int = whole(2, least=1)
    final_weights: str = choice("best", "best", "last")


@dataclass(frozen=True, kw_only=True)
class ClosedFormFields(RecipeGroup):
    """Where the last layer is solved in closed form (`prolab_hf.solving`) instead of trained.

    Attributes:
        init: `"solve"` starts training at the solution on the backbone's features, measures it before the first step
            (it may be the best there is) and trains the last layer slowly; `None` = at random.
        finish: `"solve"` solves the last layer again on the trained features and keeps what scores higher on the
            evaluation images; `"auto"` does so where there are evaluation images and the data set gives images
            instead of tensors, and is silent elsewhere; `None` = off.
        unspoken_layer: Give what words do not say responses of its own at the finish
            (`prolab_hf.solving.unspoken_layer`).
    """

    group: ClassVar[str] = "closed_form"
    init: str | None = choice(None, "solve")
    finish: str | None = choice(None, "solve", "auto")
    unspoken_layer: bool = flag(True)


@dataclass(frozen=True, kw_only=True)
class DeviceFields(RecipeGroup):
    """How the device computes.

    Attributes:
        mixed_precision: `"no"`, `"bf16"`, `"fp16"` or `"auto"` (the best that the device has).
        channels_last: Keep images and feature maps channels-last in memory, which some devices and networks
            (depthwise convolutions on a CPU) are faster with.
        sync_batch_norm: Share batch-norm statistics between CUDA devices.
    """

    group: ClassVar[str] = "device"
    mixed_precision: str = choice("auto", "auto", "no", "bf16", "fp16")
    channels_last: bool = flag(False)
    sync_batch_norm: bool = flag(True)


@dataclass(frozen=True, kw_only=True)
class ModelFields(RecipeGroup):
    """Which network is built, for which property space; fields of `ProLabConfig` stand in `config`.

    Attributes:
        backbone: What `ProLabForSemanticSegmentation.from_backbone` takes (Hub id, folder, timm name).
        vit_adapter: Wrap the plain vision transformer `backbone` in a ViT-Adapter.
        backbone_image_size: Image size that the backbone is built for, where it matters (BEiT).
        drop_path: Stochastic depth of the backbone; `None` = the backbone's own value.
        property_space: Name of the bundled property space of the run, a folder or a Hub id.
        num_properties: K of that space.
        freeze: What is not trained: `"none"`, `"backbone"`, or `"stages:2"` for its input layers and first two stages.
            Statistics of frozen norms stay as they are, too.
    """

    group: ClassVar[str] = "model"
    backbone: str | None = text(None)
    vit_adapter: bool = flag(False)
    backbone_image_size: int | None = whole(None, least=1)
    drop_path: float | None = number(None, least=0, below=1)
    property_space: str | None = text(None)
    num_properties: int | None = whole(None, least=1)
    freeze: str = bounded(
        "none",
        "'none', 'backbone' or 'stages:N' with N of at least 1",
        lambda value: (
            isinstance(value, str) and re.fullmatch(r"none|backbone|stages:[1-9]\d*", value) is not None
        ),
    )
