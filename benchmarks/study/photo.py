"""A photo that may be redistributed, segmented and explained by the bundled models: figures for the page.

    python -m benchmarks.study.photo

The photo is `china.jpg` of scikit-learn (CC BY 2.0), which comes with the package.
"""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image
from transformers import AutoImageProcessor

from benchmarks.study.figures import FOLDER
from prolab_hf import ProLabForSemanticSegmentation, explain, segment
from prolab_hf.bundled_models import bundled_model_folder
from prolab_hf.explanation.figures import explanation_figure
from prolab_hf.explanation.overlays import overlay

POINTS = {"everyday": (320, 190), "street": (320, 190)}
PHOTO = "china.jpg"


def bundled(name: str) -> tuple[ProLabForSemanticSegmentation, object]:
    """A bundled model with its image processor."""
    folder = bundled_model_folder(name)
    if folder is None:
        raise FileNotFoundError(f"The bundled model {name!r} is missing.")
    return ProLabForSemanticSegmentation.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(
        folder
    )


def main(folder: Path = FOLDER) -> None:
    """Writes `photo.png` (both models beside the photo) and `explained.png`."""
    photo = Image.fromarray(load_sample_image(PHOTO))
    figure, panels = plt.subplots(1, 3, figsize=(15, 4.2))
    panels[0].imshow(np.asarray(photo))
    panels[0].set_title("china.jpg (scikit-learn, CC BY 2.0)")
    for axes, name in zip(panels[1:], POINTS):
        model, processor = bundled(name)
        found = segment(model, processor, photo)
        names = [model.config.id2label[k] for k in range(model.config.num_labels)]
        axes.imshow(np.asarray(overlay(photo, found.labels, names)))
        axes.set_title(f"--model {name}")
    for axes in panels:
        axes.axis("off")
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "photo.png", dpi=80, bbox_inches="tight")
    model, processor = bundled("everyday")
    explanation = explain(model, processor, photo, point=POINTS["everyday"])
    explanation_figure(photo, explanation).save(folder / "explained.png")
    print(explanation.to_text())


if __name__ == "__main__":
    main()
