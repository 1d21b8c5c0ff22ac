"""Facts of the five benchmarks of the paper, and readers for the folders that their downloads unpack to.

Every benchmark declares its label coding once; nothing is inferred from the files. Where a data set is in use
with two kinds of masks (as downloaded, and converted by mmsegmentation's scripts), each is a named variant.
Class names come from the bundled property space of the same name, which has them in the order of the ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prolab_hf.data.file_pairs import match_by_stem
from prolab_hf.data.hub_source import HubSource
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import PairSource

# Numbers of the COCO paper's 91 things that no image was labeled with; raw masks count from 0.
_COCO_UNUSED = frozenset({11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90})
_COCO_TABLE = {raw: index for index, raw in enumerate(raw for raw in range(182) if raw not in _COCO_UNUSED)}

# Official label ids of Cityscapes; those that are not evaluated are void.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITYSCAPES_TABLE: dict[int, int | None] = {
    **dict.fromkeys(range(-1, 34)),
    **{raw: index for index, raw in enumerate(_CITYSCAPES_IDS)},
}


@dataclass(frozen=True)
class Layout:
    """Where the files of a variant are, relative to the root.

    Attributes:
        images: Folder with images; `{split}` stands for the split's folder name.
        masks: Folder with masks.
        image_suffix: Text at the end of image names, before the extension.
        mask_suffix: Text at the end of mask names.
        other_suffixes: Ends of mask names that belong to another variant.
        names: File that lists the names of a split, where folders do not separate splits.
        recursive: Whether there are sub-folders (one per city).
    """

    images: str
    masks: str
    image_suffix: str = ""
    mask_suffix: str = ""
    other_suffixes: tuple[str, ...] = ()
    names: str | None = None
    recursive: bool = False


@dataclass(frozen=True)
class Variant:
    """One kind of masks that a benchmark is in use with.

    Attributes:
        coding: Meaning of the masks' values.
        layouts: Folder layouts, tried in order.
    """

    coding: LabelCoding
    layouts: tuple[Layout, ...]


@dataclass(frozen=True)
class HubLocation:
    """A benchmark as a `datasets` set.

    Attributes:
        repository: Repository id.
        revision: Revision that current versions of `datasets` can read.
        config_name: Configuration, if there are several.
        image_column: Column with images.
        mask_column: Column with masks.
        coding: Meaning of the masks' values.
    """

    repository: str
    revision: str | None
    config_name: str | None
    image_column: str
    mask_column: str
    coding: LabelCoding


@dataclass(frozen=True)
class Benchmark:
    """Facts of one benchmark.

    Attributes:
        name: Name in commands and recipes.
        title: Name in writing.
        num_classes: Number of classes.
        space: Bundled property space with its class names.
        variants: Kinds of masks by name; the first is the default.
        splits: `train` and `val` to the split's folder or list name.
        num_images: Images per split of the official release.
        roots: Sub-folders in which the download may lie.
        hub: The same data as a `datasets` set, where one is known to work.
    """

    name: str
    title: str
    num_classes: int
    space: str
    variants: Mapping[str, Variant]
    splits: Mapping[str, str]
    num_images: Mapping[str, int]
    roots: tuple[str, ...] = ()
    hub: HubLocation | None = None
    _names: list[list[str]] = field(default_factory=list, repr=False, compare=False)

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the ids, from the bundled property space."""
        if not self._names:
            from prolab_hf.label_space.property_space import PropertySpace

            self._names.append(list(PropertySpace.from_pretrained(self.space).class_names))
        return list(self._names[0])

    def open(self, root: str | Path, split: str = "val", *, variant: str | None = None) -> PairSource:
        """Read a split from a folder.

        Args:
            root: Folder that the download was unpacked to, or the one above it.
            split: `train` or `val`.
            variant: Kind of masks; the one of the official download by default.

        Raises:
            FileNotFoundError: If the folder has none of the known layouts.
            ValueError: If the split or variant is unknown, or an image or mask has no partner.
        """
        root = Path(root)
        if not root.is_dir():
            raise FileNotFoundError(f"data folder {root} does not exist")
        if split not in self.splits:
            raise ValueError(f"{self.title} has no split {split!r}; its splits are {', '.join(self.splits)}")
        variant = variant or next(iter(self.variants))
        if variant not in self.variants:
            raise ValueError(f"{self.title} has no masks {variant!r}; choose {' or '.join(self.variants)}")
        chosen = self.variants[variant]
        for base in (root, *(root / name for name in self.roots)):
            for layout in chosen.layouts:
                folder = self.splits[split]
                images = base / layout.images.format(split=folder)
                masks = base / layout.masks.format(split=folder)
                if images.is_dir() and masks.is_dir():
                    pairs = _pairs(base, layout, images, masks, folder)
                    return PairSource(pairs, coding=chosen.coding, class_names=self.class_names, root=base)
        looked = " or ".join(f"{layout.images} + {layout.masks}" for layout in chosen.layouts)
        raise FileNotFoundError(
            f"data folder {root} is not {self.title} as downloaded: it has no {looked} "
            f"(split {self.splits[split]})"
        )

    def load_from_hub(self, split: str = "val") -> HubSource:
        """Read a split through `datasets`.

        Raises:
            ValueError: If no set is known to work, or the split is unknown.
        """
        if self.hub is None:
            raise ValueError(
                f"no `datasets` set of {self.title} is known to work; download it and give the folder"
            )
        names = {"train": "train", "val": "validation"}
        if split not in names:
            raise ValueError(f"{self.title} has no split {split!r}; its splits are {', '.join(names)}")
        hub = self.hub
        return HubSource.load(
            hub.repository,
            names[split],
            config_name=hub.config_name,
            revision=hub.revision,
            image_column=hub.image_column,
            mask_column=hub.mask_column,
            coding=hub.coding,
            class_names=self.class_names,
        )


def _pairs(base: Path, layout: Layout, images: Path, masks: Path, split: str) -> list[tuple[Path, Path]]:
    if layout.names is None:
        return match_by_stem(
            images,
            masks,
            image_suffix=layout.image_suffix,
            mask_suffix=layout.mask_suffix,
            other_suffixes=layout.other_suffixes,
            recursive=layout.recursive,
        )
    listing = base / layout.names.format(split=split)
    if not listing.is_file():
        raise FileNotFoundError(f"the list of split {split!r} is missing: {listing}")
    names = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    # The lists name images of VOC, whose images are JPEG and whose masks are PNG.
    return [(images / f"{name}.jpg", masks / f"{name}{layout.mask_suffix}.png") for name in names]


_CITY_SPLITS = {"train": "train", "val": "val"}
_CITY_FOLDERS = Layout(
    "leftImg8bit/{split}",
    "gtFine/{split}",
    image_suffix="_leftImg8bit",
    mask_suffix="_gtFine_labelIds",
    recursive=True,
)
_COCO_FOLDERS = (("images/{split}", "annotations/{split}"), ("{split}", "stuffthingmaps/{split}"))

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="ade20k",
            title="ADE20K",
            num_classes=150,
            space="ade20k",
            variants={
                "official": Variant(
                    LabelCoding("shifted"), (Layout("images/{split}", "annotations/{split}"),)
                )
            },
            splits={"train": "training", "val": "validation"},
            num_images={"train": 20210, "val": 2000},
            roots=("ADEChallengeData2016",),
            hub=HubLocation(
                "zhoubolei/scene_parse_150",
                revision="refs/convert/parquet",
                config_name="scene_parsing",
                image_column="image",
                mask_column="annotation",
                coding=LabelCoding("shifted"),
            ),
        ),
        Benchmark(
            name="coco_stuff",
            title="COCO-Stuff 164k",
            num_classes=171,
            space="coco_stuff",
            variants={
                "raw": Variant(
                    LabelCoding("table", table=_COCO_TABLE, void_values=(255,)),
                    tuple(Layout(*folders, other_suffixes=("_labelTrainIds",)) for folders in _COCO_FOLDERS),
                ),
                "train_ids": Variant(
                    LabelCoding("ids"),
                    tuple(Layout(*folders, mask_suffix="_labelTrainIds") for folders in _COCO_FOLDERS),
                ),
            },
            splits={"train": "train2017", "val": "val2017"},
            num_images={"train": 118287, "val": 5000},
            roots=("coco_stuff164k",),
        ),
        # The masks come from 459 labels in alphabetical order, of which the converter keeps 59 and counts
        # them: that is why these ids are alphabetical and do not start with the 20 classes of VOC.
        Benchmark(
            name="pascal_context",
            title="Pascal Context 59",
            num_classes=59,
            space="pascal_context",
            variants={
                "official": Variant(
                    LabelCoding("shifted"),
                    (
                        Layout(
                            "JPEGImages",
                            "SegmentationClassContext",
                            names="ImageSets/SegmentationContext/{split}.txt",
                        ),
                    ),
                )
            },
            splits={"train": "train", "val": "val"},
            num_images={"train": 4996, "val": 5104},
            roots=("VOC2010", "VOCdevkit/VOC2010"),
        ),
        Benchmark(
            name="cityscapes",
            title="Cityscapes",
            num_classes=19,
            space="cityscapes",
            variants={
                "label_ids": Variant(LabelCoding("table", table=_CITYSCAPES_TABLE), (_CITY_FOLDERS,)),
                "train_ids": Variant(
                    LabelCoding("ids"),
                    (
                        Layout(
                            "leftImg8bit/{split}",
                            "gtFine/{split}",
                            image_suffix="_leftImg8bit",
                            mask_suffix="_gtFine_labelTrainIds",
                            recursive=True,
                        ),
                    ),
                ),
            },
            splits=_CITY_SPLITS,
            num_images={"train": 2975, "val": 500},
            roots=("cityscapes",),
        ),
        Benchmark(
            name="bdd100k",
            title="BDD100K",
            num_classes=19,
            space="bdd100k",
            variants={
                "official": Variant(
                    LabelCoding("ids"),
                    (Layout("images/10k/{split}", "labels/sem_seg/masks/{split}"),),
                ),
                "legacy": Variant(
                    LabelCoding("ids"),
                    (Layout("seg/images/{split}", "seg/labels/{split}", mask_suffix="_train_id"),),
                ),
            },
            splits={"train": "train", "val": "val"},
            num_images={"train": 7000, "val": 1000},
            roots=("bdd100k",),
        ),
    )
}


def get_benchmark(name: str) -> Benchmark:
    """A benchmark by name.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark {name!r} is unknown; choose one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
