"""Old names of arguments work and say what they are called now."""

import inspect
import warnings

import pytest

from prolab_hf.deprecation import renamed_argument


@renamed_argument("show_progress_bar", "show_progress")
def work(number: int, *, show_progress: bool = False) -> tuple[int, bool]:
    """Works."""
    return number, show_progress


def test_the_old_name_is_taken_with_a_warning_at_the_caller():
    with pytest.warns(
        DeprecationWarning, match=r"work\(show_progress_bar=\.\.\.\) is now called show_progress"
    ) as caught:
        assert work(1, show_progress_bar=True) == (1, True)
    assert caught[0].filename == __file__


def test_the_new_name_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert work(1, show_progress=True) == (1, True)
    assert list(inspect.signature(work).parameters) == ["number", "show_progress"]
    assert work.__doc__ == "Works."


def test_both_names_at_once_are_refused():
    with pytest.raises(TypeError, match="give 'show_progress' only"):
        work(1, show_progress=True, show_progress_bar=True)
