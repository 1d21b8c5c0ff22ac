"""Property heads in closed form on frozen features of two real data sets, beside what they are measured against.

    python benchmarks/closed_form.py all-classes DATA --dataset msrc-v2 --backbone dinov2-small --weights FOLDER
    python benchmarks/closed_form.py described   DATA --dataset msrc-v2 --backbone efficientnet-lite0
    python benchmarks/closed_form.py few-images  DATA --dataset camvid  --backbone efficientnet-lite0

`all-classes`: every class has training images; categories and properties, with and without the unspoken part.
`described`: four classes at a time (MSRC-v2; two on CamVid) are void in training and known by their words only. Beside
the closed form stand random codes and shuffled rows in the place of the words, ConSE, and with `--sgd` three heads
trained by gradient descent on the same pixels. Nothing is chosen on images or classes that figures are taken from.
`few-images`: 5 to 100 training images; classes that none of them shows are added by their words.

Feature maps are computed once and kept under `--cache`; a run that was stopped goes on where it was. MSRC-v2 has no
official split: half of the images train, drawn anew for every seed; its words are those of the bundled space
`coco_stuff`, or with `--words coco_stuff_completed` those with completed rows. CamVid's split is its own, and its words
are examples/camvid_descriptions.json. Needs the packages named in camvid.py; for dinov2-small a folder with its weights
in the layout of transformers.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from camvid import build_space, efficientnet_lite0
from measuring import print_table
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import Dinov2Backbone

from prolab_hf import PropertySpace
from prolab_hf.evaluation.metrics import SegmentationCounts
from prolab_hf.model.closed_form_prolab import claim_offsets
from prolab_hf.model.decoders_prolab import adaptive_average_pool
from prolab_hf.model.loss_prolab import property_cosine_loss
from prolab_hf.model.resize_prolab import resize_argmax
from prolab_hf.solving.accumulation import CALIBRATION_PIXELS, Reservoir, validation_images
from prolab_hf.solving.pixel_features import features_at, sample_pixels
from prolab_hf.solving.solution import (
    Choice,
    Pixels,
    choose,
    class_score_parts,
    joined,
    scores_with_described,
    solve_responses,
)
from prolab_hf.solving.solve import CONTEXT_BINS
from prolab_hf.solving.statistics import ClassStatistics, WaitingRows
from prolab_hf.solving.unspoken_layer import fit_unspoken_layer

VOID = 255
IN_COCO_STUFF = {  # the other classes have the same name there
    "building": "building-other",
    "sky": "sky-other",
    "aeroplane": "airplane",
    "water": "water-other",
    "sign": "stop sign",
}
HELD_OUT = {
    "msrc-v2": [
        ["cow", "cat", "flower", "chair"],
        ["sheep", "dog", "boat", "book"],
        ["horse", "bird", "bicycle", "road"],
        ["car", "tree", "aeroplane", "sign"],
    ],
    "camvid": [["bicyclist", "pavement"], ["car", "fence"], ["tree", "pole"], ["road", "sign"]],
}
NUMBERS_OF_IMAGES = (5, 10, 30, 100)
EXPONENT = 0.5  # rho; lambda and beta are chosen
CONSE_CLASSES, CONSE_SCALE = 10, 3.0
SGD_STEPS, SGD_BATCH, SGD_RATE = 1000, 1024, 1e-3
Scores = Callable[[Tensor], Tensor]
"""From responses (or logits) `(pixels, channels)` to class scores `(pixels, num_classes)`."""


@dataclass
class Images:
    """A data set with the feature maps of all its images on disk.

    Attributes:
        class_names: In the order of the ids.
        rows: `(num_classes, num_properties)` of 0 and 1, the words.
        masks: Ids `(height, width)` uint8, 255 = void.
        files: Of the feature maps.
        splits: Names of the official split of every image; empty strings where there is none.
        context_bins: Grids into which the coarsest map is averaged as additional maps.
    """

    class_names: list[str]
    rows: Tensor
    masks: list[np.ndarray]
    files: list[Path]
    splits: list[str]
    context_bins: tuple[int, ...] = ()

    def maps(self, index: int) -> list[Tensor]:
        """Feature maps `(1, channels, height, width)` float32 of an image."""
        maps = [each[None].float() for each in torch.load(self.files[index], weights_only=True)]
        return [*maps, *(adaptive_average_pool(maps[-1], bins) for bins in self.context_bins)]

    def train_and_test(self, seed: int) -> tuple[list[int], list[int]]:
        """The official split, or a random half for training."""
        if any(self.splits):
            return tuple([i for i, s in enumerate(self.splits) if s == name] for name in ("train", "test"))
        order = np.random.default_rng(seed).permutation(len(self.files)).tolist()
        half = len(order) // 2
        return sorted(order[:half]), sorted(order[half:])


# ---- images and features ------------------------------------------------------------------------------------------


def msrc_v2(
    folder: Path, words: str = "coco_stuff"
) -> tuple[list[str], Tensor, list[Path], Callable[[Path], np.ndarray]]:
    """Class names, rows, image files and the reader of masks; face and body are one class, person.

    Args:
        folder: Of the data set.
        words: Bundled space that the rows come from.
    """
    raw = (folder / "classes.txt").read_text("utf-8").split()
    names = ["person" if name == "face" else name for name in raw if name != "body"]
    table = np.full(256, VOID, np.uint8)
    table[: len(raw)] = [names.index("person" if name in ("face", "body") else name) for name in raw]
    space = PropertySpace.from_pretrained(words).select_classes(
        [IN_COCO_STUFF.get(name, name) for name in names]
    )
    rows = space.class_property_matrix
    files = sorted((folder / "images").glob("*.jpg"))
    return (
        names,
        rows[:, rows.any(dim=0)],
        files,
        lambda path: table[np.asarray(Image.open(folder / "masks" / f"{path.stem}.png"))],
    )


def camvid(folder: Path) -> tuple[list[str], Tensor, list[Path], Callable[[Path], np.ndarray]]:
    """The same for CamVid."""
    space = build_space(32, [])
    files = [
        path for split in ("train", "val", "test") for path in sorted((folder / split / "images").iterdir())
    ]

    def mask(path: Path) -> np.ndarray:
        ids = np.asarray(Image.open(path.parents[1] / "masks" / f"{path.stem}.png"))
        return np.where(ids == space.num_classes, VOID, ids).astype(np.uint8)

    return space.class_names, space.class_property_matrix, files, mask


class Network:
    """A frozen backbone; images keep their size, rounded to whole patches where it needs that."""

    def __init__(self, name: str, weights: Path | None) -> None:
        self.name = name
        if name == "efficientnet-lite0":
            self.backbone, self.patch = efficientnet_lite0().eval(), 1
            self.mean, self.std = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)
            return
        if weights is None:
            raise ValueError("--backbone dinov2-small needs --weights FOLDER.")
        stages = ["stage3", "stage6", "stage9", "stage12"]
        self.backbone, self.patch = Dinov2Backbone.from_pretrained(weights, out_features=stages).eval(), 14
        self.mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        self.std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    @torch.inference_mode()
    def maps(self, image: Image.Image) -> list[Tensor]:
        """Float16 maps `(channels, height, width)`."""
        size = [max(self.patch, round(side / self.patch) * self.patch) for side in image.size]
        resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        maps = self.backbone(((pixels - self.mean) / self.std)[None]).feature_maps
        return [each[0].half().clone() for each in maps]


def open_images(options: argparse.Namespace) -> Images:
    """The data set; feature maps that are not on disk yet are computed."""
    opened = msrc_v2(options.data, options.words) if options.dataset == "msrc-v2" else camvid(options.data)
    names, rows, files, read = opened
    folder = options.cache / f"{options.backbone}-{options.dataset}"
    folder.mkdir(parents=True, exist_ok=True)
    splits = [path.parents[1].name if options.dataset == "camvid" else "" for path in files]
    kept = [folder / f"{split}_{path.stem}.pt" for split, path in zip(splits, files)]
    network = None
    for path, target in zip(files, kept):
        if not target.exists():
            network = network or Network(options.backbone, options.weights)
            partial = target.with_suffix(".partial")
            torch.save(network.maps(Image.open(path)), partial)
            partial.replace(target)
    context = CONTEXT_BINS if options.context else ()
    return Images(names, rows.float(), [read(path) for path in files], kept, splits, context)


@dataclass
class Collected:
    """Of the training images: statistics of four fifths and of the rest, a sample of the rest, and all pixels.

    Attributes:
        fit: Statistics that numbers are chosen with.
        held: Statistics of the other images.
        sample: Pixels of those.
        fit_pixels: Pixels of the four fifths, for the layer without words; `None` where there are none.
        pixels: All pixels, for the heads that are trained by gradient descent; likewise.
    """

    fit: ClassStatistics
    held: ClassStatistics
    sample: Pixels
    fit_pixels: Pixels | None
    pixels: Pixels | None


def collect(images: Images, train: Sequence[int], seed: int, *, keep_pixels: bool = False) -> Collected:
    """One pass over the training images, as `prolab_hf.solve` makes it."""
    features = sum(each.shape[1] for each in images.maps(train[0])) + 1
    parts = [ClassStatistics.empty(images.class_names, features) for _ in range(2)]
    waiting = [WaitingRows(part) for part in parts]
    reservoir = Reservoir(max(16, CALIBRATION_PIXELS // len(images.class_names)))
    held = validation_images(len(train), seed)
    every: tuple[list[Pixels], list[Pixels]] = ([], [])
    for position, index in enumerate(train):
        mask, rng = images.masks[index], np.random.default_rng((seed, position))
        found = sample_pixels(mask, VOID, None, rng)
        if not len(found.labels):
            continue
        values = features_at(images.maps(index), found, mask.shape)
        labels, weights = torch.from_numpy(found.labels), torch.from_numpy(found.weights)
        waiting[position in held].add(values, labels, weights)
        if position in held or not held:
            reservoir.add(values, labels, torch.from_numpy(rng.random(len(weights))).log() / weights)
        if keep_pixels:
            every[position in held].append(Pixels(values.half(), labels, weights))
    for rows in waiting:
        rows.flush()
    kept = (joined(every[0]), joined([*every[0], *every[1]])) if keep_pixels else (None, None)
    return Collected(*parts, reservoir.pixels(parts[1].counts), *kept)


def only(statistics: ClassStatistics, classes: Sequence[int]) -> ClassStatistics:
    """Statistics as if the other classes were void."""
    index = list(classes)
    return replace(
        statistics,
        class_names=[statistics.class_names[c] for c in index],
        counts=statistics.counts[index],
        sums=statistics.sums[index],
        moments=statistics.moments[index],
    )


def only_pixels(pixels: Pixels, classes: Sequence[int]) -> Pixels:
    """Pixels of these classes, numbered in their order."""
    position = torch.full((VOID + 1,), -1)
    position[list(classes)] = torch.arange(len(classes))
    labels = position[pixels.labels]
    inside = labels >= 0
    return Pixels(pixels.features[inside], labels[inside], pixels.weights[inside])


# ---- one head, measured -------------------------------------------------------------------------------------------


def responses_of(images: Images, test: Iterable[int], layer: Tensor) -> list[Tensor]:
    """What a linear layer answers on every test image.

    A layer and interpolation commute, so each map is projected at its own size; all meet at the second finest.

    Args:
        images: The data set.
        test: Numbers of images.
        layer: `(channels, num_features)`, the bias last.

    Returns:
        `(channels, height, width)` per image.
    """
    weights = layer.float()
    found = []
    for index in test:
        maps = images.maps(index)
        parts = weights[:, :-1].split([each.shape[1] for each in maps], dim=1)
        size = maps[min(1, len(maps) - 1)].shape[2:]
        total = weights[:, -1, None, None]
        for each, part in zip(maps, parts):
            answer = torch.einsum("kc,chw->khw", part, each[0])[None]
            total = total + F.interpolate(answer, size=size, mode="bilinear", align_corners=False)[0]
        found.append(total)
    return found


def test_ious(
    images: Images, test: Sequence[int], responses: list[Tensor], scores: Scores, offsets: Tensor | None
) -> np.ndarray:
    """IoU of every class at the size of the masks; NaN where a class neither occurs nor is predicted."""
    number = len(images.class_names)
    counts = SegmentationCounts(number, ignore_index=VOID)
    for index, answer in zip(test, responses):
        values = scores(answer.flatten(1).t())
        values = values if offsets is None else values + offsets
        maps = values.t().reshape(1, number, *answer.shape[1:])
        mask = torch.from_numpy(images.masks[index].astype(np.int64))
        counts.update(resize_argmax(maps.contiguous(), tuple(mask.shape))[0], mask)
    confusion = counts.confusion.double()
    hit, union = confusion.diagonal(), confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return torch.where(union > 0, hit / union, torch.nan).numpy()


def seen_unseen(ious: np.ndarray, unseen: Sequence[int]) -> list[float]:
    """Mean IoU of the seen classes, of the unseen ones, and their harmonic mean."""
    seen = np.nanmean(np.delete(ious, list(unseen)))
    new = np.nanmean(ious[list(unseen)])
    return [float(seen), float(new), float(2 * seen * new / max(seen + new, 1e-9))]


def property_scores(rows: Tensor, known: Sequence[int], beta: float, by_words: bool = False) -> Scores:
    """Scores of a closed-form head; `by_words` as in `scores_with_described`."""
    return lambda responses: scores_with_described(responses, rows, known, beta, by_words=by_words)


def conse_scores(rows: Tensor, known: Sequence[int]) -> Scores:
    """Mixture of the rows of the best known classes, compared with every row."""
    unit = F.normalize(rows, dim=1)

    def scores(logits: Tensor) -> Tensor:
        value, place = (logits * CONSE_SCALE).topk(min(CONSE_CLASSES, logits.shape[1]), dim=1)
        share = torch.zeros_like(logits).scatter_(1, place, value.softmax(dim=1))
        return F.normalize(share @ unit[list(known)], dim=1) @ unit.t()

    return scores


def controls(rows: Tensor, seed: int) -> dict[str, Tensor]:
    """Rows without meaning: as many ones at random places, and every class with the words of another."""
    generator = torch.Generator().manual_seed(seed)
    codes = (torch.rand(rows.shape, generator=generator) < rows.mean()).float()
    return {"random codes": codes, "shuffled rows": rows[torch.randperm(len(rows), generator=generator)]}


# ---- tables -------------------------------------------------------------------------------------------------------


def all_classes(images: Images, seed: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Mean IoU where every class has training images, and the spoken share."""
    train, test = images.train_and_test(seed)
    got = collect(images, train, seed)
    everything = list(range(len(images.class_names)))
    choice = choose(got.fit, got.sample, images.rows, torch.tensor(everything), class_exponent=EXPONENT)
    started = time.process_time()
    layer = solve_responses(got.fit + got.held, choice)
    seconds = time.process_time() - started
    responses = responses_of(images, test, layer)
    result = {"category, closed form": [_mean(images, test, responses, lambda r: r), 0.0, seconds]}
    for beta in dict.fromkeys((0.0, 1.0, 2.0, 4.0, choice.unspoken_weight)):
        value = _mean(images, test, responses, property_scores(images.rows, everything, beta))
        spoken, rest = zip(*(class_score_parts(r.flatten(1).t(), images.rows, beta) for r in responses))
        total = torch.cat(spoken) + torch.cat(rest)
        best = total.argmax(dim=1, keepdim=True)
        share = (torch.cat(spoken).gather(1, best) / total.gather(1, best).clamp_min(1e-8)).mean()
        result[f"property, beta {beta:g}"] = [value, float(share), seconds]
    chosen = result[f"property, beta {choice.unspoken_weight:g}"]
    result["property, as chosen"] = chosen
    result["chosen lambda, rho, beta"] = [choice.ridge, choice.class_exponent, choice.unspoken_weight]
    return result


def _mean(images: Images, test: Sequence[int], responses: list[Tensor], scores: Scores) -> float:
    return float(np.nanmean(test_ious(images, test, responses, scores, None)))


def described(images: Images, seed: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seen, unseen and harmonic mean with some classes known by their words only; mean over the splits."""
    train, test = images.train_and_test(seed)
    got = collect(images, train, seed, keep_pixels=options.sgd or options.unspoken_layer)
    found: dict[str, list[list[float]]] = {}
    for names in HELD_OUT[options.dataset]:
        unseen = [images.class_names.index(name) for name in names]
        for head, figures in _one_split(images, got, test, unseen, seed, options).items():
            found.setdefault(head, []).append(figures)
    return {head: np.mean(figures, axis=0).tolist() for head, figures in found.items()}


def _one_split(
    images: Images,
    got: Collected,
    test: Sequence[int],
    unseen: Sequence[int],
    seed: int,
    options: argparse.Namespace,
) -> dict[str, list[float]]:
    known = [c for c in range(len(images.class_names)) if c not in unseen]
    fit, sample, rows = only(got.fit, known), only_pixels(got.sample, known), images.rows
    choice = choose(fit, sample, rows[known], torch.arange(len(known)), class_exponent=EXPONENT)
    answers = responses_of(images, test, solve_responses(fit + only(got.held, known), choice))
    honest = sample.features @ solve_responses(fit, choice).float().t()
    heads = {
        "property, closed form, beta 0": property_scores(rows, known, 0.0),
        "property, closed form": property_scores(rows, known, choice.unspoken_weight),
        "category, closed form, then ConSE": conse_scores(rows, known),
        **{
            name: property_scores(other, known, choice.unspoken_weight)
            for name, other in controls(rows, seed).items()
        },
    }
    trained = torch.tensor([c in known for c in range(len(rows))])

    def measure(responses: list[Tensor], scores: Scores, pixels: Tensor) -> list[float]:
        offsets = torch.tensor(claim_offsets(scores(pixels), trained, options.claim_budget))
        return seen_unseen(test_ious(images, test, responses, scores, offsets.float()), unseen)

    result = {name: measure(answers, scores, honest) for name, scores in heads.items()}
    plain = test_ious(images, test, answers, heads["property, closed form"], None)
    result["property, closed form, no budget"] = seen_unseen(plain, unseen)
    result["chosen lambda, rho, beta"] = [choice.ridge, choice.class_exponent, choice.unspoken_weight]
    if options.unspoken_layer and got.fit_pixels is not None:
        layered = _with_unspoken_layer(
            images, got.fit_pixels, sample, rows, known, answers, test, choice, measure
        )
        result.update(layered)
    if options.sgd and got.pixels is not None:
        for kind, scores in sgd_scores(rows, known).items():
            layer = train_head(kind, only_pixels(got.pixels, known), rows[known], seed)
            trained_answers = responses_of(images, test, layer)
            result[f"{kind}, SGD"] = measure(trained_answers, scores, sample.features @ layer.t())
    return result


def _with_unspoken_layer(
    images: Images,
    fit_pixels: Pixels,
    sample: Pixels,
    rows: Tensor,
    known: Sequence[int],
    answers: list[Tensor],
    test: Sequence[int],
    choice: Choice,
    measure: Callable[[list[Tensor], Scores, Tensor], list[float]],
) -> dict[str, list[float]]:
    """As `prolab_hf.solve(..., unspoken_layer=True)` does it, and with `described_by_words=False`."""
    fit = only_pixels(fit_pixels, known)
    found = fit_unspoken_layer(
        Pixels(fit.features.float(), fit.labels, fit.weights),
        sample,
        rows[known],
        ridge=choice.ridge,
        class_exponent=EXPONENT,
    )
    unsaid = responses_of(images, test, found.layer)
    both = [torch.cat(pair) for pair in zip(answers, unsaid)]
    return {
        f"words, and a layer without words{suffix}": measure(
            both, property_scores(rows, known, found.unspoken_weight, by_words), found.honest_responses
        )
        for by_words, suffix in ((True, ""), (False, ", one norm"))
    }


def sgd_scores(rows: Tensor, known: Sequence[int]) -> dict[str, Scores]:
    """How the heads that are trained by gradient descent score classes."""
    unit = F.normalize(rows, dim=1)

    def cosine(logits: Tensor) -> Tensor:
        return F.normalize(logits.sigmoid(), dim=1) @ unit.t()

    mixed = conse_scores(rows, known)
    return {
        "property cosine (the paper)": cosine,
        "property BCE": cosine,
        "category softmax, then ConSE": lambda logits: mixed(logits / CONSE_SCALE),
    }


def train_head(kind: str, pixels: Pixels, rows: Tensor, seed: int) -> Tensor:
    """A linear head trained with Adam on the pixels, each class drawn by the root of its size.

    Returns:
        `(channels, num_features)`, the bias last.
    """
    torch.manual_seed(seed)
    counts = torch.zeros(len(rows)).index_add_(0, pixels.labels, pixels.weights.float())
    chance = pixels.weights.float() / counts.clamp_min(1).sqrt()[pixels.labels]
    some = pixels.features[torch.multinomial(chance, min(20000, len(chance)))].float()[:, :-1]
    mean, std = some.mean(dim=0), some.std(dim=0).clamp_min(1e-6)
    head = torch.nn.Linear(len(mean), len(rows) if kind.startswith("category") else rows.shape[1])
    optimizer = torch.optim.Adam(head.parameters(), lr=SGD_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, SGD_STEPS)
    drawn = torch.multinomial(chance, SGD_STEPS * SGD_BATCH, replacement=True).split(SGD_BATCH)
    for index in drawn:
        labels = pixels.labels[index]
        logits = head((pixels.features[index].float()[:, :-1] - mean) / std)
        if kind.startswith("category"):
            loss = F.cross_entropy(logits, labels)
        elif kind == "property BCE":
            loss = F.binary_cross_entropy_with_logits(logits, rows[labels])
        else:
            loss = property_cosine_loss(
                logits.t()[None, :, :, None], labels[None, :, None], rows, temperature=1.0
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        weight = head.weight / std
        return torch.cat([weight, (head.bias - weight @ mean)[:, None]], dim=1)


def few_images(images: Images, seed: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Mean IoU over all classes with few training images; unseen classes are added by their words."""
    train, test = images.train_and_test(seed)
    order = np.random.default_rng((seed, 1)).permutation(train).tolist()
    result = {}
    for number in (*NUMBERS_OF_IMAGES, len(order)):
        got = collect(images, order[:number], seed)
        total = got.fit + got.held
        known = (total.counts > 0).nonzero().flatten().tolist()
        choice = Choice() if number < min(NUMBERS_OF_IMAGES[-1], len(order)) else _choice(images, got, known)
        layer = solve_responses(only(total, known), choice)
        answers = responses_of(images, test, layer)
        sample = only_pixels(got.sample, known)
        honest = sample.features @ solve_responses(only(got.fit, known), choice).float().t()
        wide = torch.full((len(images.class_names),), -torch.inf)
        wide[known] = 0

        def category(responses: Tensor, known: list[int] = known) -> Tensor:
            scores = responses.new_full((len(responses), len(images.class_names)), -1e3)
            scores[:, known] = responses
            return scores

        scores = property_scores(images.rows, known, choice.unspoken_weight)
        trained = torch.isfinite(wide)
        offsets = torch.tensor(claim_offsets(scores(honest), trained, options.claim_budget)).float()
        result[f"{number} images"] = [
            float(np.nan_to_num(test_ious(images, test, answers, category, None)).mean()),
            float(np.nan_to_num(test_ious(images, test, answers, scores, wide)).mean()),
            float(np.nan_to_num(test_ious(images, test, answers, scores, offsets)).mean()),
            float(len(known)),
        ]
    return result


def _choice(images: Images, got: Collected, known: list[int]) -> Choice:
    sample = only_pixels(got.sample, known)
    rows, present = images.rows[known], torch.arange(len(known))
    return choose(only(got.fit, known), sample, rows, present, class_exponent=EXPONENT)


HEADERS = {
    "all-classes": ["mIoU", "spoken share", "CPU s to solve"],
    "described": ["seen", "unseen", "harmonic mean"],
    "few-images": ["category", "property", "property, unseen classes described", "classes seen"],
}
TABLES = {"all-classes": all_classes, "described": described, "few-images": few_images}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("data", type=Path)
    parser.add_argument("--dataset", choices=HELD_OUT, required=True)
    parser.add_argument("--backbone", choices=("efficientnet-lite0", "dinov2-small"), required=True)
    parser.add_argument("--weights", type=Path, help="folder of dinov2-small")
    parser.add_argument(
        "--words",
        default="coco_stuff",
        help="bundled space of MSRC-v2's rows: coco_stuff or coco_stuff_completed",
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/closed_form"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--claim-budget", type=float, default=0.01)
    parser.add_argument("--sgd", action="store_true", help="also heads trained by gradient descent (minutes)")
    parser.add_argument(
        "--unspoken-layer",
        action="store_true",
        help="also words with a trained layer for what they do not say",
    )
    parser.add_argument("--context", action="store_true", help="also means of the image and its sixteenths")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = open_images(options)
    words = f"-{options.words}" if options.words != "coco_stuff" else ""
    path = options.cache / f"{options.table}-{options.backbone}-{options.dataset}{words}.json"
    results = json.loads(path.read_text("utf-8")) if path.exists() else {}
    for seed in options.seeds:
        key = f"seed {seed}, budget {options.claim_budget}" + (", sgd" if options.sgd else "")
        key += (", layer" if options.unspoken_layer else "") + (", context" if options.context else "")
        if key not in results:
            results[key] = TABLES[options.table](images, seed, options)
            path.write_text(json.dumps(results, indent=1), "utf-8")
    shown = [
        figures
        for key, figures in results.items()
        if f"budget {options.claim_budget}" in key and (", context" in key) == options.context
    ]
    rows = []
    for head in dict.fromkeys(head for figures in shown for head in figures):
        values = np.array([figures[head] for figures in shown if head in figures])
        mean, spread = values.mean(axis=0), values.std(axis=0)
        rows.append([head, *(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, spread)), str(len(values))])
    print_table(["head", *HEADERS[options.table], "seeds"], rows)


if __name__ == "__main__":
    main()
