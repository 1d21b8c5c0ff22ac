"""`solve`: a property head in one pass over labeled images, and the last layer of any ProLab model anew."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import torch
from PIL import Image
from torch import Tensor, nn

from prolab_hf.evaluation.inference import inference_state, prepare
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.closed_form_prolab import label_names
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.solving.accumulation import Collected, LabeledImages, NamedClasses, Pass, moments_fit
from prolab_hf.solving.default_processor import default_processor
from prolab_hf.solving.leave_one_out import leave_one_out
from prolab_hf.solving.pixel_features import network_fingerprint, transform_fingerprint
from prolab_hf.solving.solution import (
    DEFAULT_EXPONENT,
    Choice,
    Pixels,
    choose,
    solve_responses,
    spoken_shares,
)
from prolab_hf.solving.statistics import STATISTICS_NAME, ClassStatistics

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

CONTEXT_BINS = (1, 4)
"""Context of the linear decoder: the mean of the image, and means of its sixteenths."""
DISPLAY_TEMPERATURE = 0.5
"""Solved logits lie near -1 and 1; with this temperature their sigmoid reads as a score."""


class SolveOptions(TypedDict, total=False):
    """Keyword arguments of the functions that solve; see `SolveSettings`."""

    statistics: bool | Literal["per_class"]
    held_out: Sequence[str]
    ridge: float | None
    class_exponent: float | None
    unspoken_weight: float | None
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


def solve(
    backbone: Any,
    space: PropertySpace,
    dataset: LabeledImages,
    *,
    processor: Any = None,
    context: bool = False,
    device: str | torch.device | None = None,
    **options: Unpack[SolveOptions],
) -> ProLabForSemanticSegmentation:
    """A model on a frozen backbone whose property head is solved in closed form, in one pass over the images.

    The result is an ordinary model: it is saved, loaded, evaluated, explained, exported and trained on as any other.

    Args:
        backbone: Whatever `ProLabForSemanticSegmentation.from_backbone` takes: a name, folder, configuration or
            module.
        space: The classes and their words.
        dataset: Anything with `len()` and `[i]` that gives a `Sample` or a pair `(image, mask of class ids)`. Its
            `class_names`, if it has any, may be in another order than the space's.
        processor: Image processor or evaluation transform; default: `default_processor(backbone, model.config)`.
        context: Let the head also see means of the image and of its parts.
        device: Where the network runs; default: a GPU if there is one.
        **options: See `SolveSettings`.

    Returns:
        The model, in evaluation mode on the CPU. `model.config.solution` says what was chosen and measured.

    Raises:
        ValueError: No labeled pixel, a single class, fewer labeled pixels than features, features that are not
            finite, or classes that the space does not know.

    Example:
        ```python
        space = PropertySpace.from_pretrained("coco_stuff")
        model = solve("facebook/dinov2-small", space, FolderSource("photos", "train"), show_progress=True)
        model.save_pretrained("my-model")
        ```
    """
    settings = SolveSettings(**options)
    model, usual = new_model(backbone, space, context=context, needs_processor=processor is None)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    solve_head(model.to(device), dataset, usual if processor is None else processor, settings)
    return model.to("cpu").eval()


def new_model(
    backbone: Any,
    space: PropertySpace,
    *,
    context: bool = False,
    image_size: int | None = None,
    needs_processor: bool = True,
) -> tuple[ProLabForSemanticSegmentation, Any]:
    """A linear head on a backbone, not solved yet, and the image processor that suits the backbone.

    Args:
        backbone: As for `solve`.
        space: The classes and their words.
        context: Let the head also see means of the image and of its parts.
        image_size: Shortest edge in pixels; 0 keeps the size of the images, `None` takes 512.
        needs_processor: Whether a processor is wanted; `None` is given otherwise.
    """
    model = ProLabForSemanticSegmentation.from_backbone(
        backbone,
        space,
        decoder="linear",
        similarity="linear_cosine",
        context_bins=CONTEXT_BINS if context else (),
        use_auxiliary_head=False,
        temperature=DISPLAY_TEMPERATURE,
    )
    return model, default_processor(
        backbone, model.config, image_size=image_size
    ) if needs_processor else None


def solve_head(
    model: ProLabForSemanticSegmentation, dataset: LabeledImages, processor: Any, settings: SolveSettings
) -> None:
    """Solves the last layer of a `"linear_cosine"` model for the classes that it has, in place.

    Args:
        model: On the device on which it is to run.
        dataset: As for `solve`.
        processor: Image processor or evaluation transform.
        settings: How.

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
    install(model, _run(model, work, start, settings), settings)


def _run(model: nn.Module, work: Pass, start: Collected, settings: SolveSettings) -> Collected:
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
    model: ProLabForSemanticSegmentation, dataset: LabeledImages, processor: Any, settings: SolveSettings
) -> Pass:
    """The pass over the images with the features that the model's last layer sees."""
    parameter = next(p for p in model.parameters() if p.is_floating_point())

    def pixel_values(image: Image.Image) -> Tensor:
        return prepare(processor, image).to(parameter.device, parameter.dtype)

    return Pass(
        model.last_layer_maps,
        pixel_values,
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
    fit, held = (_on_cpu(part) for part in (collected.fit, collected.held))
    names, rows = fit.class_names, model.class_property_matrix.float().cpu()
    total = fit + held
    check_enough(total.counts, total.num_features, names)
    present = (total.counts > 0).nonzero().flatten()
    position = torch.full((len(names),), -1)
    position[present] = torch.arange(len(present))
    validation = collected.validation
    pixels = Pixels(validation.features, position[validation.labels], validation.weights)
    given = {name: getattr(settings, name) for name in ("ridge", "class_exponent", "unspoken_weight")}
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
    config.unspoken_weight = float(choice.unspoken_weight)
    set_last_layer(model, layer)
    overall, per_class = spoken_shares(responses, rows[present], choice.unspoken_weight)
    config.solution = {
        **choice.to_dict(),
        "num_images": total.num_images,
        "num_features": total.num_features,
        "spoken_share": overall,
        "spoken_share_per_class": {name: share for name, share in zip(config.trained_classes, per_class)},
    }
    if settings.statistics == "per_class" and held.num_images:
        budget = 0.01 if settings.claim_budget is None else settings.claim_budget
        estimates = leave_one_out(fit, validation, rows, choice, claim_budget=budget)
        config.solution["if_only_described"] = [estimate.to_dict() for estimate in estimates]
    model.set_calibration_sample(responses, pixels.labels)
    model.set_claim_budget(settings.claim_budget)
    kept = total if settings.statistics == "per_class" else total.summed_up(choice.class_exponent)
    model.solve_statistics = kept if settings.statistics else None


def set_last_layer(model: ProLabForSemanticSegmentation, responses: Tensor) -> None:
    """Replaces the last layer.

    Args:
        model: A `"linear_cosine"` model.
        responses: `(trained classes, num_features)`, the bias last.
    """
    old = model.decode_head.classifier
    new = nn.Conv2d(old.in_channels, len(responses), kernel_size=1).to(old.weight.device, old.weight.dtype)
    new.weight.copy_(responses[:, :-1, None, None])
    new.bias.copy_(responses[:, -1])  # type: ignore[union-attr]
    model.decode_head.classifier = new


def _on_cpu(statistics: ClassStatistics) -> ClassStatistics:
    weights = statistics.class_weights
    return replace(
        statistics,
        counts=statistics.counts.cpu(),
        sums=statistics.sums.cpu(),
        moments=statistics.moments.cpu(),
        class_weights=None if weights is None else weights.cpu(),
    )


# ---- more images, other numbers -----------------------------------------------------------------------------------


def statistics_of(model: ProLabForSemanticSegmentation, folder: str | Path | None = None) -> ClassStatistics:
    """The statistics that a solved model was solved with.

    Args:
        model: The model.
        folder: Where it was loaded from; default: what the model itself remembers.

    Raises:
        FileNotFoundError: They were not kept.
    """
    kept = getattr(model, "solve_statistics", None)
    if kept is None:
        kept = ClassStatistics.load(Path(folder or model.name_or_path) / STATISTICS_NAME)
    return kept


def add_images(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: Any,
    *,
    folder: str | Path | None = None,
    **options: Unpack[SolveOptions],
) -> None:
    """Adds images to a solved model, in place, as if it had been solved with all of them at once.

    The numbers lambda, rho and beta stay as they were chosen; the calibration sample is that of the new images.

    Args:
        model: A solved model.
        dataset: The new images, as for `solve`.
        processor: The model's image processor.
        folder: Where the model was loaded from, for its statistics.
        **options: See `SolveSettings`; `statistics` and the three numbers stay those of the model.

    Raises:
        FileNotFoundError: The statistics were not kept with the model.
        ValueError: They are of another backbone, transform or of other classes, or as `solve`.
    """
    settings = SolveSettings(**options)
    known = statistics_of(model, folder)
    solution = model.config.solution or {}
    work = pass_for(model, dataset, processor, settings)
    known.check_same_features(work.fingerprints, model.decode_head.classifier.in_channels + 1)
    names = work.classes.class_names
    if known.class_names != names:
        raise ValueError(
            f"The statistics are of the classes {', '.join(known.class_names[:5])} ..., the model's classes are "
            f"{', '.join(names[:5])} ...; images are added to a model with the classes that it was solved for."
        )
    start = work.empty(known.class_weights, known.class_exponent, known.num_features)
    collected = _run(model, work, start, settings)
    collected.fit = _on_cpu(collected.fit) + known
    numbers = {name: solution.get(name) for name in ("ridge", "class_exponent", "unspoken_weight")}
    kind: bool | Literal["per_class"] = "per_class" if known.is_per_class else True
    install(model, collected, replace(settings, statistics=kind, **numbers))


# ---- the last layer of any ProLab model ---------------------------------------------------------------------------


def in_closed_form(
    model: ProLabForSemanticSegmentation, *, head_inputs: str = "decoder"
) -> ProLabForSemanticSegmentation:
    """A copy of a model whose last layer can be solved: same backbone and decoder, no auxiliary head.

    Args:
        model: Any ProLab model.
        head_inputs: `"decoder"`, or `"decoder_and_backbone"`, where the last layer also sees the backbone's maps.
    """
    config = copy.deepcopy(model.config)
    changes = {
        "similarity": "linear_cosine",
        "property_loss": "cosine",
        "normalize_pixel_embeddings": False,
        "use_auxiliary_head": False,
        "head_inputs": head_inputs,
        "temperature": DISPLAY_TEMPERATURE,
        "trained_classes": None,
        "class_sources": None,
        "class_offsets": None,
        "claim_budget": None,
        "calibration_pixels": 0,
    }
    for name, value in changes.items():
        setattr(config, name, value)
    solved = ProLabForSemanticSegmentation(config)
    skipped = ("decode_head.classifier.", "auxiliary_head.", "calibration_")
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith(skipped)}
    result = solved.load_state_dict(weights, strict=False)
    wrong = [name for name in [*result.missing_keys, *result.unexpected_keys] if not name.startswith(skipped)]
    if wrong:
        raise RuntimeError(f"The copy of the model differs from it in {wrong[0]!r}.")
    solved._has_default_properties = False
    return solved.to(model.property_embeddings.device).train(model.training)


def solve_last_layer(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: Any,
    *,
    head_inputs: str = "decoder",
    **options: Unpack[SolveOptions],
) -> ProLabForSemanticSegmentation:
    """A copy of a trained model whose last layer is solved for properties on the features that it learned.

    Args:
        model: Any ProLab model, on the device on which it is to run.
        dataset: Labeled images, as for `solve`.
        processor: Its image processor or evaluation transform.
        head_inputs: `"decoder_and_backbone"` lets the last layer see the backbone's maps beside the decoder's.
        **options: See `SolveSettings`.

    Raises:
        ValueError: As `solve`.
    """
    solved = in_closed_form(model, head_inputs=head_inputs).eval()
    solve_head(solved, dataset, processor, SolveSettings(**options))
    return solved


@torch.no_grad()
def start_at_solution(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: Any,
    **options: Unpack[SolveOptions],
) -> Choice:
    """Puts the last layer of a model at the solution before it is trained; its objective stays what it is.

    A `"linear_cosine"` model gets the solved layer itself. For any other, the solved property logits, near -1 and 1,
    become pixel embeddings whose projections onto the properties are these logits times the temperature times two, so
    that the scores start near 0.12 and 0.88.

    Args:
        model: A model on the device on which it is to run.
        dataset: Labeled images, as for `solve`.
        processor: Its image processor or evaluation transform.
        **options: See `SolveSettings`; of its calibration nothing is kept.

    Returns:
        The numbers that were chosen.

    Raises:
        ValueError: As `solve`.
    """
    was_training = model.training
    solved = solve_last_layer(model, dataset, processor, head_inputs=model.config.head_inputs, **options)
    chosen = {name: (solved.config.solution or {}).get(name) for name in Choice.__dataclass_fields__}
    layer = solved.decode_head.classifier
    old = model.decode_head.classifier
    if model.config.similarity == "linear_cosine":
        number = len(label_names(model.config))
        weight = torch.zeros(number, old.in_channels + 1, device=old.weight.device)
        sources = [label_names(model.config).index(name) for name in solved.config.trained_classes or []]
        weight[sources] = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], dim=1).float()
        model.config.unspoken_weight = solved.config.unspoken_weight
        model.config.trained_classes = None
        set_last_layer(model, weight)
        model.set_claim_budget(None)
    else:
        targets = solved.response_targets[:, : model.config.num_properties].double().t()
        gain = 2 * model.config.temperature if model.config.similarity != "cosine" else 1.0
        # Any embedding with these projections will do; the shortest one.
        inverse = torch.linalg.pinv(model.property_embeddings.double()) * gain @ targets
        old.weight.copy_((inverse @ layer.weight.flatten(1).double())[:, :, None, None])
        old.bias.copy_(inverse @ layer.bias.double())
    model.train(was_training)
    return Choice(**chosen)


@dataclass(frozen=True)
class Finish:
    """What solving the last layer at the end of a training gained.

    Attributes:
        model: The best of the candidates.
        chosen: Its name: `"trained"`, `"decoder"` or `"decoder_and_backbone"`.
        mean_iou: Mean IoU of every candidate on the evaluation images.
    """

    model: ProLabForSemanticSegmentation
    chosen: str
    mean_iou: dict[str, float]


def finish_by_solving(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: Any,
    measure: Callable[[ProLabForSemanticSegmentation], float],
    *,
    head_inputs: Sequence[str] = ("decoder", "decoder_and_backbone"),
    **options: Unpack[SolveOptions],
) -> Finish:
    """Solves the last layer of a trained model again and keeps the result where it is better.

    Args:
        model: The trained model.
        dataset: Its training images, without augmentation.
        processor: Its image processor or evaluation transform.
        measure: Mean IoU of a model on the evaluation images.
        head_inputs: What the last layer may see; each is tried.
        **options: See `SolveSettings`.
    """
    candidates = {"trained": model}
    for inputs in head_inputs:
        candidates[inputs] = solve_last_layer(model, dataset, processor, head_inputs=inputs, **options)
    scores = {name: measure(candidate) for name, candidate in candidates.items()}
    chosen = max(scores, key=lambda name: scores[name])
    return Finish(candidates[chosen], chosen, scores)
