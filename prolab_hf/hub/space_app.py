"""A Space of the Hub that runs the page of `prolab demo` with a model: everything it needs in one folder, one commit.

The folder holds the model, the code of this very package and a Dockerfile, so the Space shows what this machine would
show, whatever is released later.
"""

import importlib.resources
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import yaml
from huggingface_hub.repocard import metadata_load
from huggingface_hub.utils import validate_repo_id

from prolab_hf.files import read_json_object
from prolab_hf.hub.pushing import stage
from prolab_hf.markup import escape_markdown
from prolab_hf.uploading import upload_folder

APP_PORT = 7860
MODEL = "model"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""What may stand in a Dockerfile of what a model says about its text encoder."""

DOCKERFILE = """\
FROM python:3.11-slim

# Spaces run as this user; so does the page, which needs no rights at all.
RUN useradd --create-home --uid 1000 user
WORKDIR /home/user/app
ENV HOME=/home/user PYTHONUNBUFFERED=1 HF_HUB_DISABLE_TELEMETRY=1

# Networks without a GPU need the small build of PyTorch. On GPU hardware take this line out.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
USER user
{encoder}COPY --chown=user . .
EXPOSE {port}
# SPACE_HOST is the name that the Hub gives the Space; the page answers to no other.
CMD ["sh", "-c", "exec python -m prolab_hf demo --model {model} --host 0.0.0.0 --port {port} \\
--public-name \\"$SPACE_HOST\\" --embed-in https://huggingface.co"]
"""
ENCODER = """\
# With its text encoder at hand, visitors can describe classes in sentences. Nothing is downloaded later.
RUN python -c "from huggingface_hub import snapshot_download; snapshot_download('{name}')"
"""
BODY = """
# {title}

Semantic segmentation that answers in properties: choose an image, click a pixel or draw a region to see which of
{properties} named properties make up the score of its class, look where any property is seen, change the words of the
{classes} classes ({names}) and watch the map follow, and take the edited model home.

The page is `prolab demo` of prolab_hf, with the model in [`{model}/`](./{model}). On your own machine:

```bash
docker build -t demo . && docker run -p 127.0.0.1:{port}:{port} demo     # then open http://127.0.0.1:{port}
```

Images that visitors choose stay in the memory of the Space until they leave or others need the place, and are never
written to disk.
"""
MOST_NAMES = 12


def write_space_app(
    folder: str | Path, target: str | Path, repo_id: str, *, model_id: str | None = None
) -> Path:
    """Writes the folder of a Space that runs the demo page with a model.

    Args:
        folder: Folder of a trained model with its image processor.
        target: Folder to write, which must be new or empty.
        repo_id: `owner/name` of the Space.
        model_id: Repository of the model on the Hub, where it has one; the Space links to it.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: The folder holds no model or no processor.
        FileExistsError: The target holds something.
        ValueError: The folder holds another kind of model or damaged weights, this package is not installed, or the
            Hub knows no such names.
    """
    folder, target = Path(folder), Path(target)
    for name in ("config.json", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no complete model: {name} is missing. Give the folder of a run."
            )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is not an empty folder; give a new one.")
    validate_repo_id(repo_id)
    requirements = _requirements(read_json_object(folder / "config.json"))
    (target / MODEL).mkdir(parents=True)
    stage(folder, target / MODEL, model_id or MODEL, remote_code=False)
    config = read_json_object(target / MODEL / "config.json")
    shutil.copytree(
        Path(str(importlib.resources.files("prolab_hf"))),
        target / "prolab_hf",
        ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "property_spaces", "example_models"),
    )
    (target / "requirements.txt").write_text("\n".join(requirements) + "\n", encoding="utf-8")
    (target / "Dockerfile").write_text(_dockerfile(config), encoding="utf-8")
    (target / "README.md").write_text(_readme(target, config, repo_id, model_id), encoding="utf-8")
    return target


def push_space_app(
    folder: str | Path,
    repo_id: str,
    *,
    model_id: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload the page of prolab demo",
) -> str:
    """Publishes a Space that runs the demo page with a model, in one commit.

    Args:
        folder: Folder of a trained model with its image processor.
        repo_id: `owner/name` of the Space; made if absent.
        model_id: Repository of the model on the Hub, where it has one.
        private: Whether a newly made Space is private.
        token: Hub token; the one of `hf auth login` by default.
        commit_message: Title of the commit.

    Returns:
        Address of the commit.

    Raises:
        FileNotFoundError: The folder holds no model or no processor.
        ValueError: As for `write_space_app`, or the Space exists and is public though `private` was asked for.
        huggingface_hub.errors.HfHubHTTPError: The Hub refused; nothing was committed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        staged = write_space_app(folder, Path(temporary) / "space", repo_id, model_id=model_id)
        return upload_folder(
            staged, repo_id, commit_message=commit_message, private=private, token=token, space_sdk="docker"
        )


def _requirements(config: dict[str, object]) -> list[str]:
    """What the package needs, with the extras that this model takes."""
    try:
        listed = metadata.requires("prolab_hf") or []
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            "prolab_hf is not installed here, so what the Space must install is not known."
        ) from error
    needed = [line for line in listed if "extra ==" not in line]
    backbone, words = config.get("backbone_config"), _encoder_facts(config)
    if isinstance(backbone, dict) and backbone.get("model_type") == "timm_backbone":
        needed += _extra(listed, "timm")
    if words.get("pooling") == "modules":
        needed += _extra(listed, "sentence-transformers")
    return sorted(set(needed), key=str.lower)


def _extra(listed: list[str], name: str) -> list[str]:
    marked = re.compile(rf"""\s*;\s*extra\s*==\s*['"]{re.escape(name)}['"]""")
    return [marked.sub("", line) for line in listed if marked.search(line)]


def _encoder_facts(config: dict[str, object]) -> dict[str, object]:
    words = config.get("property_space_info")
    facts = words.get("encoder") if isinstance(words, dict) else None
    return facts if isinstance(facts, dict) else {}


def _dockerfile(config: dict[str, object]) -> str:
    name = _encoder_facts(config).get("name")
    known = isinstance(name, str) and HUB_NAME.fullmatch(name) is not None
    return DOCKERFILE.format(encoder=ENCODER.format(name=name) if known else "", port=APP_PORT, model=MODEL)


def _readme(target: Path, config: dict[str, object], repo_id: str, model_id: str | None) -> str:
    title = repo_id.rpartition("/")[2]
    front: dict[str, object] = {
        "title": title,
        "emoji": "🔎",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "docker",
        "app_port": APP_PORT,
        "short_description": "Segmentation that answers in named properties",
        "tags": ["image-segmentation", "prolab_hf"],
    }
    license_name = (metadata_load(target / MODEL / "README.md") or {}).get("license")
    if license_name:
        front["license"] = license_name
    if model_id:
        front["models"] = [model_id]
    labels, properties = config.get("id2label"), config.get("property_names")
    names = [escape_markdown(name) for name in labels.values()] if isinstance(labels, dict) else []
    more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    body = BODY.format(
        title=escape_markdown(title),
        properties=len(properties) if isinstance(properties, list) else "its",
        classes=len(names),
        names=", ".join([*names[:MOST_NAMES], *more]),
        model=MODEL,
        port=APP_PORT,
    )
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n{body}"


__all__ = ["push_space_app", "write_space_app"]
