"""Semantic segmentation that answers in properties, for the Hugging Face ecosystem."""

from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation
from transformers.utils import is_torchvision_available

from prolab_hf.evaluation.inference import segment
from prolab_hf.explanation.contributions import explain
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.configuration_vit_adapter import ViTAdapterConfig
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.model.modeling_vit_adapter import ViTAdapterBackbone
from prolab_hf.solving.solve import solve

if is_torchvision_available():
    from prolab_hf.model.image_processing_prolab import ProLabImageProcessor
else:
    # transformers' torchvision backend can be constructed without torchvision and fails at the first image.
    ProLabImageProcessor = ProLabImageProcessorPil  # type: ignore[assignment,misc]

__version__ = "0.1.0"

AutoConfig.register("prolab", ProLabConfig, exist_ok=True)
AutoConfig.register("vit_adapter", ViTAdapterConfig, exist_ok=True)
AutoBackbone.register(ViTAdapterConfig, ViTAdapterBackbone, exist_ok=True)
AutoModelForSemanticSegmentation.register(ProLabConfig, ProLabForSemanticSegmentation, exist_ok=True)
AutoImageProcessor.register(
    ProLabConfig,
    image_processor_classes={
        "pil": ProLabImageProcessorPil,
        **({"torchvision": ProLabImageProcessor} if is_torchvision_available() else {}),
    },
    exist_ok=True,
)

__all__ = [
    "ProLabConfig",
    "ProLabForSemanticSegmentation",
    "ProLabImageProcessor",
    "ProLabImageProcessorPil",
    "PropertySpace",
    "ViTAdapterBackbone",
    "ViTAdapterConfig",
    "explain",
    "segment",
    "solve",
]
