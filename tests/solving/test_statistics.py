import pytest
import torch

from prolab_hf.solving.statistics import ClassStatistics, read_tensors, symmetric, write_tensors

NAMES = ["a", "b", "c"]


def pixels(number=400, features=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(number, features, generator=generator) * 3 + 1
    values[:, -1] = 1
    return values, torch.randint(0, 3, (number,), generator=generator)


def test_sums_are_those_of_the_plain_formula():
    values, labels = pixels()
    weights = torch.rand(len(labels), dtype=torch.float64) + 0.5
    statistics = ClassStatistics.empty(NAMES, 300)
    statistics.add(values, labels, weights)
    moments, sums = statistics.pooled(0.5)
    counts = torch.stack([weights[labels == c].sum() for c in range(3)])
    factor = counts**-0.5
    factor = factor * counts.sum() / (factor * counts).sum()
    scaled = values.double() * (weights * factor[labels])[:, None]
    assert torch.allclose(statistics.counts, counts)
    assert torch.allclose(moments, scaled.t() @ values.double(), atol=1e-8)
    assert torch.allclose(sums, torch.stack([scaled[labels == c].sum(0) for c in range(3)]), atol=1e-8)


def test_nothing_depends_on_the_number_of_parts():
    values, labels = pixels()
    whole = ClassStatistics.empty(NAMES, 300)
    whole.add(values, labels)
    parts = [ClassStatistics.empty(NAMES, 300) for _ in range(3)]
    for number, part in enumerate(parts):
        part.add(values[number::3], labels[number::3])
    together = parts[0] + parts[1] + parts[2]
    for name in ("counts", "sums", "moments"):
        one, other = getattr(whole, name), getattr(together, name)
        assert name == "moments" or torch.allclose(one, other, rtol=1e-9, atol=1e-9)
    assert torch.allclose(symmetric(whole.moments), symmetric(together.moments), rtol=1e-9, atol=1e-9)


def test_moments_that_are_summed_up_are_those_per_class_with_their_weights():
    values, labels = pixels()
    per_class = ClassStatistics.empty(NAMES, 300)
    per_class.add(values, labels)
    weights = per_class.weights_for(0.5)
    summed = ClassStatistics.empty(NAMES, 300, class_weights=weights, class_exponent=0.5)
    summed.add(values, labels)
    for one, other in zip(per_class.pooled(0.5), summed.pooled(0.9)):  # the exponent is decided already
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-7)
    for one, other in zip(per_class.summed_up(0.5).pooled(0.5), summed.pooled(0.5)):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-7)


def test_leaving_a_class_out_is_a_subtraction():
    values, labels = pixels()
    everything, without = ClassStatistics.empty(NAMES, 300), ClassStatistics.empty(NAMES, 300)
    everything.add(values, labels)
    without.add(values[labels != 1], labels[labels != 1])
    for one, other in zip(everything.pooled(0.0, without=[1]), without.pooled(0.0)):
        ratio = float(other.flatten()[-1] / one.flatten()[-1])  # weights have mean 1 over all pixels
        assert torch.allclose(one * ratio, other, rtol=1e-9, atol=1e-6)
    with pytest.raises(ValueError, match="per_class"):
        everything.summed_up(0.5).pooled(0.5, without=[1])


def test_they_are_saved_and_loaded(tmp_path):
    values, labels = pixels()
    statistics = ClassStatistics.empty(NAMES, 300, fingerprints={"network": "1234"})
    statistics.add(values, labels)
    statistics.num_images = 7
    for kept in (statistics, statistics.summed_up(0.5)):
        kept.save(tmp_path)
        loaded = ClassStatistics.load(tmp_path)
        assert (loaded.num_images, loaded.fingerprints, loaded.class_names) == (7, {"network": "1234"}, NAMES)
        assert loaded.is_per_class == kept.is_per_class
        for one, other in zip(loaded.pooled(0.5), kept.pooled(0.5)):
            assert torch.equal(one, other)
    assert [path.name for path in tmp_path.iterdir()] == ["solve_statistics.safetensors"]


def test_what_does_not_belong_together_is_refused(tmp_path):
    mine = ClassStatistics.empty(NAMES, 5, fingerprints={"network": "a" * 64})
    with pytest.raises(ValueError, match="another network"):
        mine += ClassStatistics.empty(NAMES, 5, fingerprints={"network": "b" * 64})
    with pytest.raises(ValueError, match="5 features, the network gives 6"):
        mine += ClassStatistics.empty(NAMES, 6)
    with pytest.raises(ValueError, match="classes a, b, d"):
        mine += ClassStatistics.empty(["a", "b", "d"], 5)
    with pytest.raises(ValueError, match="not finite"):
        mine.add(torch.full((1, 5), float("nan")), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(FileNotFoundError, match="no statistics were kept"):
        ClassStatistics.load(tmp_path)
    (tmp_path / "solve_statistics.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="is damaged"):
        ClassStatistics.load(tmp_path)
    write_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, {"facts": [1]})
    assert read_tensors(tmp_path / "other.safetensors")[1] == {"facts": [1]}
    with pytest.raises(ValueError, match="no statistics of format"):
        ClassStatistics.load(tmp_path / "other.safetensors")
