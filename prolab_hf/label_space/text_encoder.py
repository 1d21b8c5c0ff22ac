"""Sentences in, vectors out: one door for transformers and sentence-transformers encoders."""

import copy
import hashlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from prolab_hf.progress import progress


class PoolingMode(StrEnum):
    """How the token vectors of a sentence become one vector."""

    MEAN = "mean"
    """Mean over the tokens that are not padding; what the published property spaces use."""
    CLS = "cls"
    """The first token's vector; what BGE models are trained with."""
    MODULES = "modules"
    """The pooling (and projection) modules that a sentence-transformers model brings along."""


def mean_pooling(token_vectors: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Averages token vectors over the attended tokens.

    Args:
        token_vectors: `(batch_size, length, embedding_dim)`.
        attention_mask: `(batch_size, length)`, 1 = token, 0 = padding.

    Returns:
        `(batch_size, embedding_dim)`.
    """
    weights = attention_mask.unsqueeze(-1).to(token_vectors.dtype)
    return (token_vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class TextEncoder:
    """Encodes sentences, by default as the published spaces do: lower case, mean pooling, unit length.

    Built from loaded objects; `TextEncoder.load` is the door for names, folders and everything else.

    Args:
        vectors_of: Function from a list of N prepared texts to an `(N, embedding_dim)` float array.
        info: Facts that identify the encoder (`name`, `fingerprint`, ...).
        lower_case: Whether texts are lower-cased first.
        normalize: Whether vectors are scaled to unit length.
        batch_size: Texts per call of `vectors_of`.
    """

    def __init__(
        self,
        vectors_of: Callable[[list[str]], Any],
        info: dict[str, Any],
        *,
        lower_case: bool = True,
        normalize: bool = True,
        batch_size: int = 64,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self._vectors_of = vectors_of
        self.lower_case = lower_case
        self.normalize = normalize
        self.batch_size = batch_size
        self.info: dict[str, Any] = info | {"lower_case": lower_case, "normalize": normalize}

    @classmethod
    def load(
        cls,
        encoder: object,
        *,
        name: str | None = None,
        pooling: PoolingMode | str | None = None,
        lower_case: bool = True,
        normalize: bool = True,
        batch_size: int = 64,
        double_precision: bool = True,
        **hub_options: Any,
    ) -> "TextEncoder":
        """Makes a text encoder out of whatever the user has.

        Args:
            encoder: A `TextEncoder` (returned as it is), a Hub name or folder, a loaded
                `SentenceTransformer`, a pair `(model, tokenizer)`, or a function from a list of N texts to
                `(N, embedding_dim)`.
            name: Name to record; by default the model's own, never a path of this machine.
            pooling: Pooling mode; default `"mean"`, and `"modules"` for a loaded `SentenceTransformer`. With
                `"modules"` a name or folder is loaded by sentence-transformers.
            lower_case: Whether texts are lower-cased first.
            normalize: Whether vectors are scaled to unit length.
            batch_size: Texts per forward pass.
            double_precision: Whether the model computes in float64 (a copy of it, if it was handed over
                loaded). float32 kernels differ between CPUs in the last bits, which can move a description
                into another cluster; in float64 anyone rebuilds the same space.
            **hub_options: `revision`, `token`, `cache_dir`, `local_files_only` for names on the Hub.

        Raises:
            ValueError: The pooling mode does not exist or does not go with the encoder.
            FileNotFoundError: No model of that name was found.
            ImportError: sentence-transformers is needed and not installed.
        """
        if isinstance(encoder, TextEncoder):
            return encoder
        mode = _pooling_mode(pooling) if pooling is not None else None
        loaded: Any = encoder
        if isinstance(encoder, str | os.PathLike):
            name = name or _own_name(os.fspath(encoder))
            loaded = _load_model(os.fspath(encoder), mode or PoolingMode.MEAN, hub_options)
        if _is_sentence_transformer(loaded):
            mode = mode or PoolingMode.MODULES
            network = loaded[0].auto_model
            name = name or _own_name(network.config._name_or_path)
            model, tokenizer = (loaded, None) if mode is PoolingMode.MODULES else (network, loaded.tokenizer)
        elif isinstance(loaded, tuple) and len(loaded) == 2:
            mode = mode or PoolingMode.MEAN
            model, tokenizer = loaded
            name = name or _own_name(getattr(model, "name_or_path", ""))
        elif callable(loaded) and not isinstance(loaded, torch.nn.Module):
            if mode is not None:
                raise ValueError("pooling does not apply to an encoder that is a function.")
            info = {"name": name or getattr(loaded, "__name__", type(loaded).__name__)}
            return cls(loaded, info, lower_case=lower_case, normalize=normalize, batch_size=batch_size)
        else:
            raise ValueError(
                f"Cannot encode texts with {type(loaded).__name__}; give a model name or folder, a "
                "SentenceTransformer, a pair (model, tokenizer), or a function from texts to vectors."
            )
        info = {"name": name, "pooling": mode.value, "fingerprint": weights_fingerprint(model)}
        vectors_of = _vectors_function(model, tokenizer, mode, double_precision)
        return cls(vectors_of, info, lower_case=lower_case, normalize=normalize, batch_size=batch_size)

    def encode(self, texts: Sequence[str], *, show_progress: bool = False) -> np.ndarray:
        """Encodes texts; equal texts (after lower-casing) are encoded once and get equal vectors.

        Args:
            texts: N sentences.
            show_progress: Whether to show a progress bar.

        Returns:
            `(N, embedding_dim)` float64.

        Raises:
            ValueError: There is no text, or the encoder gave wrong shapes or numbers that are not finite.
        """
        if isinstance(texts, str) or not texts:
            raise ValueError(f"texts must be a non-empty list of strings, got {texts!r}.")
        prepared = [text.lower() if self.lower_case else text for text in texts]
        # Long texts first, like with like: less padding, and the memory peak comes at once.
        unique = sorted(set(prepared), key=lambda text: (-len(text), text))
        batches = range(0, len(unique), self.batch_size)
        parts = []
        with progress(show_progress, "Encoding descriptions", len(unique)) as bar:
            for start in batches:
                batch = unique[start : start + self.batch_size]
                parts.append(_checked_batch(self._vectors_of(batch), batch))
                bar.advance(len(batch))
        table = np.concatenate(parts)
        if self.normalize:
            norms = np.linalg.norm(table, axis=1, keepdims=True)
            if norms.min() == 0:
                raise ValueError(f"The encoder gives a zero vector for {unique[int(norms.argmin())]!r}.")
            table = table / norms
        self.info["embedding_dim"] = int(table.shape[1])
        row = {text: index for index, text in enumerate(unique)}
        return table[[row[text] for text in prepared]]


def weights_fingerprint(model: torch.nn.Module) -> str:
    """Short SHA-256 over names and bytes of a model's weights, to tell encoders of the same name apart.

    Args:
        model: Any module.
    """
    digest = hashlib.sha256()
    # sentence-transformers holds the network as its first module: the same weights get the same fingerprint.
    weights = {re.sub(r"^0\.(auto_)?model\.", "", key): value for key, value in model.named_parameters()}
    for key, tensor in sorted(weights.items()):
        digest.update(key.encode("utf-8"))
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _pooling_mode(pooling: PoolingMode | str) -> PoolingMode:
    try:
        return PoolingMode(pooling)
    except ValueError as error:
        allowed = ", ".join(mode.value for mode in PoolingMode)
        raise ValueError(f"Unknown pooling {pooling!r}; allowed: {allowed}.") from error


def _is_sentence_transformer(encoder: object) -> bool:
    # An object of the class can exist only if its package is loaded already.
    module = sys.modules.get("sentence_transformers")
    return module is not None and isinstance(encoder, module.SentenceTransformer)


def _own_name(name_or_path: str) -> str:
    """A name fit for publication: what was given, of a folder its own name without the path to it.

    Not the name in the folder's configuration: that is often the model it was trained from.
    """
    folder = Path(name_or_path)
    if name_or_path and folder.is_dir():
        return folder.resolve().name
    parts = name_or_path.replace("\\", "/").strip("/").split("/")
    is_path = len(parts) > 2 or name_or_path.startswith(("/", ".", "~")) or ":" in name_or_path
    return parts[-1] if is_path else "/".join(parts)


def _load_model(name: str, mode: PoolingMode, hub_options: dict[str, Any]) -> Any:
    """Loads a model by name, in float32 so that its fingerprint does not depend on the default format."""
    try:
        if mode is PoolingMode.MODULES:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError as error:
                raise ImportError(
                    'pooling="modules" needs sentence-transformers: '
                    '`pip install "prolab_hf[sentence-transformers]"`.'
                ) from error
            cache = {"cache_folder": hub_options.pop("cache_dir")} if "cache_dir" in hub_options else {}
            return SentenceTransformer(
                name, device="cpu", model_kwargs={"dtype": torch.float32}, **cache, **hub_options
            )
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(name, **hub_options)
        return AutoModel.from_pretrained(name, dtype=torch.float32, **hub_options), tokenizer
    except OSError as error:
        reason = " ".join(str(error).split())
        place = "" if Path(name).is_dir() else ", which is no folder here"
        raise FileNotFoundError(f"Could not load the text encoder {name!r}{place}: {reason}") from error
    except (ValueError, TypeError, KeyError, SafetensorError) as error:
        if Path(name).is_dir():
            reason = " ".join(str(error).split())
            raise ValueError(
                f"The folder {name} holds no text encoder that transformers can load: {reason}"
            ) from error
        raise FileNotFoundError(
            f"There is no text encoder {name!r}: neither a folder nor a name on the Hub (owner/name)."
        ) from error


def _vectors_function(
    model: Any, tokenizer: Any, mode: PoolingMode, double_precision: bool
) -> Callable[[list[str]], np.ndarray]:
    """The function from texts to vectors of a loaded model; without tokenizer it is a SentenceTransformer."""
    model = model.eval()
    # MPS has no float64. The copy leaves the caller's model as it was.
    if double_precision and next(model.parameters()).device.type != "mps":
        model = copy.deepcopy(model).double()

    def encode_with_modules(texts: list[str]) -> np.ndarray:
        return model.encode(texts, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True)

    def encode_and_pool(texts: list[str]) -> np.ndarray:
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        tokens = tokens.to(model.device)
        with torch.inference_mode():
            hidden = model(**tokens).last_hidden_state
            if mode is PoolingMode.MEAN:
                vectors = mean_pooling(hidden, tokens["attention_mask"])
            else:
                # Position 0, unless the tokenizer pads on the left.
                first = tokens["attention_mask"].argmax(dim=1)
                vectors = hidden[torch.arange(len(texts), device=first.device), first]
        return vectors.double().cpu().numpy()

    if tokenizer is None:
        return encode_with_modules
    if mode is PoolingMode.MODULES:
        raise ValueError('pooling="modules" needs a sentence-transformers model; use "mean" or "cls".')
    limits = (getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length)
    max_length = min(limit for limit in limits if limit)
    return encode_and_pool


def _checked_batch(vectors: object, texts: list[str]) -> np.ndarray:
    if isinstance(vectors, torch.Tensor):
        vectors = vectors.detach().cpu().numpy()
    table = np.asarray(vectors, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(texts) or table.shape[1] == 0:
        raise ValueError(
            f"The encoder must give one vector per text, got shape {table.shape} for {len(texts)} texts."
        )
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if bad.size:
        raise ValueError(f"The encoder gives NaN or infinity for {texts[int(bad[0])]!r}.")
    return table
