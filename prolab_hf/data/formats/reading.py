"""The readers of exports by name."""

from collections.abc import Callable
from pathlib import Path

from prolab_hf.data.formats.coco import read_coco
from prolab_hf.data.formats.cvat_and_voc import read_cvat, read_voc
from prolab_hf.data.formats.imported import ImportedSet, ImportOptions
from prolab_hf.data.formats.labelme import read_labelme
from prolab_hf.data.formats.png_exports import read_roboflow, read_supervisely

READERS: dict[str, Callable[[Path, ImportOptions], ImportedSet]] = {
    "cvat": read_cvat,
    "coco": read_coco,
    "voc": read_voc,
    "labelme": read_labelme,
    "roboflow": read_roboflow,
    "supervisely": read_supervisely,
}


def read_export(kind: str, path: str | Path, options: ImportOptions | None = None) -> ImportedSet:
    """Read what a labeling tool exported.

    Args:
        kind: `cvat`, `coco`, `voc`, `labelme`, `roboflow` or `supervisely`.
        path: Folder of the export; for `coco` also its JSON file.
        options: What the export does not say by itself.

    Raises:
        FileNotFoundError: The path does not exist or is no such export.
        ValueError: The kind is unknown or a file is malformed; the message names it.

    Example:
        ```python
        for image in write_folder(read_export("cvat", "exports/task_12"), Path("data/yard")):
            pass
        ```
    """
    if kind not in READERS:
        raise ValueError(f"The kind {kind!r} is unknown; choose one of {', '.join(READERS)}.")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; name the folder of the export.")
    if path.is_file() and kind != "coco":
        raise NotADirectoryError(f"{path} is a file; unpack the export and name its folder.")
    return READERS[kind](path, options or ImportOptions())
