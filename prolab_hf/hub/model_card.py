"""The README.md of a model folder, filled from what lies in it; hand-written parts survive being written anew.

Every generated part stands between two comments. Text outside of them, parts whose comments a person removed, and
metadata that we do not know belong to the author and are kept.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard_data import eval_results_to_model_index
from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError

from prolab_hf.editing.patches import BEFORE_EDITS, RECORD
from prolab_hf.files import read_json_lines, read_text, write_text
from prolab_hf.hub.card_text import (
    block,
    merged,
    percent,
    public_fields,
    read_if_there,
    without_folders,
    without_header,
)
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.markup import escape_markdown
from prolab_hf.model.configuration_prolab import ProLabConfig
from prolab_hf.model.modeling_prolab import ProLabForSemanticSegmentation
from prolab_hf.training.recipe import FLAT_NAMES, flat_values

logger = logging.getLogger(__name__)

CARD = "README.md"
EVALUATION = "evaluation.json"
RECIPE = "training_recipe.json"
LOG = "training_log.jsonl"
EVAL_RESULTS = ".eval_results/semantic_segmentation.yaml"
IMAGES = ("overlay.png", "example.png", "quickstart.png")
TAGS = ("prolab", "vision", "semantic-segmentation")
RECIPE_FIELDS = (
    "name", "epochs", "max_iterations", "batch_size", "learning_rate", "weight_decay", "crop_size", "scale_range",
    "property_loss_weight", "class_loss_weight", "temperature", "normalize_pixel_embeddings", "void_pixels", "seed",
)  # fmt: skip
SNIPPET = """\
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
import prolab_hf  # registers the model with transformers

model = AutoModelForSemanticSegmentation.from_pretrained({name}).requires_grad_(False)
processor = AutoImageProcessor.from_pretrained({name})
image = Image.open("image.jpg").convert("RGB")
output = model(**processor(images=image, return_tensors="pt"))
labels = processor.post_process_semantic_segmentation(output, target_sizes=[image.size[::-1]])[0]
print({{model.config.id2label[k] for k in labels.unique().tolist()}})"""


def write_model_card(
    folder: str | Path,
    model: ProLabForSemanticSegmentation | None = None,
    *,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    converted_from: Mapping[str, str] | None = None,
) -> Path:
    """Writes or renews the card of a model folder.

    Read from the folder: the model and its property space, `training_recipe.json`, `training_log.jsonl`,
    `evaluation.json`, `edits.json` and an image (`overlay.png`, `example.png` or `quickstart.png`).

    Args:
        folder: Folder that `save_pretrained` or a training run wrote.
        model: The model in it, if it is loaded already.
        name: Name that the snippet loads; the name of the folder by default, the repository id when pushed.
        metadata: Fields of the card's header such as `license`, `datasets`, `base_model`, `language`.
        converted_from: File name, SHA-256 and recipe of a converted checkpoint.

    Returns:
        Path of the card.

    Raises:
        FileNotFoundError: The folder holds no model.
        ValueError: A file in it cannot be read.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no model (config.json is missing); give the folder of a trained model."
        )
    model = model or ProLabForSemanticSegmentation.from_pretrained(folder)
    path = folder / CARD
    old = read_text(path, what="card") if path.is_file() else ""
    evaluation = read_if_there(folder / EVALUATION, "evaluation")
    evaluation = public_fields(evaluation) if evaluation is not None else None
    is_of_now = bool(evaluation) and not (evaluation or {}).get(BEFORE_EDITS)
    kept = _header(path, old)
    if not is_of_now:
        kept.pop("model-index", None)
    given = {"base_model": _base_model(model), **kept, **_given(metadata)}
    header = _metadata(given, evaluation if is_of_now else None, name or folder.name)
    try:
        body = _render(
            model, folder, evaluation, name or folder.name, header, _conversion(converted_from, old)
        )
    except UndefinedError as error:
        raise ValueError(f"{folder / EVALUATION}: not what `prolab evaluate` writes ({error}).") from error
    text = merged(without_header(old), body)
    write_text(path, f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n{text}")
    if evaluation and is_of_now:
        _write_eval_results(folder, header, evaluation)
    else:
        (folder / EVAL_RESULTS).unlink(missing_ok=True)
    return path


def _render(
    model: ProLabForSemanticSegmentation,
    folder: Path,
    evaluation: dict[str, Any] | None,
    name: str,
    header: Mapping[str, Any],
    converted_from: Mapping[str, str] | None,
) -> str:
    environment = Environment(
        loader=PackageLoader("prolab_hf.hub", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    environment.filters |= {"percent": percent, "cell": escape_markdown}
    environment.globals["block"] = block
    space = model.property_space
    counts = space.class_property_matrix.sum(dim=0)
    shared = [escape_markdown(space.property_names[k]) for k in counts.argsort(descending=True)[:8].tolist()]
    headline = [
        (label, percent(evaluation[key]))
        for key, label in (
            ("mean_iou", "mean IoU"),
            ("pixel_accuracy", "pixel accuracy"),
            ("mean_accuracy", "mean accuracy"),
            ("frequency_weighted_iou", "frequency-weighted IoU"),
            ("mean_boundary_iou", "mean boundary IoU"),
        )
        if evaluation and evaluation.get(key) is not None
    ]
    void = (
        "Pixels without a label were left out of the training loss, so nothing is known about what they show."
        if model.config.void_pixels == "mask"
        else "Pixels without a label diluted the training loss, as in the reference implementation."
    )
    card = environment.get_template("model_card_template.md.j2").render(
        title=escape_markdown(name.split("/")[-1]),
        name=name,
        facts=_facts(header, space),
        config=model.config,
        backbone=escape_markdown(_backbone_name(model)),
        parameters=model.num_parameters(),
        space=space,
        encoder=escape_markdown(str(space.encoder.get("name") or "an unrecorded text encoder")),
        authors=_authors(space),
        shared=shared,
        snippet=SNIPPET.format(name=json.dumps(name)),
        evaluation=_evaluation_view(evaluation),
        edited=_edited(folder),
        headline=headline,
        recipe=_recipe_rows(folder),
        solution=_solution_rows(model.config),
        void=void,
        converted_from=converted_from,
        image=next((file for file in IMAGES if (folder / file).is_file()), None),
    )
    return re.sub(r"\n{3,}", "\n\n", card).rstrip() + "\n"


def _header(path: Path, card: str) -> dict[str, Any]:
    """The fields above a card that exists."""
    if not card.startswith("---"):
        return {}
    try:
        return ModelCard(card).data.to_dict()
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: its header is no YAML mapping ({reason}); mend or remove it.") from error


def _given(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (metadata or {}).items() if value is not None}


def _metadata(given: dict[str, Any], evaluation: dict[str, Any] | None, name: str) -> dict[str, Any]:
    """Card header: what the author wrote or gave now, and what we know."""
    header = {key: value for key, value in given.items() if value is not None}
    header["library_name"] = "transformers"
    header["pipeline_tag"] = "image-segmentation"
    header["tags"] = list(dict.fromkeys([*TAGS, *header.get("tags", [])]))
    if evaluation:
        datasets = header.get("datasets") or ["custom"]
        first = datasets if isinstance(datasets, str) else datasets[0]
        results = [
            EvalResult(
                task_type="image-segmentation",
                dataset_type=first,
                dataset_name=first,
                metric_type=key,
                metric_name=label,
                metric_value=round(evaluation[key], 6),
            )
            for key, label in (("mean_iou", "mean IoU"), ("pixel_accuracy", "pixel accuracy"))
            if evaluation.get(key) is not None
        ]
        header["model-index"] = eval_results_to_model_index(name.split("/")[-1], results)
    return {key: _plain(value) for key, value in header.items()}


def _plain(value: object) -> Any:
    return json.loads(json.dumps(value, default=str))


def _write_eval_results(folder: Path, header: Mapping[str, Any], evaluation: Mapping[str, Any]) -> None:
    """`.eval_results`: the Hub's newer form, which needs the id of a benchmark data set."""
    datasets = header.get("datasets")
    if not datasets or evaluation.get("mean_iou") is None:
        return
    first = datasets if isinstance(datasets, str) else datasets[0]
    entry = {
        "dataset": {"id": first, "task_id": "semantic_segmentation"},
        "value": round(100 * evaluation["mean_iou"], 2),
        "notes": "mean IoU in percent",
    }
    path = folder / EVAL_RESULTS
    path.parent.mkdir(exist_ok=True)
    write_text(path, yaml.safe_dump([entry], sort_keys=False))


def _conversion(given: Mapping[str, str] | None, old: str) -> Mapping[str, str] | None:
    """Where the weights came from: given now, or read back from the card that is being renewed."""
    if given is not None:
        return {key: escape_markdown(value) for key, value in given.items()}
    found = re.search(r"implementation: `([^`]+)`, recipe\s+`([^`]+)`, SHA-256 `([^`]+)`", old)
    return {"file": found[1], "recipe": found[2], "sha256": found[3]} if found else None


def _base_model(model: ProLabForSemanticSegmentation) -> str | None:
    """Hub id of the checkpoint that the backbone's weights came from, where the model remembers it."""
    config: Any = model.config.backbone_config
    sources = [getattr(part, "_name_or_path", "") for part in (config, getattr(config, "vit_config", None))]
    return next((name for name in sources if re.fullmatch(r"[\w.-]+/[\w.-]+", name or "")), None)


def _facts(header: Mapping[str, Any], space: PropertySpace) -> list[tuple[str, str]]:
    """What a reader asks first, with a word where nobody said it."""

    def shown(value: str | list[str] | None, unknown: str) -> str:
        values = [value] if isinstance(value, str) else list(value or [])
        return ", ".join(map(str, values)) or unknown

    license_name = shown(header.get("license"), "not stated")
    # Spaces that were written before say "licence".
    of_descriptions = space.provenance.get("license") or space.provenance.get("licence")
    return [
        ("task", "semantic segmentation (`image-segmentation`)"),
        ("library", "transformers with prolab_hf"),
        ("data sets", escape_markdown(shown(header.get("datasets"), "not stated"))),
        ("base model", escape_markdown(shown(header.get("base_model"), "none recorded"))),
        (
            "license",
            escape_markdown(license_name + (f"; descriptions: {of_descriptions}" if of_descriptions else "")),
        ),
    ]


def _backbone_name(model: ProLabForSemanticSegmentation) -> str:
    config: Any = model.config.backbone_config
    return str(getattr(config, "backbone", None) or config.model_type)


def _authors(space: PropertySpace) -> str | None:
    """Who wrote the descriptions, where the space says so; before, one `author` could be named."""
    named = space.provenance.get("authors") or space.provenance.get("author")
    names = named if isinstance(named, list) else [named]
    return escape_markdown(", ".join(str(name) for name in names if name)) or None


def _evaluation_view(evaluation: dict[str, Any] | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    return evaluation | {
        "data": escape_markdown(evaluation.get("data") or ""),
        BEFORE_EDITS: evaluation.get(BEFORE_EDITS) or [],
    }


def _edited(folder: Path) -> dict[str, Any] | None:
    """The edits of the words since the training, and what they did on the calibration sample."""
    record = read_if_there(folder / RECORD, "record of edits")
    if record is None:
        return None
    sample = record.get("calibration_sample") or {}
    rows = [row for row in sample.get("classes", []) if row["before"] != row["after"]]
    return {
        "edits": [escape_markdown(str(text)) for text in record.get("edits", [])],
        "mean_iou": sample.get("mean_iou"),
        "num_pixels": sample.get("num_pixels", 0),
        "classes": [row | {"name": escape_markdown(row["name"])} for row in rows],
    }


def _recipe_rows(folder: Path) -> list[tuple[str, object]]:
    recipe = read_if_there(folder / RECIPE, "recipe")
    if recipe is None:
        return []
    values = flat_values(recipe)
    rows = [
        (name.replace("_", " "), without_folders(values[FLAT_NAMES.get(name, name)]))
        for name in RECIPE_FIELDS
        if values.get(FLAT_NAMES.get(name, name)) not in (None, "")
    ]
    seconds = _training_seconds(folder / LOG)
    return [*rows, *([("training time", f"{seconds / 60:.1f} min")] if seconds else [])]


def _solution_rows(config: ProLabConfig) -> list[tuple[str, str]]:
    """How the last layer was solved, and how much of its answers has words; nothing for a trained one."""
    solution = config.solution
    if not solution:
        return []

    def number(name: str, text: str = "{:g}") -> str:
        value = solution.get(name)
        return "-" if value is None else text.format(value)

    words = {"ridge": "lambda", "class_exponent": "rho", "unspoken_weight": "beta"}
    rows = [
        ("classes with training images", str(len(config.trained_classes or ()))),
        ("images", number("num_images", "{:,}")),
        ("labeled pixels", number("num_pixels", "{:,}")),
        ("features per pixel", number("num_features", "{:,}")),
        *((f"{name.replace('_', ' ')} ({symbol})", number(name)) for name, symbol in words.items()),
        ("mean IoU on validation pixels", percent(solution.get("mean_iou"))),
        ("the same without properties", percent(solution.get("category_iou"))),
        ("spoken share of the winning scores", percent(solution.get("spoken_share"))),
    ]
    return [row for row in rows if row[1] != "-"]


def _training_seconds(path: Path) -> float | None:
    if not path.is_file():
        return None
    entries = [entry for entry in read_json_lines(path) if isinstance(entry, dict)]
    found = [entry["train_seconds"] for entry in entries if "train_seconds" in entry]
    return float(found[-1]) if found else None
