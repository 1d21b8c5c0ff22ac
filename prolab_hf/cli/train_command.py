"""`prolab train`."""

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from prolab_hf.cli.data_options import (
    CODING_HELP,
    DATA_HELP,
    NO_SPLIT,
    ImageColumnOption,
    ImagesFolderOption,
    MaskColumnOption,
    MasksFolderOption,
    MaskSuffixOption,
    open_split,
)
from prolab_hf.cli.hub_client import ask_hub_once
from prolab_hf.cli.options import ValueRangeOption, read_value_range

# The command imports what it needs when it runs, so that `prolab --help` stays quick.
if TYPE_CHECKING:
    from prolab_hf.label_space.property_space import PropertySpace
    from prolab_hf.training.recipe import TrainingRecipe

logger = logging.getLogger(__name__)

STREAMED_LABELS = 16
"""Examples of a stream whose labels are looked at before a run."""


def train(
    data: Annotated[str | None, typer.Argument(help=DATA_HELP + " Not needed with --dry-run.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints, log and the trained model.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Name of a recipe (see --list-recipes) or a JSON file; 'small' if left out."),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(help="Property space: bundled name, folder or Hub id; the recipe's if left out."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="timm name, folder or Hub id; the recipe's if left out.")
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option("--pretrained/--random", help="Load the backbone's weights, or start from random ones."),
    ] = True,
    train_split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    eval_split: Annotated[
        str | None,
        typer.Option(help="Split to evaluate on; by default val or validation, 'none' to leave it out."),
    ] = None,
    eval_data: Annotated[str | None, typer.Option(help="Where that split is, if elsewhere.")] = None,
    coding: Annotated[str | None, typer.Option(help=CODING_HELP + " The recipe's if left out (ids).")] = None,
    image_column: ImageColumnOption = None,
    mask_column: MaskColumnOption = None,
    images: ImagesFolderOption = "images",
    masks: MasksFolderOption = "masks",
    mask_suffix: MaskSuffixOption = "",
    value_range: ValueRangeOption = None,
    epochs: Annotated[float | None, typer.Option(help="Instead of the recipe's length.")] = None,
    max_iterations: Annotated[int | None, typer.Option(help="Steps, instead of the recipe's length.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per device and pass.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the recipe's.")] = None,
    num_workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    init: Annotated[
        str | None, typer.Option(help="solve: start with the last layer at its closed-form solution.")
    ] = None,
    finish: Annotated[
        str | None,
        typer.Option(
            help="solve: solve the last layer again after the last step; what scores higher is exported. "
            "auto: the same where it can be done."
        ),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Train for so long: times the first steps and plans as many as fit."),
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(help="Stop after so many evaluations in a row without a better mean IoU."),
    ] = None,
    freeze_backbone: Annotated[
        bool,
        typer.Option(
            "--freeze-backbone", help="Train decoder and heads only (--set model.freeze=stages:2 for less)."
        ),
    ] = False,
    cache_features: Annotated[
        bool,
        typer.Option(
            "--cache-features",
            help="With --freeze-backbone: compute its features once, for --set features.copies=4 augmented "
            "copies of each image, and read them from disk.",
        ),
    ] = False,
    peft: Annotated[
        str | None,
        typer.Option(help="lora: train low-rank adapters of the backbone (--set peft.rank=8) instead of it."),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(
            help="Weigh rare classes: none, sqrt, effective, or a JSON file with a weight per class."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Any other field of the recipe, such as data.crop_size=384 or config.hidden_size=128; may be "
            "repeated.",
        ),
    ] = None,
    streaming: Annotated[
        bool,
        typer.Option(
            "--streaming",
            help="Read the training images as a stream, without downloading them: DATA is a `datasets` set, a folder "
            "of Parquet or WebDataset (.tar) shards, or a pattern such as 'shards/train-*.tar'.",
        ),
    ] = False,
    report_to: Annotated[
        list[str] | None,
        typer.Option(help="Tracker to tell: tensorboard, trackio, wandb, mlflow or aim; may be repeated."),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="With --dry-run: number of devices to plan for.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan of the run and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard the run in --out.")] = False,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes",
            help="With --resume: go on although data or classes are not those that the run was started with.",
        ),
    ] = False,
    skip_broken: Annotated[
        bool,
        typer.Option(
            "--skip-broken",
            help="Leave out images that cannot be decoded and list them, instead of stopping.",
        ),
    ] = False,
    list_recipes: Annotated[
        bool, typer.Option("--list-recipes", help="Print the names of all recipes.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Train a segmentation model on properties.

    Checkpoints are whole or not there: Ctrl-C stops after the current step and writes one, and the same command
    with --resume goes on exactly where it was. SIGTERM (timeout, SLURM, systemd) does the same and ends with exit
    code 143. On several devices start it through `accelerate launch`.

    Examples:
      prolab train data/street --space cityscapes --backbone convnext_tiny --epochs 40 --out runs/street

      prolab train photos --space photos/space --backbone convnext_tiny --freeze-backbone --cache-features
      --class-weights sqrt --max-minutes 3 --out runs/photos

      prolab train --recipe ade20k-deit-base --dry-run --devices 8
    """
    if list_recipes:
        _print_recipes()
        return
    changes = {
        "schedule.epochs": epochs,
        "schedule.max_iterations": max_iterations,
        "schedule.batch_size": batch_size,
        "optimizer.learning_rate": learning_rate,
        "data.num_workers": num_workers,
        "model.backbone": backbone,
        "model.property_space": space,
        "data.label_coding": coding,
        "closed_form.init": init,
        "closed_form.finish": finish,
        "schedule.max_minutes": max_minutes,
        "evaluation.early_stopping": early_stopping,
        "model.freeze": "backbone" if freeze_backbone else None,
        "features.cache": cache_features or None,
        "peft.method": peft,
        "balance.class_weights": class_weights,
    }
    if recipe is None and not resume and not set_ and all(value is None for value in changes.values()):
        _require_space(None)  # the default recipe names none: say so before anything heavy is loaded
    ask_hub_once()
    chosen = _choose_recipe(recipe, out if resume else None, changes, set_ or [])
    if chosen.model.property_space is None:
        _require_space(out if resume else None)
    opening = {
        "coding": chosen.data.label_coding,
        "image_column": image_column,
        "mask_column": mask_column,
        "folders": (images, masks),
        "mask_suffix": mask_suffix,
        "value_range": read_value_range(value_range),
        "num_channels": len(chosen.data.image_mean or (0, 0, 0)),
        "streaming": streaming,
    }
    if dry_run:
        _print_plan(data, train_split, chosen, opening, devices, pretrained=pretrained)
        return
    if data is None or out is None:
        raise ValueError("Give the data (first argument) and --out, or --dry-run to see the plan only.")
    splits: dict[str, tuple[str, str | None]] = {"train": (data, train_split)}
    if eval_split != NO_SPLIT:
        splits["eval"] = (eval_data or data, eval_split)
    switches = {"resume": resume, "overwrite": overwrite, "accept_changes": accept_changes}
    _run(
        chosen,
        splits,
        opening,
        out,
        pretrained=pretrained,
        **switches,
        skip_broken=skip_broken,
        quiet=quiet,
        report_to=report_to or [],
    )


def _require_space(resumed: Path | None) -> None:
    """There is no property space: say what to do about it."""
    if resumed is not None:
        from prolab_hf.training.run_folder import holds_run

        if not holds_run(resumed):
            raise FileNotFoundError(
                f"There is no run to resume in {resumed}; check --out, or start one there by naming the property "
                "space with --space."
            )
    raise ValueError("Name the property space with --space (a bundled name, a folder or a Hub id).")


def _choose_recipe(
    name: str | None, resumed: Path | None, changes: dict[str, Any], assignments: list[str]
) -> "TrainingRecipe":
    """The named recipe, or that of the run to resume, with the changes of the command line."""
    from prolab_hf.training.published_recipes import get_recipe

    given = {field: value for field, value in changes.items() if value is not None}
    given |= dict(map(_assignment, assignments))
    chosen = _recipe_of_run(resumed) if name is None and resumed is not None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the names of before are fine in a command
        return (chosen or get_recipe(name or "small")).replace(**given)


def _recipe_of_run(folder: Path) -> "TrainingRecipe | None":
    """The recipe of a run: its own file, or, where that is damaged, the newest checkpoint's record of it."""
    from prolab_hf.training.checkpoints import CHECKPOINTS_FOLDER, newest_valid_checkpoint
    from prolab_hf.training.recipe import TrainingRecipe
    from prolab_hf.training.run_folder import RECIPE_FILE, holds_run
    from prolab_hf.training.training_state import load_progress

    if not holds_run(folder):
        return None
    try:
        return TrainingRecipe.from_json(folder / RECIPE_FILE)
    except (ValueError, FileNotFoundError) as error:
        checkpoint = newest_valid_checkpoint(folder / CHECKPOINTS_FOLDER)
        if checkpoint is None:
            raise
        logger.warning("%s The recipe is taken from the checkpoint %s.", error, checkpoint)
        return TrainingRecipe.from_dict(load_progress(checkpoint).recipe)


def _assignment(text: str) -> tuple[str, Any]:
    field, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--set {text!r} is not FIELD=VALUE.")
    try:
        return field.strip(), json.loads(value)
    except ValueError:
        return field.strip(), value.strip()  # plain text, such as bf16


def _load_space(recipe: "TrainingRecipe") -> "PropertySpace":
    from prolab_hf.label_space.property_space import PropertySpace

    return PropertySpace.from_pretrained(recipe.model.property_space or "")


def _run(
    recipe: "TrainingRecipe",
    splits: dict[str, tuple[str, str | None]],
    opening: dict[str, Any],
    out: Path,
    *,
    pretrained: bool,
    resume: bool,
    overwrite: bool,
    accept_changes: bool,
    skip_broken: bool,
    quiet: bool,
    report_to: list[str],
) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    from prolab_hf.data.class_matching import match_space, require_same_classes
    from prolab_hf.data.data_report import require_teaching_labels
    from prolab_hf.training.checkpoints import CHECKPOINTS_FOLDER, list_checkpoints
    from prolab_hf.training.from_recipe import backbone_statistics, build_model, image_processor
    from prolab_hf.training.run_folder import check_output_folder
    from prolab_hf.training.stream_loading import check_stream
    from prolab_hf.training.tracking.trackers import check_trackers
    from prolab_hf.training.trainer import train as train_model

    check_output_folder(out, resume=resume, overwrite=overwrite)  # before the slow part
    check_trackers(report_to)
    space = _load_space(recipe)
    sources: dict[str, Any] = {name: open_split(*place, space, opening) for name, place in splits.items()}
    looked_at = sources["train"]
    if opening["streaming"]:
        check_stream(recipe)
        sources |= {name: source.held() for name, source in sources.items() if name == "eval"}
        looked_at = looked_at.first(STREAMED_LABELS)
    require_teaching_labels(looked_at, name=splits["train"][0])
    train_names = sources["train"].class_names
    space = match_space(space, train_names, data=splits["train"][0])
    if "eval" in sources:
        places = splits["train"][0], splits["eval"][0]
        require_same_classes(train_names, sources["eval"].class_names, names=places)
    goes_on = resume and bool(list_checkpoints(out / CHECKPOINTS_FOLDER))
    try:
        model = build_model(recipe, space, pretrained=pretrained and not goes_on)
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"The weights of the backbone {recipe.model.backbone} are not on this machine and cannot be fetched; give "
            "a folder, or --random to start without them."
        ) from error
    mean, std = backbone_statistics(recipe)
    statistics = {"image_mean": list(mean), "image_std": list(std), "value_range": opening["value_range"]}
    processor = image_processor(recipe, model.config, **statistics)
    model.config.semantic_loss_ignore_index = sources["train"].ignore_index
    result = train_model(
        model,
        sources["train"],
        sources.get("eval"),
        recipe=recipe,
        output_dir=out,
        processor=processor,
        resume=resume,
        overwrite=overwrite,
        accept_changes=accept_changes,
        skip_broken=skip_broken,
        show_progress=not quiet,
        report_to=report_to,
    )
    console = Console()
    if result.scores is not None:
        from prolab_hf.evaluation.report import class_table

        console.print(class_table(result.scores.to_dict(space.class_names), title=f"Step {result.step}"))
    best = (
        ""
        if result.best_mean_iou is None
        else f", best mIoU {result.best_mean_iou:.4f} at step {result.best_step}"
    )
    solved = (
        ""
        if result.solved_mean_iou is None
        else f", with its last layer solved at the end {result.solved_mean_iou:.4f}"
    )
    console.print(
        f"Trained {result.step} steps{best}{solved}. The model is in {result.output_dir}.", markup=False
    )
    if result.skipped:
        console.print(
            f"{len(result.skipped)} broken images were left out:", *result.skipped, sep="\n", markup=False
        )


def _print_plan(
    data: str | None,
    split: str,
    recipe: "TrainingRecipe",
    opening: dict[str, Any],
    devices: int,
    *,
    pretrained: bool,
) -> None:
    import torch

    from prolab_hf.model.backbones_prolab import check_backbone
    from prolab_hf.training.from_recipe import build_model
    from prolab_hf.training.frozen.adaptation import adapted_for_training
    from prolab_hf.training.planning import device_speed, plan

    backbone = recipe.model.backbone
    if backbone is not None and Path(backbone).is_dir() and not recipe.model.vit_adapter:
        check_backbone(backbone, pretrained=pretrained)
    space = _load_space(recipe)
    known = data is not None and not opening["streaming"]
    num_images = len(open_split(data, split, space, opening)) if known and data is not None else None
    with torch.device("meta"):
        model = build_model(recipe, space, pretrained=False)
    with Console(stderr=True).status("Measuring how fast this device is"):
        here = device_speed(recipe)
    with adapted_for_training(model, recipe):
        planned = plan(recipe, model, num_images=num_images, num_processes=devices, here=here)
    Console().print(planned.to_table())


def _print_recipes() -> None:
    from prolab_hf.training.published_recipes import get_recipe, recipe_names

    console = Console()
    for name in recipe_names():
        recipe = get_recipe(name)
        steps, epochs = recipe.schedule.max_iterations, recipe.schedule.epochs
        length = f"{steps:,} steps" if steps else f"{epochs or 0:g} epochs"
        console.print(f"{name:26} {recipe.model.backbone or '(any backbone)'}, {length}", highlight=False)
