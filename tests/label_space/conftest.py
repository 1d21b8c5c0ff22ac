"""A hand-made space, two text encoders small enough to know by heart, and class descriptions for them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from prolab_hf.label_space.property_space import PropertySpace

WORDS = ["four", "wheels", "metal", "windows", "long", "box", "green", "leaves", "brown", "trunk", "flat"]


@pytest.fixture
def space():
    """Three vehicles and two plants over eight properties, of which the last belongs to nobody."""
    rows = [[0, 1, 2], [0, 2, 3], [0, 1], [4, 5], [4, 6]]
    matrix = torch.zeros(5, 8)
    for row, columns in enumerate(rows):
        matrix[row, columns] = 1
    generator = torch.Generator().manual_seed(0)
    return PropertySpace(
        class_names=["car", "bus", "cart", "tree", "grass"],
        property_names=["wheels", "metal", "windows", "long box", "green leaves", "trunk", "flat", "unused"],
        property_embeddings=torch.randn(8, 6, generator=generator),
        class_property_matrix=matrix,
        descriptions={
            "car": ["Four wheels", "painted metal", "wheels of rubber", "windows"],
            "tree": ["leaves", "trunk"],
        },
        assignments={"car": [0, 1, 0, 2], "tree": [4, 5]},
        name="toy",
        encoder={"name": "made-up", "pooling": "mean", "lower_case": True, "fingerprint": "abc"},
        provenance={"license": "cc0-1.0", "author": "the tests"},
    )


def word_vectors(texts):
    """Encoder: the mean of one fixed random vector per word, so that texts with common words are near."""
    return np.stack([np.mean([_word_vector(word) for word in text.split()], axis=0) for text in texts])


def _word_vector(word):
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
    return np.random.default_rng(seed).standard_normal(32)


@pytest.fixture(scope="session")
def encoder():
    return word_vectors


@pytest.fixture
def descriptions():
    return {
        "car": ["four round wheels", "painted metal", "glass windows"],
        "bus": ["four round wheels", "long box", "glass windows"],
        "tree": ["green leaves", "brown trunk"],
        "grass": ["green leaves", "flat ground"],
    }


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory) -> Path:
    """A real two-layer BERT of the tests' own vocabulary, saved with its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=16,
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    folder = tmp_path_factory.mktemp("encoders") / "tiny-bert"
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
