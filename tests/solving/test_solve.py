import copy
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForSemanticSegmentation, pipeline

from prolab_hf import ProLabConfig, ProLabForSemanticSegmentation, explain
from prolab_hf.data.image_files import Sample
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.solving.accumulation import NamedClasses, Pass, validation_images
from prolab_hf.solving.pixel_features import features_at, sample_pixels, transform_fingerprint
from prolab_hf.solving.solve import (
    SolveSettings,
    add_images,
    finish_by_solving,
    in_closed_form,
    new_model,
    solve_head,
    solve_last_layer,
    start_at_solution,
    statistics_of,
)

from .conftest import NAMES, Patches, backbone_config, make_space, solve_patches


def outputs(model, size=(40, 56)):
    torch.manual_seed(1)
    with torch.no_grad():
        return model.eval()(torch.randn(1, 3, *size))


# ---- pixels and their features ------------------------------------------------------------------------------------


def test_sampled_pixels_stand_for_all_of_their_class():
    mask = np.full((60, 80), 255)
    mask[:30], mask[30:32, :40] = 0, 3
    sample = sample_pixels(mask, 255, 100, np.random.default_rng(0))
    assert set(sample.labels) == {0, 3}
    for label in (0, 3):
        assert sample.weights[sample.labels == label].sum() == pytest.approx((mask == label).sum())
    assert (mask[sample.rows, sample.columns] == sample.labels).all()
    assert (sample.labels == 3).sum() == 8  # by area it would be 2
    assert not len(sample_pixels(np.full((4, 4), 255), 255, None, np.random.default_rng(0)).labels)


def test_features_are_those_of_the_enlarged_maps():
    maps = [torch.randn(1, 3, 12, 10), torch.randn(1, 2, 5, 4)]
    mask = np.zeros((31, 47), np.int64)
    sample = sample_pixels(mask, 255, 50, np.random.default_rng(0))
    found = features_at(maps, sample, (31, 47))
    large = [torch.nn.functional.interpolate(each, (31, 47), mode="bilinear")[0] for each in maps]
    expected = torch.cat([*large, torch.ones(1, 31, 47)])[:, sample.rows, sample.columns].t()
    assert torch.allclose(found, expected, atol=1e-5)


def test_options_of_a_transform_tell_it_from_another(processor):
    class Transform:
        def __init__(self, size):
            self.size = size

    assert transform_fingerprint(Transform(3)) == transform_fingerprint(Transform(3))
    assert transform_fingerprint(Transform(3)) != transform_fingerprint(Transform(4))
    warmer = copy.deepcopy(processor)
    warmer.temperature = 0.7  # how scores are shown has nothing to do with features
    assert transform_fingerprint(warmer) == transform_fingerprint(processor)


# ---- the model that comes out -------------------------------------------------------------------------------------


def test_the_classes_are_found(solved, processor):
    assert evaluate(solved, processor, Patches(6, start=100))["mean_iou"] > 0.6
    assert solved.config.trained_classes == NAMES
    solution = solved.config.solution
    assert solution["num_images"] == 10 and 0 < solution["spoken_share"] <= 1
    assert solution["num_pixels"] == sum(int((Patches(10)[i][1] != 255).sum()) for i in range(10))
    assert {entry["class_name"] for entry in solution["if_only_described"]} <= set(NAMES)


def test_it_is_an_ordinary_model(solved, processor, tmp_path):
    solved.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded, info = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    one, other = outputs(solved), outputs(loaded)
    assert torch.equal(one.logits, other.logits) and torch.equal(one.property_logits, other.property_logits)
    assert one.property_logits.shape[1] == 5 and one.logits.shape[1] == 4
    assert torch.equal(loaded.calibration_scores, solved.calibration_scores)
    found = pipeline("image-segmentation", model=str(tmp_path))(Patches(1)[0][0])
    assert {item["label"] for item in found} <= set(NAMES)
    assert (tmp_path / "solve_statistics.safetensors").is_file()
    assert statistics_of(loaded, tmp_path).counts.sum() == pytest.approx(solved.solve_statistics.counts.sum())


def test_it_can_be_trained_on(solved):
    values, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 4, (2, 32, 32))
    solved.config.class_loss_weight = 1.0
    solved.train()
    optimizer = torch.optim.SGD(solved.parameters(), lr=0.01)
    losses = []
    for _ in range(4):
        loss = solved(values, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert solved.decode_head.classifier.weight.grad.abs().sum() > 0
    assert losses[-1] < losses[0]


def test_mean_squared_error_and_refused_binary_cross_entropy(solved):
    solved.config.property_loss = "mse"
    assert torch.isfinite(
        solved(torch.randn(1, 3, 32, 32), labels=torch.zeros(1, 32, 32, dtype=torch.long)).loss
    )
    with pytest.raises(ValueError, match="has no sigmoid"):
        ProLabConfig(similarity="linear_cosine", property_loss="bce")


def test_its_explanation_is_exact_and_names_what_has_no_words(solved, processor):
    solved.config.unspoken_weight = 2.0
    solved.set_property_space(make_space().add_classes({"orange": ["bright", "reddish"]}))
    image = Patches(1)[0][0]
    for name in ("red", "orange"):
        explanation = explain(solved, processor, image, point=(5, 5), class_name=name)
        terms = dict(explanation.contributions)
        assert sum(terms.values()) == pytest.approx(explanation.score, abs=1e-5)
        values = processor(image, return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            logits = torch.nn.functional.interpolate(solved(values).logits, (64, 64), mode="bilinear")
        expected = float(logits[0, solved.config.label2id[name], 5, 5])
        assert explanation.score == pytest.approx(expected, abs=1e-5)
        assert explanation.runner_up is not None
        assert sum(d for _, d in explanation.runner_up.deciding) == pytest.approx(
            explanation.runner_up.margin
        )
    assert explain(solved, processor, image, point=(5, 5), class_name="red").unspoken > 0
    orange = explain(solved, processor, image, point=(5, 5), class_name="orange")
    assert orange.unspoken == 0 and orange.spoken_share == 1
    assert orange.offset == pytest.approx(solved.config.class_offsets[-1])
    assert "offset of a described class" in dict(orange.contributions)
    assert json.dumps(orange.to_dict())


def test_the_spoken_share_of_a_pixel_is_that_of_its_explanation(solved, processor):
    solved.config.unspoken_weight = 1.0
    solved.set_property_space(make_space())
    image = Patches(1)[0][0]
    with torch.no_grad():
        output = solved(processor(image, return_tensors="pt")["pixel_values"])
    share = solved.spoken_share(output.property_logits, output.unspoken_logits)[0]
    assert share.shape == (16, 16) and (share > 0).all() and (share < 1).all()
    explanation = explain(solved, processor, image.resize((16, 16)), point=(0, 0))
    assert 0 < explanation.spoken_share < 1
    assert torch.equal(solved.spoken_share(output.property_logits), torch.ones(1, 16, 16))


def test_context_and_plain_backbones_and_a_single_map(processor):
    model = solve_patches(context=True)
    assert model.decode_head.classifier.in_channels == 48 + 2 * 16
    assert torch.isfinite(outputs(model).logits).all()
    config = backbone_config()
    config.out_features = ["stage3"]
    fields = dict(make_space().to_config_kwargs(), decoder="linear", similarity="linear_cosine")
    single = ProLabForSemanticSegmentation(
        ProLabConfig(backbone_config=config, use_auxiliary_head=False, **fields)
    )
    assert outputs(single).logits.shape[1] == 4


def test_the_export_has_one_graph_for_all_sizes(solved):
    sizes = {"pixel_values": {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}, "labels": None}
    wrapped = torch.export.export(
        solved.eval(), (), {"pixel_values": torch.randn(1, 3, 160, 192), "labels": None}, dynamic_shapes=sizes
    ).module()
    other = torch.randn(1, 3, 224, 128)
    with torch.no_grad():
        found = wrapped(pixel_values=other, labels=None)
        assert torch.allclose(found["logits"], solved(other).logits, atol=1e-5)


def test_the_order_of_the_data_sets_classes_does_not_matter(processor):
    class Turned(Patches):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return Sample(image, np.where(mask == 255, 255, 3 - mask), f"turned-{index}")

    plain, turned = solve_patches(), solve_patches(Turned(class_names=NAMES[::-1]))
    assert torch.allclose(outputs(plain).logits, outputs(turned).logits, atol=1e-5)


# ---- words without images -----------------------------------------------------------------------------------------


def test_new_words_are_solved_without_an_image(solved):
    """Another space: as if it had been there from the beginning."""
    other = make_space().set_row("yellow", ["greenish", "warm"]).set_row("blue", ["bluish", "bright"])
    fresh = solve_patches(
        space=other, statistics="per_class", ridge=0.1, class_exponent=0.5, unspoken_weight=2.0
    )
    given = solve_patches(ridge=0.1, class_exponent=0.5, unspoken_weight=2.0)
    given.set_property_space(other)
    assert torch.allclose(outputs(given).logits, outputs(fresh).logits, atol=1e-6)
    assert torch.allclose(outputs(given).property_logits, outputs(fresh).property_logits, atol=1e-6)


def test_a_space_of_another_size_and_encoder_is_taken(solved):
    before = outputs(solved).logits
    space = make_space(dim=12).replace(
        property_names=["a", "b", "c"],
        property_embeddings=torch.randn(3, 12),
        class_property_matrix=torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]).float(),
        descriptions=None,
    )
    solved.set_property_space(space)
    assert solved.config.embedding_dim == 12
    assert outputs(solved).property_logits.shape[1] == 3
    solved.set_property_space(make_space())
    assert torch.allclose(outputs(solved).logits, before, atol=1e-6)


def test_renamed_and_merged_classes_keep_what_was_learned(solved):
    before = outputs(solved)
    solved.set_property_space(make_space().rename_classes({"red": "crimson"}))
    assert solved.config.class_offsets is None
    assert torch.allclose(outputs(solved).logits, before.logits, atol=1e-6)
    merged = make_space().merge_classes({"vivid": ["red", "yellow"]})
    solved.set_property_space(make_space())
    solved.set_property_space(merged)
    assert solved.config.class_sources[merged.class_names.index("vivid")] == [0, 3]
    assert solved.config.class_offsets is None
    assert outputs(solved).logits.shape[1] == 3
    solved.set_property_space(make_space())
    assert torch.allclose(outputs(solved).logits, before.logits, atol=1e-6)


def test_it_is_loaded_with_the_words_it_was_saved_with(solved, tmp_path):
    solved.set_property_space(
        make_space().rename_classes({"red": "crimson"}).add_classes({"orange": ["bright", "reddish"]})
    )
    solved.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert torch.equal(outputs(solved).logits, outputs(loaded).logits)
    assert loaded.config.class_offsets == pytest.approx(solved.config.class_offsets)


# ---- more images --------------------------------------------------------------------------------------------------


def test_added_images_count_as_if_they_had_been_there(processor, tmp_path):
    """All pixels are looked at, so only the split into two runs differs."""
    numbers = {"ridge": 0.1, "class_exponent": 0.5, "unspoken_weight": 2.0, "samples_per_image": 10**6}
    whole = solve_patches(Patches(12), statistics="per_class", **numbers)
    model = solve_patches(Patches(7), statistics="per_class", **numbers)
    model.save_pretrained(tmp_path)
    loaded = ProLabForSemanticSegmentation.from_pretrained(tmp_path)
    add_images(loaded, Patches(5, start=7), processor, samples_per_image=10**6)
    assert loaded.config.solution["num_images"] == 12
    assert torch.allclose(outputs(loaded).logits, outputs(whole).logits, atol=1e-5)
    other = ProLabForSemanticSegmentation.from_pretrained(tmp_path)
    torch.nn.init.normal_(other.backbone.embedder.embedder.convolution.weight)
    with pytest.raises(ValueError, match="another network"):
        add_images(other, Patches(5), processor, folder=tmp_path)
    resized = copy.deepcopy(processor)
    resized.do_resize = True
    with pytest.raises(ValueError, match="another image processor"):
        add_images(loaded, Patches(5), resized, folder=tmp_path)
    loaded.set_property_space(make_space().rename_classes({"red": "crimson"}))
    with pytest.raises(ValueError, match="classes that it was solved for"):
        add_images(loaded, Patches(5, class_names=["crimson", *NAMES[1:]]), processor, folder=tmp_path)
    (tmp_path / "solve_statistics.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no statistics were kept"):
        add_images(ProLabForSemanticSegmentation.from_pretrained(tmp_path), Patches(5), processor)


def test_a_stopped_run_goes_on_and_counts_no_image_twice(processor, tmp_path, monkeypatch):
    monkeypatch.setattr("prolab_hf.solving.accumulation.SAVE_SECONDS", 0.0)

    class Stops(Patches):
        looked_at: list[int] = []
        stop_at = 6

        def __getitem__(self, index):
            if index == self.stop_at:
                raise KeyboardInterrupt
            self.looked_at.append(index)
            return super().__getitem__(index)

    def run(dataset):
        torch.manual_seed(0)
        model, _ = new_model(backbone_config(), make_space(), needs_processor=False)
        solve_head(model, dataset, processor, SolveSettings(progress_dir=tmp_path))
        return model

    dataset = Stops()
    with pytest.raises(KeyboardInterrupt):
        run(dataset)
    assert list(tmp_path.glob("solve_progress-*"))
    dataset.stop_at = None
    resumed = run(dataset)
    assert sorted(dataset.looked_at) == list(range(10))
    monkeypatch.undo()
    whole = solve_patches()
    assert resumed.config.solution["num_images"] == 10
    assert torch.allclose(outputs(resumed).logits, outputs(whole).logits, atol=1e-6)
    assert torch.equal(resumed.calibration_labels, whole.calibration_labels)
    with pytest.raises(ValueError, match="progress of another run"):
        solve_patches(Patches(9), progress_dir=tmp_path)


TWO_PROCESSES = """
import torch
torch.set_num_threads(1)
from accelerate import Accelerator
from tests.solving.conftest import *
run = Accelerator(cpu=True)
model = solve_patches(accelerator=run, statistics="per_class")
if run.is_main_process:
    torch.save({"layer": model.decode_head.classifier.weight, "labels": model.calibration_labels,
                "counts": model.solve_statistics.counts, "sums": model.solve_statistics.sums}, "RESULT")
"""


def test_two_processes_give_the_same(tmp_path, repository):
    script = tmp_path / "run.py"
    script.write_text(TWO_PROCESSES.replace("RESULT", str(tmp_path / "result.pt")))
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(
        [sys.executable, *launcher], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = torch.load(tmp_path / "result.pt", weights_only=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = solve_patches(statistics="per_class")
    finally:
        torch.set_num_threads(threads)
    statistics = alone.solve_statistics
    assert torch.allclose(found["counts"], statistics.counts, rtol=1e-9, atol=0)
    assert torch.allclose(found["sums"], statistics.sums, rtol=1e-9, atol=1e-9)
    assert torch.allclose(found["layer"], alone.decode_head.classifier.weight, rtol=1e-5, atol=1e-6)
    assert torch.equal(found["labels"], alone.calibration_labels)


def test_statistics_that_do_not_fit_are_summed_up(monkeypatch):
    numbers = {"ridge": 0.1, "class_exponent": 0.5, "unspoken_weight": 2.0, "samples_per_image": 10**6}
    per_class = solve_patches(**numbers)
    monkeypatch.setattr("prolab_hf.solving.accumulation.MAX_PER_CLASS_BYTES", 0)
    summed = solve_patches(**numbers)
    assert not summed.solve_statistics.is_per_class
    assert torch.allclose(outputs(per_class).logits, outputs(summed).logits, atol=1e-5)


# ---- held-out classes, bad input ----------------------------------------------------------------------------------


def test_a_held_out_class_is_known_by_its_description(processor):
    model = solve_patches(held_out=["yellow"])
    assert model.config.trained_classes == ["red", "green", "blue"]
    assert model.config.class_offsets[:3] == [0, 0, 0] and model.config.class_offsets[3] != 0
    assert outputs(model).unspoken_logits is None or outputs(model).unspoken_logits.shape[1] == 3


class Broken(Patches):
    def __init__(self, change, **options):
        super().__init__(**options)
        self.change = change

    def __getitem__(self, index):
        image, mask = super().__getitem__(index)
        return self.change(image, mask)


def spoiled(value):
    def change(image, mask):
        mask[:] = value
        return image, mask

    return change


def only_two_columns(image, mask):
    mask[:, 0], mask[:, 1], mask[:, 2:] = 0, 1, 255
    return image, mask


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Patches(0), "holds no images"),
        (Broken(spoiled(255)), "None of the images has a labeled pixel"),
        (Broken(spoiled(1)), "All labeled pixels are of the class 'green'"),
        (Broken(spoiled(7)), "hold 7; allowed are 0 to 3 and 255"),
        (Broken(lambda image, mask: (image, mask[:, :5])), "they must agree"),
        (Patches(class_names=["red", "green", "blue", "cyan"]), "'cyan', which the property space does not describe"),
        (Broken(only_two_columns, size=16, length=1), "There are 32 labeled pixels for 49 features"),
    ],
    ids=["no image", "no label", "one class", "wrong id", "wrong size", "unknown class", "too few pixels"],
)  # fmt: skip
def test_what_cannot_be_solved_is_said(dataset, message):
    with pytest.raises(ValueError, match=message):
        solve_patches(dataset)


def test_features_that_are_not_finite_name_the_image(processor):
    model, _ = new_model(backbone_config(), make_space(), needs_processor=False)
    torch.nn.init.constant_(model.backbone.embedder.embedder.convolution.weight, float("nan"))
    with pytest.raises(ValueError, match="Image number 0: The network gives features that are not finite"):
        solve_head(model, Patches(), processor, SolveSettings())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"statistics": "all"}, "statistics is 'all'"),
        ({"held_out": "red"}, "give a list"),
        ({"ridge": -1.0}, "ridge is -1.0"),
        ({"unspoken_weight": float("nan")}, "unspoken_weight is nan"),
        ({"samples_per_image": 0}, "samples_per_image is 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SolveSettings(**options)


def test_a_class_that_cannot_be_held_out_is_named():
    with pytest.raises(ValueError, match="held_out names 'purple'"):
        NamedClasses(NAMES, Patches(), ["purple"])


def test_few_images_are_not_split():
    assert validation_images(4) == set()
    assert len(validation_images(10)) == 2 and len(validation_images(5)) == 1
    assert Pass(None, None, Patches(3), NamedClasses(NAMES, Patches())).held == set()
    model = solve_patches(Patches(3))
    assert model.config.solution["mean_iou"] is None and model.calibration_scores is not None


# ---- the last layer of other models -------------------------------------------------------------------------------


def trained_model(**fields):
    torch.manual_seed(0)
    config = ProLabConfig(
        backbone_config=backbone_config(), hidden_size=16, auxiliary_channels=8, pool_scales=(1, 2),
        **{**make_space().to_config_kwargs(), **fields},
    )  # fmt: skip
    model = ProLabForSemanticSegmentation(config)
    model.set_property_space(make_space())
    return model.eval()


@pytest.mark.parametrize(
    "head_inputs, context",
    [("decoder", False), ("decoder_and_backbone", False), ("decoder_and_backbone", True)],
)
@pytest.mark.parametrize("decoder", ["uper", "segformer", "aspp"])
def test_the_last_layer_of_any_decoder_is_solved(decoder, head_inputs, context, processor, tmp_path):
    model = trained_model(decoder=decoder)
    solved = solve_last_layer(model, Patches(), processor, head_inputs=head_inputs, context=context)
    before = evaluate(model, processor, Patches(4, start=50))["mean_iou"]
    assert evaluate(solved, processor, Patches(4, start=50))["mean_iou"] > before + 0.05
    solved.save_pretrained(tmp_path)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path)
    assert torch.allclose(outputs(loaded).logits, outputs(solved).logits, atol=1e-6)
    for name, weight in model.backbone.state_dict().items():
        assert torch.equal(weight, solved.backbone.state_dict()[name])


@pytest.mark.parametrize("similarity", ["sigmoid_cosine", "cosine", "sigmoid_l2", "linear_cosine"])
def test_training_can_start_at_the_solution(similarity, processor):
    model = trained_model(decoder="segformer", similarity=similarity, use_auxiliary_head=False).train()
    before = evaluate(model, processor, Patches(4, start=50))["mean_iou"]
    choice = start_at_solution(model, Patches(), processor)
    assert choice.ridge > 0 and model.training and model.config.similarity == similarity
    assert evaluate(model, processor, Patches(4, start=50))["mean_iou"] > before + 0.1
    assert torch.isfinite(
        model(torch.randn(2, 3, 64, 64), labels=torch.zeros(2, 64, 64, dtype=torch.long)).loss
    )


def test_the_better_of_trained_and_solved_is_kept(processor):
    model = trained_model(decoder="segformer")
    measure = lambda each: evaluate(each, processor, Patches(4, start=50))["mean_iou"]  # noqa: E731
    finish = finish_by_solving(
        model, Patches(), processor, measure, head_inputs=["decoder"], calibration=Patches(3, start=50)
    )
    assert finish.model.config.calibration_pixels > 100
    assert set(finish.mean_iou) == {"trained", "decoder"}
    assert finish.chosen == "decoder" and finish.model.config.similarity == "linear_cosine"
    kept = finish_by_solving(
        model, Patches(), processor, lambda each: float(each is model), calibration=Patches(2, start=50)
    )
    assert kept.model is model and model.config.trained_classes == NAMES


def test_the_last_layer_sees_the_scene_beside_the_decoders_map():
    copied = in_closed_form(trained_model(decoder="uper"), head_inputs="decoder_and_backbone", context=True)
    decoded, *stages, scene, sixteenths = copied.last_layer_maps(torch.randn(1, 3, 64, 128))
    assert decoded.shape[1] == 16 and len(stages) == 4
    assert scene.shape[2:] == (1, 1) and sixteenths.shape[2:] == (4, 4)
    assert torch.allclose(scene, stages[-1].mean(dim=(2, 3), keepdim=True), atol=1e-6)
    assert torch.allclose(sixteenths.mean(dim=(2, 3), keepdim=True), scene, atol=1e-6)
    assert copied.decode_head.classifier.in_channels == 16 + 48 + 2 * 16


def test_context_needs_the_maps_of_the_backbone(processor):
    with pytest.raises(ValueError, match='context=True needs head_inputs="decoder_and_backbone"'):
        solve_last_layer(trained_model(decoder="uper"), Patches(), processor, context=True)


def test_a_copy_in_closed_form_has_the_weights_of_the_model():
    model = trained_model(decoder="uper")
    copied = in_closed_form(model)
    assert copied.auxiliary_head is None and model.auxiliary_head is not None
    assert torch.equal(copied.decode_head.bottleneck.conv.weight, model.decode_head.bottleneck.conv.weight)
    assert model.config.similarity == "sigmoid_cosine"


def test_images_may_come_in_any_form(processor):
    class Arrays(Patches):
        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return np.asarray(image), Image.fromarray(mask.astype(np.uint8))

    assert solve_patches(Arrays()).config.solution["num_images"] == 10
