"""Measuring a model on a source: equal to image-by-image counting, with clear words for wrong data."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from prolab_hf.data.sources import Sample
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.evaluation.inference import segment
from prolab_hf.evaluation.metrics import SegmentationCounts


class Images:
    """A source of images of several sizes whose labels are the model's own, shifted by a few pixels."""

    num_classes = 5
    ignore_index = 255

    def __init__(self, model, processor, number=5, class_names=("sky", "road", "tree", "car", "person")):
        self.class_names = None if class_names is None else list(class_names)
        self.samples = []
        rng = np.random.default_rng(0)
        for index in range(number):
            coarse = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8))
            image = coarse.resize((90, 70 + 20 * (index % 2)), Image.Resampling.BICUBIC)
            mask = segment(model, processor, image).labels.roll(4, 1).to(torch.int32).numpy()
            mask[:5] = 255
            self.samples.append(Sample(image, mask, f"image {index}"))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


@pytest.fixture(scope="module")
def source(model, processor):
    return Images(model, processor)


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 3}, {"flip": True}, {"mode": "slide", "crop_size": 64}]
)
def test_equals_counting_image_by_image(model, processor, source, options):
    counts = SegmentationCounts(5, boundary_ratio=0.02)
    for sample in source:
        counts.update(segment(model, processor, sample.image, **options).labels, sample.mask)
    results = evaluate(model, processor, source, boundary_ratio=0.02, **options)
    expected = counts.scores().to_dict(source.class_names)
    assert {key: results[key] for key in expected} == expected
    assert 0.3 < results["mean_iou"] < 1
    assert results["num_images"] == 5
    assert results["inference"]["mode"] == options.get("mode", "whole")
    json.dumps(results, allow_nan=False)


def test_workers_accelerator_pairs_and_transform(model, processor, source):
    expected = evaluate(model, processor, source)["per_class"]
    assert evaluate(model, processor, source, num_workers=1, batch_size=2)["per_class"] == expected
    assert evaluate(model, processor, source, accelerator=Accelerator(cpu=True))["per_class"] == expected
    pairs = [(sample.image, sample.mask) for sample in source]
    assert evaluate(model, processor, pairs)["per_class"] == expected


def test_wrong_data_is_named(model, processor, source):
    with pytest.raises(ValueError, match="holds no images"):
        evaluate(model, processor, [])
    image = source[0].image
    with pytest.raises(ValueError, match=r"number 0 have shape \(3, 3\), the image is 70 high and 90 wide"):
        evaluate(model, processor, [(image, np.zeros((3, 3), int))])
    with pytest.raises(ValueError, match="None of the 1 images has a labeled pixel"):
        evaluate(model, processor, [(image, np.full((70, 90), 255))])
    with pytest.raises(ValueError, match=r"labels hold ids outside of 0\.\.4: 7"):
        evaluate(model, processor, [(image, np.full((70, 90), 7))])


def test_class_order_is_checked(model, processor, caplog):
    swapped = Images(model, processor, 1, ("road", "sky", "tree", "car", "person"))
    with pytest.raises(ValueError, match="'road' is number 0 in the data set and 1 in the model"):
        evaluate(model, processor, swapped)
    more = Images(model, processor, 1, ("sky", "road", "tree", "car", "person", "cow"))
    with pytest.raises(ValueError, match="unknown to the model are cow"):
        evaluate(model, processor, more)
    reworded = Images(model, processor, 1, ("sky", "street", "tree", "car", "person"))
    evaluate(model, processor, reworded)
    assert "street" in caplog.text


def test_memory_does_not_grow_with_the_number_of_images(model, processor, source):
    class Repeated:
        def __init__(self, number):
            self.number = number

        def __len__(self):
            return self.number

        def __getitem__(self, index):
            return source[index % len(source)]

    def peak(number):
        tracemalloc.start()
        evaluate(model, processor, Repeated(number))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(12) < 1.2 * peak(4) + 100_000
