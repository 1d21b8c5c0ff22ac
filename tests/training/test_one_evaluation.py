"""The score that picks the best checkpoint is the score of the exported model, to the last count."""

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model, drawn_pairs

QUIET = {"show_progress": False}
SIZES = ((40, 56), (37, 32))


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation.scale": (96, 48), "evaluation.size_divisor": 32},
        {
            "evaluation.mode": "slide",
            "evaluation.crop_size": 32,
            "evaluation.stride": 20,
            "device.mixed_precision": "bf16",
            "optimizer.ema_decay": 0.9,
        },
        {"device.channels_last": True, "device.mixed_precision": "bf16", "data.num_workers": 1},
    ],
)
def test_the_recorded_score_is_that_of_the_exported_model(tmp_path, recipe, changes):
    recipe = recipe.replace(**{"schedule.max_iterations": 4, "evaluation.every": 2, **changes})
    validation = drawn_pairs(3, SIZES, seed=1)
    model = build_model()
    result = train(model, drawn_pairs(4, SIZES), validation, recipe=recipe, output_dir=tmp_path, **QUIET)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path).eval()
    measured = evaluate(loaded, AutoImageProcessor.from_pretrained(tmp_path), validation)
    assert measured["mean_iou"] == result.best_mean_iou
    assert measured["inference"]["mode"] == recipe.evaluation.mode
    entry = next(entry for entry in result.evaluations if entry["step"] == result.exported_step)
    assert measured["pixel_accuracy"] == entry["pixel_accuracy"]


def test_the_forward_pass_of_training_is_left_as_it_was(tmp_path, recipe):
    """An evaluation in between changes nothing: not precision, layout, nor the order of random numbers."""
    recipe = recipe.replace(
        **{"device.mixed_precision": "bf16", "device.channels_last": True, "optimizer.ema_decay": 0.9}
    )
    weights = []
    for name, validation in (("with", drawn_pairs(2)), ("without", None)):
        model = build_model()
        last = recipe.replace(**{"checkpoints.final_weights": "last"})
        train(model, drawn_pairs(4), validation, recipe=last, output_dir=tmp_path / name, **QUIET)
        weights.append(model.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_pairs_samples_and_tensors_train(tmp_path, recipe):
    """Anything with len() and [i]: the loop augments pairs, and takes tensors as they are."""
    from prolab_hf.data.image_files import Sample
    from prolab_hf.training.from_recipe import image_processor, train_dataset

    class Samples:
        class_names, num_classes, ignore_index = ["red", "green", "blue"], 3, 255

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return Sample(*drawn_pairs(4)[index], f"drawn {index}")

    results = []
    for number, (dataset, processor) in enumerate(
        [
            (drawn_pairs(4), None),
            (Samples(), None),
            (train_dataset(Samples(), recipe, image_processor(recipe, build_model().config)), None),
        ]
    ):
        model = build_model()
        train(
            model,
            dataset,
            None,
            recipe=recipe,
            output_dir=tmp_path / str(number),
            processor=processor,
            **QUIET,
        )
        results.append(model.state_dict())
    for other in results[1:]:
        assert all(torch.equal(value, other[name]) for name, value in results[0].items())
    assert (tmp_path / "0" / "preprocessor_config.json").is_file()
    # Tensors come from a geometry of their own, which no processor of ours describes.
    assert not (tmp_path / "2" / "preprocessor_config.json").exists()


def test_data_that_do_not_fit_the_model_are_refused(tmp_path, recipe):
    class Other(list):
        class_names = ["green", "red", "blue"]

    with pytest.raises(ValueError, match="'green' is number 0 in the data set and 1 in the model"):
        train(build_model(), Other(drawn_pairs()), None, recipe=recipe, output_dir=tmp_path, **QUIET)

    class Void(list):
        ignore_index = 7

    with pytest.raises(ValueError, match=r"label 7, .* semantic_loss_ignore_index = 7"):
        train(build_model(), Void(drawn_pairs()), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    with pytest.raises(ValueError, match=r"number 2 have shape \(3, 3\)"):
        pairs = [*drawn_pairs(2), (drawn_pairs(1)[0][0], np.zeros((3, 3), int))]
        train(build_model(), pairs, None, recipe=recipe, output_dir=tmp_path, **QUIET)
    assert list(tmp_path.glob("*.lock")) == []


def test_another_model_needs_its_own_processor(tmp_path, recipe):
    model = build_model()
    del model.config.temperature
    with pytest.raises(ValueError, match="needs its own image processor"):
        train(model, drawn_pairs(), None, recipe=recipe, output_dir=tmp_path, **QUIET)
    assert len(Stripes(2)) == 2
