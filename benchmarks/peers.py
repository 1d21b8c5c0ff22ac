"""The same backbone and decoder in transformers, in segmentation_models_pytorch and here, in one process.

    python benchmarks/peers.py                                   # 150 classes: every task, UperNet and SegFormer
    python benchmarks/peers.py --classes 11 --properties 32
    python benchmarks/peers.py --smoke                           # tiny, for a look at whether it runs

Tasks: `train` is one step (forward, backward, AdamW) on a batch of 512 x 512 crops, `segment` goes from a PIL image of
640 x 480 pixels to its label map, `evaluate` measures images (mean IoU), `memory` is the peak of a training step in a
process of its own. Networks have random weights, which take the same time. Variants take turns, so that other load on
the machine meets all alike; CPU seconds of one thread are what its load changes least.

How the peers are used: transformers with its own image processor, loss (cross-entropy on upsampled logits) and
`post_process_semantic_segmentation`; segmentation_models_pytorch, which has none of these, with the plain torch code of
its documentation. Ours has property supervision, with as many properties as a space for so many classes has.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import segmentation_models_pytorch as smp
import torch
from measuring import environment, interleaved, peak_memory, print_table
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoBackbone,
    AutoConfig,
    ConvNextConfig,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    SegformerModel,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from prolab_hf import ProLabForSemanticSegmentation, ProLabImageProcessor, PropertySpace, evaluate, segment

OURS, TRANSFORMERS, SMP = "prolab_hf", "transformers", "segmentation_models_pytorch"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
VOID = 255
AUXILIARY_WEIGHT = 0.4
Batch = dict[str, Tensor]
Pair = tuple[Image.Image, NDArray[np.int32]]

CONVNEXTS = {
    "atto": {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]},
    "tiny": {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
}


# ---- SegFormer's encoder as a backbone, which transformers does not have ------------------------------------


class MitConfig(BackboneConfigMixin, SegformerConfig):
    """SegFormer's encoder (MiT-B0)."""

    model_type = "mit_for_a_benchmark"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.stage_names = ["stem", *(f"stage{number}" for number in range(1, 5))]
        self._out_features, self._out_indices = self.stage_names[1:], [1, 2, 3, 4]


class MitBackbone(BackboneMixin, SegformerModel):
    """The encoder, with its four maps as feature maps."""

    config_class = MitConfig

    def __init__(self, config):
        super().__init__(config)
        self.num_features = [config.hidden_sizes[0], *config.hidden_sizes]

    def forward(self, pixel_values: Tensor, **kwargs: object) -> BackboneOutput:
        states = SegformerModel.forward(self, pixel_values, output_hidden_states=True).hidden_states
        return BackboneOutput(feature_maps=tuple(states))


AutoConfig.register(MitConfig.model_type, MitConfig)
AutoBackbone.register(MitConfig, MitBackbone)


# ---- contestants ------------------------------------------------------------------------------------------


class Contestant:
    """One library's network with the library's own way to train, segment and measure.

    Args:
        options: Sizes.
        architecture: `"upernet"` or `"segformer"`.
    """

    def __init__(self, options: argparse.Namespace, architecture: str) -> None:
        self.options, self.architecture = options, architecture
        torch.manual_seed(0)
        self.model = self.build()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def build(self) -> nn.Module:
        """The network."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Loss of a batch."""
        return self.model(**batch).loss

    def train(self, batch: Batch) -> None:
        """One step."""
        self.model.train()
        self.loss(batch).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def segment(self, image: Image.Image) -> Tensor:
        """Label map of an image, `(height, width)`."""
        raise NotImplementedError

    def evaluate(self, pairs: list[Pair]) -> float:
        """Mean IoU, with one confusion matrix as everybody writes it."""
        classes = self.options.classes
        confusion = np.zeros((classes, classes), dtype=np.int64)
        self.model.eval()
        for image, mask in pairs:
            predicted, valid = self.segment(image).numpy(), mask != VOID
            cells = mask[valid].astype(np.int64) * classes + predicted[valid]
            confusion += np.bincount(cells, minlength=classes**2).reshape(classes, classes)
        hits = np.diag(confusion)
        union = confusion.sum(0) + confusion.sum(1) - hits
        return float((hits[union > 0] / union[union > 0]).mean())


class OfTransformers(Contestant):
    """transformers' own UperNet and SegFormer."""

    processor = SegformerImageProcessor(do_resize=False)

    def build(self) -> nn.Module:
        options = self.options
        if self.architecture == "segformer":
            return SegformerForSemanticSegmentation(SegformerConfig(num_labels=options.classes))
        backbone = convnext(options)
        config = UperNetConfig(
            backbone_config=backbone,
            hidden_size=options.hidden_size,
            auxiliary_in_channels=backbone.hidden_sizes[2],
            auxiliary_channels=options.hidden_size,
            auxiliary_loss_weight=AUXILIARY_WEIGHT,
            num_labels=options.classes,
        )
        return UperNetForSemanticSegmentation(config)

    @torch.no_grad()
    def segment(self, image: Image.Image) -> Tensor:
        self.model.eval()
        output = self.model(**self.processor(images=image, return_tensors="pt"))
        sizes = [(image.height, image.width)]
        return self.processor.post_process_semantic_segmentation(output, target_sizes=sizes)[0]


class OfSmp(Contestant):
    """segmentation_models_pytorch's UPerNet and Segformer; the auxiliary head of UperNet is not among its parts."""

    def build(self) -> nn.Module:
        options = self.options
        if self.architecture == "segformer":
            return smp.Segformer("mit_b0", encoder_weights=None, classes=options.classes)
        return smp.UPerNet(
            f"tu-convnext_{options.convnext}",
            encoder_weights=None,
            decoder_channels=options.hidden_size,
            classes=options.classes,
        )

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(self.model(batch["pixel_values"]), batch["labels"], ignore_index=VOID)

    @torch.no_grad()
    def segment(self, image: Image.Image) -> Tensor:
        self.model.eval()
        array = np.asarray(image, dtype=np.float32) / 255
        array = (array - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        pixel_values = torch.from_numpy(array.transpose(2, 0, 1)[None]).contiguous()
        return self.model(pixel_values)[0].argmax(0)


class Ours(Contestant):
    """This library."""

    processor = ProLabImageProcessor(do_resize=False)

    def build(self) -> nn.Module:
        options = self.options
        names = [f"class {number}" for number in range(options.classes)]
        density = min(0.25, 10 / options.properties)
        space = PropertySpace.random_codes(names, num_properties=options.properties, density=density)
        space = space.replace(property_embeddings=torch.randn(options.properties, 768))
        if self.architecture == "segformer":
            fields = {"decoder": "segformer", "hidden_size": 256, "use_auxiliary_head": False}
            return ProLabForSemanticSegmentation.from_backbone(MitConfig(), space, pretrained=False, **fields)
        return ProLabForSemanticSegmentation.from_backbone(
            convnext(options),
            space,
            pretrained=False,
            hidden_size=options.hidden_size,
            auxiliary_channels=options.hidden_size,
            auxiliary_loss_weight=AUXILIARY_WEIGHT,
        )

    @torch.no_grad()
    def segment(self, image: Image.Image) -> Tensor:
        return torch.as_tensor(segment(self.model, self.processor, image).labels)

    def evaluate(self, pairs: list[Pair]) -> float:
        return evaluate(self.model, self.processor, pairs)["mean_iou"]


CONTESTANTS = {TRANSFORMERS: OfTransformers, SMP: OfSmp, OURS: Ours}


def convnext(options: argparse.Namespace) -> ConvNextConfig:
    """The backbone of UperNet."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return ConvNextConfig(**CONVNEXTS[options.convnext], out_features=stages)


# ---- data and tasks ---------------------------------------------------------------------------------------


def blocks(options: argparse.Namespace, height: int, width: int, number: int) -> Tensor:
    """Label maps of square regions, `(number, height, width)`."""
    coarse = torch.randint(options.classes, (number, 1, -(-height // 32), -(-width // 32))).float()
    return functional.interpolate(coarse, scale_factor=32)[:, 0, :height, :width].long()


def make_batch(options: argparse.Namespace) -> Batch:
    torch.manual_seed(1)
    size = options.size
    labels = blocks(options, size, size, options.batch)
    return {"pixel_values": torch.randn(options.batch, 3, size, size), "labels": labels}


def make_pairs(options: argparse.Namespace, number: int) -> list[Pair]:
    rng = np.random.default_rng(2)
    width, height = options.image
    masks = blocks(options, height, width, number).numpy().astype(np.int32)
    images = rng.integers(0, 256, (number, height, width, 3), dtype=np.uint8)
    return [(Image.fromarray(image), mask) for image, mask in zip(images, masks)]


def _memory(options: argparse.Namespace, architecture: str, name: str) -> Callable[[], object]:
    contestant, batch = CONTESTANTS[name](options, architecture), make_batch(options)
    return partial(contestant.train, batch)


def compare(options: argparse.Namespace, architecture: str) -> None:
    """Prints the table of one architecture."""
    rows: list[list[str]] = []

    def add(task: str, values: dict[str, float], cells: dict[str, str]) -> None:
        ours = values[OURS]
        ratios = [f"{values[name] / ours:.2f}" for name in (TRANSFORMERS, SMP)]
        rows.append([task, *(cells[name] for name in CONTESTANTS), *ratios])

    if "memory" in options.tasks:  # forks, so before the first computation here
        peaks = {name: peak_memory(partial(_memory, options, architecture, name)) for name in CONTESTANTS}
        add("peak of a step, MiB", peaks, {name: f"{value:,.0f}" for name, value in peaks.items()})
    contestants = {name: kind(options, architecture) for name, kind in CONTESTANTS.items()}
    image = make_pairs(options, 1)[0][0]
    batch, pairs = make_batch(options), make_pairs(options, options.images)
    calls = {
        "train": (options.repeats, lambda contestant: partial(contestant.train, batch)),
        "segment": (options.repeats * 3, lambda contestant: partial(contestant.segment, image)),
        "evaluate": (options.rounds, lambda contestant: partial(contestant.evaluate, pairs)),
    }
    for task, (repeats, call) in calls.items():
        if task not in options.tasks:
            continue
        functions = {name: call(contestant) for name, contestant in contestants.items()}
        if task != "evaluate":
            for function in functions.values():
                function()  # warms up
        seconds = interleaved(functions, repeats)
        cpu = {name: value for name, (_, value) in seconds.items()}
        add(f"{task}, CPU s", cpu, {n: f"{c:.3f} (wall {w:.3f})" for n, (w, c) in seconds.items()})
    title = (
        f"{architecture}, {options.classes} classes, {options.properties} properties, batch {options.batch} x "
        f"{options.size} x {options.size}"
    )
    print(f"\n{title}", flush=True)
    print_table(["task", *CONTESTANTS, f"{TRANSFORMERS} / ours", "smp / ours"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--architectures", nargs="+", default=["upernet", "segformer"])
    parser.add_argument("--tasks", nargs="+", default=["memory", "train", "segment", "evaluate"])
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--properties", type=int, default=256)
    parser.add_argument("--convnext", choices=CONVNEXTS, default="atto", help="backbone of UperNet")
    parser.add_argument("--hidden-size", type=int, default=128, help="width of UperNet's decoder")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="side of a training crop")
    parser.add_argument("--image", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--images", type=int, default=100, help="images to evaluate")
    parser.add_argument("--repeats", type=int, default=7, help="training steps; three times as many images")
    parser.add_argument("--rounds", type=int, default=1, help="evaluations")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.smoke:
        options.size, options.image, options.images, options.repeats = 64, (64, 64), 2, 1
        options.classes, options.properties, options.hidden_size = 11, 32, 16
    torch.set_num_threads(options.threads)
    print(environment())
    for architecture in options.architectures:
        compare(options, architecture)


if __name__ == "__main__":
    main()
