"""Segmenting many files: which ones, what is written for each, and how a run that was stopped goes on.

Every output appears under its name when it is whole, so that what exists is done.
"""

import io
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prolab_hf.data.file_pairs import IMAGE_SUFFIXES
from prolab_hf.evaluation.inference import Segmentation
from prolab_hf.files import parse_json, read_json_object, read_text, write_bytes, write_json
from prolab_hf.model.image_conversion_prolab import StandardImage, as_bytes_scale

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Job:
    """One file to segment.

    Attributes:
        path: The file.
        name: Its place below the folder that was named, without suffix; its outputs have it too.
    """

    path: Path
    name: Path

    @property
    def is_video(self) -> bool:
        """Whether it is a video by its suffix."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_jobs(places: Sequence[Path], outputs: Sequence[Path | None] = ()) -> list[Job]:
    """Files, and all images and videos below folders.

    Args:
        places: Files and folders.
        outputs: Folders that are written to; what lies in them is not read.

    Raises:
        FileNotFoundError: A place does not exist, or a folder holds no image.
        ValueError: Two files have one name, or a folder is read and written.
    """
    missing = [str(path) for path in places if not path.exists()]
    if missing:
        raise FileNotFoundError(f"There is no image {', '.join(missing)}.")
    written = [folder.resolve() for folder in outputs if folder is not None]
    jobs: list[Job] = []
    for place in places:
        if not place.is_dir():
            jobs.append(Job(place, Path(place.stem)))
            continue
        if place.resolve() in written:
            raise ValueError(f"{place} would be read and written; choose another folder for the results.")
        found = [
            path
            for path in sorted(place.rglob("*"))
            if path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
            and path.is_file()
            and not path.name.startswith(".")
            and not any(path.resolve().is_relative_to(folder) for folder in written)
        ]
        if not found:
            raise FileNotFoundError(f"The folder {place} holds no images ({', '.join(IMAGE_SUFFIXES)}).")
        jobs += [Job(path, path.relative_to(place).with_suffix("")) for path in found]
    seen: dict[str, Path] = {}
    for job in jobs:
        key = str(job.name).casefold()
        if key in seen:
            raise ValueError(
                "Several images have the same name and would overwrite each other's overlay: "
                f"{seen[key]} and {job.path}."
            )
        seen[key] = job.path
    return jobs


def in_background(
    work: Callable[[T], R], items: Iterable[T], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[tuple[T, Future[R]]]:
    """Items with their results to come, of which at most `ahead` are worked on before they are asked for.

    Args:
        work: What is done with an item.
        items: The items.
        pool: Threads that do it.
        ahead: Bound of what is held in memory.
    """
    pending: deque[tuple[T, Future[R]]] = deque()
    for item in items:
        pending.append((item, pool.submit(work, item)))
        if len(pending) > ahead:
            yield pending.popleft()
    yield from pending


# ---- what is written ----------------------------------------------------------------------------------------


def write_image(path: Path, image: Image.Image) -> None:
    """Write an image in one step; the format is that of the suffix.

    Args:
        path: The file; its folder is made.
        image: The image.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[path.suffix.lower()])
    write_bytes(path, buffer.getvalue())


def label_image(labels: NDArray[np.integer], colors: Sequence[tuple[int, int, int]]) -> Image.Image:
    """Class ids as an image: a palette image where there are at most 256 classes, else gray of 16 bits.

    Args:
        labels: `(height, width)` class ids.
        colors: One color per class. Viewers show them; readers of ids see the ids.
    """
    if len(colors) > 256:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette([channel for color in colors for channel in color])
    return image


def write_probabilities(path: Path, scores: NDArray[np.floating]) -> None:
    """Class probabilities as a `.npy` file, float16 `(num_labels, height, width)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, scores.astype(np.float16), allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def shown(image: StandardImage, value_range: tuple[float, float] | None) -> Image.Image:
    """An RGB image to draw on, of an image of any channels and range: its first three channels, or gray.

    Args:
        image: As `as_image` gives it.
        value_range: Stored values of black and white.
    """
    if isinstance(image, Image.Image):
        return image
    channels = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    return Image.fromarray(as_bytes_scale(channels, value_range).clip(0, 255).round().astype(np.uint8))


def run_lengths(region: NDArray[np.bool_]) -> str:
    """A region as COCO's compressed run lengths, as pycocotools reads them.

    Args:
        region: `(height, width)`.
    """
    flat = region.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges.tolist(), flat.size]).tolist()
    if flat[0]:
        counts = [0, *counts]  # runs start with what is outside
    text = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + (bits | 32 if more else bits)))
    return "".join(text)


class CocoFile:
    """A file of COCO annotations that grows image by image: one region per class and image.

    Lines are collected beside it while images are segmented; `finish` makes the file of them.

    Args:
        path: The JSON file.
        class_names: Names in the order of the ids, which are the category ids.
        resume: Go on with what an earlier run wrote; otherwise it is discarded.

    Raises:
        ValueError: What an earlier run wrote is damaged.
    """

    def __init__(self, path: Path, class_names: Sequence[str], *, resume: bool = False) -> None:
        self.path = path
        self.class_names = list(class_names)
        self._lines = path.with_name(f".{path.name}.part")
        self.images: dict[str, dict[str, object]] = self._found() if resume else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lines.write_text("".join(f"{json.dumps(image)}\n" for image in self.images.values()), "utf-8")

    def _found(self) -> dict[str, dict[str, object]]:
        images: dict[str, dict[str, object]] = {}
        if self.path.is_file():
            content = read_json_object(self.path, what="file of COCO annotations")
            try:
                for image in content["images"]:
                    regions = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
                    images[image["file_name"]] = {**image, "annotations": regions}
            except (KeyError, TypeError) as error:
                raise ValueError(f"{self.path} is no file of COCO annotations: {error}.") from error
        if self._lines.is_file():
            # The last line of a run that was killed may be cut off: its image is segmented again.
            for line in read_text(self._lines, what="list of annotations").split("\n")[:-1]:
                image = parse_json(line, self._lines, what="line")
                images[image["file_name"]] = image
        return images

    def add(self, name: str, result: Segmentation) -> None:
        """Note the regions of one image.

        Args:
            name: Name of its file.
            result: Its classes.
        """
        labels = result.labels.numpy()
        regions = []
        for target in np.unique(labels).tolist():
            region = labels == target
            rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
            left, top = int(columns[0]), int(rows[0])
            regions.append(
                {
                    "category_id": target,
                    "segmentation": {"size": list(labels.shape), "counts": run_lengths(region)},
                    "area": int(region.sum()),
                    "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                    "iscrowd": 0,
                }
            )
        height, width = labels.shape
        self.images[name] = {"file_name": name, "height": height, "width": width, "annotations": regions}
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.images[name]) + "\n")

    def finish(self) -> None:
        """Write the file."""
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for number, name in enumerate(sorted(self.images), start=1):
            entry = self.images[name]
            images.append({"id": number, **{key: entry[key] for key in ("file_name", "height", "width")}})
            regions = entry["annotations"]
            assert isinstance(regions, list)  # noqa: S101
            for region in regions:
                annotations.append({**region, "id": len(annotations) + 1, "image_id": number})
        categories = [{"id": index, "name": name} for index, name in enumerate(self.class_names)]
        write_json(self.path, {"images": images, "annotations": annotations, "categories": categories})
        self._lines.unlink(missing_ok=True)


# ---- videos -------------------------------------------------------------------------------------------------


def video_frames(path: Path, every: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Frames of a video file, upright.

    Args:
        path: The file.
        every: Take every n-th frame.

    Yields:
        Number from 0 and RGB image.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: The file cannot be decoded.
    """
    av = _pyav(path)
    try:
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    pixels = frame.to_ndarray(format="rgb24")
                    turns = int(getattr(frame, "rotation", 0) or 0) // 90 % 4
                    yield number, Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)))
    except (OSError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"video {path} cannot be decoded: {error}; convert or remove the file") from error


class VideoFile:
    """A video that is written frame by frame; it appears under its name when it is closed.

    Args:
        path: An `.mp4` file.
        frame_rate: Frames per second.

    Raises:
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path, frame_rate: int = 25) -> None:
        av = _pyav(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._part = path.with_name(f".{path.stem}.part.mp4")
        self._container = av.open(str(self._part), "w")
        self._stream = self._container.add_stream("mpeg4", rate=frame_rate)
        self._new_frame: Callable[..., object] = av.VideoFrame.from_ndarray
        self._size: tuple[int, int] | None = None

    def add(self, image: Image.Image) -> None:
        """Write a frame; all have the size of the first one."""
        if self._size is None:
            self._size = (image.width // 2 * 2, image.height // 2 * 2)  # the codec needs even sides
            self._stream.width, self._stream.height = self._size
            self._stream.pix_fmt = "yuv420p"
            self._stream.bit_rate = 8_000_000
        frame = self._new_frame(np.asarray(image.convert("RGB").crop((0, 0, *self._size))), format="rgb24")
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file."""
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()
        self._part.replace(self.path)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._container.close()
        self._part.unlink(missing_ok=True)


def video_rate(path: Path) -> int:
    """Frames per second of a video file, at least 1.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: The file cannot be read.
    """
    av = _pyav(path)
    try:
        with av.open(str(path)) as container:
            return max(round(float(container.streams.video[0].average_rate or 25)), 1)
    except (OSError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"video {path} cannot be decoded: {error}; convert or remove the file") from error


def _pyav(path: Path) -> ModuleType:
    try:
        import av
    except ImportError:
        raise ImportError(
            f"{path} is a video, which needs the package av: pip install 'prolab_hf[video]'."
        ) from None
    return av
