"""What a described class may claim: the calibration sample of any model, and what an offset would do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prolab_hf.evaluation.inference import inference_state, model_output, prepare
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.closed_form_prolab import (
    budget_offset,
    claim_margins,
    class_sources,
    is_trained,
    label_names,
)
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.progress import progress
from prolab_hf.protocols import ImageProcessor
from prolab_hf.solving.accumulation import CALIBRATION_PIXELS, LabeledImages, NamedClasses, Pass, Reservoir
from prolab_hf.solving.pixel_features import features_at, sample_pixels

MOST_LISTED = 5
TYPICAL_PIXELS = 2048
"""Pixels of the sample that say how clearly properties are shown."""


@torch.no_grad()
def calibrate(
    model: ProLabForSemanticSegmentation,
    dataset: LabeledImages,
    processor: ImageProcessor,
    *,
    claim_budget: float | None = 0.01,
    samples_per_image: int | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> None:
    """Gives a model, solved or trained, its calibration sample, and its described classes their offsets.

    About 8,192 pixels of known classes, spread over these, with their property scores as integers. They travel with
    the weights, so a class that is described later is calibrated at once, without any image.

    Args:
        model: In place. A model that does not say which classes it was trained for gets those that occur here.
        dataset: Labeled images that the model was not trained on, as for `solve`.
        processor: Its image processor.
        claim_budget: As for `set_property_space`.
        samples_per_image: Pixels that are looked at; `None`: one per 14 x 14.
        seed: Of the choice of pixels.
        show_progress: Show a bar.

    Raises:
        ValueError: The data set has a class that the model does not know, or no labeled pixel of a trained class.
    """
    names = label_names(model.config)
    trained = model.config.trained_classes
    classes = NamedClasses(names, dataset, [] if trained is None else _untrained(model))
    work = Pass(model.last_layer_maps, processor, dataset, classes)
    found = Reservoir(max(16, CALIBRATION_PIXELS // len(names)))
    with inference_state(model), progress(show_progress, "calibrating", len(dataset)) as bar:
        for index in range(len(dataset)):
            image, ids, _ = work.read(index)
            rng = np.random.default_rng((seed, index))
            sample = sample_pixels(ids, -1, samples_per_image, rng)
            if len(sample.labels):
                maps = calibration_maps(model, prepare(processor, image))
                values = features_at([maps], sample, ids.shape)[:, :-1].cpu()
                keys = torch.from_numpy(rng.random(len(values))).log() / torch.from_numpy(sample.weights)
                found.add(values, torch.from_numpy(sample.labels), keys)
            bar.advance()
    values, labels, _ = found.content()
    if not len(labels):
        raise ValueError(
            "None of the images has a labeled pixel of a class that the model was trained for; described classes "
            "cannot be calibrated with them."
        )
    if trained is None:
        present = labels.unique().tolist()
        model.config.trained_classes = trained = [names[index] for index in present]
    sources = {label: row[0] for label, row in enumerate(class_sources(model.config)) if row}
    model.set_calibration_sample(values, torch.tensor([sources[label] for label in labels.tolist()]))
    model.set_claim_budget(claim_budget)


def calibration_maps(model: ProLabForSemanticSegmentation, pixel_values: Tensor) -> Tensor:
    """What the calibration sample holds of an image: responses of a solved model, else what rows are compared with.

    Args:
        model: Any ProLab model.
        pixel_values: `(1, 3, height, width)`.

    Returns:
        `(1, channels, height, width)`.
    """
    if model.config.similarity != "linear_cosine":
        return model.property_scores(model_output(model, pixel_values).property_logits)
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    return model.responses(pixel_values.to(parameter.device, parameter.dtype))


def _untrained(model: ProLabForSemanticSegmentation) -> list[str]:
    trained = is_trained(model.config)
    return [name for name, known in zip(label_names(model.config), trained.tolist()) if not known]


@dataclass(frozen=True)
class ClaimPreview:
    """What a class known by its description would do.

    Attributes:
        class_name: The class.
        offset: What is added to its score.
        takes_from: Known classes with the share of their pixels in the sample that it would take, largest first.
        nearest: The known class that its typical pixel is most easily taken for.
        typical_lead: Score of the class minus that of `nearest`, offset included, at a pixel that shows its
            properties as clearly as the known classes show theirs.
    """

    class_name: str
    offset: float
    takes_from: list[tuple[str, float]]
    nearest: str
    typical_lead: float

    @property
    def can_be_told_apart(self) -> bool:
        """Whether a typical pixel of the class would be given to it."""
        return self.typical_lead > 0

    def to_text(self) -> str:
        """One or two sentences."""
        taken = ", ".join(f"{name} ({share:.1%})" for name, share in self.takes_from[:MOST_LISTED])
        first = (
            f"{self.class_name} would take pixels from {taken}."
            if taken
            else f"{self.class_name} takes no pixel."
        )
        if self.can_be_told_apart:
            return first
        return (
            f"{first} By these properties it cannot be told apart from {self.nearest} within this budget: describe "
            "what sets the two apart."
        )


@torch.no_grad()
def preview_claims(
    model: ProLabForSemanticSegmentation, space: PropertySpace | None = None, *, claim_budget: float = 0.01
) -> list[ClaimPreview]:
    """What the described classes of a space would do to a model, before it is used; the model stays as it is.

    Args:
        model: A model with a calibration sample.
        space: The space; `None` takes the model's own.
        claim_budget: Share of the pixels of known classes that each described class may take.

    Raises:
        ValueError: The model has no calibration sample (`calibrate` makes one).
    """
    before, budget = (model.property_space, model.config.claim_budget) if space is not None else (None, None)
    if model.calibration_scores is None:
        raise ValueError(
            "The model has no calibration sample, so nothing is known about the pixels of its classes; "
            "prolab_hf.solving.claim_budget.calibrate makes one from labeled images."
        )
    kept = model.calibration_scores, model.calibration_labels, model.config.class_sources
    try:
        if space is not None:
            model.set_property_space(space, claim_budget=None)
        measured = model.calibration_class_scores()
        if measured is None:
            raise ValueError(
                "None of the classes of the space was trained, so there is nothing to compare with."
            )
        return _previews(model, measured[0].cpu(), measured[1].cpu(), claim_budget)
    finally:
        if before is not None:
            model.set_property_space(before, claim_budget=None)
            model.config.class_sources = kept[2]
            model.restore_calibration_sample(kept[0], kept[1])
            model.set_claim_budget(budget)


def _previews(
    model: ProLabForSemanticSegmentation, scores: Tensor, labels: Tensor, budget: float
) -> list[ClaimPreview]:
    names, trained = label_names(model.config), is_trained(model.config)
    margins = claim_margins(scores, trained)
    typical = _typical_scores(model)
    known = [name for name, is_known in zip(names, trained.tolist()) if is_known]
    result = []
    for column, label in enumerate((~trained).nonzero().flatten().tolist()):
        offset = budget_offset(margins[:, column], budget)
        taken = margins[:, column] < offset
        shares = [(names[c], float(taken[labels == c].float().mean())) for c in labels.unique().tolist()]
        rival = int(typical[column][trained].argmax())
        lead = float(typical[column, label] - typical[column][trained].max()) + offset
        listed = sorted((item for item in shares if item[1] > 0), key=lambda item: -item[1])
        result.append(ClaimPreview(names[label], offset, listed, known[rival], lead))
    return result


def _typical_scores(model: ProLabForSemanticSegmentation) -> Tensor:
    """Class scores `(described classes, num_labels)` at a pixel that shows each described class's row typically.

    Properties never reach 0 and 1: how clearly a known class shows those that it has, and those that it has not, is
    read off the sample and carried over.
    """
    scores, labels = model.calibration_property_scores()
    # A quarter of the sample tells a median as well; its order says nothing.
    step = max(1, len(labels) // TYPICAL_PIXELS)
    scores, labels = scores[::step], labels[::step]
    number = model.class_property_matrix.shape[1]
    rows = model.class_property_matrix.cpu()
    named, own = scores[:, :number], rows[labels] > 0
    seen, unseen = named[own].median(), named[~own].median()
    described = rows[~is_trained(model.config)]
    pixels = torch.where(described > 0, seen, unseen)
    rest = scores[:, number:].median(dim=0).values.expand(len(pixels), -1)
    compared = torch.cat([pixels, rest], dim=1)[:, :, None, None].to(model.class_property_matrix)
    return model.similarity_of_scores(compared).flatten(1).cpu()
