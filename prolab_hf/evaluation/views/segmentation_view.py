"""A label map as notebooks show it: small, with the colors of the classes and how much each covers."""

import base64
import io
from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from prolab_hf.evaluation.views.class_colors import class_colors, class_pixels
from prolab_hf.markup import escape_html

LONGEST_SIDE = 384
"""Of the shown map in pixels."""
MOST_CLASSES = 12


def label_map_png(labels: Tensor, num_labels: int) -> bytes:
    """The map in the colors of its classes, at most `LONGEST_SIDE` pixels long.

    Args:
        labels: Class ids `(height, width)`; other ids than classes are gray.
        num_labels: Number of classes.
    """
    step = max(1, -(-max(labels.shape) // LONGEST_SIDE))
    ids = labels[step // 2 :: step, step // 2 :: step].cpu().numpy()
    painted = class_pixels(ids, num_labels)
    buffer = io.BytesIO()
    # Few colors: a palette makes the file three times smaller.
    Image.fromarray(painted).convert("P", palette=Image.Palette.ADAPTIVE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def segmentation_html(labels: Tensor, class_names: Sequence[str], shares: Sequence[tuple[str, float]]) -> str:
    """The map beside a legend. All names are shown literally.

    Args:
        labels: Class ids `(height, width)`.
        class_names: Names in the order of the ids.
        shares: Classes that occur with their share of the image, largest first.
    """
    height, width = labels.shape
    colors = class_colors(len(class_names))
    entries = []
    for name, share in shares[:MOST_CLASSES]:
        color = "#{:02x}{:02x}{:02x}".format(*colors[list(class_names).index(name)])
        entries.append(
            f'<tr><td style="text-align:left"><span style="color:{color}">&#9632;</span> {escape_html(name)}</td>'
            f"<td>{share:.1%}</td></tr>"
        )
    if len(shares) > MOST_CLASSES:
        rest = sum(share for _, share in shares[MOST_CLASSES:])
        entries.append(f"<tr><td>and {len(shares) - MOST_CLASSES} more</td><td>{rest:.1%}</td></tr>")
    image = base64.b64encode(label_map_png(labels, len(class_names))).decode("ascii")
    return (
        '<div style="display:flex;gap:1em;align-items:flex-start">'
        f'<img alt="label map of {width} x {height} pixels" src="data:image/png;base64,{image}">'
        f"<table>{''.join(entries)}</table></div>"
    )
