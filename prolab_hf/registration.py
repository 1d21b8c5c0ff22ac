"""Makes transformers' Auto classes know ProLab, without importing anything before it is needed.

Registering needs our classes, and those need torch and transformers: seconds that `prolab --help` does not have. So
nothing is imported here. If the Auto classes are loaded already, they are told at once; otherwise a finder at the front
of `sys.meta_path` waits for the import that loads them, and tells them when that import is complete.
"""

import functools
import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto"
_MODEL = "prolab_hf.model"
# Imports of these packages are counted, because half-loaded modules of theirs must not be used.
_WATCHED = ("transformers.", f"{_MODEL}.")


_Find = Callable[[str], Any]
"""Gives a class by its name, or raises `_NotLoadedYetError`."""


def _register_configurations(theirs: _Find, ours: _Find) -> None:
    auto = theirs("AutoConfig")
    auto.register("prolab", ours("ProLabConfig"), exist_ok=True)
    auto.register("vit_adapter", ours("ViTAdapterConfig"), exist_ok=True)
    auto.register("adapted_network", ours("AdaptedNetworkConfig"), exist_ok=True)


def _register_models(theirs: _Find, ours: _Find) -> None:
    backbones, models = theirs("AutoBackbone"), theirs("AutoModelForSemanticSegmentation")
    backbone, model = ours("ViTAdapterBackbone"), ours("ProLabForSemanticSegmentation")
    backbones.register(ours("ViTAdapterConfig"), backbone, exist_ok=True)
    backbones.register(ours("AdaptedNetworkConfig"), ours("AdaptedNetworkBackbone"), exist_ok=True)
    models.register(ours("ProLabConfig"), model, exist_ok=True)


def _register_processors(theirs: _Find, ours: _Find) -> None:
    from transformers.utils import is_torchvision_available

    auto = theirs("AutoImageProcessor")
    classes = {"pil": ours("ProLabImageProcessorPil")}
    if is_torchvision_available():
        classes["torchvision"] = ours("ProLabImageProcessor")
    auto.register(ours("ProLabConfig"), image_processor_classes=classes, exist_ok=True)


def _register_pipeline(theirs: _Find, ours: _Find) -> None:
    # transformers' own pipeline loses transparency, bits and bands before an image processor sees them.
    theirs("SUPPORTED_TASKS")["image-segmentation"]["impl"] = (
        "prolab_hf.evaluation.pipeline.ProLabImageSegmentationPipeline"
    )


_REGISTRATIONS: dict[str, Callable[[_Find, _Find], None]] = {
    f"{_AUTO}.configuration_auto": _register_configurations,
    f"{_AUTO}.modeling_auto": _register_models,
    f"{_AUTO}.image_processing_auto": _register_processors,
    "transformers.pipelines": _register_pipeline,
}


class _NotLoadedYetError(Exception):
    """A module is being imported, and its class is not defined yet."""


def _defined(module: ModuleType, name: str) -> Any:
    found = getattr(module, name, None)
    if found is None:
        raise _NotLoadedYetError(name)
    return found


class _AutoClasses(MetaPathFinder):
    """Finds nothing by itself; registers when an import of transformers, or of our model, is complete.

    Args:
        find_class: Gives a class of ours by its public name.
    """

    def __init__(self, find_class: _Find) -> None:
        self._find_class = find_class
        self._pending = dict(_REGISTRATIONS)
        self._depth = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Lets the other finders find the module, and counts how deep its import is nested."""
        if not fullname.startswith(_WATCHED):
            return None
        others = [finder for finder in list(sys.meta_path) if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._count(spec.loader)
        return spec

    def _count(self, loader: Any) -> None:
        """Makes this loader, which loads one module, say when it begins and ends; it stays what it is."""
        execute = loader.exec_module

        def counted(module: ModuleType) -> None:
            loader.__dict__.pop("exec_module", None)
            depth = getattr(self._depth, "value", 0)
            self._depth.value = depth + 1
            try:
                execute(module)
            finally:
                self._depth.value = depth
            if depth == 0:
                self.register()

        loader.exec_module = counted

    def register(self) -> None:
        """Registers with every Auto class that is loaded; what is half loaded waits for the end of its import."""
        # No lock: it would be held during imports, which other threads may wait for while they want it.
        for name in [name for name in list(self._pending) if name in sys.modules]:
            # Out of the list first: our own modules import transformers' and come back to here.
            registration = self._pending.pop(name, None)
            if registration is None:
                continue
            try:
                registration(functools.partial(_defined, sys.modules[name]), self._find_class)
            except _NotLoadedYetError:
                self._pending[name] = registration
            except RuntimeError as error:
                # Another thread imports our model and waits for the module of this one: it registers at its end.
                if type(error).__name__ != "_DeadlockError":
                    raise
                self._pending[name] = registration
        if not self._pending and self in sys.meta_path:
            sys.meta_path.remove(self)


def announce(modules: dict[str, str]) -> None:
    """Makes the Auto classes know ours, now if they are loaded, else as soon as they are.

    Args:
        modules: Public name of each of our classes, and the module that defines it.
    """

    def find_class(name: str) -> Any:
        return _defined(importlib.import_module(modules[name]), name)

    if any(type(finder).__qualname__ == _AutoClasses.__qualname__ for finder in sys.meta_path):
        return  # the package was imported a second time (importlib.reload)
    finder = _AutoClasses(find_class)
    sys.meta_path.insert(0, finder)
    finder.register()
