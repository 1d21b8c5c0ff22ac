"""What goes wrong with the data of a step is named; void pixels weigh what they should."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from prolab_hf.data.image_files import BrokenImageError
from prolab_hf.data.sources import FolderSource
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.training.data_loading import TrainingExamples
from prolab_hf.training.from_recipe import image_processor, training_transform
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model, write_folder

QUIET = {"show_progress": False}


def test_a_loss_that_is_not_finite_names_the_images_of_its_step(tmp_path, recipe):
    class Poisoned(Stripes):
        def __getitem__(self, index):
            example = {**super().__getitem__(index), "name": f"stripes_{index}.png"}
            if index == 6:
                example["pixel_values"][:] = float("nan")
            return example

    # The first epoch of seed 0 reads 2, 4, 3, 6, 5, 0, 1, 7.
    with pytest.raises(FloatingPointError, match=r"at step 2, .*stripes_3\.png, stripes_6\.png \(not_finite"):
        train(build_model(), Poisoned(8), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    written = json.loads((tmp_path / "not_finite_batch.json").read_text())
    assert (written["step"], written["images"]) == (2, ["stripes_3.png", "stripes_6.png"])


@pytest.fixture
def folder(tmp_path):
    """Eight pairs, one image of which cannot be decoded."""
    root = write_folder(tmp_path / "data", number=8)
    (root / "images" / "6.png").write_bytes(b"no image")
    return FolderSource(root, num_classes=3)


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_images_are_named_or_skipped_and_listed(tmp_path, recipe, folder, workers, caplog):
    recipe = recipe.replace(**{"data.num_workers": workers})
    with pytest.raises(BrokenImageError, match=r"images/6\.png cannot be decoded.*\(at training step 2\)"):
        train(build_model(), folder, None, recipe=recipe, output_dir=tmp_path / "stopped", **QUIET)
    result = train(
        build_model(), folder, folder, recipe=recipe, output_dir=tmp_path / "run", skip_broken=True, **QUIET
    )
    assert result.scores.num_images == 7
    assert len(result.skipped) == 1 and "images/6.png" in result.skipped[0]
    assert "images/6.png" in (tmp_path / "run" / "skipped_images.txt").read_text()
    assert caplog.text.count("Skipped, number 1, listed in skipped_images.txt") == 1


def test_skipping_takes_the_next_image_whatever_was_read_before(recipe, folder):
    processor = image_processor(recipe, build_model().config)
    transform = training_transform(recipe, processor)
    examples = TrainingExamples(folder, transform, seed=0, skip_broken=True)
    stand_in, own = examples[3, 6], examples[3, 7]
    assert stand_in.name == own.name == "images/7.png"
    assert torch.equal(stand_in.tensors["pixel_values"], own.tensors["pixel_values"])
    assert (len(stand_in.skipped), len(own.skipped)) == (1, 0)


def test_a_folder_of_broken_images_is_an_error_nevertheless(tmp_path, recipe):
    root = write_folder(tmp_path / "data", number=2)
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    source = FolderSource(root, num_classes=3)
    with pytest.raises(BrokenImageError, match="cannot be decoded"):
        train(
            build_model(), source, None, recipe=recipe, output_dir=tmp_path / "out", skip_broken=True, **QUIET
        )


def test_evaluation_skips_and_lists_on_request(recipe, folder):
    model = build_model()
    processor = image_processor(recipe, model.config)
    with pytest.raises(BrokenImageError, match=r"images/6\.png"):
        evaluate(model, processor, folder)
    results = evaluate(model, processor, folder, skip_broken=True, num_workers=1)
    assert results["num_images"] == 7
    assert len(results["skipped"]) == 1 and "images/6.png" in results["skipped"][0]


class UnevenlyVoid(Stripes):
    """Every image has another share of void pixels."""

    def __getitem__(self, index):
        example = super().__getitem__(index)
        example["labels"][: 8 * index] = 255
        return example


def frozen_model(**fields):
    model = build_model(classifier_dropout_prob=0.0, **fields)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train = lambda mode=True, module=module: module  # keep its running statistics
            module.training = False
    return model


@pytest.mark.parametrize("void_pixels", ["mask", "dilute"])
def test_accumulation_weighs_labeled_pixels_not_passes(tmp_path, recipe, void_pixels):
    """Two passes with unequal shares of void are one step of four: it was the mean of two means."""
    losses = []
    for batch_size, accumulation in ((4, 1), (1, 4)):
        changed = recipe.replace(
            **{
                "schedule.batch_size": batch_size,
                "schedule.gradient_accumulation": accumulation,
                "schedule.max_iterations": 3,
                "schedule.warmup_iterations": 0,
            }
        )
        seen = []
        train(
            frozen_model(void_pixels=void_pixels),
            UnevenlyVoid(4),
            None,
            recipe=changed,
            output_dir=tmp_path / str(accumulation),
            callbacks=[seen.append],
            **QUIET,
        )
        losses.append([event.values["loss"] for event in seen if event.kind == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=2e-4)


def test_a_step_of_void_pixels_only_changes_no_loss(tmp_path, recipe):
    class Void(Stripes):
        def __getitem__(self, index):
            example = super().__getitem__(index)
            return {**example, "labels": torch.full_like(example["labels"], 255)}

    seen = []
    changed = recipe.replace(**{"schedule.gradient_accumulation": 2, "schedule.max_iterations": 2})
    train(build_model(), Void(4), None, recipe=changed, output_dir=tmp_path, callbacks=[seen.append], **QUIET)
    assert [event.values["loss"] for event in seen if event.kind == "step"] == [0.0, 0.0]


def test_paths_and_arrays_train(tmp_path, recipe):
    root = write_folder(tmp_path / "data", number=2)
    pairs = [
        (root / "images/0.png", np.asarray(Image.open(root / "masks/0.png"))),
        (np.asarray(Image.open(root / "images/1.png")), np.asarray(Image.open(root / "masks/1.png"))),
    ]
    result = train(build_model(), pairs, pairs, recipe=recipe, output_dir=tmp_path / "out", **QUIET)
    assert result.scores.num_images == 2
