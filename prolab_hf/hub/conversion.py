"""A published checkpoint of the reference implementation becomes a folder that `from_pretrained` reads."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prolab_hf.hub.model_card import write_model_card
from prolab_hf.hub.original_checkpoints import config_from_original, convert_original_state_dict
from prolab_hf.hub.original_spaces import (
    BANK_ENDING,
    bank_and_entry,
    property_space_from_original,
    read_original_bank,
    read_original_descriptions,
)
from prolab_hf.hub.safe_unpickling import load_tensors_safely
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.training.from_recipe import image_processor
from prolab_hf.training.published_recipes import get_recipe
from prolab_hf.training.recipe import TrainingRecipe

logger = logging.getLogger(__name__)

_BEIT_LARGE: dict[str, Any] = {
    "type": "BEiTAdapter",
    "embed_dim": 1024,
    "depth": 24,
    "num_heads": 16,
    "deform_num_heads": 16,
    "qkv_bias": True,
    "use_abs_pos_emb": False,
    "use_rel_pos_bias": True,
    "init_values": 1e-6,
    "interaction_indexes": [[0, 5], [6, 11], [12, 17], [18, 23]],
}
_DEIT_BASE: dict[str, Any] = {
    "type": "ViTAdapter",
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "deform_num_heads": 12,
    "interaction_indexes": [[0, 2], [3, 5], [6, 8], [9, 11]],
}


def original_model_cfg(recipe: TrainingRecipe, space: PropertySpace) -> dict[str, Any]:
    """The reference's `model` dictionary of a published run, from the numbers of its recipe.

    Args:
        recipe: One of the seven published recipes.
        space: The property space of the run; it gives the embedding size.

    Raises:
        ValueError: The recipe is not a published one.
    """
    if not recipe.model.vit_adapter:
        raise ValueError(
            f"The recipe {recipe.name!r} is not one of the published runs, so no checkpoint of the reference "
            "belongs to it; see `prolab train --list-recipes`."
        )
    large = "large" in recipe.name
    backbone = {
        **(_BEIT_LARGE if large else _DEIT_BASE),
        "conv_inplane": 64,
        "n_points": 4,
        "deform_ratio": 0.5,
        "cffn_ratio": 0.25,
        "drop_path_rate": recipe.model.drop_path,
    }
    if large:
        backbone["img_size"] = recipe.model.backbone_image_size
    supervision = {
        "num_classes": space.embedding_dim,
        "dropout_ratio": recipe["config.classifier_dropout_prob"],
        "align_corners": False,
        "ignore_index": None,
        "loss_decode": {"type": "CosineSimilarityLoss"},
        "get_logit_mode": "cosine_similarity_with_sigmoid",
        "sigmoid_temperature": recipe["config.temperature"],
        "image_embedding_normalize": recipe["config.normalize_pixel_embeddings"],
    }
    return {
        "backbone": backbone,
        "decode_head": {
            "type": "UPerHead_cluster_embed",
            "channels": recipe["config.hidden_size"],
            **supervision,
        },
        "auxiliary_head": {
            "type": "FCNHead_cluster_embed",
            "in_index": 2,
            "channels": 256,
            "num_convs": 1,
            "concat_input": False,
            **supervision,
        },
    }


def convert_checkpoint(
    checkpoint: str | Path,
    space: str | Path | PropertySpace,
    recipe: str | TrainingRecipe,
    output_dir: str | Path,
    *,
    descriptions: str | Path | None = None,
    overwrite: bool = False,
) -> ProLabForSemanticSegmentation:
    """Reads a reference `.pth`, renames and checks every tensor, and writes a complete model folder.

    Args:
        checkpoint: The `.pth` file. Nothing in it is executed.
        space: The property space of the run: the reference's embedding bank (`.pth`), a `PropertySpace`, its
            folder or name.
        recipe: Name of the published run, for example `"ade20k-deit-base"`.
        output_dir: Folder to write: configuration, safetensors, processor, space, card.
        descriptions: The reference's descriptor JSON, which names the classes of a bank that does not.
        overwrite: Write into a folder that is not empty.

    Returns:
        The model.

    Raises:
        FileNotFoundError: A file is missing.
        FileExistsError: `output_dir` is not empty.
        ValueError: The file cannot be read safely, or its tensors do not fit the recipe; they are named.
    """
    checkpoint, output_dir = Path(checkpoint), Path(output_dir)
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if output_dir.exists() and any(output_dir.iterdir()) and not overwrite:
        raise FileExistsError(f"{output_dir} is not empty; choose another folder, or pass overwrite.")
    state_dict = _state_dict(load_tensors_safely(checkpoint), checkpoint)
    space = space if isinstance(space, PropertySpace) else _space(space, descriptions)
    if recipe.model.num_properties not in (None, space.num_properties):
        # No weight depends on it, so that nothing else would show that the space is of another run.
        logger.warning(
            "The property space has %d properties, the run %r had %d; is it the space of that run?",
            space.num_properties,
            recipe.name,
            recipe.model.num_properties,
        )
    config = config_from_original(original_model_cfg(recipe, space), space)
    weights = convert_original_state_dict(state_dict, config)
    weights["property_embeddings"] = space.property_embeddings
    model = ProLabForSemanticSegmentation.from_pretrained(None, config=config, state_dict=weights)
    model.set_property_space(space)
    model.eval()
    output_dir.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output_dir)
    image_processor(recipe, model.config).save_pretrained(output_dir)
    recipe.to_json(output_dir / "training_recipe.json")
    source = {"file": checkpoint.name, "sha256": file_digest(checkpoint), "recipe": recipe.name}
    write_model_card(output_dir, model, converted_from=source)
    return model


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _space(source: str | Path, descriptions: str | Path | None) -> PropertySpace:
    file, _ = bank_and_entry(source)
    if file.suffix != BANK_ENDING:
        return PropertySpace.from_pretrained(str(source))
    bank, labels, words = read_original_bank(source)
    if descriptions is not None:
        words = read_original_descriptions(descriptions)
    return property_space_from_original(bank, labels, descriptions=words, name=file.stem)


def _state_dict(content: object, path: Path) -> Mapping[str, Tensor]:
    """The weights in a checkpoint: under `state_dict`, or the file's own dictionary."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items())
    ):
        raise ValueError(
            f"{path} holds no weights: expected a dictionary of tensors, or one under the entry 'state_dict'."
        )
    return content
