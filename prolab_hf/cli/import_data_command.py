"""`prolab import-data`: what a labeling tool exports becomes a folder that training reads."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

KINDS = ("cvat", "coco", "voc", "labelme", "roboflow", "supervisely")


def import_data(
    kind: Annotated[str, typer.Argument(help=f"What wrote it: {', '.join(KINDS)}.")],
    path: Annotated[Path, typer.Argument(help="Folder of the export (coco: also its JSON file).")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="New folder for SPLIT/images, SPLIT/masks, classes.txt.")
    ],
    background: Annotated[
        str,
        typer.Option(
            help="Class of pixels without an annotation; 'void' leaves them out of training and scores."
        ),
    ] = "background",
    overlap: Annotated[
        str, typer.Option(help="Which annotation lies on top: area (the smaller one), file (the later one).")
    ] = "area",
    crowd: Annotated[str, typer.Option(help="COCO's crowd regions: void, or their class.")] = "void",
    skip_unlabeled: Annotated[
        bool, typer.Option("--skip-unlabeled", help="Leave images without annotation out.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Folder with the images, if the export holds none.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Class names in order: a file with one a line, or a,b,c.")
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(
            help="Share of the images that goes to the split val, where the export has one split: 0.2."
        ),
    ] = None,
) -> None:
    """Turn an export of CVAT, COCO, Pascal VOC, labelme, Roboflow or Supervisely into a data folder.

    cvat: "Segmentation mask 1.1". coco: annotations.json with polygons or run lengths. voc: ImageSets lists and
    palette masks. labelme: one JSON file an image. roboflow: "Semantic Segmentation Masks". supervisely: "Export as
    masks".

    Examples:
      prolab import-data cvat exports/task_12 --val 0.2 --out data/yard

      prolab import-data coco annotations.json --images photos --background void --out data/yard
    """
    from prolab_hf.data.class_matching import class_names_from_lines, read_class_names
    from prolab_hf.data.formats.imported import ImportOptions, with_validation, write_folder
    from prolab_hf.data.formats.reading import read_export
    from prolab_hf.progress import progress

    if overlap not in ("area", "file"):
        raise ValueError(f"--overlap is {overlap!r}; choose area or file.")
    if crowd not in ("void", "class"):
        raise ValueError(f"--crowd is {crowd!r}; choose void or class.")
    names = None
    if classes is not None:
        is_file = Path(classes).is_file()
        names = (
            read_class_names(classes) if is_file else class_names_from_lines(classes.split(","), "--classes")
        )
    options = ImportOptions(
        background=None if background == "void" else background,
        overlap="area" if overlap == "area" else "file",
        crowd="void" if crowd == "void" else "class",
        skip_unlabeled=skip_unlabeled,
        images=images,
        class_names=names,
    )
    imported = read_export(kind, path, options)
    if val is not None:
        imported = with_validation(imported, val)
    with progress(True, "writing", len(imported.images)) as bar:
        for _ in write_folder(imported, out):
            bar.advance(1)
    splits = sorted({item.split for item in imported.images})
    Console().print(
        f"Wrote {len(imported.images)} images of {len(imported.class_names)} classes to {escape(str(out))} "
        f"(splits: {escape(', '.join(splits))}). Look at it with: prolab check-data {escape(str(out))}",
        highlight=False,
    )
