"""Cached features: the same run as without, never stale, refused where the disk is too small, exact when resumed."""

import shutil

import pytest
import torch
from PIL import Image

from prolab_hf.data.sources import FolderSource
from prolab_hf.training.frozen import feature_cache
from prolab_hf.training.reporting import TrainingInterrupted
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model, drawn_pairs, write_folder
from tests.training.test_trainer import QUIET, assert_equal_weights, stop_at, weights


@pytest.fixture
def frozen(recipe):
    return recipe.replace(**{"model.freeze": "backbone", "features.half": False, "features.copies": 3})


@pytest.fixture
def cached(frozen):
    return frozen.replace(**{"features.cache": True})


def entries(folder):
    return sorted(folder.rglob("*.safetensors"))


def run(recipe, folder, *, data=None, model=None, **options):
    model = model or build_model()
    train(model, data or drawn_pairs(), None, recipe=recipe, output_dir=folder, **QUIET, **options)
    return model


def test_a_cached_run_is_the_frozen_run(tmp_path, frozen, cached):
    """Six steps of two are three epochs of four images: as many as there are copies."""
    expected = run(frozen, tmp_path / "frozen")
    found = run(cached, tmp_path / "cached")
    for name, value in weights(expected).items():
        torch.testing.assert_close(value, weights(found)[name], atol=2e-5, rtol=1e-4, msg=name)
    assert len(entries(tmp_path / "cached" / "feature_cache")) == 12


def test_copies_repeat_and_workers_read_the_same(tmp_path, cached):
    once = run(cached.replace(**{"features.copies": 1}), tmp_path / "once")
    workers = run(cached.replace(**{"features.copies": 1, "data.num_workers": 2}), tmp_path / "workers")
    assert_equal_weights(weights(once), weights(workers))
    thrice = run(cached, tmp_path / "thrice")
    assert not torch.equal(
        weights(once)["decode_head.classifier.weight"], weights(thrice)["decode_head.classifier.weight"]
    )


def test_the_backbone_runs_only_where_something_is_missing(tmp_path, cached, monkeypatch):
    shared = cached.replace(**{"features.folder": str(tmp_path / "shared")})
    calls = []
    own = feature_cache._feature_maps
    monkeypatch.setattr(
        feature_cache, "_feature_maps", lambda *given: calls.append(len(given[1])) or own(*given)
    )
    first = run(shared, tmp_path / "first")
    assert calls == [1] + 6 * [2]  # one to know the size, then all versions
    calls.clear()
    second = run(shared, tmp_path / "second")
    assert calls == [1]
    assert_equal_weights(weights(first), weights(second))
    # A lost entry comes back the same, with its whole batch.
    entries(tmp_path / "shared")[3].unlink()
    calls.clear()
    third = run(shared, tmp_path / "third")
    assert calls == [1, 2]
    assert_equal_weights(weights(first), weights(third))


def test_other_images_weights_or_augmentation_are_other_entries(tmp_path, cached):
    shared = cached.replace(**{"features.folder": str(tmp_path / "shared"), "features.copies": 1})
    source = FolderSource(write_folder(tmp_path / "data"), num_classes=3)
    run(shared, tmp_path / "0", data=source)
    assert len(entries(tmp_path / "shared")) == 4
    image = tmp_path / "data" / "images" / "2.png"
    Image.new("RGB", (32, 32), "white").save(image)
    run(shared, tmp_path / "1", data=source)
    assert len(entries(tmp_path / "shared")) == 5  # one image changed
    run(shared, tmp_path / "2", data=source, model=build_model(seed=1))
    assert len(entries(tmp_path / "shared")) == 9  # other weights
    run(shared.replace(**{"data.flip_probability": 1.0}), tmp_path / "3", data=source)
    assert len(entries(tmp_path / "shared")) == 13
    run(shared.replace(**{"optimizer.learning_rate": 1e-3}), tmp_path / "4", data=source)
    assert len(entries(tmp_path / "shared")) == 13  # the features do not depend on it


def test_resume_is_exact_also_when_the_cache_is_gone(tmp_path, cached):
    whole = run(cached, tmp_path / "whole")
    for lost in (False, True):
        folder = tmp_path / f"cut-{lost}"
        with pytest.raises(TrainingInterrupted):
            run(cached, folder, callbacks=[stop_at(3)])
        if lost:
            shutil.rmtree(folder / "feature_cache")
        resumed = run(cached, folder, resume=True)
        assert_equal_weights(weights(resumed), weights(whole))


def test_it_says_its_size_first_and_refuses_a_full_disk(tmp_path, cached, monkeypatch, capsys):
    recipe = cached.replace(**{"features.half": True})
    train(build_model(), drawn_pairs(), None, recipe=recipe, output_dir=tmp_path / "run")
    said = capsys.readouterr().err
    assert "feature cache: 4 images x 3 copies, 0.1 MiB in" in said and "12 of 12 to be computed" in said
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(
        OSError, match=r"The feature cache needs 0.1 MiB more in .* where 0.0 MiB are free; lower"
    ):
        run(recipe, tmp_path / "full")
    assert entries(tmp_path / "full" / "feature_cache") == []


def test_half_precision_trains_almost_the_same(tmp_path, frozen, cached):
    expected = run(frozen, tmp_path / "frozen")
    found = run(cached.replace(**{"features.half": True}), tmp_path / "cached")
    name = "decode_head.classifier.weight"
    torch.testing.assert_close(weights(expected)[name], weights(found)[name], atol=2e-3, rtol=2e-2)


def test_tensors_of_a_data_set_cannot_be_cached(tmp_path, cached):
    with pytest.raises(ValueError, match="the data set gives tensors, whose augmentation cannot be told"):
        run(cached, tmp_path / "run", data=Stripes())


def test_features_that_are_too_large_for_half_precision():
    example = feature_cache.TrainingExample({"labels": torch.zeros(2, 2, dtype=torch.int64)}, "photo.png")
    with pytest.raises(
        ValueError, match=r"photo.png hold numbers that are not finite, or too large for half"
    ):
        feature_cache.write_entry(None, [torch.full((1, 2, 2), 1e6)], example, half=True)
