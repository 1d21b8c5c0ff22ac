"""Classes that were not trained: how well they are found by their words, and how well unknown pixels are told."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from prolab_hf.evaluation.evaluate import as_sample
from prolab_hf.evaluation.inference import class_names_of, inference_state, model_output, prepare
from prolab_hf.evaluation.metrics import SegmentationCounts
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.progress import progress
from prolab_hf.protocols import ImageProcessor

if TYPE_CHECKING:
    from prolab_hf.label_space.property_space import PropertySpace
    from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation

BINS = 4096  # of the score histogram, over its whole range
CONTROLS = ("random", "shuffled")


class ScoreHistogram:
    """Counts of scores of two kinds of pixels, from which ranking figures follow; memory does not grow.

    Args:
        low: Least score.
        high: Greatest score.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        self.low, self.high = low, high
        self.counts = np.zeros((2, BINS), dtype=np.int64)

    def update(self, scores: Tensor, is_unknown: Tensor) -> None:
        """Counts pixels.

        Args:
            scores: How unknown each looks `(pixels,)`.
            is_unknown: Bool `(pixels,)`.
        """
        bins = ((scores.double() - self.low) / (self.high - self.low) * BINS).long().clamp(0, BINS - 1)
        for row, chosen in enumerate((~is_unknown, is_unknown)):
            self.counts[row] += torch.bincount(bins[chosen], minlength=BINS).cpu().numpy()

    def figures(self) -> dict[str, float | None]:
        """`auroc`, `auprc` and `fpr95` of calling pixels unknown; `None` where one kind did not occur."""
        known, unknown = (row[::-1].cumsum().astype(np.float64) for row in self.counts)
        if not known[-1] or not unknown[-1]:
            return {"auroc": None, "auprc": None, "fpr95": None}
        false, true = known / known[-1], unknown / unknown[-1]
        steps = np.diff(true, prepend=0.0)
        precision = unknown / np.maximum(known + unknown, 1)
        area = float(np.sum(np.diff(false, prepend=0.0) * (true + np.concatenate([[0.0], true[:-1]])) / 2))
        return {
            "auroc": area,
            "auprc": float(np.sum(steps * precision)),
            "fpr95": float(false[np.searchsorted(true, 0.95)]),
        }


def held_out_means(results: Mapping[str, Any], held_out: Sequence[str]) -> dict[str, float | None]:
    """Mean IoU of the seen and of the held-out classes, and their harmonic mean.

    Args:
        results: What `evaluate` gives.
        held_out: Names of classes that were not trained.
    """
    parts: tuple[list[float], list[float]] = ([], [])
    for entry in results["per_class"]:
        if entry["iou"] is not None:
            parts[entry["name"] in held_out].append(entry["iou"])
    seen, unseen = (sum(values) / len(values) if values else None for values in parts)
    harmonic = None
    if seen is not None and unseen is not None:
        harmonic = 2 * seen * unseen / (seen + unseen) if seen + unseen else 0.0
    return {"seen_iou": seen, "unseen_iou": unseen, "harmonic_mean_iou": harmonic}


def evaluate_held_out(
    model: ProLabForSemanticSegmentation,
    processor: ImageProcessor,
    source: Any,
    held_out: Sequence[str],
    *,
    claim_budget: float | None = 0.01,
    seed: int = 0,
    show_progress: bool = False,
) -> dict[str, Any]:
    """How well a model finds classes that it knows by description only, and whether the words are the reason.

    Beside the model stand two controls under the same claim budget: `"random"`, rows drawn at random, and
    `"shuffled"`, the same rows dealt out to other classes; for every class of a solved model, which is solved for
    them anew, and for the held-out classes of a trained one. Words are worth something where they beat both. They can
    do so only where classes share visible properties.

    Args:
        model: A model that was trained without the held-out classes and whose space describes them.
        processor: Its image processor.
        source: Labeled images, as for `evaluate`.
        held_out: Names of the classes.
        claim_budget: Of each held-out class.
        seed: Of the controls.
        show_progress: Show a bar.

    Returns:
        `seen_iou`, `unseen_iou`, `harmonic_mean_iou`, `per_class`, `unknown` (`auroc`, `auprc`, `fpr95` of telling
        held-out pixels by the best score of the other classes), and `controls` with the same means.

    Raises:
        ValueError: A held-out class is unknown, was trained, or none is given; the source holds no images.
    """
    names = class_names_of(model)
    _check_held_out(model, names, held_out)
    if not len(source):
        raise ValueError("The source holds no images; check the folder and the split.")
    space = model.property_space
    variants = {"model": _variant(model, space, claim_budget)}
    for control in CONTROLS:
        variants[control] = _variant(
            model, _control_space(model, space, held_out, control, seed), claim_budget
        )
    seen_only = _variant(model, space.remove_classes(list(held_out)), None)
    ignore = int(getattr(source, "ignore_index", model.config.semantic_loss_ignore_index))
    counts = {name: SegmentationCounts(len(names), ignore_index=ignore) for name in variants}
    histogram = ScoreHistogram(-1.0, 1.0)
    order = _order(names, getattr(source, "class_names", None), ignore)
    outside = torch.tensor([name in held_out for name in names])
    with inference_state(model), progress(show_progress, "evaluating", len(source)) as bar:
        for index in range(len(source)):
            sample = as_sample(source[index], index, processor)
            labels = torch.from_numpy(order(sample.mask))
            pixel_values = prepare(processor, sample.image)
            answers = _class_logits(model, pixel_values, [*variants.values(), seen_only])
            size = (int(labels.shape[0]), int(labels.shape[1]))
            for name, logits in zip(variants, answers):
                counts[name].update(resize_argmax(logits, size)[0], labels)
            best = F.interpolate(answers[-1].amax(dim=1, keepdim=True), size, mode="bilinear")[0, 0].cpu()
            valid = labels != ignore
            histogram.update(-best[valid], outside[labels[valid].long()])
            bar.advance()
    found = {name: count.scores(average="union").to_dict(names) for name, count in counts.items()}
    return {
        **held_out_means(found["model"], held_out),
        "held_out": list(held_out),
        "claim_budget": claim_budget,
        "mean_iou": found["model"]["mean_iou"],
        "per_class": found["model"]["per_class"],
        "unknown": histogram.figures(),
        "controls": {name: held_out_means(found[name], held_out) for name in CONTROLS},
    }


def _check_held_out(
    model: ProLabForSemanticSegmentation, names: Sequence[str], held_out: Sequence[str]
) -> None:
    if not held_out:
        raise ValueError(
            "No held-out class is named; name at least one class that the model was not trained for."
        )
    for name in held_out:
        if name not in names:
            raise ValueError(
                f"The model has no class {name!r}; its classes are {', '.join(names[:8])}. Add the held-out class by "
                "its description first (model.set_property_space)."
            )
        if name in (model.config.trained_classes or ()):
            raise ValueError(
                f"The model was trained for the class {name!r}, so it is not held out; solve or train without it "
                "(prolab solve --held-out)."
            )
    if len(held_out) >= len(names):
        raise ValueError("All classes are held out; at least one must have been trained.")


def _variant(model: ProLabForSemanticSegmentation, space: PropertySpace, budget: float | None) -> Any:
    """The same network with other words; weights are shared, buffers and configuration are its own."""
    variant = copy.copy(model)
    variant.__dict__ = {
        **model.__dict__,
        "_buffers": dict(model._buffers),
        "config": copy.deepcopy(model.config),
    }
    variant.set_property_space(space, claim_budget=budget)
    return variant


def _control_space(
    model: ProLabForSemanticSegmentation,
    space: PropertySpace,
    held_out: Sequence[str],
    control: str,
    seed: int,
) -> PropertySpace:
    rows = space.class_property_matrix.clone()
    chosen = torch.arange(len(rows))
    if model.config.similarity != "linear_cosine":
        chosen = torch.tensor([index for index, name in enumerate(space.class_names) if name in held_out])
    generator = torch.Generator().manual_seed(seed)
    if control == "shuffled":
        # Dealt out among all classes, so that a held-out class never keeps its own row.
        shift = torch.randperm(len(rows), generator=generator)
        moved = shift.roll(1)
        target = torch.empty_like(shift)
        target[shift] = moved
        rows[chosen] = space.class_property_matrix[target[chosen]]
    else:
        density = float(rows.mean())
        for index in chosen.tolist():
            row = torch.rand(rows.shape[1], generator=generator) < density
            row[torch.randint(rows.shape[1], (1,), generator=generator)] = True
            rows[index] = row.float()
    return space.replace(class_property_matrix=rows, descriptions=None, assignments=None)


def _order(names: Sequence[str], data_names: Sequence[str] | None, ignore: int) -> Any:
    """From the data set's ids to the model's, by name."""
    if data_names is None or list(data_names) == list(names)[: len(data_names)]:
        return lambda mask: mask.astype(np.int64)
    unknown = [name for name in data_names if name not in names]
    if unknown:
        raise ValueError(f"The data set has the class {unknown[0]!r}, which the model does not know.")
    table = np.array([list(names).index(name) for name in data_names])

    def ordered(mask: NDArray[np.integer]) -> NDArray[np.int64]:
        void = mask == ignore
        return np.where(void, ignore, table[np.where(void, 0, mask)])

    return ordered


def _class_logits(
    model: ProLabForSemanticSegmentation, pixel_values: Tensor, variants: Sequence[Any]
) -> list[Tensor]:
    """Class logits of every variant of one network, which runs once."""
    if model.config.similarity == "linear_cosine":
        parameter = next(p for p in model.parameters() if p.is_floating_point())
        responses = model.responses(pixel_values.to(parameter.device, parameter.dtype)).float()
        return [variant.logits_of_responses(responses) for variant in variants]
    logits = model_output(model, pixel_values).property_logits
    return [variant.class_logits(logits) for variant in variants]
