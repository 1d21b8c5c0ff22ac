"""Trackers (TensorBoard, trackio, Weights & Biases, MLflow, Aim) that are told what a run logs.

They are Accelerate's, one object each; what they are told is what the run's own log holds, so that a run without any
tracker misses nothing but the page. All are off by default.
"""

import importlib.util
import json
import logging
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from accelerate.tracking import (
    AimTracker,
    GeneralTracker,
    MLflowTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)
from PIL import Image
from torch import nn

from prolab_hf.evaluation.settings import InferenceSettings
from prolab_hf.files import read_json_object, write_json
from prolab_hf.protocols import Examples, ImageMaskPairs, ImageProcessor
from prolab_hf.suggestions import did_you_mean
from prolab_hf.training.recipe import TrainingRecipe, flat_values
from prolab_hf.training.reporting import TrainingEvent
from prolab_hf.training.run_folder import TRACKED_RUNS_FILE
from prolab_hf.training.tracking.predictions import prediction_images

logger = logging.getLogger(__name__)

TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow", "aim")
"""Names of the trackers; also those of the packages and of the extras that install them."""
_NOT_IN_NAMES = re.compile(r"[^\w\-./: ]")  # MLflow allows no other characters


def check_trackers(names: Sequence[str]) -> list[str]:
    """Names of trackers that are there, each once.

    Raises:
        ValueError: One is none of those that are known.
        ImportError: The package of one is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            near = did_you_mean(name, TRACKERS) or f"; choose from {', '.join(TRACKERS)}."
            raise ValueError(f"There is no tracker {name!r}{near}")
        if not _is_installed(name):
            raise ImportError(
                f"The tracker {name} was asked for, but its package is not installed: pip install "
                f"'prolab_hf[{name}]', or leave it out of report_to (--report-to)."
            )
    return list(dict.fromkeys(names))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


class Trackers:
    """The trackers of a run. Only the main process has them.

    Args:
        names: Of the trackers.
        output_dir: Folder of the run, which names it; TensorBoard, Aim and W&B keep their files in it, MLflow its
            database unless `MLFLOW_TRACKING_URI` says where to.
        recipe: Stored with the run.
        step: Steps done: what a tracker knows of later ones is about to be repeated.

    Raises:
        ValueError: A tracker is unknown.
        ImportError: One is not installed.
    """

    def __init__(
        self, names: Sequence[str], output_dir: Path, recipe: TrainingRecipe, *, step: int = 0
    ) -> None:
        self.output_dir = output_dir
        runs = _read_runs(output_dir) if step else {}
        self.trackers: list[GeneralTracker] = []
        for name in check_trackers(names):
            tracker = _STARTERS[name](output_dir, runs.get(name), step)
            tracker.start()
            self.trackers.append(tracker)
            runs[name] = _run_of(name, tracker) or runs.get(name)
            if not step:
                tracker.store_init_configuration(_configuration(name, recipe))
        write_json(output_dir / TRACKED_RUNS_FILE, runs)

    def __call__(self, event: TrainingEvent) -> None:
        """Tells the numbers of a log line."""
        values = numbers_of(event)
        for tracker in self.trackers if values else ():
            tracker.log(values, step=event.step)

    def show_predictions(
        self,
        step: int,
        model: nn.Module,
        processor: ImageProcessor | None,
        dataset: ImageMaskPairs | Examples,
        settings: InferenceSettings,
    ) -> None:
        """Shows what the model makes of some evaluation images.

        Args:
            step: Steps done.
            model: The model as it would be exported now.
            processor: Its image processor.
            dataset: The evaluation images.
            settings: How images are run through the model.
        """
        images = prediction_images(model, processor, dataset, settings)
        for tracker in self.trackers:
            _SHOWERS[tracker.name](tracker, images, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for tracker in self.trackers:
            tracker.finish()


def numbers_of(event: TrainingEvent) -> dict[str, float]:
    """The numbers of an event by the names that trackers show them under; what is undefined is left out.

    Args:
        event: Of a run. Steps become `train/...`, evaluations `evaluation/...`, with `evaluation/iou/NAME` per class
            and `properties/...`.
    """
    if event.kind == "step":
        found = _flat("train", event.values)
    elif event.kind == "evaluation":
        classes = event.values.get("classes", [])
        found = {f"evaluation/iou/{entry['name']}": entry["iou"] for entry in classes}
        rest = {name: value for name, value in event.values.items() if name not in ("classes", "properties")}
        found |= _flat("evaluation", rest) | _flat("properties", event.values.get("properties", {}))
    else:
        return {}
    return {
        _NOT_IN_NAMES.sub("_", name): float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    }


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            _flat(f"{prefix}/{name}", value) if isinstance(value, Mapping) else {f"{prefix}/{name}": value}
        )
    return flat


# ---- what differs between them ----------------------------------------------------------------------------


def _tensorboard(output_dir: Path, run: str | None, step: int) -> GeneralTracker:
    # Without those of the steps that are about to be repeated.
    return TensorBoardTracker("tensorboard", output_dir, purge_step=step + 1 if step else None)


def _trackio(output_dir: Path, run: str | None, step: int) -> GeneralTracker:
    name = run or f"{output_dir.name}-{uuid.uuid4().hex[:8]}"
    return TrackioTracker("prolab_hf", name=name, resume="allow")


def _wandb(output_dir: Path, run: str | None, step: int) -> GeneralTracker:
    return WandBTracker(
        os.environ.get("WANDB_PROJECT", "prolab_hf"),
        name=output_dir.name,
        dir=str(output_dir),
        id=run or uuid.uuid4().hex[:12],
        resume="allow",
    )


def _mlflow(output_dir: Path, run: str | None, step: int) -> GeneralTracker:
    import mlflow

    artifacts = None
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{(output_dir / 'mlflow.db').resolve()}")
        artifacts = (output_dir / "mlflow").resolve().as_uri()
    return MLflowTracker("prolab_hf", logging_dir=artifacts, run_id=run, run_name=output_dir.name)


def _aim(output_dir: Path, run: str | None, step: int) -> GeneralTracker:
    return AimTracker(output_dir.name, str(output_dir), **({"run_hash": run} if run else {}))


_STARTERS: dict[str, Callable[[Path, str | None, int], GeneralTracker]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "aim": _aim,
}


def _run_of(name: str, tracker: Any) -> str | None:
    """What a tracker calls its run."""
    inner = tracker.tracker
    found = {
        "trackio": lambda: inner.name,
        "wandb": lambda: inner.id,
        "mlflow": lambda: inner.info.run_id,
        "aim": lambda: inner.hash,
    }
    return str(found[name]()) if name in found else None


def _read_runs(output_dir: Path) -> dict[str, str | None]:
    try:
        return dict(read_json_object(output_dir / TRACKED_RUNS_FILE))
    except (OSError, ValueError) as error:
        logger.warning("Trackers start new runs, because which theirs were cannot be read: %s", error)
        return {}


def _configuration(name: str, recipe: TrainingRecipe) -> dict[str, Any]:
    """The recipe by dotted name, in values that the tracker stores."""
    values = flat_values(recipe.to_dict())
    if name != "tensorboard":
        return values
    plain = (str, bool, int, float)
    return {key: value if isinstance(value, plain) else json.dumps(value) for key, value in values.items()}


_KEY = "evaluation/predictions"


def _show_in_tensorboard(tracker: Any, images: Sequence[Image.Image], step: int) -> None:
    for number, image in enumerate(images):  # one each: sizes may differ
        pixels = np.asarray(image)[None]
        tracker.log_images({f"{_KEY}/{number}": pixels}, step=step, dataformats="NHWC")


def _show_in_wandb(tracker: Any, images: Sequence[Image.Image], step: int) -> None:
    tracker.log_images({f"{_KEY}/{number}": [image] for number, image in enumerate(images)}, step=step)


def _show_in_aim(tracker: Any, images: Sequence[Image.Image], step: int) -> None:
    tracker.log_images({f"{_KEY}/{number}": image for number, image in enumerate(images)}, step=step)


def _show_in_mlflow(tracker: Any, images: Sequence[Image.Image], step: int) -> None:
    import mlflow

    for number, image in enumerate(images):
        mlflow.log_image(image, artifact_file=f"predictions/step-{step:08d}-{number}.png")


def _show_in_trackio(tracker: Any, images: Sequence[Image.Image], step: int) -> None:
    import trackio

    tracker.log({f"{_KEY}/{number}": trackio.Image(image) for number, image in enumerate(images)}, step=step)


_SHOWERS: dict[str, Callable[[Any, Sequence[Image.Image], int], None]] = {
    "tensorboard": _show_in_tensorboard,
    "trackio": _show_in_trackio,
    "wandb": _show_in_wandb,
    "mlflow": _show_in_mlflow,
    "aim": _show_in_aim,
}
