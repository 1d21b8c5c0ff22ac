"""The image processor that a backbone was pretrained with, where the user names none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor
from transformers.utils import is_timm_available

from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil


def default_processor(backbone: Any, config: ProLabConfig, *, image_size: int | None = None) -> Any:
    """A processor with the backbone's own mean and deviation, and sizes that its patches divide.

    Args:
        backbone: What the model was built from; a name or folder tells the statistics.
        config: Of the model.
        image_size: Shortest edge in pixels; 0 keeps the size of the images, `None` takes 512.
    """
    options: dict[str, Any] = {}
    found = _statistics(str(backbone)) if isinstance(backbone, str | Path) else None
    if found is not None:
        options["image_mean"], options["image_std"] = (list(values) for values in found)
    patch = getattr(config.backbone_config, "patch_size", None)
    if isinstance(patch, int) and patch > 4:  # hierarchical networks with patches of 4 pad by themselves
        options["size_divisor"] = patch
    if image_size == 0:
        options["do_resize"] = False
    elif image_size is not None:
        options["size"] = {"shortest_edge": image_size, "longest_edge": 4 * image_size}
    return ProLabImageProcessorPil.from_model_config(config, **options)


def _statistics(name: str) -> tuple[Any, Any] | None:
    if is_timm_available():
        import timm

        entry = timm.get_pretrained_cfg(name.removeprefix("timm/")) if timm.is_model(name) else None
        if entry is not None:
            return entry.mean, entry.std
    try:
        processor = AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError):
        return None  # a backbone without a processor: ImageNet's statistics
    return processor.image_mean, processor.image_std
