"""What a run will take, without running it: parameters, operations, memory, steps, hours."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from prolab_hf.training.engines.mixed_precision import precision_on
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.recipe_fields.loss_words import loss_rows

PEAK_TERAFLOPS = {"bf16": 312.0, "fp16": 312.0, "no": 156.0}  # of an A100
UTILIZATION = 0.35
BACKWARD_FACTOR = 3.0  # forward + about twice as much backward
MEASURED_SECONDS = 0.5
_MATRIX_SIZE = {"cpu": 1024, "cuda": 8192}
_PASSES_MEASURED = 2  # images: pyramid pooling at scale 1 cannot normalize a single one


@dataclass(frozen=True)
class DeviceSpeed:
    """How fast a device multiplies matrices.

    Attributes:
        device: Its name, for example `"cpu (2 threads)"`.
        precision: Mixed precision that the run would use there.
        teraflops: Measured, in 10^12 floating-point operations per second.
    """

    device: str
    precision: str
    teraflops: float


def device_speed(recipe: TrainingRecipe) -> DeviceSpeed:
    """Measures the device that a run of this recipe would use here, in half a second.

    Args:
        recipe: Its precision; where this device cannot train with it, the device's best is taken.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = recipe.device.mixed_precision
    if precision == "auto" or (precision == "fp16" and device.type == "cpu"):
        precision = precision_on(device, "auto")
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    size = _MATRIX_SIZE[device.type]
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    _multiply(matrix, 1)  # the first one allocates
    number = max(1, int(MEASURED_SECONDS / _multiply(matrix, 1)))
    seconds = _multiply(matrix, number) / number
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    return DeviceSpeed(f"{device.type} ({name})", precision, 2 * size**3 / seconds / 1e12)


def _multiply(matrix: Tensor, number: int) -> float:
    """Seconds that some products take."""
    started = time.perf_counter()
    for _ in range(number):
        matrix @ matrix
    if matrix.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@dataclass(frozen=True)
class TrainingPlan:
    """An estimate of what a run takes.

    Attributes:
        recipe: The recipe.
        label_space: Size of the property space; the length of its vectors decides the last layer's size.
        num_parameters: All parameters.
        num_trainable: Those that are trained.
        forward_flops: Floating-point operations (2 per multiply-add) of one forward pass of one training
            crop.
        activation_bytes: What one crop keeps for the backward pass, loss at full resolution not counted.
        state_bytes: Weights, gradients and both moments of AdamW.
        num_images: Length of the training set, if known.
        total_iterations: Optimizer steps.
        images_per_step: Over all devices.
        accumulation: Forward passes per step and device.
        num_processes: Number of devices.
        precision: Mixed precision that the hours assume.
        gpu_hours: Estimated, of one device; with several in parallel the run takes 1 / n of it.
        here: The device that the plan was made on, if it was measured.
        hours_here: Estimated hours of the whole run on it.
        assumptions: What the estimate rests on.
    """

    recipe: TrainingRecipe
    label_space: str
    num_parameters: int
    num_trainable: int
    forward_flops: int
    activation_bytes: int
    state_bytes: int
    num_images: int | None
    total_iterations: int
    images_per_step: int
    accumulation: int
    num_processes: int
    precision: str
    gpu_hours: float
    here: DeviceSpeed | None
    hours_here: float | None
    assumptions: Sequence[str]

    @property
    def device_bytes(self) -> int:
        """Estimated memory of one device."""
        return self.state_bytes + self.activation_bytes * self.recipe.schedule.batch_size

    @property
    def exchanged_bytes(self) -> int:
        """What a device sends per step in plain data parallelism: gradients in float32, summed in a ring."""
        devices = self.num_processes
        return 2 * (devices - 1) * 4 * self.num_trainable // devices

    def rows(self) -> list[tuple[str, str]]:
        """The plan as (what, how much)."""
        recipe = self.recipe
        optimizer = recipe.optimizer
        height, width = recipe.crop_height_width
        epochs = ""
        if self.num_images:
            epochs = f" ({self.total_iterations * self.images_per_step / self.num_images:,.1f} epochs)"
        return [
            ("recipe", recipe.name or "(own)"),
            ("property space", self.label_space),
            ("parameters", f"{self.num_parameters / 1e6:,.2f} M ({self.num_trainable / 1e6:,.2f} M trained)"),
            ("forward pass", f"{_three(self.forward_flops / 1e9)} GFLOP per {height} x {width} crop"),
            ("activations", f"{_three(self.activation_bytes / 2**20)} MiB per crop"),
            ("weights, gradients, AdamW", f"{_three(self.state_bytes / 2**20)} MiB"),
            (
                "memory per device",
                f"{_three(self.device_bytes / 2**30)} GiB at batch size {recipe.schedule.batch_size}",
            ),
            (
                "images per step",
                f"{self.images_per_step} = {self.num_processes} device(s) x {recipe.schedule.batch_size} x "
                f"{self.accumulation} accumulated",
            ),
            *self._exchange(),
            ("steps", f"{self.total_iterations:,}{epochs}"),
            ("learning rate", self._schedule()),
            (
                "weight decay, layer decay",
                f"{optimizer.weight_decay:g}, {optimizer.layer_decay or 'off'}",
            ),
            ("augmentation", self._augmentation()),
            *loss_rows(recipe.__getitem__, recipe.crop_height_width, recipe.schedule.batch_size),
            *self._small_run(),
            ("test", self._test()),
            ("mixed precision", self.precision),
            *self._times(),
        ]

    def _exchange(self) -> list[tuple[str, str]]:
        if self.num_processes == 1:
            return []
        sent = f"{_three(self.exchanged_bytes / 2**20)} MiB per step (gradients, plain data parallelism)"
        return [("sent by each device", sent)]

    def _times(self) -> list[tuple[str, str]]:
        text = f"{_three(self.gpu_hours)} GPU hours"
        if self.num_processes > 1:
            text += f", {_three(self.gpu_hours / self.num_processes)} hours on {self.num_processes} devices"
        rows = [("estimated time, reference GPU", text)]
        if self.here is not None and self.hours_here is not None:
            rows.insert(0, (f"estimated time here, {self.here.device}", f"{_three(self.hours_here)} hours"))
        return rows

    def _schedule(self) -> str:
        schedule, rate = self.recipe.schedule, self.recipe.optimizer.learning_rate
        warmup = self.recipe.warmup_for(self.total_iterations)
        return (
            f"{rate:g}, warm-up {warmup:,} steps from a factor {schedule.warmup_ratio:g}, decay to "
            f"{schedule.min_learning_rate:g} with power {schedule.poly_power:g}"
        )

    def _augmentation(self) -> str:
        data = self.recipe.data
        scale = "own size" if data.base_scale is None else f"{data.base_scale[0]} x {data.base_scale[1]}"
        low, high = data.scale_range
        color = ", photometric distortion" if data.photometric_distortion else ""
        return (
            f"{scale} times {low:g} to {high:g}, crop with at most {data.category_max_ratio:.0%} of one "
            f"class, flip {data.flip_probability:g}{color}"
        )

    def _small_run(self) -> list[tuple[str, str]]:
        """Rows about what only some runs do: rare classes, frozen parts, a length that is not known yet."""
        recipe, rows = self.recipe, []
        balance = recipe.balance
        if balance.class_weights != "none" or balance.rare_class_crops:
            crops = f", {balance.rare_class_crops:.0%} of the crops around rare classes"
            weights = f"weights {balance.class_weights}"
            rows.append(("rare classes", weights + (crops if balance.rare_class_crops else "")))
        if recipe.peft.method is not None:
            targets = "its attention or pointwise convolutions" if not recipe.peft.targets else "named layers"
            rows.append(
                ("backbone", f"LoRA of rank {recipe.peft.rank}, alpha {recipe.peft.alpha:g}, on {targets}")
            )
        if recipe.model.freeze != "none":
            cached = f", features cached for {recipe.features.copies} copies" if recipe.features.cache else ""
            rows.append(("frozen", f"{recipe.model.freeze}{cached}"))
        if recipe.schedule.max_minutes is not None:
            rows.append(
                ("length", f"{recipe.schedule.max_minutes:g} minutes; the run times its own first steps")
            )
        if recipe.evaluation.early_stopping is not None:
            rows.append(("early stopping", f"after {recipe.evaluation.early_stopping} evaluations no better"))
        return rows

    def _test(self) -> str:
        evaluation = self.recipe.evaluation
        mode = evaluation.mode
        if mode == "slide":
            mode += f" {evaluation.crop_size} / {evaluation.stride}"
        if evaluation.scale is None:
            return f"{mode}, images as they are"
        long, short = evaluation.scale
        return f"{mode}, {long} x {short} kept ratio, multiples of {evaluation.size_divisor}"

    def to_table(self) -> Table:
        """The plan as a table for the terminal, with its assumptions below."""
        table = Table("what", "how much", title="Training plan", caption="\n".join(self.assumptions))
        for row in self.rows():
            table.add_row(*row)
        return table


def plan(
    recipe: TrainingRecipe,
    model: nn.Module,
    *,
    num_images: int | None = None,
    num_processes: int = 1,
    peak_teraflops: float | None = None,
    utilization: float = UTILIZATION,
    here: DeviceSpeed | None = None,
) -> TrainingPlan:
    """Counts what a run takes, on tensors without memory: no weight is touched and nothing is computed.

    Args:
        recipe: The recipe.
        model: The model, on any device (also meta).
        num_images: Length of the training set; needed where the recipe counts epochs.
        num_processes: Number of devices.
        peak_teraflops: Of the device at the run's precision; an A100's dense peak where not given.
        utilization: Share of the peak that the run reaches.
        here: The device that the run would use, see `device_speed`.

    Raises:
        ValueError: The recipe counts epochs and `num_images` is unknown.
    """
    if recipe.schedule.epochs is not None and num_images is None:
        raise ValueError(
            f"The recipe trains for {recipe.schedule.epochs:g} epochs, so the number of training images is needed; "
            "give the data, or max_iterations."
        )
    accumulation = recipe.accumulation_for(num_processes)
    images = recipe.schedule.batch_size * num_processes * accumulation
    precision = "bf16" if recipe.device.mixed_precision == "auto" else recipe.device.mixed_precision
    flops, in_backbone, activations = _measure(model, recipe, half=precision != "no")
    num_parameters = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    peak = peak_teraflops or PEAK_TERAFLOPS[precision]
    per_step = _step_flops(recipe, flops, in_backbone) * images
    if recipe.schedule.max_minutes is not None and recipe.schedule.planned_iterations is None:
        speed = (peak if here is None else here.teraflops) * 1e12 * utilization
        steps = max(1, int(60 * recipe.schedule.max_minutes * speed * num_processes / per_step))
        recipe = recipe.replace(**{"schedule.planned_iterations": steps})
    total = recipe.total_iterations(num_images or 0, num_processes=num_processes)
    work = per_step * total
    return TrainingPlan(
        recipe=recipe,
        label_space=_label_space(recipe, model),
        num_parameters=num_parameters,
        num_trainable=trainable,
        forward_flops=flops,
        activation_bytes=activations,
        state_bytes=4 * (num_parameters + 3 * trainable),
        num_images=num_images,
        total_iterations=total,
        images_per_step=images,
        accumulation=accumulation,
        num_processes=num_processes,
        precision=precision,
        gpu_hours=work / (peak * 1e12 * utilization) / 3600,
        here=here,
        hours_here=None if here is None else work / (here.teraflops * 1e12 * utilization) / 3600,
        assumptions=(
            *_measured_words(here, utilization),
            f"Reference GPU: {peak:g} TFLOP/s peak (an A100 at {'half precision' if precision != 'no' else 'TF32'}"
            f"{', given' if peak_teraflops else ''}), {utilization:.0%} of it reached, a step costs "
            f"{BACKWARD_FACTOR:g} forward passes (1 of a frozen backbone, 2 of one with adapters, 0 of one whose "
            "features are cached), evaluation and data loading not counted.",
            "Operations: matrix products and convolutions. Operations and memory are counted without the loss "
            "and the auxiliary head; memory without the allocator's overhead and the framework itself.",
        ),
    )


def _step_flops(recipe: TrainingRecipe, flops: int, in_backbone: int) -> float:
    """Operations of a training step per image, of which a frozen backbone needs no or little backward."""
    factor = BACKWARD_FACTOR
    if recipe.peft.method is not None:
        factor = 2.0
    elif recipe.model.freeze == "backbone":
        factor = 0.0 if recipe.features.cache else 1.0
    return BACKWARD_FACTOR * (flops - in_backbone) + factor * in_backbone


def _measured_words(here: DeviceSpeed | None, utilization: float) -> tuple[str, ...]:
    if here is None:
        return ()
    precision = "full precision" if here.precision == "no" else here.precision
    return (
        f"Here: {here.device} multiplies matrices at {_three(here.teraflops)} TFLOP/s (measured now, {precision}); "
        f"{utilization:.0%} of it reached, everything on one device.",
    )


def _label_space(recipe: TrainingRecipe, model: nn.Module) -> str:
    config: Any = getattr(model, "config", None)
    name = recipe.model.property_space or "(own)"
    if not hasattr(config, "num_properties"):
        return name
    return (
        f"{name}: {config.num_labels} classes, {config.num_properties} properties, "
        f"vectors of length {config.embedding_dim}"
    )


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *args: Any, **kwargs: Any) -> int:
    """Scores and their weighted sum, for the CPU's fused attention, which torch's counter does not know.

    Shapes are `(batch_size, heads, length, head size)`; the counter hands over shapes instead of tensors.
    """
    batch_size, heads, length, size = query
    return 2 * batch_size * heads * length * key[2] * (size + value[3])


def _three(value: float) -> str:
    """A number with three significant digits at least: 0.0123, 1.23, 12.3, 12,345."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _measure(model: nn.Module, recipe: TrainingRecipe, *, half: bool) -> tuple[int, int, int]:
    """FLOPs of a forward pass, those of the backbone, and bytes kept for the backward pass, all per crop."""
    config: Any = model.config
    height, width = recipe.crop_height_width
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # One entry per storage: views take no memory of their own. Holding it keeps the key unique.
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    # Fake tensors have shapes and no memory, so a copy of any size costs nothing. It is built on the meta
    # device, where initialization does not look at values.
    with torch.device("meta"):
        copy: Any = type(model)(config)
    formulas = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with FakeTensorMode(allow_non_fake_inputs=True), counter:
        copy.to_empty(device="cpu").train()
        pixel_values = torch.empty(_PASSES_MEASURED, 3, height, width)
        own = {tensor.untyped_storage()._cdata for tensor in (*copy.parameters(), *copy.buffers())}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            copy(pixel_values=pixel_values)
        size = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
    # Half precision keeps most of it in two bytes instead of four.
    size = size // 2 if half else size
    counts: Any = counter.get_flop_counts()
    in_backbone = sum(counts.get(f"{type(model).__name__}.backbone", {}).values())
    return (
        counter.get_total_flops() // _PASSES_MEASURED,
        in_backbone // _PASSES_MEASURED,
        math.ceil(size / _PASSES_MEASURED),
    )
