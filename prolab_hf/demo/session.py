"""What one visitor of the demo sees: a few images, the models with the visitor's own words, questions about them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from PIL import Image

from prolab_hf.data.scenes import DrawnScenes
from prolab_hf.demo.downloads import Attachment, labels_coco, labels_png, painted, patch_file, zipped_model
from prolab_hf.demo.gallery import Gallery, GalleryImage
from prolab_hf.demo.model_view import DemoModel, ModelView
from prolab_hf.demo.uploads import MAX_UPLOAD_BYTES, data_uri, heat_scale, read_upload

NUM_SAMPLES = 60


class DemoSession:
    """What one visitor sees. Questions come one at a time, from any thread.

    Args:
        models: What all visitors share, at least one.
        max_side: Larger images are shown reduced to this many pixels on their longer side.
    """

    def __init__(self, models: Sequence[DemoModel], *, max_side: int = 1024) -> None:
        self.gallery = Gallery()
        self.views = [ModelView(model) for model in models]
        self._max_side = max_side

    @property
    def nbytes(self) -> int:
        """Bytes that only this session holds."""
        return self.gallery.nbytes + sum(view.nbytes for view in self.views)

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

    def add_sample(self, number: int) -> dict[str, Any]:
        """Draws a scene and segments it; with every number another one.

        Args:
            number: From 0; counted around after `NUM_SAMPLES`.
        """
        scene = DrawnScenes("test", NUM_SAMPLES, include_held_out=True)[number % NUM_SAMPLES]
        image = cast(Image.Image, scene.image)  # drawn in RGB
        place = f"{number % NUM_SAMPLES + 1} of {NUM_SAMPLES}"
        return self._add(
            GalleryImage(image, image, f"Drawn scene {place}.", f"scene {number % NUM_SAMPLES + 1}")
        )

    def remove_image(self, key: str) -> dict[str, Any]:
        """Forgets an image. Returns the state.

        Raises:
            ImageGoneError: If it is not kept any more.
        """
        self.gallery.remove(key)
        return self.state()

    def shown(self, key: str) -> dict[str, Any]:
        """An image again, with what is known of it.

        Raises:
            ImageGoneError: If it is not kept any more.
        """
        image = self.gallery[key]
        return self._facts(image) | {"photo": data_uri(image.image, "jpeg")}

    # ---- questions about an image --------------------------------------------------------------------------

    def result(self, key: str, *, model: int = 0, mode: str = "whole") -> dict[str, Any]:
        """The image segmented with the present words; see `ModelView.result`."""
        return self.view(model).result(self.gallery[key], mode)

    def explain(self, key: str, *, model: int = 0, **place: Any) -> dict[str, Any]:
        """Why a place has its class; see `ModelView.explain`.

        Args:
            key: Of the image.
            model: Number of the model.
            **place: Of `ModelView.explain`.
        """
        return self.view(model).explain(self.gallery[key], **place)

    def property_map(self, key: str, index: int, *, model: int = 0) -> dict[str, Any]:
        """Where a property is seen in an image; see `ModelView.property_map`."""
        return self.view(model).property_map(self.gallery[key], index)

    def download(self, key: str, kind: str, *, model: int = 0, mode: str = "whole") -> Attachment:
        """The labels or the painted image as a file.

        Args:
            key: Of the image.
            kind: `"labels.png"`, `"labels.json"` or `"overlay.png"`.
            model: Number of the model.
            mode: `"whole"` or `"slide"`.

        Raises:
            ValueError: If there is no such file.
        """
        image = self.gallery[key]
        found = self.view(model).segmentation(image, mode)
        if kind == "labels.png":
            return labels_png(found)
        if kind == "labels.json":
            return labels_coco(found, image.name or "image")
        if kind == "overlay.png":
            return painted(found, image.full if mode == "slide" else image.image)
        raise ValueError(f"There is no file {kind!r}; there are labels.png, labels.json and overlay.png.")

    # ---- words ---------------------------------------------------------------------------------------------

    def edit(
        self,
        contents: Sequence[Mapping[str, object]],
        *,
        key: str = "",
        model: int = 0,
        mode: str = "whole",
    ) -> dict[str, Any]:
        """Makes edits one after the other, or none if one does not fit; see `ModelView.edit`.

        Args:
            contents: The edits.
            key: Of the image to segment afterwards.
            model: Number of the model.
            mode: `"whole"` or `"slide"`.

        Returns:
            The `state` of the model, the `effect` of the last edit, and the `result` of the image.
        """
        view, image = self.view(model), self.gallery[key] if key else None
        if not contents:
            raise ValueError("There is no edit.")
        done = 0
        try:
            for content in contents:
                effect = view.edit(content)
                done += 1
        except ValueError:
            for _ in range(done):
                view.edit({"edit": "undo"})
            raise
        result = None if image is None else view.result(image, mode)
        return {"state": view.state(), "effect": effect, "result": result}

    def preview(
        self, contents: Sequence[Mapping[str, object]], *, key: str = "", model: int = 0
    ) -> dict[str, Any]:
        """What edits would do; see `ModelView.preview`.

        Args:
            contents: The edits.
            key: Of the image to show as it would be.
            model: Number of the model.
        """
        if not contents:
            raise ValueError("There is no edit.")
        return self.view(model).preview(contents, self.gallery[key] if key else None)

    def edited_model(self, kind: str, *, model: int = 0) -> Attachment:
        """The model with its edits as a file.

        Args:
            kind: `"patch.json"` or `"model.zip"`.
            model: Number of the model.

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


__all__ = ["DemoSession"]
