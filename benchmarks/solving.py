"""What solving costs: accumulation against the forward pass, memory, the solution itself, two processes against one.

Costs are CPU seconds, so that other work on the machine does not count. The two processes are timed by the clock, which
needs two quiet cores, and by the CPU seconds of the slower one, which bound what the clock can give.

python benchmarks/solving.py
python benchmarks/solving.py --processes   # 1 and 2 processes over the same drawn images
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import Dinov2Config, ResNetConfig

from prolab_hf import PropertySpace
from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.solving.accumulation import NamedClasses, Pass
from prolab_hf.solving.pixel_features import features_at, sample_pixels
from prolab_hf.solving.solution import Choice, solve_responses
from prolab_hf.solving.solve import SolveSettings, new_model, solve_head
from prolab_hf.solving.statistics import ClassStatistics, WaitingRows

SIZE = 448  # side of an image, a multiple of the patch
SHAPES = {
    "DINOv2-small": {"hidden_size": 384, "num_attention_heads": 6},
    "ViT-B": {"hidden_size": 768, "num_attention_heads": 12},
}


class Noise:
    """Images of one size with labels in large patches; nothing is read or drawn."""

    ignore_index = 255
    class_names = None

    def __init__(self, length, num_classes):
        rng = np.random.default_rng(0)
        self.length = length
        self.image = Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8))
        self.mask = rng.integers(0, num_classes, (7, 7)).repeat(SIZE // 7, 0).repeat(SIZE // 7, 1)

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.image, self.mask


def many_classes(number=150, properties=256):
    generator = torch.Generator().manual_seed(0)
    return PropertySpace(
        class_names=[f"class {index}" for index in range(number)],
        property_names=[f"property {index}" for index in range(properties)],
        property_embeddings=torch.randn(properties, 16, generator=generator),
        class_property_matrix=(torch.rand(number, properties, generator=generator) < 0.1).float(),
    )


def accumulation_cost(name, images):
    """Seconds of the forward pass and of everything behind it, per image, at several strides of the maps."""
    stages = ["stage3", "stage6", "stage9", "stage12"]
    config = Dinov2Config(num_hidden_layers=12, patch_size=14, out_features=stages, **SHAPES[name])
    space = many_classes(20, 40)
    model, _ = new_model(config, space, needs_processor=False)
    model.eval()
    pixels = torch.randn(1, 3, SIZE, SIZE)
    dataset = Noise(images, 20)
    with torch.no_grad():
        maps = model.last_layer_maps(pixels)
        started = time.process_time()
        for _ in range(images):
            model.last_layer_maps(pixels)
        forward = (time.process_time() - started) / images
        for stride in (4, 8, 14):
            large = [torch.nn.functional.interpolate(each, (SIZE // stride,) * 2) for each in maps]
            statistics = ClassStatistics.empty(
                space.class_names, model.decode_head.classifier.in_channels + 1
            )
            rows = WaitingRows(statistics)
            started = time.process_time()
            for index in range(images):
                sample = sample_pixels(dataset[index][1], 255, None, np.random.default_rng(index))
                found = features_at(large, sample, (SIZE, SIZE))
                rows.add(found, torch.from_numpy(sample.labels), torch.from_numpy(sample.weights))
            rows.flush()
            own = (time.process_time() - started) / images
            print(f"{name}, maps at stride {stride}: forward {forward:.3f} s, accumulation {own:.3f} s per image "
                  f"({own / forward:.1%})", flush=True)  # fmt: skip


def memory(images):
    """Peak memory after a few and after many images."""
    space = many_classes(20, 40)
    config = ResNetConfig(depths=[1, 1, 1, 1], layer_type="basic", hidden_sizes=[32, 64, 96, 128])
    config.out_features = ["stage1", "stage2", "stage3", "stage4"]
    model, _ = new_model(config, space, needs_processor=False)
    processor = ProLabImageProcessorPil(do_resize=False)
    for number in (images, 10 * images):
        solve_head(model, Noise(number, 20), processor, SolveSettings())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{number} images: peak memory {peak:.0f} MiB", flush=True)


def solution(num_classes=150, num_features=1537):
    """Seconds for the solution, and for other words."""
    statistics = ClassStatistics.empty(
        [f"class {index}" for index in range(num_classes)], num_features,
        class_weights=torch.ones(num_classes), class_exponent=0.5,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4 * num_features, num_features, generator=generator)
    values[:, -1] = 1
    statistics.add(values, torch.randint(0, num_classes, (len(values),), generator=generator))
    times = []
    for _ in range(5):
        started = time.process_time()
        layer = solve_responses(statistics, Choice())
        times.append(time.process_time() - started)
    print(f"{num_classes} classes, {num_features} features: solved in {min(times):.3f} s", flush=True)
    space = many_classes(num_classes)
    config = Dinov2Config(
        num_hidden_layers=4,
        hidden_size=384,
        num_attention_heads=6,
        out_features=[f"stage{i}" for i in (1, 2, 3, 4)],
    )
    model, _ = new_model(config, space, needs_processor=False)
    model.config.trained_classes = space.class_names
    model.set_calibration_sample(torch.rand(8192, num_classes), torch.randint(0, num_classes, (8192,)))
    model.decode_head.classifier.weight.data.copy_(layer[:, :-1, None, None])
    other = space.add_classes({"new class": ["property 1", "property 7", "property 9"]})
    times = []
    for each in (other, space, other):
        started = time.process_time()
        model.set_property_space(each)
        times.append(time.process_time() - started)
    print(f"other words, {space.num_properties} properties, 8,192 calibration pixels: "
          f"{times[0]:.3f} s with a described class, {times[1]:.3f} s without", flush=True)  # fmt: skip


def one_run(images):
    """A pass over drawn scenes in this process or in one of several, its seconds without start-up."""
    from accelerate import Accelerator
    from accelerate.utils import gather_object

    torch.set_num_threads(1)
    space = PropertySpace.from_pretrained("scenes")
    torch.manual_seed(0)
    config = ResNetConfig(depths=[1, 1, 1, 1], layer_type="basic", hidden_sizes=[64, 128, 256, 512])
    config.out_features = ["stage1", "stage2", "stage3", "stage4"]
    model, _ = new_model(config, space, needs_processor=False)
    accelerator = Accelerator(cpu=True)
    dataset = DrawnScenes("train", images)
    processor = ProLabImageProcessorPil(do_resize=False)
    work = Pass(
        model.eval().last_layer_maps, processor,
        dataset, NamedClasses(space.class_names, dataset),
    )  # fmt: skip
    total = work.empty(None, None, model.decode_head.classifier.in_channels + 1)
    accelerator.wait_for_everyone()
    started, own = time.perf_counter(), time.process_time()
    work.run(total, accelerator=accelerator)
    slowest = max(gather_object([time.process_time() - own]))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        seconds = time.perf_counter() - started
        number = accelerator.num_processes
        print(f"{number} process(es): {seconds:.1f} s, {slowest:.1f} CPU s of the slowest", flush=True)


def processes(images):
    command = [str(Path(__file__).resolve()), "--one-run", "--images", str(images)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        for number in (1, 2):
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)]
            subprocess.run([sys.executable, *launch, *command], env=environment, check=True, cwd=folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--processes", action="store_true")
    parser.add_argument("--one-run", action="store_true")
    arguments = parser.parse_args()
    if arguments.one_run:
        one_run(arguments.images)
    elif arguments.processes:
        processes(max(arguments.images, 60))
    else:
        solution()
        for shape in SHAPES:
            accumulation_cost(shape, arguments.images)
        memory(arguments.images)
