"""What a visitor can take home: the label map, the painted image, the edited model."""

import io
import json
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prolab_hf.demo.answers import ClassPalette
from prolab_hf.editing.editor import SpaceEditor
from prolab_hf.evaluation.inference import Segmentation
from prolab_hf.explanation.overlays import overlay
from prolab_hf.hub.model_card import write_model_card

MAX_PALETTE = 256
MAX_MODEL_BYTES = 2**30


@dataclass(frozen=True)
class Attachment:
    """A file for the visitor.

    Attributes:
        name: What it is called.
        kind: Its media type.
        content: Its bytes, or a file alone in a temporary folder that goes when it was sent.
    """

    name: str
    kind: str
    content: bytes | Path


def labels_png(found: Segmentation, palette: ClassPalette) -> Attachment:
    """The class ids as an indexed PNG whose palette holds the colors of the page; 16 bits above 256 classes.

    Args:
        found: The label map.
        palette: The visitor's colors.
    """
    ids = found.labels.numpy()
    if len(found.class_names) > MAX_PALETTE:
        return Attachment("labels.png", "image/png", _png(Image.fromarray(ids.astype(np.uint16))))
    image = Image.fromarray(ids.astype(np.uint8)).convert("P")
    image.putpalette([value for color in palette.colors(found.class_names) for value in color])
    return Attachment("labels.png", "image/png", _png(image))


def labels_coco(found: Segmentation, file_name: str) -> Attachment:
    """The classes that occur as COCO annotations with run lengths: one mask for all pixels of a class.

    Args:
        found: The label map.
        file_name: What the image is called.
    """
    height, width = found.labels.shape
    ids = found.labels.numpy()
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": int(category) + 1,  # 0 is no category in COCO
            "iscrowd": 1,
            "area": int((ids == category).sum()),
            "bbox": _box(ids == category),
            "segmentation": {"size": [height, width], "counts": _run_lengths(ids == category)},
        }
        for number, category in enumerate(np.unique(ids), start=1)
    ]
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [{"id": k, "name": name} for k, name in enumerate(found.class_names, start=1)],
        "annotations": annotations,
    }
    return Attachment("labels.json", "application/json", json.dumps(content).encode())


def painted(found: Segmentation, image: Image.Image, palette: ClassPalette) -> Attachment:
    """The image with a color per class and a legend.

    Args:
        found: The label map.
        image: The image, of its size.
        palette: The visitor's colors.
    """
    places = palette.places(found.class_names)
    names = [""] * (max(places) + 1)
    for place, name in zip(places, found.class_names):
        names[place] = name
    ids = np.array(places)[found.labels.numpy()]
    return Attachment("overlay.png", "image/png", _png(overlay(image, ids, names)))


def patch_file(editor: SpaceEditor) -> Attachment:
    """The edits as a patch, to be reviewed and applied to another copy of the model.

    Args:
        editor: Holds the edits.
    """
    text = json.dumps(editor.patch().to_dict(), indent=2, ensure_ascii=False)
    return Attachment("patch.json", "application/json", text.encode())


def zipped_model(editor: SpaceEditor, name: str) -> Attachment:
    """The folder of the edited model as a ZIP file.

    Args:
        editor: Holds the model.
        name: What the model is called.

    Raises:
        ValueError: If it is too large.
    """
    size = sum(each.nbytes for each in editor.model.state_dict().values())
    if size > MAX_MODEL_BYTES:
        raise ValueError(
            f"The model has {size / 2**30:.1f} GB, too much to be sent from here; save the edits as a patch and "
            "apply it to a copy of the model."
        )
    temporary = Path(tempfile.mkdtemp())
    try:
        editor.save_pretrained(temporary / "model")
        folder = re.sub(r"[^\w.-]+", "_", name).strip("._") or "model"
        write_model_card(temporary / "model", editor.to_model(), name=f"{folder}-edited")
        with zipfile.ZipFile(temporary / "model.zip", "w") as archive:  # weights do not get smaller
            for path in sorted((temporary / "model").rglob("*")):
                archive.write(path, f"{folder}-edited/{path.relative_to(temporary / 'model')}")
        shutil.rmtree(temporary / "model")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Attachment("model.zip", "application/zip", temporary / "model.zip")


def _run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths: column by column, pixels outside first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths: list[int] = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def _box(mask: np.ndarray) -> list[int]:
    """Left, top, width and height of what is inside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


__all__ = ["Attachment", "labels_coco", "labels_png", "painted", "patch_file", "zipped_model"]
