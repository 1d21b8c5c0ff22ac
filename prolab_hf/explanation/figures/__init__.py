"""Figures of explanations, data sets, edits and runs. Those of one explanation are images, the others matplotlib's."""

from prolab_hf.explanation.figures.canvas import HEAT
from prolab_hf.explanation.figures.dataset_figures import (
    comparison_figure,
    confusion_figure,
    correction_figure,
    reliability_figure,
)
from prolab_hf.explanation.figures.edit_figures import before_after_figure
from prolab_hf.explanation.figures.explanation_figures import (
    contribution_chart,
    draw_contributions,
    explanation_figure,
    property_panel,
)
from prolab_hf.explanation.figures.learning_curves import learning_curves_figure

__all__ = [
    "HEAT",
    "before_after_figure",
    "comparison_figure",
    "confusion_figure",
    "contribution_chart",
    "correction_figure",
    "draw_contributions",
    "explanation_figure",
    "learning_curves_figure",
    "property_panel",
    "reliability_figure",
]
