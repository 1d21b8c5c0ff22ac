"""Heads on frozen pixel features: one network, one order of pixels, one schedule; only the objective differs.

Every trained head is a last layer on standardized features (or, with `hidden`, on one hidden layer of ReLU units),
trained with Adam and a cosine schedule on pixels that are drawn uniformly. Property heads give a pixel embedding,
compared with the property embeddings as `sigmoid(e . E_k / T)`, like that of `ProLabForSemanticSegmentation`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from closed_form import CONSE_SCALE, conse_scores
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.study.pixels import Pixels
from prolab_hf.solving import solution
from prolab_hf.solving.solution import Choice, choose, scores_with_described, solve_responses
from prolab_hf.solving.statistics import ClassStatistics, WaitingRows
from prolab_hf.solving.unspoken_layer import SHARPNESS, UNIT, WEIGHT_WORTH, WEIGHTS

Scores = Callable[[Tensor], Tensor]
"""From raw features `(pixels, channels)` to scores of all classes `(pixels, num_classes)`."""
BATCH = 512
WARM_UP = 0.05
WARM_UP_OBJECTIVE = 0.3
"""Share of the steps in which the `ramp` arm goes from the class term alone to both."""
CLASS_TEMPERATURE = 0.05
INIT_STD = 0.01


@dataclass(frozen=True)
class Arm:
    """An objective.

    Attributes:
        name: As tables show it.
        kind: `category` (one logit per class), `property` (logits of properties), `solved` (closed form) or `unspoken`
            (words in closed form, beside them a trained category head as the part without words).
        cosine: Weight of the property cosine loss.
        bce: Weight of the binary cross-entropy of properties.
        ce: Weight of the cross-entropy of `class similarity / class temperature`.
        class_weights: Weigh a pixel of a class with n pixels by n^-0.5.
        temperature: T of the property scores.
        learn_temperature: Learn the class temperature.
        ramp: Begin with the class term alone, bring the property term in over the first 30 % of the steps.
        start: `random` or `solved`.
        rows: `words`, `random`, `shuffled`, `one-hot` or `names` (embeddings of the class names).
        unspoken: Whether a solved head may have properties without words; `None` for a solved category head.
        hidden: Units of the hidden layer; 0 = none.
        by_words: Whether described classes of `unspoken` are compared by named properties alone.
    """

    name: str
    kind: str = "property"
    cosine: float = 0.0
    bce: float = 0.0
    ce: float = 0.0
    class_weights: bool = False
    temperature: float = 0.04
    learn_temperature: bool = False
    ramp: bool = False
    start: str = "random"
    rows: str = "words"
    unspoken: bool = False
    hidden: int = 0
    by_words: bool = True


ARMS = {
    arm.name: arm
    for arm in (
        Arm("category", "category", ce=1),
        Arm("category, weighted", "category", ce=1, class_weights=True),
        Arm("property", cosine=1),
        Arm("property, weighted", cosine=1, class_weights=True),
        Arm("bce", bce=1),
        Arm("property + class", cosine=1, ce=1),
        Arm("property + class, T 0.5", cosine=1, ce=1, temperature=0.5),
        Arm("class term only", ce=1),
        Arm("bce + class", bce=1, ce=1),
        Arm("bce + class, T 0.5", bce=1, ce=1, temperature=0.5),
        Arm("bce + property + class, weighted", cosine=1, bce=1, ce=1, class_weights=True),
        Arm("property + class, weighted", cosine=1, ce=1, class_weights=True),
        Arm("property + class, learned temperature", cosine=1, ce=1, learn_temperature=True),
        Arm("class, then property + class", cosine=1, ce=1, ramp=True),
        Arm("solved, then property", cosine=1, start="solved"),
        Arm("solved, then property + class", cosine=1, ce=1, start="solved"),
        Arm("solved, then bce + class", bce=1, ce=1, start="solved"),
        Arm("words solved, rest trained", "unspoken", ce=1, start="solved"),
        Arm("words solved, rest trained, one norm", "unspoken", ce=1, start="solved", by_words=False),
        Arm("class names", "property", ce=1, rows="names"),
        Arm("random codes", cosine=1, rows="random"),
        Arm("shuffled rows", cosine=1, rows="shuffled"),
        Arm("one-hot", cosine=1, rows="one-hot"),
        Arm("category, closed form", "solved", unspoken=False, rows="category"),
        Arm("property, closed form", "solved"),
        Arm("property + unspoken, closed form", "solved", unspoken=True),
        Arm("random codes, closed form", "solved", rows="random"),
        Arm("shuffled rows, closed form", "solved", rows="shuffled"),
    )
}


@dataclass
class Words:
    """What the words say: rows of all classes and embeddings of the properties.

    Attributes:
        rows: `(num_classes, num_properties)`, float.
        embeddings: `(num_properties, embedding_dim)`, unit rows.
        name_embeddings: `(num_classes, embedding_dim)` of the class names.
    """

    rows: Tensor
    embeddings: Tensor
    name_embeddings: Tensor

    def of(self, kind: str, seed: int) -> "Words":
        """The words, or a control in their place."""
        generator = torch.Generator().manual_seed(1000 + seed)
        if kind == "random":  # as many ones as the words have, no class without any
            codes = (torch.rand(self.rows.shape, generator=generator) < self.rows.mean()).float()
            codes[codes.sum(dim=1) == 0, 0] = 1
            return Words(codes, self.embeddings, self.name_embeddings)
        if kind == "shuffled":
            order = torch.randperm(len(self.rows), generator=generator)
            return Words(self.rows[order], self.embeddings, self.name_embeddings)
        if kind == "one-hot":
            number, width = len(self.rows), max(len(self.rows), self.embeddings.shape[1])
            random = torch.randn(width, width, generator=generator)
            return Words(torch.eye(number), torch.linalg.qr(random).Q[:number], self.name_embeddings)
        if kind == "names":
            return Words(torch.eye(len(self.rows)), self.name_embeddings, self.name_embeddings)
        return self


@dataclass
class Fitted:
    """A head that was trained or solved.

    Attributes:
        scores: Scores of all classes, as the model would deliver them.
        properties: Scores of the properties `(pixels, num_properties)`; `None` for a category head.
        rows: What the property scores are compared with.
        logits: Of a category head: its own scores, of the trained classes only.
        facts: What was chosen.
    """

    scores: Scores
    properties: Scores | None = None
    rows: Tensor | None = None
    logits: Scores | None = None
    facts: dict[str, float | str] = field(default_factory=dict)


class Head(nn.Module):
    """A last layer, with or without a hidden one in front of it, on standardized features."""

    def __init__(self, arm: Arm, pixels: Pixels, words: Words, num_trained: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        index = torch.randperm(len(pixels), generator=generator)[:20000]
        some = pixels.features[index].float()
        self.mean, self.std = some.mean(dim=0), some.std(dim=0).clamp_min(1e-6)
        width, self.arm = len(self.mean), arm
        self.hidden: nn.Linear | None = None
        if arm.hidden:
            self.hidden = nn.Linear(width, arm.hidden)
            with torch.no_grad():
                self.hidden.weight.normal_(std=math.sqrt(2 / width), generator=generator)
                self.hidden.bias.zero_()
            width = arm.hidden
        # Directions that no property embedding has change no score; without them a step costs a third.
        self.basis = torch.linalg.qr(words.embeddings.t()).Q
        out = num_trained if arm.kind == "category" else self.basis.shape[1]
        self.weight = nn.Parameter(torch.empty(out, width).normal_(std=INIT_STD, generator=generator))
        self.bias = nn.Parameter(torch.zeros(out))
        self.bank = words.embeddings @ self.basis
        self.log_temperature = nn.Parameter(torch.tensor(math.log(CLASS_TEMPERATURE)))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of classes, or of properties before the sigmoid, `(pixels, channels)`."""
        features = (features.float() - self.mean) / self.std
        if self.hidden is not None:
            features = self.hidden(features).relu()
        if self.arm.kind == "category":
            return F.linear(features, self.weight, self.bias)
        # Layer and bank are folded, as in the model: both are linear.
        weight = self.bank @ self.weight / self.arm.temperature
        return F.linear(features, weight, self.bank @ self.bias / self.arm.temperature)

    def similarity(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Similarity of property logits with unit rows; of raw embeddings with class names."""
        if self.arm.rows == "names":
            raise AssertionError("class names have their own similarity")
        return F.normalize(logits.sigmoid(), dim=1) @ rows.t()

    @torch.no_grad()
    def start_at(self, layer: Tensor, rows: Tensor) -> None:
        """Scores start near 0.12 and 0.88 of the solution, as `start_at_solution` puts a model's last layer."""
        targets = (2 * rows - 1).t().double() @ layer.double()  # (num_properties, num_features)
        weight = targets[:, :-1] * self.std.double()
        bias = targets[:, -1] + targets[:, :-1] @ self.mean.double()
        inverse = torch.linalg.pinv(self.bank.double()) * 2 * self.arm.temperature
        self.weight.copy_(inverse @ weight)
        self.bias.copy_(inverse @ bias)


def name_similarity(head: Head, features: Tensor, names: Tensor) -> Tensor:
    """Cosine of pixel embeddings and class-name embeddings, `(pixels, classes)`."""
    standard = (features.float() - head.mean) / head.std
    if head.hidden is not None:
        standard = head.hidden(standard).relu()
    return F.normalize(F.linear(standard, head.weight, head.bias), dim=1) @ (names @ head.basis).t()


def train(
    arm: Arm, pixels: Pixels, words: Words, trained: Sequence[int], *, steps: int, rate: float, seed: int,
    solved: Tensor | None = None, labels: Tensor | None = None,
) -> Fitted:  # fmt: skip
    """Trains a head.

    Args:
        arm: The objective.
        pixels: To train on, numbered among the trained classes.
        words: Of all classes; a control is put in their place here.
        trained: The trained classes among all.
        steps: Number of steps of 512 pixels.
        rate: Learning rate after warm-up.
        seed: Of weights and order. Every arm sees the same pixels in the same order.
        solved: Layer `(trained classes, channels + 1)` to start from.
        labels: Labels in the place of the pixels' own.
    """
    words = words.of(arm.rows, seed)
    labels = pixels.labels if labels is None else labels
    head = Head(arm, pixels, words, len(trained), seed)
    known = list(trained)
    rows = words.rows[known]
    if arm.start == "solved":
        if solved is None:
            raise ValueError(f"The arm {arm.name!r} starts at a solution; give one.")
        head.start_at(solved, rows)
    counts = torch.zeros(len(trained)).index_add_(0, labels, pixels.weights)
    weights = counts.clamp_min(1) ** -0.5
    weights = weights / ((weights * counts).sum() / counts.sum())  # mean 1 over pixels
    generator = torch.Generator().manual_seed(seed + 7)
    chance = pixels.weights.double().cumsum(0)
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    warm = max(1, round(WARM_UP * steps))
    for step in range(steps):
        factor = min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate * factor
        drawn = torch.rand(BATCH, generator=generator, dtype=torch.float64) * chance[-1]
        index = torch.searchsorted(chance, drawn).clamp_max(len(chance) - 1)
        share = min(1.0, step / (WARM_UP_OBJECTIVE * steps)) if arm.ramp else 1.0
        losses = _losses(
            arm, head, pixels.features[index], labels[index], rows, words.name_embeddings[known], share
        )
        if arm.class_weights:
            losses = losses * weights[labels[index]]
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    return _as_fitted(arm, head, words, trained)


def _losses(
    arm: Arm, head: Head, features: Tensor, labels: Tensor, rows: Tensor, names: Tensor, property_share: float
) -> Tensor:
    """Losses `(pixels,)`."""
    if arm.kind == "category":
        return F.cross_entropy(head(features), labels, reduction="none")
    if arm.rows == "names":
        scaled = name_similarity(head, features, names) / head.log_temperature.exp()
        return F.cross_entropy(scaled, labels, reduction="none")
    logits = head(features)
    total = logits.new_zeros(len(logits))
    similarity = head.similarity(logits, F.normalize(rows, dim=1)) if arm.cosine or arm.ce else logits
    if arm.cosine:
        total = total + property_share * arm.cosine * (1 - similarity.gather(1, labels[:, None])[:, 0])
    if arm.bce:
        total = total + arm.bce * F.binary_cross_entropy_with_logits(
            logits, rows[labels], reduction="none"
        ).mean(dim=1)
    if arm.ce:
        temperature = head.log_temperature.exp() if arm.learn_temperature else CLASS_TEMPERATURE
        total = total + arm.ce * F.cross_entropy(similarity / temperature, labels, reduction="none")
    return total


def _as_fitted(arm: Arm, head: Head, words: Words, trained: Sequence[int]) -> Fitted:
    head.requires_grad_(False)
    facts: dict[str, float | str] = {}
    if arm.learn_temperature or arm.rows == "names":
        facts["class_temperature"] = float(head.log_temperature.exp())
    if arm.kind == "category":
        if len(trained) == len(words.rows):
            return Fitted(head, logits=head, facts=facts)
        mixed = conse_scores(words.rows, trained)
        return Fitted(lambda features: mixed(head(features) / CONSE_SCALE), logits=head, facts=facts)
    if arm.rows == "names":
        return Fitted(lambda features: name_similarity(head, features, words.name_embeddings), facts=facts)
    unit = F.normalize(words.rows, dim=1)
    return Fitted(
        lambda features: head.similarity(head(features), unit),
        lambda features: head(features).sigmoid(),
        words.rows,
        facts=facts,
    )


# ---- closed form --------------------------------------------------------------------------------------------------


@dataclass
class Statistics:
    """What the closed form needs of a split: kept, because many arms share it."""

    fit: ClassStatistics
    validation: solution.Pixels

    @classmethod
    def of(
        cls, fit: Pixels, validation: Pixels, class_names: Sequence[str], labels: Tensor | None = None
    ) -> "Statistics":
        """Moments of the pixels to fit on, and the validation pixels with the constant at their end."""
        found = ClassStatistics.empty(class_names, fit.features.shape[1] + 1)
        waiting = WaitingRows(found)
        labels = fit.labels if labels is None else labels
        for index in torch.arange(len(fit)).split(8192):
            waiting.add(with_constant(fit.features[index]), labels[index], fit.weights[index].double())
        waiting.flush()
        return cls(
            found,
            solution.Pixels(
                with_constant(validation.features), validation.labels, validation.weights.double()
            ),
        )


def with_constant(features: Tensor) -> Tensor:
    """Features in float32 with a 1 at the end."""
    return torch.cat([features.float(), torch.ones(len(features), 1)], dim=1)


def solve(
    arm: Arm, statistics: Statistics, words: Words, trained: Sequence[int], seed: int
) -> tuple[Fitted, Tensor]:
    """A head in closed form; lambda and beta are chosen on the validation pixels of trained classes.

    Returns:
        The head, and its layer `(trained classes, channels + 1)`.
    """
    words = words.of(arm.rows, seed)
    present = (statistics.fit.counts > 0).nonzero().flatten()
    rows = words.rows[list(trained)]
    inside = torch.isin(statistics.validation.labels, present)
    sample = statistics.validation
    position = torch.full((len(trained),), -1)
    position[present] = torch.arange(len(present))
    known = solution.Pixels(sample.features[inside], position[sample.labels[inside]], sample.weights[inside])
    beta = None if arm.unspoken else 0.0
    choice: Choice = choose(
        statistics.fit, known, rows[present], present, class_exponent=0.5, unspoken_weight=beta
    )
    layer = solve_responses(statistics.fit, choice).float()
    facts: dict[str, float | str] = {"ridge": choice.ridge, "unspoken_weight": choice.unspoken_weight}

    def responses(features: Tensor) -> Tensor:
        return with_constant(features) @ layer.t()

    if arm.rows == "category":
        if len(trained) == len(words.rows):
            return Fitted(responses, facts=facts), layer
        mixed = conse_scores(words.rows, trained)
        return Fitted(lambda features: mixed(responses(features)), facts=facts), layer
    fitted = Fitted(
        lambda features: scores_with_described(
            responses(features), words.rows, trained, choice.unspoken_weight
        ),
        lambda features: solution.property_scores(responses(features), rows, 0.0)[0],
        words.rows,
        facts=facts,
    )
    return fitted, layer


def with_trained_rest(
    layer: Tensor,
    category: Fitted,
    validation: Pixels,
    words: Words,
    trained: Sequence[int],
    *,
    by_words: bool,
) -> Fitted:
    """A solved head whose part without words is a trained category head, as `prolab_hf.solving.unspoken_layer` has it.

    Args:
        layer: Of the solved words, `(trained classes, channels + 1)`.
        category: The trained head.
        validation: To choose weight and sharpness by, numbered among the trained classes.
        words: Of all classes.
        trained: The trained classes among all.
        by_words: Whether described classes are compared by named properties alone.
    """
    rest = category.logits
    if rest is None:
        raise ValueError("The head to combine with has no logits of its own.")

    def responses(features: Tensor) -> Tensor:
        logits = rest(features)
        return torch.cat(
            [with_constant(features) @ layer.t(), UNIT * (logits - logits.mean(dim=1, keepdim=True))], dim=1
        )

    number, rows = len(trained), words.rows[list(trained)]
    sample = torch.cat([responses(part) for part in validation.features.split(16384)])

    def sharpened(found: Tensor, sharpness: float) -> Tensor:
        return torch.cat([found[:, :number], sharpness * found[:, number:]], dim=1)

    figures = {}
    for beta in WEIGHTS:
        for sharpness in SHARPNESS:
            predicted = sum(solution.class_score_parts(sharpened(sample, sharpness), rows, beta)).argmax(
                dim=1
            )
            iou = solution.mean_iou(predicted, validation.labels, validation.weights, number)
            figures[beta, sharpness] = iou - WEIGHT_WORTH * beta
    beta, sharpness = max(figures, key=lambda each: figures[each])
    return Fitted(
        lambda features: scores_with_described(
            sharpened(responses(features), sharpness), words.rows, trained, beta, by_words=by_words
        ),
        lambda features: solution.property_scores(responses(features)[:, :number], rows, 0.0)[0],
        words.rows,
        facts={"unspoken_weight": beta, "sharpness": sharpness},
    )
