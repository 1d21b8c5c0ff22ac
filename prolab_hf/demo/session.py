"""What one visitor of the demo sees: a few images, the models with the visitor's own words, questions about them."""

from collections.abc import Sequence
from typing import Any, cast

from PIL import Image

from prolab_hf.data.scenes import SCENE_CLASSES, DrawnScenes
from prolab_hf.demo.answers import ClassPalette
from prolab_hf.demo.demo_model import DemoModel
from prolab_hf.demo.downloads import Attachment, labels_coco, labels_png, painted, patch_file, zipped_model
from prolab_hf.demo.fields import Corner, Number
from prolab_hf.demo.gallery import Gallery, GalleryImage
from prolab_hf.demo.model_view import ModelView
from prolab_hf.demo.uploads import MAX_UPLOAD_BYTES, data_uri, heat_scale, read_upload

NUM_SAMPLES = 60
SAMPLE_PHOTOS = ("china.jpg", "flower.jpg")
"""Of scikit-learn, which brings them along: what a model of photos is shown first."""
MAX_EDITS = 50
"""At once: a class whose sentences become properties of their own takes some."""


class DemoSession:
    """What one visitor sees. Questions come one at a time, from any thread.

    Args:
        models: What all visitors share, at least one.
        max_side: Larger images are shown reduced to this many pixels on their longer side.
    """

    def __init__(self, models: Sequence[DemoModel], *, max_side: int = 1024) -> None:
        self.gallery = Gallery()
        self._palette = ClassPalette()
        self.views = [ModelView(model, self._palette) for model in models]
        self._max_side = max_side

    @property
    def nbytes(self) -> int:
        """Bytes that only this session holds."""
        return self.gallery.nbytes + sum(view.nbytes for view in self.views)

    @property
    def is_untouched(self) -> bool:
        """Whether there is nothing in it that its visitor would miss."""
        return not len(self.gallery) and not any(
            view.editor.can_undo or view.editor.can_redo for view in self.views
        )

    def view(self, number: int) -> ModelView:
        """A model with the words of this visitor.

        Raises:
            ValueError: If there is no such model.
        """
        if not 0 <= number < len(self.views):
            raise ValueError(f"There is no model {number}; the page shows {len(self.views)}.")
        return self.views[number]

    def state(self) -> dict[str, Any]:
        """Everything that the page shows before an image is asked about, JSON-ready."""
        return {
            "models": [view.state() for view in self.views],
            "images": [self._facts(image) for image in self.gallery.in_order()],
            "max_bytes": MAX_UPLOAD_BYTES,
            "heat": heat_scale(),
        }

    # ---- images --------------------------------------------------------------------------------------------

    def add_upload(self, content: bytes, name: str = "") -> dict[str, Any]:
        """Takes an image file and segments it with the first model.

        Args:
            content: The file.
            name: What it is called.

        Raises:
            ValueError: If it is no usable image.
        """
        return self._add(read_upload(content, max_side=self._max_side, name=name))

    def add_sample(self, number: Number) -> dict[str, Any]:
        """Draws a scene and segments it; with every number another one. A model of photos gets two photos first.

        Args:
            number: From 0; counted around after `NUM_SAMPLES`.
        """
        if not self._knows_scenes():
            if number < len(SAMPLE_PHOTOS):
                photo = _sample_photo(SAMPLE_PHOTOS[number])
                text = f"Sample photo {SAMPLE_PHOTOS[number]} of scikit-learn."
                return self._add(GalleryImage(photo, photo, text, SAMPLE_PHOTOS[number]))
            number -= len(SAMPLE_PHOTOS)
        scene = DrawnScenes("test", NUM_SAMPLES, include_held_out=True)[number % NUM_SAMPLES]
        image = cast(Image.Image, scene.image)  # drawn in RGB
        place = f"{number % NUM_SAMPLES + 1} of {NUM_SAMPLES}"
        return self._add(
            GalleryImage(image, image, f"Drawn scene {place}.", f"scene {number % NUM_SAMPLES + 1}")
        )

    def _knows_scenes(self) -> bool:
        """Whether the first model was made for the drawn scenes, as far as its classes tell."""
        names = set(self.views[0].editor.base_space.class_names)
        return len(names & set(SCENE_CLASSES)) > 0.6 * len(SCENE_CLASSES)

    def remove_image(self, image: str) -> dict[str, Any]:
        """Forgets an image. Returns the state.

        Raises:
            ImageGoneError: If it is not kept any more.
        """
        self.gallery.remove(image)
        return self.state()

    def shown(self, image: str) -> dict[str, Any]:
        """An image again, with what is known of it.

        Raises:
            ImageGoneError: If it is not kept any more.
        """
        kept = self.gallery[image]
        return self._facts(kept) | {"photo": data_uri(kept.image, "jpeg")}

    # ---- questions: `image` is the key of an image, `model` the number of a model, `mode` "whole" or "slide" ----

    def result(self, image: str, model: int = 0, mode: str = "whole") -> dict[str, Any]:
        """The image segmented with the present words; see `ModelView.result`."""
        return self.view(model).result(self.gallery[image], mode)

    def explain(
        self,
        image: str,
        model: int = 0,
        mode: str = "whole",
        point: tuple[int, int] | None = None,
        outline: list[Corner] | None = None,
        class_name: str | None = None,
        rival: str | None = None,
    ) -> dict[str, Any]:
        """Why a place has its class; see `ModelView.explain`."""
        return self.view(model).explain(
            self.gallery[image], point=point, outline=outline, class_name=class_name, rival=rival, mode=mode
        )

    def intervene(
        self,
        image: str,
        changes: list[tuple[int, float]],
        model: int = 0,
        mode: str = "whole",
        outline: list[Corner] | None = None,
    ) -> dict[str, Any]:
        """What the image would be called if properties were seen otherwise; see `ModelView.intervene`."""
        return self.view(model).intervene(self.gallery[image], dict(changes), outline=outline, mode=mode)

    def property_map(self, image: str, index: int, model: int = 0) -> dict[str, Any]:
        """Where a property is seen in the image; see `ModelView.property_map`."""
        return self.view(model).property_map(self.gallery[image], index)

    def download(self, image: str, kind: str, model: int = 0, mode: str = "whole") -> Attachment:
        """The labels (`"labels.png"`, `"labels.json"`) or the painted image (`"overlay.png"`) as a file.

        Raises:
            ValueError: If there is no such file.
        """
        kept = self.gallery[image]
        found = self.view(model).segmentation(kept, mode)
        if kind == "labels.png":
            return labels_png(found, self._palette)
        if kind == "labels.json":
            return labels_coco(found, kept.name or "image")
        if kind == "overlay.png":
            return painted(found, kept.full if mode == "slide" else kept.image, self._palette)
        raise ValueError(f"There is no file {kind!r}; there are labels.png, labels.json and overlay.png.")

    # ---- words ---------------------------------------------------------------------------------------------

    def edit(
        self,
        edits: list[dict[str, object]],
        image: str | None = None,
        model: int = 0,
        mode: str = "whole",
    ) -> dict[str, Any]:
        """Makes edits one after the other, or none if one does not fit; see `ModelView.edit`.

        Returns:
            The `state` of the model, the `effect` of the last edit, and the `result` of the image.
        """
        view, kept = self.view(model), self.gallery[image] if image is not None else None
        _check_number(edits)
        done = 0
        try:
            for content in edits:
                effect = view.edit(content)
                done += 1
        except ValueError:
            for _ in range(done):
                view.edit({"edit": "undo"})
            raise
        result = None if kept is None else view.result(kept, mode)
        return {"state": view.state(), "effect": effect, "result": result}

    def preview(
        self, edits: list[dict[str, object]], image: str | None = None, model: int = 0
    ) -> dict[str, Any]:
        """What edits would do, and what the image would be; see `ModelView.preview`."""
        _check_number(edits)
        return self.view(model).preview(edits, self.gallery[image] if image is not None else None)

    def edited_model(self, kind: str, model: int = 0) -> Attachment:
        """The edits (`"patch.json"`), or the model with its edits (`"model.zip"`), as a file.

        Raises:
            ValueError: If there is no such file, or the model is too large for it.
        """
        editor = self.view(model).editor
        if kind == "patch.json":
            return patch_file(editor)
        if kind == "model.zip":
            return zipped_model(editor, self.view(model).shared.name)
        raise ValueError(f"There is no file {kind!r}; there are patch.json and model.zip.")

    def _add(self, image: GalleryImage) -> dict[str, Any]:
        result = self.views[0].result(image)  # what the model cannot segment must not push out what it can
        self.gallery.add(image)
        return self.shown(image.key) | {
            "result": result,
            "images": [one.key for one in self.gallery.in_order()],
        }

    def _facts(self, image: GalleryImage) -> dict[str, Any]:
        return {
            "key": image.key,
            "name": image.name,
            "note": image.note,
            "width": image.image.width,
            "height": image.image.height,
            "full": [image.full.width, image.full.height],
            "thumbnail": data_uri(image.thumbnail(), "jpeg"),
        }


def _check_number(edits: Sequence[object]) -> None:
    """Refuses what would keep everybody else waiting."""
    if not 1 <= len(edits) <= MAX_EDITS:
        raise ValueError(f"There are {len(edits)} edits; 1 to {MAX_EDITS} can be made at once.")


__all__ = ["DemoSession"]


def _sample_photo(name: str) -> Image.Image:
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(name))
