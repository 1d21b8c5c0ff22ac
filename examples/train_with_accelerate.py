"""The training loop in the open, on Accelerate: for those who want to change it.

    python examples/train_with_accelerate.py
    accelerate launch examples/train_with_accelerate.py        (on several devices)

It trains on the drawn data set for a few steps. `prolab_hf.training.trainer.train` is the same with
checkpoints, exact resume, evaluation, averaging of weights and a progress bar.
"""

import argparse

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForSemanticSegmentation, ResNetConfig

from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.data.source_from_name import open_source
from prolab_hf.data.transforms import collate
from prolab_hf.evaluation.evaluate import evaluate
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.training.from_recipe import image_processor, train_dataset
from prolab_hf.training.optimization import build_optimizer, build_scheduler
from prolab_hf.training.recipe import TrainingRecipe


def small_model(space: PropertySpace) -> ProLabForSemanticSegmentation:
    """A small network with random weights; give `from_backbone` a name for a pretrained one."""
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return ProLabForSemanticSegmentation.from_backbone(
        backbone, space, hidden_size=32, use_auxiliary_head=False, class_loss_weight=1.0
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="scenes", help="property space: name, folder or Hub id")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--out", default="runs/accelerate")
    options = parser.parse_args()

    torch.manual_seed(0)
    recipe = TrainingRecipe(
        schedule={"max_iterations": options.steps, "batch_size": 8},
        optimizer={"learning_rate": 2e-3},
        data={"crop_size": 96, "scale_range": (0.75, 1.5)},
    )
    space = PropertySpace.from_pretrained(options.space)
    sources = {
        split: open_source(f"scenes:{number}", split)
        for split, number in (("train", options.images), ("validation", max(2, options.images // 4)))
    }
    space = space.select_classes(sources["train"].class_names)
    model = small_model(space)
    processor = image_processor(recipe, model.config)

    accelerator = Accelerator()
    dataset = train_dataset(sources["train"], recipe, processor)
    # The last batch is left out where it is smaller: batch normalization needs more than one image.
    batch_size = min(recipe.schedule.batch_size, len(dataset))
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=collate)
    optimizer = build_optimizer(model, recipe)
    scheduler = build_scheduler(optimizer, recipe, options.steps)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    step, epoch = 0, 0
    while step < options.steps:
        dataset.set_epoch(epoch)
        for batch in loader:
            model.train()
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            step += 1
            if step % 20 == 0 or step == options.steps:
                accelerator.print(f"step {step}: loss {loss.item():.4f}")
            if step == options.steps:
                break
        epoch += 1

    # Every process takes its share of the images; counts are summed, never logits.
    trained = accelerator.unwrap_model(model)
    scores = evaluate(trained, processor, sources["validation"], accelerator=accelerator)
    accelerator.print(f"mean IoU {scores['mean_iou']:.4f}")

    if accelerator.is_main_process:
        trained.save_pretrained(options.out)
        processor.save_pretrained(options.out)
        AutoModelForSemanticSegmentation.from_pretrained(options.out)
        print(f"saved to {options.out}")


if __name__ == "__main__":
    main()
