"""One commit that holds everything a stranger needs: model, processor, property space, card and results."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from transformers import AutoImageProcessor

from prolab_hf.hub.model_card import CARD, EVAL_RESULTS, EVALUATION, PICTURES, RECIPE, write_model_card
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.configuration_vit_adapter import ViTAdapterConfig
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.model.modeling_vit_adapter import ViTAdapterBackbone

BESIDE_THE_MODEL = (CARD, EVALUATION, EVAL_RESULTS, RECIPE, *PICTURES)


def push_model_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
    commit_message: str = "Upload ProLab model",
    remote_code: bool = True,
    max_shard_size: str = "5GB",
) -> str:
    """Uploads a trained model with all that belongs to it, in one commit.

    Training state (optimizer, random states, logs, checkpoints) is never uploaded.

    Args:
        folder: Folder that training or conversion wrote.
        repo_id: `owner/name`; made if absent.
        private: Whether a newly made repository is private.
        revision: Branch to commit to; made if absent.
        create_pr: Open a pull request instead of committing.
        token: Hub token; the one of `hf auth login` by default.
        commit_message: Title of the commit.
        remote_code: Ship the network's code, so that it loads with `trust_remote_code=True` where prolab_hf is
            not installed.
        max_shard_size: Largest weight file.

    Returns:
        Address of the commit or the pull request.

    Raises:
        FileNotFoundError: The folder holds no model or no processor.
        ValueError: The repository id is malformed.
        PermissionError: No token, or one that may not write there.
        RuntimeError: The Hub could not be reached, or broke off; nothing was changed there.
    """
    folder = Path(folder)
    for name in ("config.json", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no complete model: {name} is missing. Push the folder of a run."
            )
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary)
        stage(folder, staged, repo_id, remote_code=remote_code, max_shard_size=max_shard_size)
        return _upload(
            staged,
            repo_id,
            token=token,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message,
        )


def stage(
    folder: Path, target: Path, repo_id: str, *, remote_code: bool = True, max_shard_size: str = "5GB"
) -> None:
    """Puts exactly what will be uploaded into `target`.

    Args:
        folder: Folder of a trained model.
        target: Empty folder.
        repo_id: Name that the card's snippet loads.
        remote_code: Add the network's code and point the configuration to it.
        max_shard_size: Largest weight file.
    """
    model = ProLabForSemanticSegmentation.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    classes: list[tuple[type[Any], str]] = [
        (ProLabConfig, "AutoConfig"),
        (ProLabForSemanticSegmentation, "AutoModelForSemanticSegmentation"),
        (type(processor), "AutoImageProcessor"),
    ]
    if isinstance(model.config.backbone_config, ViTAdapterConfig):
        classes += [(ViTAdapterConfig, "AutoConfig"), (ViTAdapterBackbone, "AutoBackbone")]
    with _shipped(classes if remote_code else []):
        model.save_pretrained(target, max_shard_size=max_shard_size)
        processor.save_pretrained(target)
    for name in BESIDE_THE_MODEL:
        if (folder / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    write_model_card(target, model, name=repo_id)


@contextmanager
def _shipped(classes: list[tuple[type[Any], str]]) -> Iterator[None]:
    """While this lasts, saving an object of these classes also saves their code."""
    before = [getattr(cls, "_auto_class", None) for cls, _ in classes]
    for cls, auto_class in classes:
        cls.register_for_auto_class(auto_class)
    try:
        yield
    finally:
        for (cls, _), value in zip(classes, before):
            cls._auto_class = value


def _upload(
    staged: Path,
    repo_id: str,
    *,
    token: str | None,
    private: bool | None,
    revision: str | None,
    create_pr: bool,
    commit_message: str,
) -> str:
    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=staged,
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no valid repository id (owner/name): {_line(error)}") from error
    except LocalTokenNotFoundError as error:
        raise PermissionError(
            "There is no Hub token: log in with `hf auth login`, or set HF_TOKEN."
        ) from error
    except GatedRepoError as error:
        raise PermissionError(f"{repo_id!r} is gated: ask its owner for access first.") from error
    except RepositoryNotFoundError as error:
        raise PermissionError(
            f"{repo_id!r} does not exist or your token may not see it; check the name and the token."
        ) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"The Hub refused the upload to {repo_id!r} (status {status}): the token may not write there."
            ) from error
        raise RuntimeError(
            f"The upload to {repo_id!r} broke off ({_line(error)}). Nothing was committed; push again."
        ) from error
    except Exception as error:  # the HTTP client's own errors, whose package varies with huggingface_hub
        raise RuntimeError(
            f"The Hub could not be reached for {repo_id!r} ({_line(error)}). Nothing was committed; push again."
        ) from error
    return str(commit.pr_url or commit.commit_url)


def _line(error: Any) -> str:
    return " ".join(str(error).split())
