"""Semantic segmentation that answers in properties, for the Hugging Face ecosystem.

The names below are loaded when they are first used, so that `import prolab_hf` and `prolab --help` are quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from prolab_hf.registration import announce

if TYPE_CHECKING:
    from prolab_hf.editing.editor import SpaceEditor
    from prolab_hf.editing.patch_application import apply_patch
    from prolab_hf.evaluation.evaluate import evaluate
    from prolab_hf.evaluation.inference import segment
    from prolab_hf.explanation.contributions import explain
    from prolab_hf.explanation.interventions import intervene
    from prolab_hf.label_space.property_space import PropertySpace
    from prolab_hf.model.configuration_prolab import ProLabConfig
    from prolab_hf.model.configuration_vit_adapter import ViTAdapterConfig
    from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
    from prolab_hf.model.image_processing_prolab import ProLabImageProcessor
    from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
    from prolab_hf.model.modeling_vit_adapter import ViTAdapterBackbone
    from prolab_hf.solving.adapt import adapt
    from prolab_hf.solving.solve import solve
    from prolab_hf.training.hf_trainer.arguments import ProLabTrainingArguments
    from prolab_hf.training.hf_trainer.trainer import ProLabTrainer
    from prolab_hf.training.recipe import TrainingRecipe
    from prolab_hf.training.trainer import train

__version__ = "0.1.0"

__all__ = [
    "ProLabConfig",
    "ProLabForSemanticSegmentation",
    "ProLabImageProcessor",
    "ProLabImageProcessorPil",
    "ProLabTrainer",
    "ProLabTrainingArguments",
    "PropertySpace",
    "SpaceEditor",
    "TrainingRecipe",
    "ViTAdapterBackbone",
    "ViTAdapterConfig",
    "adapt",
    "apply_patch",
    "evaluate",
    "explain",
    "intervene",
    "segment",
    "solve",
    "train",
]

_MODULES = {
    "AdaptedNetworkBackbone": "prolab_hf.model.adapted_network_prolab",
    "AdaptedNetworkConfig": "prolab_hf.model.adapted_network_prolab",
    "ProLabConfig": "prolab_hf.model.configuration_prolab",
    "ProLabForSemanticSegmentation": "prolab_hf.model.modeling_prolab",
    "ProLabImageProcessor": "prolab_hf.model.image_processing_prolab",
    "ProLabImageProcessorPil": "prolab_hf.model.image_processing_pil_prolab",
    "ProLabTrainer": "prolab_hf.training.hf_trainer.trainer",
    "ProLabTrainingArguments": "prolab_hf.training.hf_trainer.arguments",
    "PropertySpace": "prolab_hf.label_space.property_space",
    "SpaceEditor": "prolab_hf.editing.editor",
    "TrainingRecipe": "prolab_hf.training.recipe",
    "ViTAdapterBackbone": "prolab_hf.model.modeling_vit_adapter",
    "ViTAdapterConfig": "prolab_hf.model.configuration_vit_adapter",
    "adapt": "prolab_hf.solving.adapt",
    "apply_patch": "prolab_hf.editing.patch_application",
    "evaluate": "prolab_hf.evaluation.evaluate",
    "explain": "prolab_hf.explanation.contributions",
    "intervene": "prolab_hf.explanation.interventions",
    "segment": "prolab_hf.evaluation.inference",
    "solve": "prolab_hf.solving.solve",
    "train": "prolab_hf.training.trainer",
}

announce(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    attribute = _without_torchvision(name)
    module = importlib.import_module(_MODULES[attribute])
    value = getattr(module, attribute)
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _without_torchvision(name: str) -> str:
    """The torchvision backend of transformers can be constructed without torchvision and fails at the first image."""
    if name == "ProLabImageProcessor":
        from transformers.utils import is_torchvision_available

        return name if is_torchvision_available() else "ProLabImageProcessorPil"
    return name
