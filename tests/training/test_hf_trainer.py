import pytest
import torch
from transformers import AutoModelForSemanticSegmentation, BeitConfig

from prolab_hf.training.hf_trainer import build_trainer
from prolab_hf.training.optimization import learning_rate_factor
from tests.training.conftest import Stripes, build_model

CPU = {"use_cpu": True, "disable_tqdm": True}


def beit_config():
    """Its weights have other names in the legacy format, which Trainer's resume does not translate."""
    return BeitConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=True,
    )


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("backbone", ["resnet", "beit"])
def test_resume_and_best_model_restore_every_tensor(tmp_path, recipe, backbone):
    recipe = recipe.replace(**{"schedule.max_iterations": 4, "evaluation.every": 2, "checkpoints.every": 2})
    fields = {"backbone_config": beit_config(), "feature_pyramid": False} if backbone == "beit" else {}

    def trainer(model, folder):
        return build_trainer(
            model,
            recipe,
            folder,
            train_dataset=Stripes(8),
            eval_dataset=Stripes(2),
            save_total_limit=4,
            **CPU,
        )

    whole = build_model(**fields)
    done = trainer(whole, tmp_path / "run")
    done.train()
    assert done.state.best_model_checkpoint is not None
    scores = [entry["eval_mean_iou"] for entry in done.state.log_history if "eval_mean_iou" in entry]
    assert len(scores) == 2
    best = AutoModelForSemanticSegmentation.from_pretrained(done.state.best_model_checkpoint)
    for name, value in weights(best).items():
        assert torch.equal(value, whole.state_dict()[name]), name

    resumed = build_model(seed=1, **fields)
    again = trainer(resumed, tmp_path / "run")
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    last = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "checkpoint-4")
    assert again.state.global_step == 4
    for name, value in weights(last).items():
        assert value.shape == whole.state_dict()[name].shape
    for name, value in weights(resumed).items():
        torch.testing.assert_close(value, whole.state_dict()[name], msg=name)


def test_schedule_and_groups_are_the_recipes(tmp_path, recipe):
    model = build_model()
    trainer = build_trainer(model, recipe, tmp_path, train_dataset=Stripes(8), logging_steps=1, **CPU)
    trainer.train()
    rates = {e["step"]: e["learning_rate"] for e in trainer.state.log_history if "learning_rate" in e}
    for step, rate in rates.items():
        expected = recipe.optimizer.learning_rate * learning_rate_factor(step, recipe, 6)
        assert rate == pytest.approx(expected) or rate == pytest.approx(
            recipe.learning_rate * learning_rate_factor(step - 1, recipe, 6)
        )
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {
        0.0,
        recipe.optimizer.weight_decay,
    }


def test_fewer_images_than_a_batch_are_trained_on(tmp_path, recipe):
    """The only, incomplete batch was dropped: 0 of 2 steps, and the untrained model was saved."""
    recipe = recipe.replace(**{"schedule.batch_size": 4, "schedule.max_iterations": 2})
    model = build_model()
    before = weights(model)
    trainer = build_trainer(model, recipe, tmp_path, train_dataset=Stripes(3), **CPU)
    trainer.train()
    assert trainer.state.global_step == 2
    name = "decode_head.classifier.weight"
    assert not torch.equal(before[name], model.state_dict()[name])


def test_averaged_weights_are_refused(tmp_path, recipe):
    with pytest.raises(ValueError, match="keeps no averaged weights"):
        build_trainer(
            build_model(),
            recipe.replace(**{"optimizer.ema_decay": 0.9}),
            tmp_path,
            train_dataset=Stripes(4),
            **CPU,
        )
