"""Which image belongs to which mask: folders of splits, and files whose names agree."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif", ".avif", ".jp2", ".npy",
)  # fmt: skip
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".npy")
_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".avif", ".jp2")
# What lies beside images without being one; any other file that is not read is an error, so that none vanishes.
_BESIDE = (
    ".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".log", ".db", ".ini",
    ".aux", ".tfw", ".pgw", ".jgw", ".wld", ".prj", ".ovr", ".lock", ".zip", ".gz", ".py",
)  # fmt: skip
_SHOWN_NAMES = 5
_LOSSY = "; JPEG masks are not read, because that format changes the ids: use PNG"


def find_folders(root: Path, split: str | None, images: str, masks: str) -> tuple[Path, Path]:
    """The folders with images and with masks of a split.

    Args:
        root: Folder of the data set.
        split: Name of the split, `None` where there is none.
        images: Name of the folder with images.
        masks: Name of the folder with masks.

    Raises:
        FileNotFoundError: If no layout is found; the message names the splits that are there.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data folder {root} does not exist")
    if split is None:
        tried = [(root / images, root / masks)]
    else:
        tried = [(root / split / images, root / split / masks), (root / images / split, root / masks / split)]
    for image_folder, mask_folder in tried:
        if image_folder.is_dir() and mask_folder.is_dir():
            return image_folder, mask_folder
    looked = " or ".join(
        f"{a.relative_to(root).as_posix()} + {b.relative_to(root).as_posix()}" for a, b in tried
    )
    splits = folder_splits(root, images=images, masks=masks)
    if splits:
        there = f"its splits are {', '.join(splits)} (--split)"
    else:
        there = (
            f"its folders are {sorted(entry.name for entry in root.iterdir() if entry.is_dir()) or 'none'}"
        )
    raise FileNotFoundError(f"data folder {root} has no {looked}; {there}")


def folder_splits(root: str | Path, *, images: str = "images", masks: str = "masks") -> list[str]:
    """Names of the splits in a folder that `FolderSource` reads, sorted, those for training first.

    Args:
        root: Folder of the data set.
        images: Name of the folder with images.
        masks: Name of the folder with masks.
    """
    root = Path(root)
    inside = [
        entry.name for entry in root.iterdir() if (entry / images).is_dir() and (entry / masks).is_dir()
    ]
    if (root / images).is_dir() and (root / masks).is_dir():
        inside += [
            entry.name
            for entry in (root / images).iterdir()
            if (entry.is_dir() and (root / masks / entry.name).is_dir())
        ]
    return train_first(inside)


def train_first(splits: Iterable[str]) -> list[str]:
    """Names of splits in the order in which people list them: for training first, then by name."""
    return sorted(splits, key=lambda name: (name != "train", name))


def match_by_stem(
    image_folder: Path,
    mask_folder: Path,
    *,
    image_suffix: str = "",
    mask_suffix: str = "",
    other_suffixes: Sequence[str] = (),
    recursive: bool = False,
) -> list[tuple[Path, Path]]:
    """Pair images and masks whose paths agree up to their suffixes, in sorted order.

    Names are compared as people read them: in one Unicode form, and without regard to case where that leaves no
    choice (cameras and tools write `IMG_1.JPG` and `img_1.png`).

    Args:
        image_folder: Folder with images.
        mask_folder: Folder with masks.
        image_suffix: Text that image names end with before the extension; other files are left out.
        mask_suffix: The same for masks.
        other_suffixes: Masks whose names end so are of another kind and are left out.
        recursive: Whether sub-folders are searched (their names are part of the stem).

    Raises:
        ValueError: If there is none, a stem occurs twice, a partner is missing, or a file is of a format that is not
            read.
    """
    images = _by_stem(image_folder, IMAGE_SUFFIXES, image_suffix, (), recursive)
    masks = _by_stem(mask_folder, MASK_SUFFIXES, mask_suffix, other_suffixes, recursive)
    if not images:
        raise ValueError(f"folder {image_folder} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    masks = _with_case_of(images, masks)
    _check_partners(images, masks, mask_folder, "mask")
    _check_partners(masks, images, image_folder, "image")
    return [(images[stem], masks[stem]) for stem in sorted(images)]


def _with_case_of(images: dict[str, Path], masks: dict[str, Path]) -> dict[str, Path]:
    """Masks under the names of the images that differ from theirs in case only, where there is one of each."""
    left_images, left_masks = images.keys() - masks.keys(), masks.keys() - images.keys()
    renamed = {}
    for stem in left_masks:
        same = [image for image in left_images if image.casefold() == stem.casefold()]
        rivals = [mask for mask in left_masks if mask.casefold() == stem.casefold()]
        renamed[stem] = same[0] if len(same) == len(rivals) == 1 else stem
    return {renamed.get(stem, stem): path for stem, path in masks.items()}


def _check_partners(files: dict[str, Path], partners: dict[str, Path], folder: Path, what: str) -> None:
    missing = sorted(files.keys() - partners.keys())
    if not missing:
        return
    names = ", ".join(files[stem].name for stem in missing[:_SHOWN_NAMES])
    more = f" and {len(missing) - _SHOWN_NAMES} more" if len(missing) > _SHOWN_NAMES else ""
    hint = ""
    if what == "mask":
        if any((folder / f"{missing[0]}{ending}").is_file() for ending in _LOSSY_SUFFIXES):
            hint = _LOSSY
        endings = {stem.removeprefix(missing[0]) for stem in partners if stem.startswith(missing[0])}
        if len(endings) == 1:
            hint = f"; masks seem to end with {min(endings)!r}: say so (mask_suffix, --mask-suffix {min(endings)})"
    raise ValueError(
        f"folder {folder} has no {what} for {names}{more}; every image needs a mask of the same name "
        f"and every mask an image{hint}"
    )


def _by_stem(
    folder: Path, extensions: tuple[str, ...], ending: str, others: Sequence[str], recursive: bool
) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if path.name.startswith(".") or not _is_read(path, extensions):
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if not stem.endswith(ending) or any(stem.endswith(other) for other in others):
            continue
        stem = unicodedata.normalize("NFC", stem.removesuffix(ending))
        if stem in found:
            first, second = found[stem].name, path.name
            if unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second):
                # They look alike: one is written with composed letters, the other with letters and accents.
                first, second = ascii(first), ascii(second)
            raise ValueError(f"folder {folder} holds {first} and {second}: names must be unique")
        found[stem] = path
    return found


def _is_read(path: Path, extensions: tuple[str, ...]) -> bool:
    """Whether a file of a folder is read; `False` for what may lie beside.

    Raises:
        ValueError: The file would be left out although it may be an image.
    """
    suffix = path.suffix.lower()
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path} is a link to a file that does not exist; mend or remove it")
    if path.is_dir() or (suffix in _BESIDE and suffix not in extensions) or path.name == "Thumbs.db":
        return False
    if suffix in extensions:
        return True
    if suffix in _LOSSY_SUFFIXES:
        return False  # among masks: its image has no mask then, and that error explains it
    raise ValueError(
        f"{path} is of a format that is not read ({suffix or 'no suffix'}); convert it to one of "
        f"{', '.join(extensions)}, or remove it"
    )
