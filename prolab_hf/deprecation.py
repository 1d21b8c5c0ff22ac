"""Old names of arguments, which keep working for a while and say what they are called now."""

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def renamed_argument(old: str, new: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """A decorator: the keyword argument `old` is taken as `new`, with a `DeprecationWarning`.

    Args:
        old: Keyword that callers of before use.
        new: What it is called now.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(
                        f"{function.__name__}() got {new!r} and its old name {old!r}; give {new!r} only."
                    )
                warnings.warn(
                    f"{function.__name__}({old}=...) is now called {new}.", DeprecationWarning, stacklevel=2
                )
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate
