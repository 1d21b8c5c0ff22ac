"""One commit that holds everything a stranger needs: model, processor, property space, card and results."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor

from prolab_hf.editing.patches import RECORD
from prolab_hf.files import read_json_object, write_json
from prolab_hf.hub.card_text import public_fields, without_folders
from prolab_hf.hub.model_card import CARD, EVAL_RESULTS, EVALUATION, IMAGES, RECIPE, write_model_card
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.uploading import upload_folder

BESIDE_THE_MODEL = (CARD, EVALUATION, EVAL_RESULTS, RECIPE, RECORD, *IMAGES)


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
        ValueError: An option contradicts another or the repository (`private` of a public one), or the folder
            holds another kind of model, damaged weights, or a link where a file would be uploaded as it is.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused; nothing was committed. Its client's other errors
            (malformed id, no token, offline, no connection) come as they are, too.
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
        return upload_folder(
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

    Raises:
        ValueError: The folder holds another kind of model or damaged weights, or a link where a file would be
            uploaded as it is.
    """
    for name in BESIDE_THE_MODEL:
        _refuse_link(folder, name)
    model = _load(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    classes: list[tuple[type[Any], str]] = [
        (ProLabConfig, "AutoConfig"),
        (ProLabForSemanticSegmentation, "AutoModelForSemanticSegmentation"),
        (type(processor), "AutoImageProcessor"),
    ]
    with _shipped(classes if remote_code else []):
        model.save_pretrained(target, max_shard_size=max_shard_size)
        processor.save_pretrained(target)
    for name in BESIDE_THE_MODEL:
        if (folder / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(folder / name, target / name)
    for name in (EVALUATION, RECIPE):
        _hide_folders(target / name)
    _hide_sources(target / "config.json")
    write_model_card(target, model, name=repo_id)


def _load(folder: Path) -> ProLabForSemanticSegmentation:
    config = AutoConfig.from_pretrained(folder)
    if not isinstance(config, ProLabConfig):
        raise ValueError(
            f"{folder / 'config.json'} is of a {config.model_type!r} model; only ProLab models can be pushed here."
        )
    try:
        return ProLabForSemanticSegmentation.from_pretrained(folder, config=config)
    except SafetensorError as error:
        raise ValueError(
            f"The weights in {folder} are damaged ({error}); copy or train the model again."
        ) from error


def _refuse_link(folder: Path, name: str) -> None:
    """A link can lead out of the folder, to what its owner never meant to publish."""
    for path in (folder / name, (folder / name).parent):
        if path.is_symlink() and path != folder:
            raise ValueError(
                f"{path} is a link to {path.readlink()}; what a link leads to is not uploaded. Replace it with a "
                "copy of the file, or remove it."
            )


def _hide_folders(path: Path) -> None:
    """Takes the folders of the author's machine out of a JSON file that goes to the Hub."""
    if path.is_file():
        write_json(path, public_fields(read_json_object(path)))


def _hide_sources(path: Path) -> None:
    """The same for the places that configurations came from; class and property names may look like paths."""

    def hidden(value: object) -> object:
        if isinstance(value, dict):
            return {
                key: without_folders(item) if key == "_name_or_path" else hidden(item)
                for key, item in value.items()
            }
        return value

    write_json(path, {key: hidden(value) for key, value in read_json_object(path).items()})


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
