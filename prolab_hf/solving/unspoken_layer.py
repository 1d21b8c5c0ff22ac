"""Responses of their own for what words do not say.

A solution for properties has two tasks: to say what is seen, and to tell the trained classes apart. Here each gets its
own responses. The named properties keep those of plain least squares, which find described classes best; the property
without words of each trained class follows from a layer that has nothing else to do than to tell these classes apart:
one trained by cross-entropy on a sample of pixels, or the last layer that a network has. Trained classes are told apart
about as well as by both together, and described classes lose nothing: a pixel that the second layer gives to no class
is freer for them (benchmarks/study/README.md, "Defaults").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prolab_hf.model.closed_form_prolab import label_names, num_trained
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.solving.accumulation import Pass
from prolab_hf.solving.refinement import layer_as_responses, pixels_of_images, relaxed_layers
from prolab_hf.solving.solution import Pixels, class_score_parts, joined, mean_iou, spoken_shares
from prolab_hf.solving.solved_head import set_last_layer

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
        own_layer: Whether it is the network's own layer.
        mean_iou: On the validation pixels, of layers that have not seen them.
        words_iou: The same of the words alone.
        honest_responses: `(validation pixels, 2 * trained classes)` of these layers.
    """

    layer: Tensor
    unspoken_weight: float
    sharpness: float
    own_layer: bool
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
    own_layer: Tensor | None = None,
) -> UnspokenLayer:
    """The layer, its weight and its sharpness that do best on validation pixels; then solved with these pixels, too.

    Args:
        fit: Pixels to solve on.
        validation: Pixels of other images, to choose by.
        class_rows: `(trained classes, num_properties)` of 0 and 1.
        ridge: lambda.
        class_exponent: rho.
        own_layer: The layer that gave a network's class scores, `(trained classes, num_features)`, the bias last.
    """
    number = len(class_rows)
    words = dict(relaxed_layers(fit, number, ridge, class_exponent, (0,)))[0]
    said = validation.features @ words.t()
    found: list[tuple[float, float, float, bool, Tensor]] = []

    def score(responses: Tensor, beta: float) -> float:
        predicted = sum(class_score_parts(responses, class_rows, beta), torch.zeros(())).argmax(dim=1)
        return mean_iou(predicted, validation.labels, validation.weights, number)

    for own, layer in _candidates(fit, number, class_exponent, own_layer).items():
        unsaid = validation.features @ layer.t()
        for sharpness in SHARPNESS:
            responses = torch.cat([said, sharpness * unsaid], dim=1)
            found += [(score(responses, beta), beta, sharpness, own, responses) for beta in WEIGHTS]
    best = max(found, key=lambda each: each[0] - WEIGHT_WORTH * each[1])
    iou, beta, sharpness, own, responses = best
    everything = joined([fit, validation])
    layer = sharpness * _candidates(everything, number, class_exponent, own_layer)[own]
    return UnspokenLayer(layer, beta, sharpness, own, iou, score(said, 0.0), responses)


def _candidates(
    pixels: Pixels, number: int, class_exponent: float, own_layer: Tensor | None
) -> dict[bool, Tensor]:
    """Layers that tell classes apart, of sharpness 1, by whether they are the network's own."""
    layers = {False: UNIT * trained_layer(pixels, number)}
    if own_layer is not None:
        own = 2 * layer_as_responses(own_layer, pixels, class_exponent)
        own[:, -1] -= 1
        layers[True] = own
    return layers


def trained_layer(pixels: Pixels, number: int, seed: int = 0) -> Tensor:
    """A layer trained by cross-entropy `(number, num_features)` for raw features, the bias last; its mean row is 0.

    Args:
        pixels: To train on, each drawn as often as it stands for others.
        number: Of classes.
        seed: Of the order of the pixels.
    """
    raw = pixels.features[:, :-1]
    mean, std = raw.mean(dim=0), raw.std(dim=0).clamp_min(1e-6)
    generator = torch.Generator().manual_seed(seed)
    chance = pixels.weights.double().cumsum(0)
    with torch.enable_grad():
        weight = torch.zeros(number, raw.shape[1], requires_grad=True)
        bias = torch.zeros(number, requires_grad=True)
        optimizer = torch.optim.Adam([weight, bias])
        for step in range(STEPS):
            warm = min(1.0, (step + 1) / (WARM_UP * STEPS))
            optimizer.param_groups[0]["lr"] = RATE * warm * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            drawn = torch.rand(BATCH, generator=generator, dtype=torch.float64) * chance[-1]
            index = torch.searchsorted(chance, drawn).clamp_max(len(pixels) - 1)
            logits = torch.nn.functional.linear((raw[index] - mean) / std, weight, bias)
            loss = torch.nn.functional.cross_entropy(logits, pixels.labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    slopes = weight.detach() / std
    layer = torch.cat([slopes, (bias.detach() - slopes @ mean)[:, None]], dim=1)
    return layer - layer.mean(dim=0)


@torch.no_grad()
def add_unspoken_layer(
    model: ProLabForSemanticSegmentation, work: Pass, own_layer: Mapping[str, Tensor] | None = None
) -> UnspokenLayer | None:
    """Gives a model that was just solved responses without words, in place; what its words say stays.

    Looks at some of the images once more (at most 128, evenly spread; a fifth of them to choose by).

    Args:
        model: A solved model.
        work: The pass over the images that it was solved from.
        own_layer: For every class the row `(num_features,)` of the network's own last layer, the bias last.

    Returns:
        What was chosen; `None` where there are too few images to choose by.
    """
    config = model.config
    solution, trained = config.solution or {}, config.trained_classes or []
    fit, validation = pixels_of_images(work, trained)
    if not len(validation) or not len(fit):
        return None
    names = label_names(config)
    rows = model.class_property_matrix.float().cpu()[[names.index(name) for name in trained]]
    found = fit_unspoken_layer(
        fit,
        validation,
        rows,
        ridge=solution["ridge"],
        class_exponent=solution["class_exponent"],
        own_layer=None if own_layer is None else torch.stack([own_layer[name] for name in trained]),
    )
    budget, old = config.claim_budget, model.decode_head.classifier
    words = torch.cat([old.weight.flatten(1), old.bias[:, None]], dim=1)[: num_trained(config)]
    config.unspoken_responses, config.unspoken_weight = True, float(found.unspoken_weight)
    set_last_layer(model, torch.cat([words, found.layer.to(words)]))
    overall, per_class = spoken_shares(found.honest_responses, rows, found.unspoken_weight)
    config.solution = {
        **solution,
        "unspoken_weight": found.unspoken_weight,
        "mean_iou": found.mean_iou,
        "unspoken_layer": {
            "sharpness": found.sharpness,
            "own_layer": found.own_layer,
            "words_iou": found.words_iou,
        },
        "spoken_share": overall,
        "spoken_share_per_class": dict(zip(trained, per_class)),
    }
    model.set_calibration_sample(found.honest_responses, validation.labels)
    model.set_claim_budget(budget)
    return found


__all__: Sequence[str] = ["UnspokenLayer", "add_unspoken_layer", "fit_unspoken_layer"]
