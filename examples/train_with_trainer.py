"""The same model, data and recipe under `transformers.Trainer`.

    python examples/train_with_trainer.py

Resume with `trainer.train(resume_from_checkpoint=True)`: every tensor comes back, because ProLab models are
saved under their live names.
"""

import argparse

import torch
from transformers import AutoModelForSemanticSegmentation, ResNetConfig

from prolab_hf import ProLabForSemanticSegmentation
from prolab_hf.data.source_from_name import open_source
from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.training.from_recipe import eval_dataset, image_processor, train_dataset
from prolab_hf.training.hf_trainer import build_trainer
from prolab_hf.training.recipe import TrainingRecipe


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="scenes", help="property space: name, folder or Hub id")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--out", default="runs/trainer")
    options = parser.parse_args()

    torch.manual_seed(0)
    recipe = TrainingRecipe(
        schedule={"max_iterations": options.steps, "batch_size": 8},
        optimizer={"learning_rate": 2e-3},
        data={"crop_size": 96, "scale_range": (0.75, 1.5)},
    )
    sources = {
        split: open_source(f"scenes:{number}", split)
        for split, number in (("train", options.images), ("validation", max(2, options.images // 4)))
    }
    space = PropertySpace.from_pretrained(options.space).select_classes(sources["train"].class_names)
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    model = ProLabForSemanticSegmentation.from_backbone(
        backbone, space, hidden_size=32, use_auxiliary_head=False, class_loss_weight=1.0
    )
    processor = image_processor(recipe, model.config)
    trainer = build_trainer(
        model,
        recipe,
        options.out,
        train_dataset=train_dataset(sources["train"], recipe, processor),
        eval_dataset=eval_dataset(sources["validation"], processor),
        processor=processor,
    )
    trainer.train()
    print(f"mean IoU {trainer.evaluate()['eval_mean_iou']:.4f}")
    trainer.save_model(options.out)
    AutoModelForSemanticSegmentation.from_pretrained(options.out)
    print(f"saved to {options.out}")


if __name__ == "__main__":
    main()
