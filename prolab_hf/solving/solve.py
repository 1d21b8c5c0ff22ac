"""`solve`: a property head in one pass over labeled images, and the last layer of any ProLab model anew."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from transformers import AutoImageProcessor
from transformers.utils import is_timm_available

from prolab_hf.evaluation.inference import inference_state
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.closed_form_prolab import label_names
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.accumulation import LabeledImages
from prolab_hf.solving.claim_budget import calibrate
from prolab_hf.solving.solution import Choice
from prolab_hf.solving.solved_head import (
    SolveOptions,
    SolveSettings,
    install,
    last_layer,
    on_cpu,
    pass_for,
    run_pass,
    set_last_layer,
    solve_head,
)
from prolab_hf.solving.statistics import STATISTICS_NAME, ClassStatistics
from prolab_hf.solving.unspoken_layer import FormerLayer, add_unspoken_layer

CONTEXT_BINS = (1, 4)
"""Context of the linear decoder: the mean of the image, and means of its sixteenths."""
DISPLAY_TEMPERATURE = 0.5
"""Solved logits lie near -1 and 1; with this temperature their sigmoid reads as a score."""


def solve(
    backbone: object,
    space: PropertySpace,
    dataset: LabeledImages,
    *,
    processor: ImageProcessor | None = None,
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
        processor: Image processor; default: `default_processor(backbone, model.config)`.
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
    model.to(device)  # type: ignore[arg-type]  # the wrapper of transformers hides `self`
    _solve(model, dataset, usual if processor is None else processor, settings)
    model.to("cpu")  # type: ignore[arg-type]  # likewise
    return model.eval()


def _solve(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: ImageProcessor,
    settings: SolveSettings,
) -> None:
    work = solve_head(model, dataset, processor, settings)
    if settings.unspoken_layer:
        with inference_state(model):
            add_unspoken_layer(model, work)


def new_model(
    backbone: object,
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


def default_processor(backbone: object, config: ProLabConfig, *, image_size: int | None = None) -> Any:
    """A processor with the backbone's own mean and deviation, and sizes that its patches divide.

    Args:
        backbone: What the model was built from; a name or folder tells the statistics.
        config: Of the model.
        image_size: Shortest edge in pixels; 0 keeps the size of the images, `None` takes 512.
    """
    options: dict[str, Any] = {}
    found = _statistics(str(backbone)) if isinstance(backbone, str | Path) else None
    if found is not None:
        options["image_mean"], options["image_std"] = (list(values) for values in found)
    patch = getattr(config.backbone_config, "patch_size", None)
    if isinstance(patch, int) and patch > 4:  # hierarchical networks with patches of 4 pad by themselves
        options["size_divisor"] = patch
    if image_size == 0:
        options["do_resize"] = False
    elif image_size is not None:
        options["size"] = {"shortest_edge": image_size, "longest_edge": 4 * image_size}
    return ProLabImageProcessorPil.from_model_config(config, **options)


def _statistics(name: str) -> tuple[Any, Any] | None:
    if is_timm_available():
        import timm

        entry = timm.get_pretrained_cfg(name.removeprefix("timm/")) if timm.is_model(name) else None
        if entry is not None:
            return entry.mean, entry.std
    try:
        processor = AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError):
        return None  # a backbone without a processor: ImageNet's statistics
    return processor.image_mean, processor.image_std


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
        kept = ClassStatistics.load(Path(folder or model.name_or_path or "") / STATISTICS_NAME)
    return kept


def add_images(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: ImageProcessor,
    *,
    folder: str | Path | None = None,
    **options: Unpack[SolveOptions],
) -> None:
    """Adds images to a solved model, in place, as if it had been solved with all of them at once.

    The numbers lambda, rho and beta stay as they were chosen; the calibration sample is that of the new images. So is
    the layer of what words do not say, where the model has one: classes that the new images do not show keep their part
    of it, and all of it stays where there are fewer than five images, too few to choose by.

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
    collected = run_pass(model, work, start, settings)
    collected.fit = on_cpu(collected.fit) + known
    kind: bool | Literal["per_class"] = "per_class" if known.is_per_class else True
    chosen = replace(
        settings,
        statistics=kind,
        ridge=solution.get("ridge"),
        class_exponent=solution.get("class_exponent"),
        unspoken_weight=solution.get("unspoken_weight"),
        unspoken_layer=settings.unspoken_layer or model.config.unspoken_responses,
    )
    former = FormerLayer.of(model)
    install(model, collected, chosen)
    if chosen.unspoken_layer:
        with inference_state(model):
            add_unspoken_layer(model, work, former)


# ---- the last layer of any ProLab model ---------------------------------------------------------------------------


def in_closed_form(
    model: ProLabForSemanticSegmentation, *, head_inputs: str = "decoder", context: bool = False
) -> ProLabForSemanticSegmentation:
    """A copy of a model whose last layer can be solved: same backbone and decoder, no auxiliary head.

    Args:
        model: Any ProLab model.
        head_inputs: `"decoder"`, or `"decoder_and_backbone"`, where the last layer also sees the backbone's maps.
        context: With the backbone's maps also means over the image and over its sixteenths; `False` keeps what the
            configuration says.

    Raises:
        ValueError: Context without the backbone's maps.
    """
    if context and head_inputs == "decoder" and model.config.decoder != "linear":
        raise ValueError(
            'context=True needs head_inputs="decoder_and_backbone": it is a mean of the backbone\'s maps.'
        )
    config = copy.deepcopy(model.config)
    changes = {
        "similarity": "linear_cosine",
        "property_loss": "cosine",
        "normalize_pixel_embeddings": False,
        "use_auxiliary_head": False,
        "head_inputs": head_inputs,
        "context_bins": CONTEXT_BINS if context else config.context_bins,
        "temperature": DISPLAY_TEMPERATURE,
        "trained_classes": None,
        "unspoken_responses": False,
        "described_by_words": False,
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
    solved.to(model.property_embeddings.device)  # type: ignore[arg-type]  # as above
    return solved.train(model.training)


def solve_last_layer(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: ImageProcessor,
    *,
    head_inputs: str = "decoder",
    context: bool = False,
    **options: Unpack[SolveOptions],
) -> ProLabForSemanticSegmentation:
    """A copy of a trained model whose last layer is solved for properties on the features that it learned.

    Args:
        model: Any ProLab model, on the device on which it is to run.
        dataset: Labeled images, as for `solve`.
        processor: Its image processor.
        head_inputs: `"decoder_and_backbone"` lets the last layer see the backbone's maps beside the decoder's.
        context: With the backbone's maps also means over the image and over its sixteenths. Described classes gain
            by it where the scene speaks against their rivals, as in a street against what hangs in a room.
        **options: See `SolveSettings`.

    Raises:
        ValueError: As `solve`.
    """
    solved = in_closed_form(model, head_inputs=head_inputs, context=context).eval()
    _solve(solved, dataset, processor, SolveSettings(**options))
    return solved


@torch.no_grad()
def start_at_solution(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: ImageProcessor,
    **options: Unpack[SolveOptions],
) -> Choice:
    """Puts the last layer of a model at the solution before it is trained; its objective stays what it is.

    A `"linear_cosine"` model gets the solved layer itself. For any other, the solved property logits, near -1 and 1,
    become pixel embeddings whose projections onto the properties are these logits times the temperature times two, so
    that the scores start near 0.12 and 0.88.

    Args:
        model: A model on the device on which it is to run.
        dataset: Labeled images, as for `solve`.
        processor: Its image processor.
        **options: See `SolveSettings`; of its calibration nothing is kept.

    Returns:
        The numbers that were chosen.

    Raises:
        ValueError: As `solve`.
    """
    was_training = model.training
    solved = solve_last_layer(model, dataset, processor, head_inputs=model.config.head_inputs, **options)
    chosen: dict[str, Any] = {
        name: (solved.config.solution or {}).get(name) for name in Choice.__dataclass_fields__
    }
    layer = solved.decode_head.classifier
    old = model.decode_head.classifier
    if model.config.similarity == "linear_cosine":
        number = len(label_names(model.config))
        weight = torch.zeros(number, old.in_channels + 1, device=old.weight.device)
        sources = [label_names(model.config).index(name) for name in solved.config.trained_classes or []]
        weight[sources] = last_layer(solved).float()
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
    processor: ImageProcessor,
    measure: Callable[[ProLabForSemanticSegmentation], float],
    *,
    head_inputs: Sequence[str] = ("decoder", "decoder_and_backbone"),
    calibration: LabeledImages | None = None,
    **options: Unpack[SolveOptions],
) -> Finish:
    """Solves the last layer of a trained model again and keeps the result where it is better.

    Args:
        model: The trained model.
        dataset: Its training images, without augmentation.
        processor: Its image processor.
        measure: Mean IoU of a model on the evaluation images.
        head_inputs: What the last layer may see; each is tried.
        calibration: Evaluation images whose pixels become the calibration sample of the model that is kept. Without
            them a solved model has one of its training images, a trained one none.
        **options: See `SolveSettings`.
    """
    candidates = {"trained": model}
    for inputs in head_inputs:
        candidates[inputs] = solve_last_layer(model, dataset, processor, head_inputs=inputs, **options)
    scores = {name: measure(candidate) for name, candidate in candidates.items()}
    chosen = max(scores, key=lambda name: scores[name])
    if calibration is not None:
        calibrate(candidates[chosen], calibration, processor, claim_budget=options.get("claim_budget", 0.01))
    return Finish(candidates[chosen], chosen, scores)


__all__ = [
    "Finish",
    "SolveOptions",
    "SolveSettings",
    "add_images",
    "default_processor",
    "finish_by_solving",
    "in_closed_form",
    "new_model",
    "pass_for",
    "set_last_layer",
    "solve",
    "solve_head",
    "solve_last_layer",
    "start_at_solution",
    "statistics_of",
]
