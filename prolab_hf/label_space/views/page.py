"""A property space as one HTML file: matrix, map, filter and details, without a server or a network."""

import html
import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prolab_hf.files import write_text
from prolab_hf.label_space.report.health import HealthReport, check_space, figure_rows
from prolab_hf.label_space.space_content import SpaceContent
from prolab_hf.label_space.views.figures import PALETTE
from prolab_hf.label_space.views.layout import lay_out


def space_page(
    space: SpaceContent,
    *,
    taxonomy: Mapping[str, str] | None = None,
    report: HealthReport | None = None,
) -> str:
    """The page's HTML.

    Args:
        space: The space.
        taxonomy: Class name -> super-category, for the colors.
        report: Health report to show; made here if absent.
    """
    template = (
        importlib.resources.files("prolab_hf.label_space.views").joinpath("page.html").read_text("utf-8")
    )
    report = report or check_space(space, taxonomy=taxonomy)
    text = json.dumps(_page_data(space, taxonomy, report), ensure_ascii=True, separators=(",", ":"))
    # Inside a script element only "<" could end the data; ">" and "&" go with it for old parsers.
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    title = html.escape(space.name or "Property space")
    return template.replace("__TITLE__", title).replace("__SPACE_JSON__", text)


def _page_data(
    space: SpaceContent, taxonomy: Mapping[str, str] | None, report: HealthReport
) -> dict[str, Any]:
    layout = lay_out(space, taxonomy)
    classes = []
    for name, row, group in zip(space.class_names, space.class_properties, layout.class_groups.tolist()):
        assigned = list(zip(space.descriptions.get(name, []), space.assignments.get(name, [])))
        texts = [[text for text, target in assigned if target == index] for index in row]
        classes.append({"name": name, "properties": row, "texts": texts, "group": group})
    positions = layout.property_positions.round(4).tolist()
    groups = layout.property_groups.tolist()
    properties = [
        {
            "name": name,
            "x": x,
            "y": y,
            "group": group,
            "phrases": [
                [phrase, len(users)] for phrase, users in space.phrases_by_property.get(index, {}).items()
            ],
        }
        for index, (name, (x, y), group) in enumerate(zip(space.property_names, positions, groups))
    ]
    return {
        "name": space.name or "Property space",
        "fingerprint": space.fingerprint[:12],
        "classes": classes,
        "properties": properties,
        "classOrder": layout.class_order,
        "propertyOrder": layout.property_order,
        "groups": layout.group_names,
        "palette": list(PALETTE),
        "figures": [list(row) for row in figure_rows(report.figures)],
    }


def save_page(space: SpaceContent, path: str | Path, *, taxonomy: Mapping[str, str] | None = None) -> Path:
    """Writes the page.

    Args:
        space: The space.
        path: The HTML file; its folder is made if absent.
        taxonomy: Class name -> super-category, for the colors.

    Returns:
        The path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, space_page(space, taxonomy=taxonomy))
    return target
