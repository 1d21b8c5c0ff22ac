"""A property space as a notebook shows it: how many classes and properties, and which class has which."""

from prolab_hf.label_space.space_content import SpaceContent
from prolab_hf.markup import escape_html

MAX_CLASSES = 20
MAX_PHRASES = 8


def space_html(space: SpaceContent) -> str:
    """A heading and a small table of classes and their properties.

    A property is shown by the class's own phrase, with its name as a tooltip; the first `MAX_CLASSES` classes and
    `MAX_PHRASES` properties of each are shown.

    Args:
        space: The space.
    """
    name = escape_html(space.name) or "unnamed"
    classes = f"{space.num_classes} class{'es' if space.num_classes != 1 else ''}"
    properties = f"{space.num_properties} propert{'ies' if space.num_properties != 1 else 'y'}"
    rows = [_row(space, row) for row in range(min(space.num_classes, MAX_CLASSES))]
    if space.num_classes > MAX_CLASSES:
        rows.append(
            f'<tr><td colspan="2"><em>and {space.num_classes - MAX_CLASSES} more classes</em></td></tr>'
        )
    return (
        f"<div><strong>PropertySpace</strong> {name}: {classes}, {properties}"
        '<table><thead><tr><th style="text-align:left">class</th><th style="text-align:left">properties</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(space: SpaceContent, row: int) -> str:
    class_name = space.class_names[row]
    indices = space.class_property_matrix[row].nonzero().flatten().tolist()
    own = dict(zip(space.assignments.get(class_name, ()), space.descriptions.get(class_name, ())))
    cells = [
        f'<span title="{escape_html(space.property_names[index])}">'
        f"{escape_html(own.get(index, space.property_names[index]))}</span>"
        for index in indices[:MAX_PHRASES]
    ]
    if len(indices) > MAX_PHRASES:
        cells.append(f"<em>{len(indices) - MAX_PHRASES} more</em>")
    return (
        f'<tr><td style="text-align:left">{escape_html(class_name)}</td>'
        f'<td style="text-align:left">{", ".join(cells)}</td></tr>'
    )
