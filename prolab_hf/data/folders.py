"""Which folders and files of a data set belong together: splits, and pictures with masks of the same stem."""

from collections.abc import Iterable, Sequence
from pathlib import Path

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm")
_SHOWN_NAMES = 5
_LOSSY = "; JPEG masks are not read, because that format changes the ids: use PNG"


def find_folders(root: Path, split: str | None, images: str, masks: str) -> tuple[Path, Path]:
    """The folders with pictures and with masks of a split.

    Args:
        root: Folder of the data set.
        split: Name of the split, `None` where there is none.
        images: Name of the folder with pictures.
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
        images: Name of the folder with pictures.
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
    """Pair pictures and masks whose paths agree up to their suffixes, in sorted order.

    Args:
        image_folder: Folder with pictures.
        mask_folder: Folder with masks.
        image_suffix: Text that picture names end with before the extension; other files are left out.
        mask_suffix: The same for masks.
        other_suffixes: Masks whose names end so are of another kind and are left out.
        recursive: Whether sub-folders are searched (their names are part of the stem).

    Raises:
        ValueError: If there is none, a stem occurs twice, or a partner is missing.
    """
    pictures = _by_stem(image_folder, PICTURE_SUFFIXES, image_suffix, (), recursive)
    masks = _by_stem(mask_folder, MASK_SUFFIXES, mask_suffix, other_suffixes, recursive)
    if not pictures:
        raise ValueError(f"folder {image_folder} holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    _check_partners(pictures, masks, mask_folder, "mask")
    _check_partners(masks, pictures, image_folder, "picture")
    return [(pictures[stem], masks[stem]) for stem in sorted(pictures)]


def _check_partners(files: dict[str, Path], partners: dict[str, Path], folder: Path, what: str) -> None:
    missing = sorted(files.keys() - partners.keys())
    if missing:
        lossy = what == "mask" and any(
            (folder / f"{missing[0]}{ending}").is_file() for ending in (".jpg", ".jpeg")
        )
        names = ", ".join(files[stem].name for stem in missing[:_SHOWN_NAMES])
        more = f" and {len(missing) - _SHOWN_NAMES} more" if len(missing) > _SHOWN_NAMES else ""
        raise ValueError(
            f"folder {folder} has no {what} for {names}{more}; every picture needs a mask of the same name "
            f"and every mask a picture{_LOSSY if lossy else ''}"
        )


def _by_stem(
    folder: Path, extensions: tuple[str, ...], ending: str, others: Sequence[str], recursive: bool
) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        if path.suffix.lower() not in extensions or path.name.startswith(".") or not path.is_file():
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if not stem.endswith(ending) or any(stem.endswith(other) for other in others):
            continue
        stem = stem.removesuffix(ending)
        if stem in found:
            raise ValueError(
                f"folder {folder} holds {found[stem].name} and {path.name}: names must be unique"
            )
        found[stem] = path
    return found
