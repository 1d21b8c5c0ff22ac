"""Images per second from files to training tensors: ours, a plain loop over PIL, and torchvision's transforms v2.

    python benchmarks/loading.py                                  # 64 drawn photos of 683 x 512, crops of 512 x 512
    python benchmarks/loading.py --data DATA --images images/train --masks labels/train      # photos of your own
    python benchmarks/loading.py --stream                         # and from WebDataset shards of the same files

All do the same: decode a JPEG and its mask, resize by a random factor from 0.5 to 2, crop, flip, distort colors,
normalize. Two figures: CPU milliseconds per image inside of one process, which other load on the machine changes
little, and images per second of a dataloader with 0, 1 and 2 workers, which it does. The largest number of images per
second that a training step may eat is what the loader must give with two workers.
"""

import argparse
import io
import random
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from measuring import environment, interleaved, print_table
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.data.sources import PairSource
from prolab_hf.data.streaming.source import StreamingSource
from prolab_hf.data.transforms import TrainTransform
from prolab_hf.training.data_loading import StepSampler, TrainingExamples, train_dataloader
from prolab_hf.training.recipe import TrainingRecipe
from prolab_hf.training.stream_loading import stream_batches

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
VOID, CLASSES = 255, 64
Pairs = list[tuple[Path, Path]]


# ---- the peers ----------------------------------------------------------------------------------------------


class PlainPil(Dataset[tuple[Tensor, Tensor]]):
    """The loop that people write: PIL for everything, torch for the last step."""

    def __init__(self, pairs: Pairs, crop: int) -> None:
        self.pairs, self.crop = pairs, crop

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = Image.open(self.pairs[index][0]).convert("RGB"), Image.open(self.pairs[index][1])
        factor, crop = random.uniform(0.5, 2.0), self.crop
        size = (round(image.width * factor), round(image.height * factor))
        image, mask = (
            image.resize(size, Image.Resampling.BILINEAR),
            mask.resize(size, Image.Resampling.NEAREST),
        )
        left, top = (random.randint(0, max(0, side - crop)) for side in size)
        box = (left, top, left + crop, top + crop)
        # Beyond the image, PIL's crop gives zeros: void is pasted over them.
        canvas = Image.new(mask.mode, (crop, crop), VOID)
        inside = mask.crop((left, top, min(left + crop, size[0]), min(top + crop, size[1])))
        canvas.paste(inside, (0, 0))
        image, mask = image.crop(box), canvas
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            if random.random() < 0.5:
                image = kind(image).enhance(random.uniform(0.5, 1.5))
        array = (np.asarray(image, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        pixel_values = torch.from_numpy(array.transpose(2, 0, 1).copy())
        return pixel_values, torch.from_numpy(np.asarray(mask).astype(np.int64))


class TorchvisionV2(Dataset[tuple[Tensor, Tensor]]):
    """torchvision's transforms v2 on tv_tensors, as its segmentation references put them together."""

    def __init__(self, pairs: Pairs, crop: int) -> None:
        self.pairs, self.crop = pairs, crop
        self.transform = v2.Compose(
            [
                v2.RandomCrop(
                    crop, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: VOID, "others": 0}
                ),
                v2.RandomHorizontalFlip(),
                v2.RandomPhotometricDistort(),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
                v2.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.pairs[index][0]) as file:
            image = tv_tensors.Image(v2.functional.pil_to_tensor(file.convert("RGB")))
        mask = tv_tensors.Mask(np.asarray(Image.open(self.pairs[index][1])))
        factor = random.uniform(0.5, 2.0)
        size = [round(side * factor) for side in image.shape[-2:]]
        resized = v2.functional.resize(image, size, antialias=True), v2.functional.resize(mask, size)
        image, mask = self.transform(*resized)
        return image, mask


# ---- ours -------------------------------------------------------------------------------------------------


def examples_of(pairs: Pairs, crop: int) -> TrainingExamples:
    source = PairSource(pairs, num_classes=CLASSES)
    return TrainingExamples(source, TrainTransform(crop), seed=0)


def recipe_of(batch: int, crop: int) -> TrainingRecipe:
    return TrainingRecipe(schedule={"max_iterations": 1000, "batch_size": batch}, data={"crop_size": crop})


def our_batches(pairs: Pairs, crop: int, batch: int, workers: int) -> Iterator[object]:
    recipe = recipe_of(batch, crop)
    sampler = StepSampler(len(pairs), recipe, accumulation=1, first_step=0, last_step=1000)
    return iter(train_dataloader(examples_of(pairs, crop), sampler, num_workers=workers, ignore_index=VOID))


def streamed_batches(shards: Path, crop: int, batch: int, workers: int) -> Iterator[object]:
    columns = {"image_column": "jpg", "mask_column": "png"}
    source = StreamingSource.load(f"{shards}/*.tar", "train", **columns, num_classes=CLASSES)
    loading = {"rank": 0, "num_processes": 1, "num_workers": workers, "ignore_index": VOID}
    return stream_batches(source, TrainTransform(crop), recipe_of(batch, crop), [], **loading)[0]


def peer_batches(kind: type[Dataset], pairs: Pairs, crop: int, batch: int, workers: int) -> Iterator[object]:
    """Epoch after epoch, with workers that stay."""
    loader = DataLoader(
        kind(pairs, crop),
        batch_size=batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        drop_last=True,
    )
    while True:
        yield from loader


# ---- files ------------------------------------------------------------------------------------------------


def drawn_files(folder: Path, number: int) -> Pairs:
    """Drawn scenes as JPEG and PNG, of the usual size of photos in ADE20K."""
    scenes, pairs = DrawnScenes("train", min(number, 16)), []
    for index in range(number):
        sample = scenes[index % len(scenes)]
        pairs.append((folder / f"{index}.jpg", folder / f"{index}.png"))
        sample.image.resize((683, 512), Image.Resampling.BICUBIC).save(pairs[-1][0], quality=90)
        mask = Image.fromarray(np.where(sample.mask < CLASSES, sample.mask, VOID).astype(np.uint8))
        mask.resize((683, 512), Image.Resampling.NEAREST).save(pairs[-1][1])
    return pairs


def given_files(options: argparse.Namespace) -> Pairs:
    images, masks = options.data / options.images, options.data / options.masks
    found = {path.stem: path for path in sorted(masks.iterdir())}
    pairs = [(path, found[path.stem]) for path in sorted(images.iterdir()) if path.stem in found]
    return pairs[: options.number]


def write_shards(pairs: Pairs, folder: Path, number: int = 4) -> Path:
    """The files as WebDataset shards."""
    folder.mkdir()
    for shard in range(number):
        with tarfile.open(folder / f"train-{shard:04d}.tar", "w") as file:
            for index, paths in list(enumerate(pairs))[shard::number]:
                for path, suffix in zip(paths, ("jpg", "png")):
                    entry = tarfile.TarInfo(f"{index:06d}.{suffix}")
                    content = path.read_bytes()
                    entry.size = len(content)
                    file.addfile(entry, io.BytesIO(content))
    return folder


# ---- measuring --------------------------------------------------------------------------------------------


def rate(batches: Iterator[object], batch: int, number: int) -> float:
    """Images per second of a warm dataloader."""
    for _ in range(3):
        next(batches)
    started = time.perf_counter()
    for _ in range(number):
        next(batches)
    seconds = time.perf_counter() - started
    getattr(batches, "close", lambda: None)()
    return number * batch / seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with photos and masks; drawn scenes if left out")
    parser.add_argument("--images", default="images")
    parser.add_argument("--masks", default="masks")
    parser.add_argument("--number", type=int, default=64, help="images at most")
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5, help="passes over all images in one process")
    parser.add_argument("--batches", type=int, default=24, help="batches of a dataloader that are timed")
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--stream", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    print(environment())
    with tempfile.TemporaryDirectory() as folder:
        pairs = given_files(options) if options.data else drawn_files(Path(folder), options.number)
        examples = {
            "plain PIL loop": PlainPil(pairs, options.crop),
            "torchvision v2": TorchvisionV2(pairs, options.crop),
            "prolab_hf": examples_of(pairs, options.crop),
        }

        def read_all(dataset: Dataset) -> Callable[[], None]:
            ours = isinstance(dataset, TrainingExamples)
            return lambda: [dataset[(0, index) if ours else index] for index in range(len(pairs))] and None

        functions = {name: read_all(dataset) for name, dataset in examples.items()}
        seconds = interleaved(functions, options.repeats)
        sizes = {"crop": options.crop, "batch": options.batch}
        openers: dict[str, Callable[[int], Iterator[object]]] = {
            "plain PIL loop": lambda workers: peer_batches(PlainPil, pairs, **sizes, workers=workers),
            "torchvision v2": lambda workers: peer_batches(TorchvisionV2, pairs, **sizes, workers=workers),
            "prolab_hf": lambda workers: our_batches(pairs, **sizes, workers=workers),
        }
        if options.stream:
            shards = write_shards(pairs, Path(folder) / "shards")
            openers["prolab_hf, streamed"] = lambda workers: streamed_batches(
                shards, **sizes, workers=workers
            )
        rows = []
        ours = seconds["prolab_hf"][1]
        for name, opener in openers.items():
            alone = seconds.get(name)
            cells = (
                ["-", "-"]
                if alone is None
                else [f"{1000 * alone[1] / len(pairs):.1f}", f"{alone[1] / ours:.2f}"]
            )
            rates = [rate(opener(workers), options.batch, options.batches) for workers in options.workers]
            rows.append([name, *cells, *(f"{value:.1f}" for value in rates)])
    header = [
        "loader",
        "CPU ms per image",
        "CPU / ours",
        *(f"images/s, {n} workers" for n in options.workers),
    ]
    print_table(header, rows)


if __name__ == "__main__":
    main()
