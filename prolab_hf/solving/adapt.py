"""`adapt`: a trained segmentation network becomes a model that answers in properties; its weights stay."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from prolab_hf.evaluation.inference import class_names_of, inference_state, prepare
from prolab_hf.evaluation.metrics import SegmentationCounts
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.adapted_network_prolab import AdaptedNetworkBackbone
from prolab_hf.model.closed_form_prolab import label_names
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.progress import progress
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.accumulation import LabeledImages
from prolab_hf.solving.adapted_images import (
    AdaptedImages,
    ImagesLike,
    MasksLike,
    OwnAnswers,
    predicted_labels,
)
from prolab_hf.solving.class_layer import find_class_layer
from prolab_hf.solving.class_names import ClassMatch, match_class_names
from prolab_hf.solving.foreign_network import load_network, network_processor
from prolab_hf.solving.refinement import refine_last_layer
from prolab_hf.solving.solve import DISPLAY_TEMPERATURE, in_closed_form
from prolab_hf.solving.solved_head import SolveOptions, SolveSettings, pass_for, solve_head

logger = logging.getLogger(__name__)

REPORT_NAME = "adapt_report.json"
FEWEST_SAMPLES, SAMPLES_PER_FEATURE = 1024, 24
"""Pixels per image, and in all images per feature: predictions cost no labeling, so more than `solve` takes."""


class AdaptOptions(SolveOptions, total=False):
    """Keyword arguments of `adapt` beside its own; see `AdaptSettings`."""

    drop_unknown: bool
    learn_from: Literal["masks", "predictions"] | None
    coding: str
    refine: bool
    device: str | torch.device | None


@dataclass(frozen=True)
class AdaptSettings:
    """How a network is adapted.

    Attributes:
        solve: How the last layer is solved.
        drop_unknown: Leave out classes of the network that have no row, instead of refusing.
        learn_from: `"predictions"` solves for the network's own answers although masks are given.
        coding: What the values of masks in files mean, as for `prolab check-data`.
        refine: Fit the last layer further, to the scores near the answers' boundaries, where that gains anything.
        device: Where the network runs; default: a GPU if there is one.
    """

    solve: SolveSettings
    drop_unknown: bool = False
    learn_from: Literal["masks", "predictions"] | None = None
    coding: str = "ids"
    refine: bool = True
    device: str | torch.device | None = None

    def __post_init__(self) -> None:
        if self.learn_from not in (None, "masks", "predictions"):
            raise ValueError(f"learn_from is {self.learn_from!r}; allowed: 'masks', 'predictions' and None.")

    def learns_from_masks(self, images: AdaptedImages) -> bool:
        """Whether the masks of these images are solved for, or the network's predictions.

        Raises:
            ValueError: Masks are asked for and there are none.
        """
        if self.learn_from == "masks" and not images.has_masks:
            raise ValueError("learn_from is 'masks', but no masks are given; pass masks (--masks).")
        return images.has_masks and self.learn_from != "predictions"

    @classmethod
    def of(cls, **options: Any) -> AdaptSettings:
        """From keyword arguments, those of `SolveSettings` among them."""
        own = {name: options.pop(name) for name in cls.__dataclass_fields__ if name in options}
        return cls(SolveSettings(**options), **own)


class _Comparison(TypedDict):
    agreement: float
    mean_iou_before: float | None
    mean_iou_after: float | None


@dataclass(frozen=True)
class AdaptReport:
    """What adapting did and what it cost.

    Attributes:
        network: Class name of the network, and where it came from if it has a name.
        class_layer: The layer that was left out.
        matches: The row of every class of the network.
        learned_from: `"predictions"` of the network or `"masks"`.
        num_images: Images that it was solved from and compared on.
        agreement: Share of the pixels that keep the class that the network gave them.
        mean_iou_before: Of the network, where masks are given, over the classes that are kept.
        mean_iou_after: Of the adapted model.
        spoken_share: Share of the winning scores that words make up.
    """

    network: str
    class_layer: str
    matches: list[ClassMatch]
    learned_from: str
    num_images: int
    agreement: float
    mean_iou_before: float | None
    mean_iou_after: float | None
    spoken_share: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON holds it."""
        return asdict(self)

    def to_text(self) -> str:
        """One or two sentences."""
        text = (
            f"{self.agreement:.1%} of the pixels of {self.num_images} images keep the class that the network gave "
            f"them; words make up {self.spoken_share:.0%} of the winning scores."
        )
        if self.mean_iou_before is None or self.mean_iou_after is None:
            return text
        return f"{text} Mean IoU {self.mean_iou_before:.4f} before, {self.mean_iou_after:.4f} after."


@dataclass(frozen=True)
class Adaptation:
    """An adapted network.

    Attributes:
        model: The model, in evaluation mode on the CPU.
        processor: Its image processor.
        report: What it costs.
    """

    model: ProLabForSemanticSegmentation
    processor: Any
    report: AdaptReport

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes model, image processor and report; the folder loads through the Auto classes and the pipeline."""
        folder = Path(folder)
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        text = json.dumps(self.report.to_dict(), indent=2, ensure_ascii=False) + "\n"
        (folder / REPORT_NAME).write_text(text, encoding="utf-8")


def adapt(
    model: str | Path | PreTrainedModel,
    space: str | Path | PropertySpace,
    images: ImagesLike,
    *,
    processor: ImageProcessor | str | Path | None = None,
    masks: MasksLike | None = None,
    class_names: Sequence[str] | Mapping[str, str | None] | None = None,
    output_dir: str | Path | None = None,
    **options: Any,
) -> ProLabForSemanticSegmentation:
    """Makes a trained segmentation network answer in properties; only its last layer is exchanged, in closed form.

    Args:
        model: A network of the `AutoModelForSemanticSegmentation` family whose last layer is a convolution to its
            classes (SegFormer, UPerNet, BEiT, Data2Vec, DPT, MobileViT, MobileNetV2, ...), a ProLab model, or the
            folder or Hub id of one.
        space: The property space that describes its classes, or its name or folder.
        images: Images of the kind that the network is used on: a folder, a list of images or paths, or a data source.
            They need no labels: the network's own predictions are what is solved for.
        processor: The network's image processor; default: the one saved with it.
        masks: Where images are labeled, a folder of masks with the images' names, or one mask per image: ids of the
            network's classes, 255 for none. Then the masks are solved for, and mean IoU is measured.
        class_names: Corrects which row of the space describes which class: all rows in the order of the network's
            ids, or a mapping from class to row (`None` leaves the class out).
        output_dir: Folder to save model, image processor and report into.
        **options: See `AdaptSettings` and `SolveSettings`.

    Returns:
        The model, in evaluation mode on the CPU; `model.config.solution["adapted"]` holds the report.

    Raises:
        ValueError: The network has no usable last layer, a class has no row, there are no images, or no pixel is
            labeled; the message says what to do.
        FileNotFoundError: A folder or model does not exist.

    Example:
        ```python
        network = "nvidia/segformer-b0-finetuned-ade-512-512"
        model = adapt(network, "ade20k", "photos", output_dir="segformer-properties")
        ```
    """
    result = adapt_network(
        model, space, images, processor=processor, masks=masks, class_names=class_names, **options
    )
    if output_dir is not None:
        result.save_pretrained(output_dir)
    return result.model


def adapt_network(
    model: str | Path | PreTrainedModel,
    space: str | Path | PropertySpace,
    images: ImagesLike,
    *,
    processor: ImageProcessor | str | Path | None = None,
    masks: MasksLike | None = None,
    class_names: Sequence[str] | Mapping[str, str | None] | None = None,
    **options: Unpack[AdaptOptions],
) -> Adaptation:
    """As `adapt`, with everything that came out of it.

    Args:
        model: See `adapt`.
        space: See `adapt`.
        images: See `adapt`.
        processor: See `adapt`.
        masks: See `adapt`.
        class_names: See `adapt`.
        **options: See `AdaptSettings`.

    Raises:
        ValueError: See `adapt`.
        FileNotFoundError: See `adapt`.
    """
    settings = AdaptSettings.of(**options)
    if not isinstance(space, PropertySpace):
        space = PropertySpace.from_pretrained(str(space))
    network = load_network(model)
    names = class_names_of(network)
    matches = match_class_names(names, space.class_names, class_names, drop_unknown=settings.drop_unknown)
    own_processor = network_processor(network, processor)
    rows = list(dict.fromkeys(match.row for match in matches if match.row is not None))
    table = np.array([-1 if match.row is None else rows.index(match.row) for match in matches])
    labeled = AdaptedImages.open(images, masks, class_names=names, table=table, coding=settings.coding)
    from_masks = settings.learns_from_masks(labeled)
    with _running(network, settings.device):
        adapted, layer = _with_open_layer(network, space.select_classes(rows), own_processor, labeled)
        adapted.to(network.device)  # type: ignore[arg-type]  # the wrapper of transformers hides `self`
        answers = OwnAnswers(labeled, network, own_processor)
        own = _own_layer(network, layer, matches) if settings.refine else None
        _solve(adapted, labeled if from_masks else answers, own_processor, settings, own)
        figures = _compare(answers, adapted, show_progress=settings.solve.show_progress)
    report = AdaptReport(
        network=" ".join(filter(None, (type(network).__name__, _public_name(network)))),
        class_layer=layer,
        matches=matches,
        learned_from="masks" if from_masks else "predictions",
        num_images=len(labeled),
        **figures,
        spoken_share=float((adapted.config.solution or {}).get("spoken_share", math.nan)),
    )
    adapted.config.solution = {**(adapted.config.solution or {}), "adapted": report.to_dict()}
    adapted.to("cpu")  # type: ignore[arg-type]  # likewise
    return Adaptation(adapted.eval(), own_processor, report)


@contextmanager
def _running(network: PreTrainedModel, device: str | torch.device | None) -> Iterator[None]:
    """The network on the device where it runs, in evaluation mode; afterwards it is where and as it was."""
    home = network.device
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]  # as above
    try:
        with inference_state(network):
            yield
    finally:
        network.to(home)  # type: ignore[arg-type]  # likewise


def _solve(
    adapted: ProLabForSemanticSegmentation,
    source: LabeledImages,
    processor: ImageProcessor,
    settings: AdaptSettings,
    own_layer: Mapping[str, Tensor] | None,
) -> None:
    """Solves the last layer for the answers or masks of `source`, and refines it."""
    solve = _enough_samples(settings.solve, adapted, len(source))
    solve_head(adapted, source, processor, solve)
    if settings.refine:
        with inference_state(adapted):
            work = pass_for(adapted, source, processor, solve)
            refine_last_layer(adapted, work, own_layer, unspoken_weight=solve.unspoken_weight)


def _with_open_layer(
    network: PreTrainedModel, space: PropertySpace, processor: ImageProcessor, images: AdaptedImages
) -> tuple[ProLabForSemanticSegmentation, str]:
    """A ProLab model with the network's weights and a last layer for the classes of the space, not solved yet."""
    if isinstance(network, ProLabForSemanticSegmentation):
        model = in_closed_form(network)
        model.set_property_space(space, claim_budget=None)
        return model, "decode_head.classifier"
    parameter = next(p for p in network.parameters() if p.is_floating_point())
    pixel_values = prepare(processor, images.image(0)).to(parameter.device, parameter.dtype)
    layer = find_class_layer(network, pixel_values)
    model = ProLabForSemanticSegmentation.from_backbone(
        AdaptedNetworkBackbone.from_network(network, layer),
        space,
        decoder="linear",
        similarity="linear_cosine",
        use_auxiliary_head=False,
        temperature=DISPLAY_TEMPERATURE,
    )
    return model, layer


def _own_layer(
    network: PreTrainedModel, layer: str, matches: Sequence[ClassMatch]
) -> dict[str, Tensor] | None:
    """Per row of the space the weights and bias that gave its class; `None` where two classes became one."""
    rows = [match.row for match in matches if match.row is not None]
    if isinstance(network, ProLabForSemanticSegmentation) or len(set(rows)) < len(rows):
        return None
    module: Any = network.get_submodule(layer)
    weight = module.weight.detach().flatten(1).float().cpu()
    bias = weight.new_zeros(len(weight)) if module.bias is None else module.bias.detach().float().cpu()
    both = torch.cat([weight, bias[:, None]], dim=1)
    return {match.row: both[index] for index, match in enumerate(matches) if match.row is not None}


def _enough_samples(
    settings: SolveSettings, model: ProLabForSemanticSegmentation, num_images: int
) -> SolveSettings:
    if settings.samples_per_image is not None:
        return settings
    features = model.decode_head.classifier.in_channels + 1
    wanted = max(FEWEST_SAMPLES, math.ceil(SAMPLES_PER_FEATURE * features / num_images))
    return SolveSettings(**{**vars(settings), "samples_per_image": wanted})


def _compare(
    answers: OwnAnswers, model: ProLabForSemanticSegmentation, *, show_progress: bool
) -> _Comparison:
    """Agreement and, where there are masks, mean IoU before and after, at the size of the images."""
    images, number = answers.images, len(label_names(model.config))
    # One more class for what the network calls by a name that was left out: wrong wherever a mask says otherwise.
    before, after = (SegmentationCounts(number + 1, ignore_index=-1) for _ in range(2))
    unchanged = total = 0
    with inference_state(model), progress(show_progress, "comparing", len(images)) as bar:
        for index in range(len(images)):
            image, old = answers[index]
            new = predicted_labels(model, answers.processor, image)
            unchanged += int((old == new).sum())
            total += old.size
            if images.has_masks:
                truth = images[index][1]
                before.update(np.where(old < 0, number, old), truth)
                after.update(new, truth)
            bar.advance()
    if not images.has_masks:
        return {"agreement": unchanged / total, "mean_iou_before": None, "mean_iou_after": None}
    means = [_mean_iou(counts, number) for counts in (before, after)]
    return {"agreement": unchanged / total, "mean_iou_before": means[0], "mean_iou_after": means[1]}


def _mean_iou(counts: SegmentationCounts, number: int) -> float:
    ious: NDArray[np.float64] = counts.scores().class_iou[:number]
    return float(np.nanmean(ious))


def _public_name(network: PreTrainedModel) -> str:
    name = str(getattr(network.config, "_name_or_path", "") or "")
    return "" if Path(name).is_dir() else name


__all__ = ["AdaptReport", "Adaptation", "adapt", "adapt_network"]
