"""Networks of several families, trained on drawn scenes, then adapted without a label: mean IoU before and after.

    python benchmarks/adapt.py --folder runs/adapt [--families segformer beit ...] [--steps 300]

Every network is trained once with cross-entropy and kept in the folder. It is adapted from its own predictions on
unlabeled training images, with and without refinement, and measured on test images that neither step has seen. A class
that no image showed is then added by its words, and beside it by random properties, on test images that hold it.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers
from measuring import environment, print_table
from torch import nn

from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_CLASSES, DrawnScenes
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.protocols import ImageProcessor
from prolab_hf.quickstart import KeptScenes, add_held_out, class_iou, control_ious
from prolab_hf.solving.adapt import adapt_network

SIZE = 64
STAGES = ["stage1", "stage2", "stage3", "stage4"]
LABELS = {
    "id2label": dict(enumerate(SCENE_CLASSES)),
    "label2id": {name: index for index, name in enumerate(SCENE_CLASSES)},
}
WIDTHS = {"hidden_sizes": [32, 48, 64, 96], "depths": [1, 1, 1, 1]}
PLAIN = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": SIZE,
    "patch_size": 16,
}


def segformer() -> nn.Module:
    config = transformers.SegformerConfig(
        **WIDTHS, num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=64, **LABELS
    )
    return transformers.SegformerForSemanticSegmentation(config)


def upernet(backbone: transformers.PreTrainedConfig) -> nn.Module:
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=64, use_auxiliary_head=False, pool_scales=[1, 2], **LABELS
    )
    return transformers.UperNetForSemanticSegmentation(config)


def upernet_resnet() -> nn.Module:
    return upernet(
        transformers.ResNetConfig(embedding_size=32, layer_type="basic", out_features=STAGES, **WIDTHS)
    )


def upernet_convnext() -> nn.Module:
    return upernet(transformers.ConvNextConfig(out_features=STAGES, **WIDTHS))


def beit() -> nn.Module:
    config = transformers.BeitConfig(
        **PLAIN, out_indices=[1, 2, 3, 4], use_relative_position_bias=True, use_auxiliary_head=False, **LABELS
    )
    return transformers.BeitForSemanticSegmentation(config)


def data2vec() -> nn.Module:
    config = transformers.Data2VecVisionConfig(
        **PLAIN, out_indices=[1, 2, 3, 4], use_relative_position_bias=True, use_auxiliary_head=False, **LABELS
    )
    return transformers.Data2VecVisionForSemanticSegmentation(config)


def dpt() -> nn.Module:
    config = transformers.DPTConfig(
        **PLAIN,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[32, 32, 48, 48],
        fusion_hidden_size=64,
        is_hybrid=False,
        use_auxiliary_head=False,
        **LABELS,
    )
    return transformers.DPTForSemanticSegmentation(config)


def mobilenet() -> nn.Module:
    config = transformers.MobileNetV2Config(image_size=SIZE, depth_multiplier=0.35, output_stride=8, **LABELS)
    return transformers.MobileNetV2ForSemanticSegmentation(config)


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    function.__name__: function
    for function in (segformer, upernet_resnet, upernet_convnext, beit, data2vec, dpt, mobilenet)
}


def scenes(split: str, number: int) -> DrawnScenes:
    return DrawnScenes(split, number, size=(SIZE, SIZE))


def train(network: nn.Module, steps: int, *, batch_size: int = 8, learning_rate: float = 6e-3) -> None:
    """Cross-entropy from random weights; transformers starts layers too small for so few steps."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    samples = [sample for sample in scenes("train", 320)]
    pixels = torch.from_numpy(np.stack([np.asarray(sample.image) for sample in samples]))
    pixels = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    labels = torch.from_numpy(np.stack([sample.mask for sample in samples])).long()
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(pixels), (batch_size,), generator=generator)
        logits = nn.functional.interpolate(network(pixels[chosen]).logits, (SIZE, SIZE), mode="bilinear")
        nn.functional.cross_entropy(logits, labels[chosen], ignore_index=255).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def trained(name: str, folder: Path, steps: int) -> Path:
    """Folder of the trained network, from an earlier run if there is one."""
    place = folder / name
    if not (place / "config.json").is_file():
        torch.manual_seed(0)
        network = FAMILIES[name]()
        train(network, steps)
        network.save_pretrained(place, save_original_format=False)
        # The same numbers that training used; BEiT's and SegFormer's own processors differ in nothing else here.
        transformers.SegformerImageProcessorPil(
            do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
        ).save_pretrained(place)
    return place


def described_ious(
    model: ProLabForSemanticSegmentation, processor: ImageProcessor, images: KeptScenes
) -> tuple[float, float]:
    """IoU of the class that no image showed: by its words, and the mean over random properties in their place."""
    add_held_out(model)
    words = class_iou(evaluate(model, processor, images), HELD_OUT_CLASS)
    return words, float(np.mean(control_ious(model, processor, images)[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where trained networks are kept")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--test-images", type=int, default=80)
    parser.add_argument("--images", type=int, default=120, help="unlabeled images to adapt on")
    options = parser.parse_args()
    print(environment())
    test, unlabeled = scenes("test", options.test_images), scenes("train", options.images)
    with_new = KeptScenes(
        DrawnScenes("test", options.test_images, size=(SIZE, SIZE), include_held_out=True), share=0.0
    )
    rows = []
    for name in options.families:
        place = trained(name, options.folder, options.steps)
        network = transformers.AutoModelForSemanticSegmentation.from_pretrained(place).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(place)
        before = evaluate(network, processor, test)["mean_iou"]
        start = time.perf_counter()
        own = adapt_network(network, "scenes", unlabeled, processor=processor, learn_from="predictions")
        seconds = time.perf_counter() - start
        after = evaluate(own.model, processor, test)["mean_iou"]
        plain = adapt_network(
            network, "scenes", unlabeled, processor=processor, learn_from="predictions", refine=False
        )
        unrefined = evaluate(plain.model, processor, test)["mean_iou"]
        described = [described_ious(each.model, processor, with_new) for each in (own, plain)]
        rows.append(
            [
                name,
                f"{before:.4f}",
                f"{after:.4f}",
                f"{after - before:+.4f}",
                f"{own.report.agreement:.3f}",
                f"{own.report.spoken_share:.2f}",
                f"{unrefined:.4f}",
                f"{seconds:.0f}",
                *(f"{words:.3f} ({random:.3f})" for words, random in described),
            ]
        )
        print(" ".join(rows[-1]), flush=True)
    new = f"{HELD_OUT_CLASS} by its words (by random ones)"
    print_table(
        [
            *("family", "mIoU before", "after", "change", "unchanged", "spoken", "after, not refined", "s"),
            *(new, f"{new}, not refined"),
        ],
        rows,
    )


if __name__ == "__main__":
    main()
