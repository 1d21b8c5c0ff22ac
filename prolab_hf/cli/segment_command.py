"""`prolab segment`: images, folders and videos in, overlays and label maps out."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from prolab_hf.cli.options import (
    BatchOption,
    CropOption,
    DeviceOption,
    FlipOption,
    ModelOption,
    ModeOption,
    ScalesOption,
    StrideOption,
    inference_options,
    load_model,
    require_file,
    require_image_name,
    require_model,
    require_writable,
)

if TYPE_CHECKING:
    from torch import nn

    from prolab_hf.evaluation.inference import InferenceOptions, Segmentation
    from prolab_hf.evaluation.segment_files import CocoFile, Job
    from prolab_hf.model.image_conversion_prolab import StandardImage
    from prolab_hf.protocols import ImageProcessor


def segment(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Images, folders (with all below) or videos.")
    ],
    model: ModelOption,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Overlay image; a folder for several. Default: IMAGE_overlay.png here."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder for label maps (PNG, one class id per pixel, with a palette)."),
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option(
            "--probabilities", help="Folder for class probabilities (.npy, float16, classes first)."
        ),
    ] = None,
    coco: Annotated[
        Path | None, typer.Option("--coco", help="JSON file for all regions as COCO run lengths.")
    ] = None,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Write overlays.")] = True,
    legend: Annotated[bool, typer.Option(help="Draw the legend.")] = True,
    opacity: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the class colors.")] = 0.6,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave out images whose results are all there.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and write beside the model.")] = 2,
    every: Annotated[int, typer.Option(min=1, help="Of a video, segment every n-th frame.")] = 1,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Label pixels that fit no class as unknown (calibrated models).")
    ] = False,
    mode: ModeOption = "whole",
    crop_size: CropOption = None,
    stride: StrideOption = None,
    flip: FlipOption = False,
    scales: ScalesOption = "1",
    batch_size: BatchOption = 1,
    device: DeviceOption = "auto",
) -> None:
    """Segment images, folders or videos and draw the classes over them, with a legend.

    Results of a folder lie as its images do. A run that was stopped goes on with --resume. Images above the pixel
    limit are segmented with --mode slide.
    """
    options = inference_options(mode, crop_size, stride, flip, scales, batch_size)
    require_model(model)
    for image in images:
        require_file(image, "image or folder")

    from prolab_hf.evaluation.segment_files import CocoFile, find_jobs

    several = len(images) > 1 or images[0].is_dir()
    out_folder = out if out is not None and (several or out.is_dir()) else None
    jobs = find_jobs(images, [out_folder if overlays else None, labels, probabilities])
    for name, folder in (("--labels", labels), ("--probabilities", probabilities)):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{name} {folder} is a file; name a folder.")
    if coco is not None:
        require_writable(coco)
    if not overlays and labels is None and probabilities is None and coco is None:
        raise ValueError("--no-overlays leaves nothing to write; name --labels, --probabilities or --coco.")
    targets = _overlay_targets(jobs, out, several) if overlays else [None] * len(jobs)
    network, processor = load_model(model, device)
    run = _Run(network, processor, options, _Places(labels, probabilities), legend, opacity, every, unknown)
    if coco is not None:
        run.coco = CocoFile(coco, run.class_names, resume=resume)
    failures = run.all(list(zip(jobs, targets)), workers=workers, resume=resume)
    if failures:
        typer.echo(f"prolab: {failures} of {len(jobs)} images could not be read.", err=True)
        raise typer.Exit(2)


@dataclass(frozen=True)
class _Places:
    """Folders of further results."""

    labels: Path | None
    probabilities: Path | None

    def of(self, name: Path) -> list[Path]:
        """Files of an image, in both folders."""
        places = ((self.labels, ".png"), (self.probabilities, ".npy"))
        return [folder / f"{name}{suffix}" for folder, suffix in places if folder is not None]


class _Run:
    """One call of the command: segments in this thread, reads and writes in others."""

    coco: "CocoFile | None" = None

    def __init__(
        self,
        network: "nn.Module",
        processor: "ImageProcessor",
        options: "InferenceOptions",
        places: _Places,
        legend: bool,
        opacity: float,
        every: int,
        unknown: bool = False,
    ) -> None:
        from prolab_hf.evaluation.inference import class_names_of

        self.network, self.processor, self.options = network, processor, options
        self.places, self.legend, self.opacity, self.every = places, legend, opacity, every
        self.unknown = unknown
        self.class_names = class_names_of(network)
        self.console = Console()

    def all(self, jobs: "list[tuple[Job, Path | None]]", *, workers: int, resume: bool) -> int:
        """Segment all files; returns how many could not be read."""
        from prolab_hf.evaluation.segment_files import in_background

        left = [(job, target) for job, target in jobs if not (resume and self._is_done(job, target))]
        if len(left) < len(jobs):
            self.console.print(f"{len(jobs) - len(left)} of {len(jobs)} are done already.", highlight=False)
        failures, writing = 0, list[Future[None]]()
        with ThreadPoolExecutor(workers) as pool:
            for (job, target), reading in in_background(self._read, left, pool, workers):
                try:
                    image = reading.result()
                    if image is None:
                        self._video(job, target)
                        continue
                    result = self._segment(image)
                except ValueError as error:
                    if len(jobs) == 1:
                        raise
                    # The other images are worth having: say which one failed, go on, and end with code 2.
                    typer.echo(f"prolab: {error}", err=True)
                    failures += 1
                    continue
                writing.append(pool.submit(self._write, job, target, image, result))
                if len(writing) > workers:
                    writing.pop(0).result()
                if self.coco is not None:
                    self.coco.add(_coco_name(job), result)
                place = target or next(iter(self.places.of(job.name)), job.path)
                self.console.print(f"{escape(str(place))}: {escape(_shares(result))}", highlight=False)
            for future in writing:
                future.result()
        if self.coco is not None:
            self.coco.finish()
        return failures

    def _is_done(self, job: "Job", target: Path | None) -> bool:
        if job.is_video:
            return target is not None and target.is_file()
        files = [*([target] if target else []), *self.places.of(job.name)]
        known = self.coco is None or _coco_name(job) in self.coco.images
        return known and all(file.is_file() for file in files)

    def _read(self, item: "tuple[Job, Path | None]") -> "StandardImage | None":
        from prolab_hf.evaluation.inference import as_image

        job, _ = item
        if job.is_video:
            return None
        max_pixels = float("inf") if self.options["mode"] == "slide" else None
        return as_image(job.path, self.processor, max_pixels=max_pixels)

    def _segment(self, image: "StandardImage") -> "Segmentation":
        from prolab_hf.evaluation.inference import segment as segment_image

        return segment_image(
            self.network,
            self.processor,
            image,
            return_scores=self.places.probabilities is not None,
            unknown=self.unknown,
            show_progress=self.options["mode"] == "slide",
            **self.options,
        )

    def _write(self, job: "Job", target: Path | None, image: "StandardImage", result: "Segmentation") -> None:
        from prolab_hf.evaluation.segment_files import (
            label_image,
            shown,
            write_image,
            write_probabilities,
        )
        from prolab_hf.explanation.overlays import class_colors, overlay

        if target is not None:
            drawn = shown(image, getattr(self.processor, "value_range", None))
            drawn = overlay(
                drawn, result.labels, result.class_names, legend=self.legend, opacity=self.opacity
            )
            write_image(target, drawn)
        for path in self.places.of(job.name):
            if path.suffix == ".npy" and result.scores is not None:
                write_probabilities(path, result.scores.numpy())
            else:
                write_image(path, label_image(result.labels.numpy(), class_colors(len(result.class_names))))

    def _video(self, job: "Job", target: Path | None) -> None:
        """Every frame of a video; its overlays are a video again, its other results have numbers."""
        from prolab_hf.evaluation.segment_files import VideoFile, shown, video_frames, video_rate
        from prolab_hf.explanation.overlays import overlay

        rate = max(video_rate(job.path) // self.every, 1)
        video = VideoFile(target, rate) if target is not None else None
        frames = 0
        try:
            for number, image in video_frames(job.path, self.every):
                result = self._segment(image)
                if video is not None:
                    # The legend's size follows the classes of a frame; those of a video are all of one size.
                    video.add(
                        overlay(
                            shown(image, None),
                            result.labels,
                            result.class_names,
                            legend=False,
                            opacity=self.opacity,
                        )
                    )
                frame = type(job)(job.path, job.name.with_name(f"{job.name.name}_{number:06d}"))
                self._write(frame, None, image, result)
                if self.coco is not None:
                    self.coco.add(f"{_coco_name(job)}#{number}", result)
                frames += 1
            if frames == 0:
                raise ValueError(f"video {job.path} holds no frames.")
            if video is not None:
                video.close()
        except BaseException:
            if video is not None:
                video.discard()
            raise
        self.console.print(f"{escape(str(target or job.path))}: {frames} frames", highlight=False)


def _coco_name(job: "Job") -> str:
    return job.name.with_suffix(job.path.suffix).as_posix()


def _overlay_targets(jobs: "list[Job]", out: Path | None, several: bool) -> list[Path | None]:
    """One new file per image; never an image that is read."""
    endings = ["_overlay.mp4" if job.is_video else "_overlay.png" for job in jobs]
    if out is not None and (several or out.is_dir()):
        if out.is_file():
            raise NotADirectoryError(f"--out {out} is a file, but {len(jobs)} images need a folder.")
        out.mkdir(parents=True, exist_ok=True)
        targets = [out / f"{job.name}{ending}" for job, ending in zip(jobs, endings)]
    elif out is not None:
        targets = [out]
    else:
        targets = [Path(f"{job.name.name}{ending}") for job, ending in zip(jobs, endings)]
    if len(set(targets)) < len(targets):
        raise ValueError("Several images have the same name and would overwrite each other's overlay.")
    read = {job.path.resolve() for job in jobs}
    for job, target in zip(jobs, targets):
        if not several and job.is_video:
            require_writable(target)
        elif not several:
            require_image_name(target)
        if target.resolve() in read:
            raise ValueError(f"--out {target} is the image itself; choose another file.")
    return list(targets)


def _shares(result: "Segmentation", limit: int = 6) -> str:
    from prolab_hf.explanation.overlays import percent, plain_text

    shares = result.shares()
    listed = ", ".join(f"{plain_text(name)} {percent(share)}" for name, share in shares[:limit])
    return listed + (f" and {len(shares) - limit} more" if len(shares) > limit else "")
