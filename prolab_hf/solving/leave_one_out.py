"""An honest estimate, for every class, of how well it would be found if it were only described."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from prolab_hf.model.closed_form_prolab import budget_offset
from prolab_hf.solving.solution import Choice, Pixels, scores_with_described, solve_responses
from prolab_hf.solving.statistics import ClassStatistics


@dataclass(frozen=True)
class LeftOut:
    """How well a class would be found if it were known by its description only.

    Attributes:
        class_name: The class.
        recall: Share of its pixels in the sample that it would get.
        precision: Share of the pixels it would get that are its own, weighted as the classes occur.
        iou: Of the two.
    """

    class_name: str
    recall: float
    precision: float
    iou: float

    def to_dict(self) -> dict[str, str | float]:
        """As the configuration of a model keeps it."""
        return asdict(self)


def leave_one_out(
    statistics: ClassStatistics,
    sample: Pixels,
    class_rows: Tensor,
    choice: Choice,
    *,
    claim_budget: float = 0.01,
) -> list[LeftOut]:
    """Every class in turn taken out of the statistics by subtraction, described only, and looked for in a sample.

    Args:
        statistics: With moments per class.
        sample: Labeled pixels of other images, with their features.
        class_rows: `(num_classes, num_properties)` of 0 and 1.
        choice: The numbers of the solution.
        claim_budget: Of the class that is left out.

    Raises:
        ValueError: The statistics are not kept per class.
    """
    present = torch.nonzero(statistics.counts > 0).flatten().tolist()
    result = []
    for label in present:
        others = [other for other in present if other != label]
        inside = sample.labels == label
        if len(others) < 2 or not inside.any() or inside.all():
            continue
        layer = solve_responses(statistics, choice, without=[label])[others].float()
        scores = scores_with_described(
            sample.features @ layer.t(), class_rows, others, choice.unspoken_weight
        )
        margin = scores[:, others].amax(dim=1) - scores[:, label]
        won = margin < budget_offset(margin[~inside], claim_budget)
        hit = float(sample.weights[won & inside].sum())
        claimed, own = float(sample.weights[won].sum()), float(sample.weights[inside].sum())
        precision = hit / claimed if claimed else 0.0
        name = statistics.class_names[label]
        result.append(LeftOut(name, hit / own, precision, hit / (claimed + own - hit)))
    return result
