"""A model folder solved on drawn scenes, with a text encoder on disk that knows the words of the scenes."""

import numpy as np
import torch
from PIL import Image

from prolab_hf import PropertySpace, solve
from prolab_hf.data.scenes import SCENE_CLASSES, SCENE_DESCRIPTIONS, DrawnScenes
from prolab_hf.model.image_processing_pil_prolab import ProLabImageProcessorPil
from prolab_hf.solving.claim_budget import calibrate
from tests.editing.conftest import KIOSK, backbone_config

EXTRA_WORDS = ["zebra", "canvas", "roof", "purple", "kiosk", "quantum", "flux", "hut"]


def save_encoder(folder):
    """A BERT without layers: the mean of one vector per word, so that texts with common words are near."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    texts = [text for group in SCENE_DESCRIPTIONS.values() for text in group]
    words = dict.fromkeys(word for text in texts for word in text.lower().split())
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *words, *EXTRA_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=0, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=32,
    )  # fmt: skip
    model = BertModel(config)
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_place(root):
    """Folders `model`, `encoder`, `images` and `masks` below a root."""
    encoder = save_encoder(root / "encoder")
    space = PropertySpace.build(
        {name: SCENE_DESCRIPTIONS[name] for name in SCENE_CLASSES}, encoder=str(encoder), name="drawn scenes"
    )
    processor = ProLabImageProcessorPil(do_resize=False)
    torch.manual_seed(0)
    model = solve(
        backbone_config(), space, DrawnScenes("train", 12), processor=processor, device="cpu"
    ).eval()
    calibrate(model, DrawnScenes("validation", 6), processor)
    model.save_pretrained(root / "model")
    processor.save_pretrained(root / "model")
    scenes = DrawnScenes("test", 8, include_held_out=True)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for index in (0, 1):
        scenes[index].image.save(root / "images" / f"scene{index}.png")
        mask = scenes[index].mask.astype(np.uint8)
        mask[mask == len(SCENE_CLASSES)] = 255  # the held-out class has no id yet
        Image.fromarray(mask).save(root / "masks" / f"scene{index}.png")
    return root


__all__ = ["KIOSK", "make_place"]
