import copy
import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.data.transforms import SegmentationDataset, TrainTransform, collate


def dataset(seed=0, transform=None):
    return SegmentationDataset(
        DrawnScenes(num_images=6, size=(64, 80)), transform or TrainTransform((32, 32)), seed=seed
    )


def batches(data, workers, epochs=2, persistent=False):
    loader = DataLoader(
        data, batch_size=2, num_workers=workers, collate_fn=collate, persistent_workers=persistent
    )
    found = []
    for epoch in range(epochs):
        data.set_epoch(epoch)
        found += list(loader)
    return found


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a[key], b[key]) for a, b in zip(first, second, strict=True) for key in a
    )


def test_examples_do_not_depend_on_workers():
    plain = batches(dataset(), 0)
    assert same(plain, batches(dataset(), 2))
    # Persistent workers hold copies of the data set: they must still see the new epoch.
    assert same(plain, batches(dataset(), 2, persistent=True))


def test_epoch_seed_and_index_each_change_the_example():
    data = dataset()
    first = data[0]["pixel_values"]
    assert torch.equal(first, data[0]["pixel_values"])
    data.set_epoch(1)
    assert data.epoch == 1
    assert not torch.equal(first, data[0]["pixel_values"])
    assert not torch.equal(first, dataset(seed=1)[0]["pixel_values"])
    data.set_epoch(0)
    assert torch.equal(first, data[0]["pixel_values"])


def test_order_of_access_does_not_matter():
    data = dataset()
    forward = [data[i]["labels"] for i in range(6)]
    backward = [data[i]["labels"] for i in reversed(range(6))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert torch.equal(data[-1]["labels"], forward[5])


def test_copies_keep_the_epoch():
    data = dataset()
    data.set_epoch(3)
    assert pickle.loads(pickle.dumps(data)).epoch == 3
    assert copy.deepcopy(data).epoch == 3


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed -1"):
        dataset(seed=-1)


class _Recorder(torch.nn.Module):
    """Smallest model that `transformers.Trainer` trains; remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 14, 1)
        self.seen = []

    def forward(self, pixel_values, labels):
        self.seen.append(pixel_values[0].clone())
        logits = self.layer(pixel_values)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels, ignore_index=255), "logits": logits}


def test_transformers_trainer_trains_on_it_with_a_new_epoch_each_time(tmp_path):
    from transformers import Trainer, TrainingArguments

    data, model = dataset(), _Recorder()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=6,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(model, arguments, train_dataset=data, data_collator=collate).train()
    assert len(model.seen) == 2
    expected = {}
    for epoch in range(2):
        data.set_epoch(epoch)
        expected[epoch] = [data[i]["pixel_values"] for i in range(6)]
    for epoch in range(2):
        assert any(torch.equal(model.seen[epoch], image) for image in expected[epoch])
