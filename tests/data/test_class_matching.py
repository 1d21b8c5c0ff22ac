import pytest
import torch

from prolab_hf.data.class_matching import match_space, renamed_classes, require_same_classes
from prolab_hf.label_space.property_space import PropertySpace


@pytest.fixture(scope="module")
def space() -> PropertySpace:
    return PropertySpace.from_pretrained("scenes")


def test_rows_follow_the_order_of_the_data(space):
    names = [space.class_names[4], space.class_names[0]]
    matched = match_space(space, names)
    assert matched.class_names == names
    assert torch.equal(matched.class_property_matrix.sum(1) > 0, torch.tensor([True, True]))
    assert matched.descriptions[names[0]] == space.descriptions[names[0]]


def test_the_same_names_or_none_leave_the_space_as_it_is(space):
    assert match_space(space, None) is space
    assert match_space(space, list(space.class_names)) is space


def test_unknown_and_double_classes_are_named(space):
    known = space.class_names[0]
    with pytest.raises(
        ValueError, match=rf"folder has 1 classes .* such as '{known}s'.*did you mean '{known}'"
    ):
        match_space(space, [known, known + "s"], data="folder")
    with pytest.raises(ValueError, match=rf"lists the class '{known}' 2 times"):
        match_space(space, [known, known])


def test_two_splits_must_agree():
    require_same_classes(["a", "b"], None, names=("train", "val"))
    require_same_classes(["a", "b"], ["a", "b"], names=("train", "val"))
    with pytest.raises(ValueError, match="classes of val are not those of train: class 1 is 'b' and 'c'"):
        require_same_classes(["a", "b"], ["a", "c"], names=("train", "val"))
    with pytest.raises(ValueError, match="2 and 1 classes"):
        require_same_classes(["a", "b"], ["a"], names=("train", "val"))


def test_ids_must_mean_the_same_to_a_model():
    assert renamed_classes(["a", "b", "new"], ["a", "B"]) == {"B": "b"}
    assert renamed_classes(["a"], None) == {}
    with pytest.raises(ValueError, match="'b' is number 0 in the data set and 1 in the model"):
        renamed_classes(["a", "b"], ["b", "a"])
    with pytest.raises(ValueError, match="3 classes, the model 1; unknown to the model are b, c"):
        renamed_classes(["a"], ["a", "b", "c"])
