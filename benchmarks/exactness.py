"""How exact explanations are, and how quick interventions.

    python benchmarks/exactness.py [--images 3]

For every similarity, a solved and an adapted model, and every way of inference: the largest distance between the sum
of the contributions and what `segment` reports, over points, a region and whole classes of drawn scenes. Scores are
compared with the network's own maps, enlarged in plain torch; probabilities with `segment(..., return_scores=True)`.
Everything is float32. Then the time of one `intervene_maps`, as a slider asks for it.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from transformers import ResNetConfig, SegformerConfig, SegformerForSemanticSegmentation

from prolab_hf import (
    ProLabForSemanticSegmentation,
    ProLabImageProcessorPil,
    PropertySpace,
    adapt,
    segment,
    solve,
)
from prolab_hf.data.scenes import HELD_OUT_CLASS, SCENE_CLASSES, SCENE_DESCRIPTIONS, DrawnScenes
from prolab_hf.evaluation.sliding_window import slide_logits
from prolab_hf.explanation.contributions import PropertyMaps, explain_maps
from prolab_hf.explanation.interventions import intervene_maps

MODES = {
    "plain": {},
    "resized twice": {"resize_twice": True},
    "windows": {"mode": "slide", "crop_size": 64, "stride": 40},
    "flip": {"flip": True},
    "scales": {"scales": (0.75, 1.0, 1.5)},
    "windows, flip, scales": {
        "mode": "slide",
        "crop_size": 64,
        "stride": 40,
        "flip": True,
        "scales": (1.0, 1.5),
    },
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def backbone():
    return ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1] * 4,
        layer_type="basic",
        out_features=STAGES,
    )


def models(processor):
    """Small models with random backbones by name; rounding does not depend on what they know."""
    space = PropertySpace.from_pretrained("scenes")
    for similarity in ("sigmoid_cosine", "cosine", "sigmoid_l2"):
        torch.manual_seed(0)
        model = ProLabForSemanticSegmentation.from_backbone(
            backbone(), space, hidden_size=32, similarity=similarity
        )
        torch.nn.init.normal_(model.decode_head.classifier.weight, std=0.3)
        yield similarity, model.eval()
    torch.manual_seed(0)
    model = solve(backbone(), space, DrawnScenes("train", 30), processor=processor, device="cpu")
    yield "solved (linear_cosine)", model
    model.set_property_space(space.add_classes({HELD_OUT_CLASS: SCENE_DESCRIPTIONS[HELD_OUT_CLASS]}))
    yield "solved, described class", model
    labels = dict(enumerate(SCENE_CLASSES))
    torch.manual_seed(0)
    network = SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=[16, 24, 32, 48], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=32,
            id2label=labels, label2id={name: index for index, name in labels.items()},
        )
    )  # fmt: skip
    scenes = DrawnScenes("train", 10)
    yield (
        "adapted (SegFormer)",
        adapt(network, space, [scenes[k].image for k in range(10)], processor=processor),
    )


@torch.no_grad()
def reference_scores(model, processor, image, options):
    """Class scores of every run at the image's size, `(runs, classes, height, width)`, in plain torch."""
    size, runs = (image.height, image.width), []
    for scale in options.get("scales", (1.0,)):
        pixels = processor(images=image, return_tensors="pt")["pixel_values"]
        if scale != 1.0:
            height, width = (max(1, round(n * scale / 32)) * 32 for n in pixels.shape[-2:])
            pixels = processor(
                images=image, return_tensors="pt", do_resize=True, size={"height": height, "width": width}
            )["pixel_values"]
        for flip in (False, True) if options.get("flip") else (False,):
            given = pixels.flip(-1) if flip else pixels
            if options.get("mode") == "slide":
                crop, stride = (options["crop_size"],) * 2, (options["stride"],) * 2
                logits = slide_logits(lambda x: model(pixel_values=x).logits, given, crop, stride)
            else:
                logits = model(pixel_values=given).logits
                if options.get("resize_twice"):
                    logits = F.interpolate(logits, given.shape[-2:], mode="bilinear")
            large = F.interpolate(logits, size, mode="bilinear")[0]
            runs.append(large.flip(-1) if flip else large)
    return torch.stack(runs)


def worst(model, processor, image, options):
    """Largest error of scores and of probabilities, each over points, a region and whole classes."""
    result = segment(model, processor, image, return_scores=True, **options)
    values = {
        "score": reference_scores(model, processor, image, options).mean(0),
        "probability": result.scores,
    }
    maps, names = PropertyMaps(model, processor, image, **options), result.class_names
    region = torch.zeros(image.height, image.width, dtype=torch.bool)
    region[20:90, 30:120] = True
    errors = {}
    for quantity, table in values.items():
        places = [
            ({"point": (x, y)}, (slice(None), y, x)) for x, y in ((0, 0), (80, 64), (159, 127), (33, 101))
        ]
        places.append(({"region": region}, (slice(None), region)))
        places += [
            ({"class_name": name}, (slice(None), result.mask(name))) for name, _ in result.shares()[:3]
        ]
        errors[quantity] = 0.0
        for place, where in places:
            found = explain_maps(maps, quantity=quantity, **place)
            expected = table[where].double().reshape(len(names), -1).mean(1)
            total = sum(share for _, share in found.contributions)
            lead = sum(difference for _, difference in found.runner_up.deciding)
            own, rival = names.index(found.class_name), names.index(found.runner_up.class_name)
            errors[quantity] = max(
                errors[quantity],
                abs(total - float(expected[own])),
                abs(lead - float(expected[own] - expected[rival])),
            )
    return errors


def latencies(model, processor):
    """Milliseconds per intervention by size of the image."""
    for size in ((128, 160), (512, 512), (1024, 1024)):
        maps = PropertyMaps(model, processor, DrawnScenes("test", 1, size=size)[0].image)
        intervene_maps(maps, {0: 0.5})
        wall, cpu = [], []
        for step in range(20):
            start, start_cpu = time.perf_counter(), time.process_time()
            intervene_maps(maps, {3: step / 20})
            wall.append(1000 * (time.perf_counter() - start))
            cpu.append(1000 * (time.process_time() - start_cpu))
        yield size, tuple(maps.maps(0, 0).scores.shape), statistics.median(wall), statistics.median(cpu)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=3)
    arguments = parser.parse_args()
    processor = ProLabImageProcessorPil(do_resize=False)
    scenes = DrawnScenes("test", arguments.images)
    print("| model | " + " | ".join(MODES) + " |")
    print("|---|" + "---|" * len(MODES))
    solved = None
    for name, model in models(processor):
        cells = []
        for options in MODES.values():
            found = [worst(model, processor, scenes[index].image, options) for index in range(len(scenes))]
            cells.append(
                " / ".join(f"{max(each[q] for each in found):.0e}" for q in ("score", "probability"))
            )
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
        solved = model if name.startswith("solved,") else solved
    print("\nscore / probability: largest distance from what segment reports\n")
    print("| image | map of class scores | median wall ms per intervention | CPU ms |\n|---|---|---|---|")
    for size, shape, wall, cpu in latencies(solved, processor):
        print(f"| {size[0]} x {size[1]} | {' x '.join(map(str, shape))} | {wall:.1f} | {cpu:.1f} |")


if __name__ == "__main__":
    main()
