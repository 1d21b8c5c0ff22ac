"""The last layer of a `"linear_cosine"` model, solved on what the network in front of it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import torch
from torch import Tensor, nn

from prolab_hf.evaluation.inference import inference_state
from prolab_hf.model.closed_form_prolab import label_names
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.accumulation import Collected, LabeledImages, NamedClasses, Pass, moments_fit
from prolab_hf.solving.pixel_features import network_fingerprint, transform_fingerprint
from prolab_hf.solving.solution import (
    DEFAULT_EXPONENT,
    Pixels,
    choose,
    leave_one_out,
    solve_responses,
    spoken_shares,
)
from prolab_hf.solving.statistics import ClassStatistics

if TYPE_CHECKING:
    from accelerate import Accelerator


class SolveOptions(TypedDict, total=False):
    """Keyword arguments of the functions that solve; see `SolveSettings`."""

    statistics: bool | Literal["per_class"]
    held_out: Sequence[str]
    ridge: float | None
    class_exponent: float | None
    unspoken_weight: float | None
    unspoken_layer: bool
    samples_per_image: int | None
    seed: int
    claim_budget: float | None
    progress_dir: str | Path | None
    accelerator: Accelerator | None
    show_progress: bool


@dataclass(frozen=True)
class SolveSettings:
    """How a head is solved.

    Attributes:
        statistics: Keep the statistics with the model, so that images can be added and numbers chosen anew;
            `"per_class"` keeps them for every class, so that classes can be left out (memory: classes x features^2).
        held_out: Classes of the data set whose pixels are not looked at; the model knows them by description only.
        ridge: lambda; `None` chooses it on a fifth of the images, which the solution contains in the end.
        class_exponent: rho, a class of n pixels weighs `n^-rho` per pixel; `None` chooses it likewise where moments
            per class fit into memory, and takes 0.5 otherwise.
        unspoken_weight: beta, weight of the property without words of each class; `None` chooses it.
        unspoken_layer: Give that property responses of its own, from a layer that only tells the trained classes apart
            (`prolab_hf.solving.unspoken_layer`); its weight is then always chosen, on up to 128 images looked at again.
        samples_per_image: Pixels that are looked at; `None`: one per 14 x 14.
        seed: Of the choice of pixels and images.
        claim_budget: Share of the pixels of known classes that each described class may take; `None` sets no offsets.
        progress_dir: Folder from whose files a killed run goes on.
        accelerator: Run of `accelerate`: every process takes its part of the images.
        show_progress: Show a bar with an estimate.
    """

    statistics: bool | Literal["per_class"] = True
    held_out: Sequence[str] = ()
    ridge: float | None = None
    class_exponent: float | None = None
    unspoken_weight: float | None = None
    unspoken_layer: bool = False
    samples_per_image: int | None = None
    seed: int = 0
    claim_budget: float | None = 0.01
    progress_dir: str | Path | None = None
    accelerator: Accelerator | None = None
    show_progress: bool = False

    def __post_init__(self) -> None:
        if self.statistics not in (True, False, "per_class"):
            raise ValueError(f"statistics is {self.statistics!r}; allowed: True, False and 'per_class'.")
        if isinstance(self.held_out, str):
            raise ValueError(f"held_out is {self.held_out!r}; give a list of class names.")
        for name, least in (
            ("ridge", 1e-12),
            ("class_exponent", 0),
            ("unspoken_weight", 0),
            ("samples_per_image", 1),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):
                raise ValueError(f"{name} is {value!r}; it must be a number from {least} on, or None.")


def solve_head(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: ImageProcessor,
    settings: SolveSettings,
) -> Pass:
    """Solves the last layer of a `"linear_cosine"` model for the classes that it has, in place.

    Args:
        model: On the device on which it is to run.
        dataset: As for `solve`.
        processor: Image processor.
        settings: How.

    Returns:
        The pass over the images, for whoever looks at some of them again.

    Raises:
        ValueError: As `solve`.
    """
    work = pass_for(model, dataset, processor, settings)
    names = work.classes.class_names
    features = model.decode_head.classifier.in_channels + 1
    exponent, weights = settings.class_exponent, None
    if settings.statistics != "per_class" and not moments_fit(len(names), features):
        exponent = DEFAULT_EXPONENT if exponent is None else exponent
        counts = work.count_masks(settings.accelerator, show_progress=settings.show_progress)
        weights = torch.where(counts > 0, counts.clamp_min(1) ** -exponent, 0.0)
    start = work.empty(weights, exponent if weights is not None else None, features)
    install(model, run_pass(model, work, start, settings), settings)
    return work


def run_pass(model: nn.Module, work: Pass, start: Collected, settings: SolveSettings) -> Collected:
    """Runs a pass with the settings' processes, progress files and bar."""
    folder = None
    if settings.progress_dir is not None:
        folder = Path(settings.progress_dir)
        folder.mkdir(parents=True, exist_ok=True)
    with inference_state(model):
        return work.run(
            start,
            accelerator=settings.accelerator,
            progress_dir=folder,
            show_progress=settings.show_progress,
        )


def pass_for(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: ImageProcessor,
    settings: SolveSettings,
) -> Pass:
    """The pass over the images with the features that the model's last layer sees."""
    parameter = next(p for p in model.parameters() if p.is_floating_point())

    def maps_of(pixel_values: Tensor) -> list[Tensor]:
        return model.last_layer_maps(pixel_values.to(parameter.device, parameter.dtype))

    return Pass(
        maps_of,
        processor,
        dataset,
        NamedClasses(label_names(model.config), dataset, settings.held_out),
        samples=settings.samples_per_image,
        seed=settings.seed,
        fingerprints={
            "network": network_fingerprint(feature_modules(model)),
            "image processor": transform_fingerprint(processor),
        },
        device=parameter.device if parameter.device.type == "cuda" else "cpu",
    )


def feature_modules(model: ProLabForSemanticSegmentation) -> list[nn.Module]:
    """Everything in front of the last layer."""
    head = [child for name, child in model.decode_head.named_children() if name != "classifier"]
    return [model.backbone, *([model.feature_pyramid] if model.feature_pyramid is not None else []), *head]


def check_enough(counts: Tensor, num_features: int, class_names: Sequence[str]) -> None:
    """Refuses what has no meaningful solution.

    Raises:
        ValueError: No labeled pixel, a single class, or fewer labeled pixels than features.
    """
    total, present = int(counts.sum().round()), (counts > 0).nonzero().flatten().tolist()
    if not present:
        raise ValueError(
            "None of the images has a labeled pixel of a class that is solved for; check the label coding of the "
            "masks (prolab check-data)."
        )
    if len(present) == 1:
        raise ValueError(
            f"All labeled pixels are of the class {class_names[present[0]]!r}; at least two classes are needed."
        )
    if total < num_features:
        raise ValueError(
            f"There are {total} labeled pixels for {num_features} features per pixel; label more images, or take a "
            "backbone with fewer channels."
        )


@torch.no_grad()
def install(model: ProLabForSemanticSegmentation, collected: Collected, settings: SolveSettings) -> None:
    """Chooses the numbers, solves, and gives the model its last layer, calibration sample and offsets."""
    fit, held = (on_cpu(part) for part in (collected.fit, collected.held))
    names, rows = fit.class_names, model.class_property_matrix.float().cpu()
    total = fit + held
    check_enough(total.counts, total.num_features, names)
    present = (total.counts > 0).nonzero().flatten()
    position = torch.full((len(names),), -1)
    position[present] = torch.arange(len(present))
    validation = collected.validation
    pixels = Pixels(validation.features, position[validation.labels], validation.weights)
    given = {name: getattr(settings, name) for name in ("ridge", "class_exponent", "unspoken_weight")}
    if settings.unspoken_layer:
        given["unspoken_weight"] = 0.0  # the words are solved for themselves
    choice = choose(fit, pixels if held.num_images else pixels.none(), rows[present], present, **given)
    layer = solve_responses(total, choice)[present]
    # Responses of images that the solution for them has not seen: what described classes are measured against.
    honest = (
        solve_responses(fit, choice)[present] if held.num_images and (fit.counts > 0).sum() > 1 else layer
    )
    responses = pixels.features @ honest.float().t()
    config = model.config
    config.trained_classes = [names[index] for index in present.tolist()]
    config.class_sources = None
    config.unspoken_responses = config.described_by_words = False
    solution: dict[str, object] = {
        **choice.to_dict(),
        "num_images": total.num_images,
        "num_pixels": int(total.counts.sum().round()),
        "num_features": total.num_features,
    }
    if settings.statistics == "per_class" and held.num_images:
        budget = 0.01 if settings.claim_budget is None else settings.claim_budget
        estimates = leave_one_out(fit, validation, rows, choice, claim_budget=budget)
        solution["if_only_described"] = [estimate.to_dict() for estimate in estimates]
    give_last_layer(
        model,
        layer,
        solution,
        unspoken_weight=choice.unspoken_weight,
        responses=responses,
        labels=pixels.labels,
        claim_budget=settings.claim_budget,
    )
    kept = total if settings.statistics == "per_class" else total.summed_up(choice.class_exponent)
    model.solve_statistics = kept if settings.statistics else None  # type: ignore[assignment]  # no tensor


def rows_of_trained(model: ProLabForSemanticSegmentation) -> Tensor:
    """Rows of the classes that the model was solved for, in their order, `(trained classes, num_properties)`."""
    names = label_names(model.config)
    return model.class_property_matrix.float().cpu()[
        [names.index(name) for name in model.config.trained_classes or []]
    ]


@torch.no_grad()
def give_last_layer(
    model: ProLabForSemanticSegmentation,
    layer: Tensor,
    solution: Mapping[str, object],
    *,
    unspoken_weight: float,
    responses: Tensor,
    labels: Tensor,
    claim_budget: float | None,
) -> None:
    """Replaces the last layer of a model, and everything that follows from it, in place.

    Args:
        model: A `"linear_cosine"` model whose `trained_classes` are set.
        layer: `(channels, num_features)`, the bias last; one row per trained class, twice as many where the part
            without words has responses of its own.
        solution: What the configuration says of it; the spoken shares are added.
        unspoken_weight: beta.
        responses: `(pixels, channels)` of a layer that has not seen these pixels: the calibration sample.
        labels: Their classes, numbered in the order of the trained ones.
        claim_budget: Share of the pixels of known classes that each described class may take; `None` sets no offsets.
    """
    config = model.config
    set_last_layer(model, layer)
    config.unspoken_weight = float(unspoken_weight)
    overall, per_class = spoken_shares(responses, rows_of_trained(model), unspoken_weight)
    config.solution = {
        **solution,
        "unspoken_weight": float(unspoken_weight),
        "spoken_share": overall,
        "spoken_share_per_class": dict(zip(config.trained_classes or [], per_class, strict=True)),
    }
    model.set_calibration_sample(responses, labels)
    model.set_claim_budget(claim_budget)


def last_layer(model: ProLabForSemanticSegmentation) -> Tensor:
    """The last layer `(channels, num_features)`, the bias last, detached."""
    layer = model.decode_head.classifier
    return torch.cat([layer.weight.flatten(1), layer.bias[:, None]], dim=1).detach()


def set_last_layer(model: ProLabForSemanticSegmentation, layer: Tensor) -> None:
    """Replaces the last layer, and nothing else.

    Args:
        model: A `"linear_cosine"` model.
        layer: `(channels, num_features)`, the bias last.
    """
    old = model.decode_head.classifier
    new = nn.Conv2d(old.in_channels, len(layer), kernel_size=1).to(old.weight.device, old.weight.dtype)
    new.weight.copy_(layer[:, :-1, None, None])
    new.bias.copy_(layer[:, -1])  # type: ignore[union-attr]
    model.decode_head.classifier = new


def on_cpu(statistics: ClassStatistics) -> ClassStatistics:
    """The same sums on the CPU, where they are solved."""
    weights = statistics.class_weights
    return replace(
        statistics,
        counts=statistics.counts.cpu(),
        sums=statistics.sums.cpu(),
        moments=statistics.moments.cpu(),
        class_weights=None if weights is None else weights.cpu(),
    )
