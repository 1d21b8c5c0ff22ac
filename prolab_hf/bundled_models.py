"""The small models that come with the package: their names, and the folders they lie in."""

import importlib.resources
from pathlib import Path

from prolab_hf.suggestions import did_you_mean

CONFIG_NAME = "config.json"


def bundled_model_names() -> list[str]:
    """Names of the models that come with the package, in alphabetical order."""
    root = _root()
    return (
        sorted(folder.name for folder in root.iterdir() if (folder / CONFIG_NAME).is_file()) if root else []
    )


def bundled_model_folder(name: str) -> Path | None:
    """The folder of a bundled model, ready for `from_pretrained`; `None` for any other name.

    Args:
        name: Such as `"street"`; the case of its letters does not matter.
    """
    root, plain = _root(), name.strip().lower()
    return root / plain if root is not None and plain in bundled_model_names() else None


def resolve_model(name: str) -> str:
    """What `--model` means: a folder of that name if there is one, then a bundled model, then a Hub id.

    Args:
        name: Folder, bundled name or Hub id.

    Returns:
        The folder of the bundled model, or the name as it is.
    """
    if Path(name).is_dir():
        return name
    found = bundled_model_folder(name)
    return name if found is None else str(found)


def bundled_models_hint(name: str) -> str:
    """A sentence for the message that a model was not found: the bundled names, and which of them was meant."""
    known = bundled_model_names()
    near = did_you_mean(name, known).replace("; did", "Did", 1)
    listed = f"Models that come with the package: {', '.join(known)}." if known else ""
    return " ".join(part for part in (near, listed) if part)


def is_misspelt(name: str) -> bool:
    """Whether a name without an owner is near a bundled one, and so hardly a Hub id."""
    return "/" not in name and bool(did_you_mean(name, bundled_model_names()))


def _root() -> Path | None:
    try:
        root = Path(str(importlib.resources.files("prolab_hf.example_models")))
    except ModuleNotFoundError:
        # A checkout that is on the path without being installed: the folder lies beside the package.
        root = Path(__file__).resolve().parents[1] / "examples" / "models"
    return root if root.is_dir() else None
