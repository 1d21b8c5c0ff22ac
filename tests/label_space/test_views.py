"""Images and the page: written, readable by a program, safe for any name."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.views.figures import (
    PALETTE,
    dendrogram_figure,
    map_figure,
    matrix_figure,
    save_figures,
)
from prolab_hf.label_space.views.layout import lay_out, property_map
from prolab_hf.label_space.views.page import save_page, space_page

EVIL = '</script><img src=x onerror=alert(1)> $x^2$ & "quoted" \u2028'


def test_images_are_written(space, tmp_path):
    paths = save_figures(space, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["dendrogram.png", "map.png", "matrix.png"]
    for path in paths:
        with Image.open(path) as image:
            image.load()
            colors = {pixel for _, pixel in image.convert("RGB").getcolors(maxcolors=2**20)}
        assert image.width > 600 and len(colors) > 20
        assert any(tuple(int(color[i : i + 2], 16) for i in (1, 3, 5)) in colors for color in PALETTE)


def test_every_cell_is_drawn(space):
    layout = lay_out(space)
    mesh = matrix_figure(space, layout).axes[0].collections[0]
    drawn = np.asarray(mesh.get_array()).reshape(5, 8) > 0
    expected = space.class_property_matrix.numpy()[layout.class_order][:, layout.property_order] > 0
    assert (drawn == expected).all()
    labels = [label.get_text() for label in matrix_figure(space, layout).axes[0].get_yticklabels()]
    assert labels == [space.class_names[row] for row in layout.class_order]


def test_tree_puts_relatives_together(space):
    axes = dendrogram_figure(space).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == sorted(space.class_names)
    assert abs(names.index("tree") - names.index("grass")) == 1


def test_one_class_and_few_properties(tmp_path):
    lonely = PropertySpace.one_hot(["only"])
    assert [path.name for path in save_figures(lonely, tmp_path)] == ["map.png", "matrix.png"]
    with pytest.raises(ValueError, match="two classes"):
        dendrogram_figure(lonely)
    assert property_map(np.eye(3)).shape == (3, 2)


def test_names_with_formulas_do_not_break_the_images(space, tmp_path):
    strange = space.rename_classes({"car": "$\\frac{", "bus": "a_b^c{ %"}).replace(name="$")
    assert len(save_figures(strange, tmp_path)) == 3


def test_layout_is_the_same_every_time(space):
    first, second = lay_out(space), lay_out(space)
    assert first.class_order == second.class_order
    assert np.array_equal(first.property_positions, second.property_positions)
    assert first.property_positions.min() >= 0 and first.property_positions.max() <= 1


def test_taxonomy_gives_the_groups(space):
    taxonomy = {"car": "vehicle", "bus": "vehicle", "cart": "vehicle", "tree": "plant", "grass": "plant"}
    layout = lay_out(space, taxonomy)
    assert layout.group_names == ["vehicle", "plant"] and layout.class_groups.tolist() == [0, 0, 0, 1, 1]
    many = PropertySpace.one_hot([f"c{index}" for index in range(25)])
    layout = lay_out(many, {name: name for name in many.class_names})
    assert len(layout.group_names) == len(PALETTE) and layout.group_names[-1] == "other groups"


def test_map_labels_do_not_cover_each_other():
    count = 40
    space = PropertySpace(
        class_names=["a", "b"],
        property_names=[f"a rather long property name {index}" for index in range(count)],
        property_embeddings=np.random.default_rng(0).standard_normal((count, 8)),
        class_property_matrix=np.tile([[1, 0], [1, 1]], (1, count // 2)),
    )
    figure = map_figure(space)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts[1:]]
    assert len(boxes) > 5
    assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[:index])


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def test_page_holds_the_space_and_needs_nothing_from_outside(space, tmp_path):
    path = save_page(space, tmp_path / "deep" / "page.html")
    text = path.read_text("utf-8")
    data = json.loads(re.search(r'id="space">(.*?)</script>', text, re.DOTALL)[1])
    assert [one["name"] for one in data["classes"]] == space.class_names
    assert data["classes"][0]["properties"] == [0, 1, 2]
    assert data["classes"][0]["texts"] == [
        ["Four wheels", "wheels of rubber"],
        ["painted metal"],
        ["windows"],
    ]
    page = Page()
    page.feed(text)
    assert not {name for name, _ in page.attributes} & {"src", "href"}
    assert "http://www.w3.org/2000/svg" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert "default-src 'none'" in text


def test_page_is_safe_for_any_name(space):
    evil = space.rename_classes({"car": EVIL}).replace(
        name=EVIL,
        property_names=[EVIL, *space.property_names[1:]],
        descriptions={EVIL.strip(): [EVIL]},
        assignments={},
    )
    text = space_page(evil)
    harmless, hostile = Page(), Page()
    harmless.feed(space_page(space))
    hostile.feed(text)
    assert hostile.tags == harmless.tags  # no element that the names brought along
    assert text.count("</script>") == 2
    data = json.loads(re.search(r'id="space">(.*?)</script>', text, re.DOTALL)[1])
    assert data["classes"][0]["name"] == EVIL.strip() and data["properties"][0]["name"] == EVIL.strip()


class _Cells(HTMLParser):
    """The texts of a table's cells, and every tag."""

    def __init__(self):
        super().__init__()
        self.cells, self.tags, self.titles = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.titles += [value for name, value in attributes if name == "title"]
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def read_html(space):
    reader = _Cells()
    reader.feed(space._repr_html_())
    return reader


def test_a_notebook_shows_classes_and_their_own_phrases(space):
    assert "toy: 5 classes, 8 properties" in space._repr_html_()
    cells = read_html(space).cells
    assert dict(zip(cells[::2], cells[1::2])) == {
        "car": "wheels of rubber, painted metal, windows",
        "bus": "wheels, windows, long box",
        "cart": "wheels, metal",
        "tree": "leaves, trunk",
        "grass": "green leaves, flat",
    }
    assert (
        "metal" in read_html(space).titles
    )  # what the property is called stands behind the class's own words


def test_a_notebook_shows_names_of_strangers_as_they_are(space):
    evil = space.rename_classes({"car": EVIL})
    reader = read_html(evil)
    assert set(reader.tags) <= {"div", "strong", "table", "thead", "tbody", "tr", "th", "td", "span", "em"}
    assert "<img" in reader.cells[0]


def test_a_notebook_shows_no_endless_table():
    space = PropertySpace.one_hot([f"class {number}" for number in range(100)])
    cells = read_html(space).cells
    assert len(cells) == 2 * 20 + 1 and cells[-1] == "and 80 more classes"
