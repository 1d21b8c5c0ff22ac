"""Damaged inputs for the readers of images, masks, codings, class lists, metadata and exports, with counts.

Each input is read, or refused in one sentence that names it. What else happens is counted as
`unnamed` (the right error without the name), `raw` (another exception) or `silent` (accepted although it is wrong).

    python benchmarks/fuzz_readers.py --rounds 20000 --seed 7
"""

import argparse
import copy
import io
import json
import os
import random
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from prolab_hf.data.class_matching import read_class_names
from prolab_hf.data.formats.imported import ImportOptions
from prolab_hf.data.formats.reading import read_export
from prolab_hf.data.image_files import read_raw
from prolab_hf.data.label_coding import LabelCoding
from prolab_hf.data.sources import read_rows
from prolab_hf.model.image_conversion_prolab import PIXEL_LIMIT_VARIABLE, read_image

NUM_CLASSES = 3
ALLOWED = (ValueError, FileNotFoundError, ImportError)
# More would be decoded honestly, and slowly.
MAX_PIXELS = 200_000


@dataclass
class Counts:
    """Outcomes of one reader."""

    clean: int = 0
    unnamed: int = 0
    raw: int = 0
    silent: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def total(self):
        return self.clean + self.unnamed + self.raw + self.silent

    def note(self, outcome, example):
        setattr(self, outcome, getattr(self, outcome) + 1)
        if outcome != "clean" and len(self.examples) < 8:
            self.examples.append(f"{outcome}: {example}")


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        rounds: Inputs in the test suite.
        make: Gives an input from a random generator.
        read: Reads it in a folder; returns why what was accepted is wrong, or `None`. The input is named `case`.
    """

    rounds: int
    make: Callable[[random.Random], bytes]
    read: Callable[[bytes, Path], str | None]


def fuzz(name, folder, *, rounds, seed=0):
    """Run a reader on so many inputs."""
    reader, counts, rng = READERS[name], Counts(), random.Random(f"{name} {seed}")
    before = os.environ.get(PIXEL_LIMIT_VARIABLE)
    os.environ[PIXEL_LIMIT_VARIABLE] = str(MAX_PIXELS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(rounds):
                content = reader.make(rng)
                try:
                    wrong = reader.read(content, Path(folder))
                except ALLOWED as error:
                    text = str(error)
                    named = "case" in text and "\n" not in text and "0x7f" not in text
                    counts.note("clean" if named else "unnamed", f"{type(error).__name__}: {text[:200]}")
                except Exception as error:  # finding any other one is what this is for
                    counts.note("raw", f"{type(error).__name__}: {str(error)[:200]} {content[:60]!r}")
                else:
                    counts.note("clean" if wrong is None else "silent", f"{wrong} {content[:80]!r}")
    finally:
        if before is None:
            del os.environ[PIXEL_LIMIT_VARIABLE]
        else:
            os.environ[PIXEL_LIMIT_VARIABLE] = before
    return counts


# ---- damage -------------------------------------------------------------------------------------------------


def damaged(rng, content, others):
    """One to four of: bytes changed, removed, repeated, put in; the end cut off; the end of another input."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 100))
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[place % len(data)] = rng.randrange(256)
        elif kind == 1:
            data[place : place + length] = bytes(rng.choice((0, 255, 127, 128)) for _ in range(length))
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = rng.randbytes(length)
        elif kind == 4:
            data[place:place] = data[place : place + length]
        elif kind == 5:
            del data[place:]
        else:
            other = rng.choice(others)
            data[place:] = other[rng.randrange(len(other) + 1) :]
    return bytes(data)


ODD_VALUES = [
    None, True, False, 0, -1, 1.5, 10**30, -(10**9), float("nan"), "", "255", "00", "é", "\ufeffx", [], {}, [[]],
    [None], {"a": 1}, [1, "2"], "x" * 300,
]  # fmt: skip


def odd_json(rng, value):
    """The value with one or two of its parts replaced, removed, doubled or nested without end."""
    text = json.dumps(value)
    value = json.loads(text)
    for _ in range(rng.randint(1, 2)):
        value = _odd_part(rng, value)
    text = json.dumps(value)
    kind = rng.randrange(12)
    if kind == 0:
        return b"[" * 100_000
    if kind == 1:
        return b"\xef\xbb\xbf" + text.encode()
    if kind == 2:
        return text.encode("utf-16")
    if kind == 3:
        keys = [key for key in ('"kind"', '"table"', '"images"', '"shapes"', '"0"') if key in text]
        if keys:
            key = rng.choice(keys)
            return text.replace(key, f"{key}: 1, {key}", 1).encode()
    return text.encode()


def _odd_part(rng, value):
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        if rng.random() < 0.15:
            del value[key]
        else:
            value[key] = _odd_part(rng, value[key])
        return value
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        if rng.random() < 0.15:
            value.append(copy.deepcopy(value[place]))
        else:
            value[place] = _odd_part(rng, value[place])
        return value
    return copy.deepcopy(rng.choice(ODD_VALUES))


# ---- images and masks ---------------------------------------------------------------------------------------


def _encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def image_seeds():
    values = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    rgb = Image.fromarray(values)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    seeds = [
        _encoded(rgb, kind, **options)
        for kind, options in (
            ("PNG", {}), ("PNG", {"exif": exif}), ("JPEG", {"exif": exif}), ("JPEG", {"progressive": True}),
            ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_deflate", "exif": exif}),
            ("WEBP", {"lossless": True}), ("WEBP", {"exif": exif}), ("PPM", {}), ("GIF", {}), ("AVIF", {}),
            ("JPEG2000", {}),
        )
    ]  # fmt: skip
    for mode in ("L", "1", "P", "LA", "RGBA", "CMYK", "I;16"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        image = Image.fromarray(values[..., 0].astype(np.uint16)) if mode == "I;16" else rgb.convert(mode)
        seeds.append(_encoded(image, kind))
    buffer = io.BytesIO()
    np.save(buffer, values)
    seeds += [
        buffer.getvalue(),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"DDS " + bytes(124),
        b"",
    ]
    return seeds


IMAGES = image_seeds()


def read_an_image(content, folder):
    image = read_image(content, name="case.png")
    if not isinstance(image, Image.Image) or image.mode != "RGB" or min(image.size) < 1:
        return f"the result is {image!r}"
    if content[:4] in (b"%!PS", b"DDS "):
        return "a format that is no image was opened"
    return None


def mask_seeds():
    ids = (np.arange(108).reshape(9, 12) // 40).astype(np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    images = [Image.fromarray(ids), palette, Image.fromarray(ids.astype(np.uint16)), Image.fromarray(ids > 1)]
    seeds = [_encoded(image, kind) for image in images for kind in ("PNG", "TIFF")]
    seeds += [_encoded(images[0], kind) for kind in ("BMP", "GIF", "PPM", "JPEG", "AVIF", "JPEG2000")]
    seeds += [_encoded(images[0].convert("RGB"), "WEBP", lossless=lossless) for lossless in (True, False)]
    seeds.append(_encoded(images[0], "TIFF", compression="jpeg"))
    buffer = io.BytesIO()
    np.save(buffer, ids)
    return [*seeds, buffer.getvalue(), b"P5\n12 9\n3\n" + ids.tobytes()]


MASKS = mask_seeds()
PHOTO = Image.new("RGB", (12, 9))
LOSSY_STARTS = (b"\xff\xd8\xff", b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51")


def read_a_mask(content, folder):
    sample = read_raw(PHOTO, content, coding=LabelCoding(), name="case", mask_name="case.png")
    mask = sample.decode(LabelCoding(), NUM_CLASSES).mask
    if mask.shape != (9, 12) or not ((mask < NUM_CLASSES) | (mask == 255)).all():
        return f"decoded to {mask.shape}, {np.unique(mask)}"
    if content.startswith(LOSSY_STARTS) or b"VP8 " in content[12:16] or content[4:12] == b"ftypavif":
        return "a format that changes ids was read"
    return None


# ---- texts --------------------------------------------------------------------------------------------------


CODINGS = [
    {"kind": "ids", "ignore_index": 255, "void_values": [255, 254]},
    {"kind": "shifted", "void_values": [255]},
    {"kind": "table", "table": {"0": 0, "7": 1, "8": None}, "unlisted": "void"},
    {"kind": "palette", "palette": {"#ff0000": 0, "0,255,0": 1, "#000000": None}},
    {"kind": "palette", "palette": ["#ff0000", "0,0,255", [1, 2, 3]]},
]


def make_coding(rng):
    return odd_json(rng, rng.choice(CODINGS))


def read_a_coding(content, folder):
    path = folder / "case.json"
    path.write_bytes(content)
    try:
        coding = LabelCoding.parse(str(path))
    except ValueError as error:
        # A coding is also given as text; the command line names it there.
        raise ValueError(f"case: {error}") from error
    numbers = [coding.ignore_index, *(coding.void_values or ()), *(coding.table or ())]
    numbers += [target for target in (coding.table or {}).values() if target is not None]
    numbers += [target for target in (coding.palette or {}).values() if target is not None]
    if any(type(number) is not int for number in numbers):
        return f"numbers are {numbers}"
    data = json.loads(content.decode("utf-8-sig"))
    for name in ("table", "palette"):
        if len(data.get(name) or ()) != len(getattr(coding, name) or ()):
            return f"{name} lost entries"
    if coding.table and coding.kind != "table":
        return "a table is ignored"
    return None


CLASS_LISTS = [b"sky\nroad\ncar\n", b"0: sky\n1: road\n2: car\n", b"# classes\nsky\n\nroad\n",
               "straße\nbäume\n".encode(),
               "sky\nroad\n".encode("utf-16"), "straße\n".encode("cp1252"), b"\xef\xbb\xbfsky\nroad\n"]  # fmt: skip


def read_a_class_list(content, folder):
    path = folder / "case.txt"
    path.write_bytes(content)
    names = read_class_names(path)
    if not names or len(set(names)) < len(names):
        return f"names are {names}"
    for name in names:
        numbered_comment = name.startswith("#") and b":" not in content and b"=" not in content
        if not name.strip() or name.startswith("\ufeff") or numbered_comment or not name.isprintable():
            return f"a name is {name!r}"
    return None


METADATA = [
    b"image,mask,split\na.png,b.png,train\nc.png,d.png,val\n",
    b'image,mask\n"a,b.png",c.png\n"d ""e"".png",f.png\n',
    b'{"image": "a.png", "mask": "b.png"}\n{"image": "c.png", "mask": "d.png"}\n',
    b'{"file_name": "a.png", "mask_file_name": "b.png"}\n',
    b"image\tmask\na.png\tb.png\n",
    b"image,mask\n" + b"x" * 200_000 + b",b.png\n",
    b'{"image": ' + b"[" * 50_000 + b"}\n",
]


def make_metadata(rng):
    kind = rng.choice((b"csv", b"jsonl", b"tsv"))
    return kind + b"\n" + damaged(rng, rng.choice(METADATA), METADATA)


def read_metadata(content, folder):
    suffix, _, text = content.partition(b"\n")
    path = folder / f"case.{suffix.decode()}"
    path.write_bytes(text)
    rows = read_rows(path)
    if not all(isinstance(row, dict) and None not in row for row in rows):
        return f"rows are {rows[:2]}"
    return None


# ---- exports ------------------------------------------------------------------------------------------------


COCO = {
    "images": [{"id": 1, "file_name": "p.png", "height": 9, "width": 12}],
    "categories": [{"id": 1, "name": "road"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "area": 4,
            "segmentation": [[0, 0, 5, 0, 5, 5]],
        },
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [9, 12], "counts": [9, 9, 90]}},
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": {"size": [9, 12], "counts": "990j20"}},
    ],
}
LABELME = {
    "shapes": [
        {"label": "road", "points": [[0, 0], [5, 0], [5, 5]], "shape_type": "polygon"},
        {"label": "car", "points": [[1, 1], [3, 3]], "shape_type": "rectangle"},
        {"label": "sun", "points": [[1, 1], [3, 3]], "shape_type": "mask", "mask": "iVBORw0KGgo="},
    ],
    "imagePath": "p.png",
    "imageHeight": 9,
    "imageWidth": 12,
}


def read_exported(kind):
    def read(content, folder):
        place = folder / f"case_{kind}"
        place.mkdir(exist_ok=True)
        if not (place / "p.png").exists():
            PHOTO.save(place / "p.png")
        (place / "p.json").write_bytes(content)
        imported = read_export(kind, place if kind == "labelme" else place / "p.json", ImportOptions())
        for item in imported.images:
            mask = item.mask()
            if not ((mask < len(imported.class_names)) | (mask == imported.ignore_index)).all():
                return f"ids are {np.unique(mask)}"
        return None

    return read


READERS = {
    "image": Reader(1000, lambda rng: damaged(rng, rng.choice(IMAGES), IMAGES), read_an_image),
    "mask": Reader(700, lambda rng: damaged(rng, rng.choice(MASKS), MASKS), read_a_mask),
    "coding": Reader(600, make_coding, read_a_coding),
    "class list": Reader(
        600, lambda rng: damaged(rng, rng.choice(CLASS_LISTS), CLASS_LISTS), read_a_class_list
    ),
    "metadata": Reader(400, make_metadata, read_metadata),
    "coco": Reader(300, lambda rng: odd_json(rng, COCO), read_exported("coco")),
    "labelme": Reader(250, lambda rng: odd_json(rng, LABELME), read_exported("labelme")),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=None, help="inputs per reader; default: as in the tests"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=list(READERS), action="append")
    arguments = parser.parse_args()
    print(f"{'reader':12} {'inputs':>7} {'clean':>7} {'unnamed':>7} {'raw':>5} {'silent':>6}")
    for name in arguments.reader or READERS:
        with tempfile.TemporaryDirectory() as folder:
            rounds = arguments.rounds or READERS[name].rounds
            counts = fuzz(name, Path(folder), rounds=rounds, seed=arguments.seed)
        print(
            f"{name:12} {counts.total:7} {counts.clean:7} {counts.unnamed:7} {counts.raw:5} {counts.silent:6}"
        )
        for example in counts.examples:
            print("   ", example)


if __name__ == "__main__":
    main()
