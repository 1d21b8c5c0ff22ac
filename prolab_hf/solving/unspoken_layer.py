"""Responses of their own for what words do not say.

A solution for properties has two tasks: to say what is seen, and to tell the trained classes apart. Here each gets its
own responses. The named properties keep those of plain least squares, which find described classes best; the property
without words of each trained class follows from a layer that has nothing else to do than to tell these classes apart:
it is trained by cross-entropy on a sample of pixels. Trained classes are told apart better than by either alone.
Described classes have no such part, and what is seen without words does not count against them: their scores are
cosines over the named properties alone. Else they are found worse where the second layer gives their pixels to a class
that looks alike (CamVid, drawn scenes), and little better where it gives them to none (benchmarks/study/README.md,
"Defaults").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prolab_hf.model.closed_form_prolab import num_trained
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.solving.accumulation import Pass
from prolab_hf.solving.pixel_features import features_at
from prolab_hf.solving.refinement import NUM_PIXELS, sampled_images
from prolab_hf.solving.solution import (
    Pixels,
    Standardized,
    class_score_parts,
    joined,
    mean_iou,
)
from prolab_hf.solving.solved_head import give_last_layer, last_layer, rows_of_trained

WEIGHTS = (1.0, 2.0, 4.0)
SHARPNESS = (0.5, 1.0, 2.0, 4.0)
WEIGHT_WORTH = 0.001
"""What a unit of weight must gain in mean IoU: what words can say, they should say."""
STEPS, BATCH, RATE, WARM_UP = 200, 512, 0.01, 0.05
"""Of the layer that is trained: Adam on standardized features, warm-up and cosine decay, about a second."""
UNIT = 0.1
"""Sharpness 1 of the trained layer is this many times its centered logits."""


@dataclass(frozen=True)
class UnspokenLayer:
    """What was chosen.

    Attributes:
        layer: `(trained classes, num_features)`, the bias last: the responses without words, positive for a pixel's own
            class and negative for most others, times the sharpness.
        unspoken_weight: beta.
        sharpness: What the responses were multiplied by.
        mean_iou: On the validation pixels, of layers that have not seen them.
        words_iou: The same of the words alone.
        honest_responses: `(validation pixels, 2 * trained classes)` of these layers.
    """

    layer: Tensor
    unspoken_weight: float
    sharpness: float
    mean_iou: float
    words_iou: float
    honest_responses: Tensor


def fit_unspoken_layer(
    fit: Pixels,
    validation: Pixels,
    class_rows: Tensor,
    *,
    ridge: float,
    class_exponent: float,
) -> UnspokenLayer:
    """The layer, its weight and its sharpness that do best on validation pixels; then solved with these pixels, too.

    Args:
        fit: Pixels to solve on.
        validation: Pixels of other images, to choose by.
        class_rows: `(trained classes, num_properties)` of 0 and 1.
        ridge: lambda.
        class_exponent: rho.
    """
    number = len(class_rows)
    said = validation.features @ _least_squares(fit, number, ridge, class_exponent).t()
    unsaid = validation.features @ trained_layer(fit, number).t()
    found: list[tuple[float, float, float, Tensor]] = []

    def score(responses: Tensor, beta: float) -> float:
        predicted = sum(class_score_parts(responses, class_rows, beta), torch.zeros(())).argmax(dim=1)
        return mean_iou(predicted, validation.labels, validation.weights, number)

    for sharpness in SHARPNESS:
        responses = torch.cat([said, sharpness * unsaid], dim=1)
        found += [(score(responses, beta), beta, sharpness, responses) for beta in WEIGHTS]
    iou, beta, sharpness, responses = max(found, key=lambda each: each[0] - WEIGHT_WORTH * each[1])
    layer = sharpness * trained_layer(joined([fit, validation]), number)
    return UnspokenLayer(layer, beta, sharpness, iou, score(said, 0.0), responses)


def _least_squares(pixels: Pixels, number: int, ridge: float, class_exponent: float) -> Tensor:
    """The words' responses from these pixels, float32 `(number, num_features)`."""
    counts = torch.bincount(pixels.labels, pixels.weights.double(), minlength=number)
    weights = pixels.weights.double() * (counts.clamp_min(1e-12) ** -class_exponent)[pixels.labels]
    features = pixels.features.double()
    weighted = features * weights[:, None]
    targets = torch.nn.functional.one_hot(pixels.labels, number).double()
    return Standardized.of(features.t() @ weighted, targets.t() @ weighted).responses(ridge).float()


def trained_layer(pixels: Pixels, number: int, seed: int = 0) -> Tensor:
    """A layer trained by cross-entropy, of sharpness 1: `(number, num_features)` for raw features, the bias last.

    Its mean row is 0, so that a response says how a class compares with the others. A class without any pixel here is
    not trained against: its row is 0, which speaks neither for nor against it.

    Args:
        pixels: To train on, each drawn as often as it stands for others.
        number: Of classes.
        seed: Of the order of the pixels.
    """
    raw, (present, labels) = pixels.features[:, :-1], pixels.labels.unique(return_inverse=True)
    mean, std = raw.mean(dim=0), raw.std(dim=0).clamp_min(1e-6)
    generator = torch.Generator().manual_seed(seed)
    chance = pixels.weights.double().cumsum(0)
    with torch.enable_grad():
        weight = torch.zeros(len(present), raw.shape[1], requires_grad=True)
        bias = torch.zeros(len(present), requires_grad=True)
        optimizer = torch.optim.Adam([weight, bias])
        for step in range(STEPS):
            warm = min(1.0, (step + 1) / (WARM_UP * STEPS))
            optimizer.param_groups[0]["lr"] = RATE * warm * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            drawn = torch.rand(BATCH, generator=generator, dtype=torch.float64) * chance[-1]
            index = torch.searchsorted(chance, drawn).clamp_max(len(pixels) - 1)
            logits = torch.nn.functional.linear((raw[index] - mean) / std, weight, bias)
            loss = torch.nn.functional.cross_entropy(logits, labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    slopes = weight.detach() / std
    trained = torch.cat([slopes, (bias.detach() - slopes @ mean)[:, None]], dim=1)
    layer = trained.new_zeros(number, trained.shape[1])
    layer[present] = UNIT * (trained - trained.mean(dim=0))
    return layer


@dataclass(frozen=True)
class FormerLayer:
    """What a solved model has of this layer before more images are added.

    Attributes:
        rows: Trained class -> its row `(num_features,)`, the bias last.
        unspoken_weight: beta.
        chosen: What the configuration says of it.
    """

    rows: Mapping[str, Tensor]
    unspoken_weight: float
    chosen: Mapping[str, object]

    @classmethod
    def of(cls, model: ProLabForSemanticSegmentation) -> FormerLayer | None:
        """That of a model; `None` where it has none."""
        config = model.config
        if not config.unspoken_responses:
            return None
        rows = last_layer(model)[num_trained(config) :]
        chosen = (config.solution or {}).get("unspoken_layer", {})
        named = dict(zip(config.trained_classes or [], rows, strict=True))
        return cls(named, float(config.unspoken_weight or 0.0), chosen)


@torch.no_grad()
def add_unspoken_layer(
    model: ProLabForSemanticSegmentation, work: Pass, former: FormerLayer | None = None
) -> bool:
    """Gives a model that was just solved responses without words, in place; what its words say stays.

    Looks at some of the images once more (at most 128, evenly spread; a fifth of them to choose by).

    Args:
        model: A solved model.
        work: The pass over the images that it was solved from.
        former: What it had before these images were added: classes that they do not show keep their rows of it, and
            where there are too few images to choose by, all of it stays.

    Returns:
        Whether the model has such responses: not where there are too few images to choose by and nothing to keep.
    """
    config = model.config
    solution, trained = config.solution or {}, config.trained_classes or []
    words = last_layer(model)[: num_trained(config)].cpu()
    known = {name: row.cpu() for name, row in former.rows.items()} if former is not None else {}
    fit, validation = _pixels_of(work, trained)
    if len(validation) and len(fit):
        found = fit_unspoken_layer(
            fit,
            validation,
            rows_of_trained(model),
            ridge=solution["ridge"],
            class_exponent=solution["class_exponent"],
        )
        layer, responses, beta = found.layer, found.honest_responses, found.unspoken_weight
        seen = joined([fit, validation]).labels
        for index, name in enumerate(trained):
            if name in known and not (seen == index).any():
                layer[index] = known[name]
                responses[:, len(trained) + index] = validation.features @ layer[index]
        solution = {
            **solution,
            "mean_iou": found.mean_iou,
            "unspoken_layer": {"sharpness": found.sharpness, "words_iou": found.words_iou},
        }
    elif former is not None:
        validation = fit if len(fit) else validation
        nothing = words.new_zeros(words.shape[1])
        layer = torch.stack([known.get(name, nothing) for name in trained])
        responses = words.new_zeros(0, 2 * len(trained))
        if len(validation):
            responses = validation.features @ torch.cat([words, layer]).t()
        beta, solution = former.unspoken_weight, {**solution, "unspoken_layer": dict(former.chosen)}
    else:
        return False
    config.unspoken_responses = config.described_by_words = True
    give_last_layer(
        model,
        torch.cat([words, layer]),
        solution,
        unspoken_weight=beta,
        responses=responses,
        labels=validation.labels,
        claim_budget=config.claim_budget,
    )
    return True


def _pixels_of(work: Pass, trained: Sequence[str]) -> tuple[Pixels, Pixels]:
    """Pixels to fit to and, of every fifth image, to choose by."""
    parts: tuple[list[Pixels], list[Pixels]] = ([], [])
    for held, maps, sample, size in sampled_images(work, trained, lambda num_features: NUM_PIXELS):
        known = torch.from_numpy(sample.labels), torch.from_numpy(sample.weights)
        parts[held].append(Pixels(features_at(maps, sample, size).cpu(), *known))
    return joined(parts[0]), joined(parts[1])


__all__ = ["FormerLayer", "UnspokenLayer", "add_unspoken_layer", "fit_unspoken_layer"]
