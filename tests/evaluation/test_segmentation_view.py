"""How a segmentation shows itself in a notebook."""

import io

import numpy as np
import torch
from PIL import Image

from prolab_hf.evaluation.inference import Segmentation, segment
from prolab_hf.evaluation.views.class_colors import VOID_COLOR, class_colors
from prolab_hf.evaluation.views.segmentation_view import LONGEST_SIDE, MOST_CLASSES


def test_the_map_is_small_and_has_the_colors_of_overlays():
    labels = torch.zeros(500, 2000, dtype=torch.int64)
    labels[:, 1000:] = 2
    labels[:100] = 255
    content = Segmentation(labels, ["a", "b", "c"])._repr_png_()
    shown = Image.open(io.BytesIO(content)).convert("RGB")
    assert max(shown.size) <= LONGEST_SIDE and len(content) < 5_000
    colors = class_colors(3)
    assert shown.getpixel((5, shown.height - 2)) == colors[0]
    assert shown.getpixel((shown.width - 2, shown.height - 2)) == colors[2]
    assert shown.getpixel((5, 2)) == VOID_COLOR


def test_names_are_literal_and_many_classes_are_summed_up():
    names = ["<script>alert(1)</script>", *(f"class {k}" for k in range(40))]
    labels = torch.arange(41)[:, None].repeat(1, 41).clamp_max(40)
    page = Segmentation(labels, names)._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert page.count("&#9632;") == MOST_CLASSES and "and 29 more" in page
    assert "label map of 41 x 41 pixels" in page and len(page) < 20_000


def test_a_segmented_image(model, processor, image):
    result = segment(model, processor, image)
    page = result._repr_html_()
    for name, share in result.shares():
        assert name in page and f"{share:.1%}" in page
    shown = np.asarray(Image.open(io.BytesIO(result._repr_png_())).convert("RGB"))
    assert shown.shape == (97, 131, 3)
    expected = np.array(class_colors(5))[result.labels.numpy()]
    assert (shown == expected).all()
