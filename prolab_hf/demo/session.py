"""What the demo page is about: a model, a visitor's last few images, and questions about them."""

import copy
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from PIL import Image
from torch import Tensor, nn

from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.demo.cached_model import CachedModel
from prolab_hf.demo.classes import DemoClasses
from prolab_hf.demo.uploads import (
    MAX_UPLOAD_BYTES,
    data_uri,
    heat_layer,
    heat_scale,
    label_runs,
    read_upload,
)
from prolab_hf.evaluation.inference import inference_state, model_output, prepare, segment
from prolab_hf.explanation.contributions import Explanation, explain
from prolab_hf.explanation.overlays import overlay
from prolab_hf.model.label_maps_prolab import property_maps
from prolab_hf.protocols import ImageProcessor

MAX_IMAGES = 4
NUM_SAMPLES = 60
OPACITY = 0.75


class ImageGoneError(LookupError):
    """The picture is not kept any more."""


@dataclass(frozen=True)
class _Shown:
    """A picture of the page, and what to say about it."""

    image: Image.Image
    note: str


class DemoSession:
    """What one visitor of the demo sees; every public method may be called from any thread, one runs at a time.

    Args:
        model: A `ProLabForSemanticSegmentation`. Its classes are changed in memory, never on disk.
        processor: Its image processor.
        name: What the page calls the model.
        encoder: See `DemoClasses`.
        max_side: Larger pictures are reduced to this many pixels on their longer side.

    Raises:
        ValueError: If the model is no ProLab model or has no classes.
        FileNotFoundError: If the text encoder is not on this machine.
    """

    def __init__(
        self,
        model: nn.Module,
        processor: ImageProcessor,
        *,
        name: str = "",
        encoder: object = None,
        max_side: int = 1024,
    ) -> None:
        self._model = CachedModel(model, MAX_IMAGES)
        self._classes = DemoClasses(self._model.model, encoder)
        self._processor = processor
        self._name = name
        self._max_side = max_side
        self._lock = threading.Lock()
        self._images: OrderedDict[str, _Shown] = OrderedDict()

    def of_another_visitor(self) -> "DemoSession":
        """A session of its own on the same model: other images, other added classes, the same turn-taking."""
        other = copy.copy(self)
        other._classes = self._classes.of_another_visitor()
        other._images = OrderedDict()
        return other

    def state(self) -> dict[str, Any]:
        """Everything about the model that the page shows, JSON-ready."""
        with self._turn():
            return self._state()

    def add_upload(self, content: bytes) -> dict[str, Any]:
        """Takes a picture file and segments it.

        Args:
            content: The file.

        Raises:
            ValueError: If it is no usable picture.
        """
        with self._turn():
            return self._add(_Shown(*read_upload(content, max_side=self._max_side)))

    def add_sample(self, number: int) -> dict[str, Any]:
        """Draws a scene and segments it; with every number another one.

        Args:
            number: From 0; counted around after `NUM_SAMPLES`.
        """
        with self._turn():
            scene = DrawnScenes("test", NUM_SAMPLES, include_held_out=True)[number % NUM_SAMPLES]
            image = cast(Image.Image, scene.image)  # drawn in RGB
            return self._add(_Shown(image, f"Drawn scene {number % NUM_SAMPLES + 1} of {NUM_SAMPLES}."))

    def result(self, image_id: str) -> dict[str, Any]:
        """The picture segmented with the present classes.

        Raises:
            ImageGoneError: If it is not kept any more.
        """
        with self._turn():
            return self._result(image_id)

    def explain(self, image_id: str, x: int, y: int, *, class_name: str | None = None) -> dict[str, Any]:
        """Why a pixel has its class, or why not another class.

        Args:
            image_id: The picture.
            x: Column.
            y: Row.
            class_name: Class to explain; default: the one found there.

        Returns:
            `Explanation.to_dict()`, its properties also by number, with the runner-up's side of each.

        Raises:
            ImageGoneError: If the picture is not kept any more.
            ValueError: If the point or class does not exist.
        """
        with self._turn():
            image = self._kept(image_id).image
            found = explain(self._model, self._processor, image, point=(x, y), class_name=class_name)
            rival = found.runner_up
            if rival is None:
                data = _with_numbers(found)
            else:
                other = explain(
                    self._model, self._processor, image, point=(x, y), class_name=rival.class_name
                )
                data = _with_rival(found, other)
            return data | {"version": self._classes.version}

    def property_map(self, image_id: str, index: int) -> dict[str, Any]:
        """Where a property is seen in a picture.

        Args:
            image_id: The picture.
            index: Of the property.

        Raises:
            ImageGoneError: If the picture is not kept any more.
            ValueError: If there is no such property.
        """
        with self._turn():
            image = self._kept(image_id).image
            names = self._classes.space.property_names
            if not 0 <= index < len(names):
                raise ValueError(
                    f"There is no property {index}; the model has numbers 0 to {len(names) - 1}."
                )
            scores = self._property_maps(image)[index]
            layer = heat_layer(scores, (image.height, image.width))
            return {
                "property": index,
                "name": names[index],
                "image": data_uri(layer, "png"),
                "mean": float(scores.mean()),
                "max": float(scores.max()),
            }

    def add_class(
        self, name: str, *, properties: Sequence[int] = (), sentences: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Adds a class to the model without training: see `DemoClasses.add`.

        Returns:
            The new state, with `notes` on sentences that fit badly.
        """
        with self._turn():
            notes = self._classes.add(name, properties=properties, sentences=sentences)
            return self._state() | {"notes": notes}

    def remove_class(self, name: str) -> dict[str, Any]:
        """Removes an added class: see `DemoClasses.remove`. Returns the new state."""
        with self._turn():
            self._classes.remove(name)
            return self._state()

    def close(self, patience: float = 10.0) -> None:
        """Waits for the question that is being answered, and gives the model its own classes back.

        Args:
            patience: Seconds to wait at most.
        """
        if self._lock.acquire(timeout=patience):
            try:
                self._classes.restore()
            finally:
                self._lock.release()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One question at a time, and the model has the classes of whoever asks."""
        with self._lock:
            self._classes.activate()
            yield

    # ---- inside of the lock ------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        facts = {
            "model": self._name,
            "similarity": self._model.config.similarity,
            "max_bytes": MAX_UPLOAD_BYTES,
            "heat": heat_scale(),
        }
        return facts | self._classes.describe()

    def _add(self, shown: _Shown) -> dict[str, Any]:
        image_id = secrets.token_hex(8)
        self._images[image_id] = shown
        try:
            result = self._result(image_id) | {"image": data_uri(shown.image, "jpeg")}
        except BaseException:
            del self._images[image_id]  # what the model cannot segment must not push out what it can
            raise
        while len(self._images) > MAX_IMAGES:
            self._images.popitem(last=False)
        return result

    def _kept(self, image_id: str) -> _Shown:
        if image_id not in self._images:
            raise ImageGoneError(
                f"The picture is not kept any more (the server keeps the last {MAX_IMAGES}); choose it again."
            )
        self._images.move_to_end(image_id)
        return self._images[image_id]

    def _result(self, image_id: str) -> dict[str, Any]:
        shown = self._kept(image_id)
        found = segment(self._model, self._processor, shown.image)
        ids, names = found.labels.numpy(), found.class_names
        painted = overlay(shown.image, ids, names, legend=False, opacity=OPACITY)
        means = self._property_maps(shown.image).flatten(1).mean(dim=1)
        return {
            "picture": image_id,
            "version": self._classes.version,
            "width": shown.image.width,
            "height": shown.image.height,
            "note": shown.note,
            "overlay": data_uri(painted, "jpeg"),
            "runs": label_runs(ids),
            "shares": [[names.index(name), share] for name, share in found.shares()],
            "property_means": [round(value, 4) for value in means.tolist()],
        }

    def _property_maps(self, image: Image.Image) -> Tensor:
        """Low-resolution scores `(num_properties, height, width)` in [0, 1]."""
        with inference_state(self._model):
            output = model_output(self._model, prepare(self._processor, image))
        return property_maps(output.property_logits, None, temperature=self._model.config.temperature)[0]


def _with_numbers(explanation: Explanation) -> dict[str, Any]:
    """The explanation as a dictionary in which every property also has its number."""
    index = {name: k for k, (name, _) in enumerate(explanation.property_scores)}
    data = explanation.to_dict()
    data["text"] = explanation.to_text()
    rival = data["runner_up"]
    for entries in (*(data[part] for part in ("contributions", "missing", "unexpected")),
                    rival["deciding"] if rival is not None else []):  # fmt: skip
        for entry in entries:
            if entry["property"] in index:  # terms that are no properties have no number
                entry["index"] = index[entry["property"]]
    return data


def _with_rival(explanation: Explanation, other: Explanation) -> dict[str, Any]:
    """The same with the runner-up's share of every property, and with what it lacks."""
    data = _with_numbers(explanation)
    shares, scores = dict(other.contributions), dict(explanation.property_scores)
    own, theirs = set(explanation.expected), set(other.expected)
    for entry in data["contributions"]:
        entry["runner_up_share"] = shares[entry["property"]]
    for entry in data["runner_up"]["deciding"]:
        name = entry["property"]
        entry |= {"score": scores.get(name), "own": name in own, "theirs": name in theirs}
    data["runner_up"]["unseen"] = _with_numbers(other)["missing"]
    return data


__all__ = ["DemoSession", "ImageGoneError"]
