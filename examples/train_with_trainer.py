"""The same model, data and recipe under `transformers.Trainer`.

    python examples/train_with_trainer.py

Callbacks, trackers and `push_to_hub` are those of transformers. Resume with
`trainer.train(resume_from_checkpoint=True)`: the run goes on exactly, averaged weights included.
"""

import argparse

import torch
from transformers import AutoModelForSemanticSegmentation, ResNetConfig

from prolab_hf import ProLabForSemanticSegmentation, ProLabTrainer, PropertySpace, TrainingRecipe
from prolab_hf.data.source_from_name import open_source
from prolab_hf.training.from_recipe import default_processor


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
        optimizer={"learning_rate": 2e-3, "ema_decay": 0.99},
        data={"crop_size": 96, "scale_range": (0.75, 1.5)},
        balance={"class_weights": "sqrt"},
    )
    train_source = open_source(f"scenes:{options.images}", "train")
    eval_source = open_source(f"scenes:{max(2, options.images // 4)}", "validation")
    space = PropertySpace.from_pretrained(options.space).select_classes(train_source.class_names)
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
    trainer = ProLabTrainer.from_recipe(
        model,
        recipe,
        options.out,
        train_dataset=train_source,
        eval_dataset=eval_source,
        processor=default_processor(recipe, model),
    )
    trainer.train()
    found = trainer.evaluate()
    print(f"mean IoU {found['eval_mean_iou']:.4f}, {found['eval_dead_properties']} dead properties")
    trainer.save_model(options.out)
    AutoModelForSemanticSegmentation.from_pretrained(options.out)
    print(f"saved to {options.out}")


if __name__ == "__main__":
    main()
