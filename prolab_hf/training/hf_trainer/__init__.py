"""`transformers.Trainer` for segmentation in properties."""

from prolab_hf.training.hf_trainer.arguments import ProLabTrainingArguments, training_arguments_defaults
from prolab_hf.training.hf_trainer.trainer import EpochCallback, ProLabTrainer, build_trainer

__all__ = [
    "EpochCallback",
    "ProLabTrainer",
    "ProLabTrainingArguments",
    "build_trainer",
    "training_arguments_defaults",
]
