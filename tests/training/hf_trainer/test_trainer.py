import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSemanticSegmentation,
    BeitConfig,
    HfArgumentParser,
    TrainerCallback,
    TrainingArguments,
)

from prolab_hf import ProLabTrainer, ProLabTrainingArguments
from prolab_hf.evaluation.property_statistics import PropertyStatistics
from prolab_hf.training.from_recipe import image_processor
from prolab_hf.training.hf_trainer import build_trainer, training_arguments_defaults
from prolab_hf.training.hf_trainer import trainer as trainer_module
from prolab_hf.training.optimization import learning_rate_factor
from prolab_hf.training.trainer import train
from tests.training.conftest import Stripes, build_model, drawn_pairs

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


def logs(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def assert_equal(one, other):
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture
def smooth(recipe):
    """Evaluations and checkpoints every two of eight steps, with averaged weights."""
    return recipe.replace(
        **{
            "schedule.max_iterations": 8,
            "evaluation.every": 2,
            "checkpoints.every": 2,
            "checkpoints.keep": 9,
            "optimizer.ema_decay": 0.8,
            "config.classifier_dropout_prob": 0.0,
        }
    )


@pytest.mark.parametrize("final", ["last", "best"])
def test_the_same_run_as_train(tmp_path, smooth, final):
    """Weights after eight steps of the same images in the same order, averaged, chosen and exported alike."""
    recipe = smooth.replace(**{"checkpoints.final_weights": final})
    ours = build_model(classifier_dropout_prob=0.0)
    result = train(
        ours, Stripes(), Stripes(4), recipe=recipe, output_dir=tmp_path / "ours", show_progress=False
    )
    theirs = build_model(classifier_dropout_prob=0.0)
    trainer = ProLabTrainer.from_recipe(
        theirs, recipe, tmp_path / "theirs", train_dataset=Stripes(), eval_dataset=Stripes(4), **CPU
    )
    trainer.train()
    assert logs(trainer, "eval_mean_iou") == pytest.approx(
        [entry["mean_iou"] for entry in result.evaluations]
    )
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, theirs.state_dict()[name], atol=1e-6, rtol=1e-5, msg=name)
    trainer.save_model(str(tmp_path / "saved"))
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "saved")
    assert_equal(weights(loaded), weights(theirs))


def test_images_and_masks_are_augmented_as_by_train(tmp_path, smooth):
    recipe = smooth.replace(**{"data.crop_size": 24, "checkpoints.final_weights": "last"})
    models = []
    processor = image_processor(recipe, build_model().config)
    for way in ("ours", "theirs"):
        models.append(build_model(classifier_dropout_prob=0.0))
        options = {"processor": processor}
        if way == "ours":
            train(models[0], drawn_pairs(), drawn_pairs(2), recipe=recipe, output_dir=tmp_path / way,
                  show_progress=False, **options)  # fmt: skip
        else:
            options |= {"train_dataset": drawn_pairs(), "eval_dataset": drawn_pairs(2)}
            ProLabTrainer.from_recipe(models[1], recipe, tmp_path / way, **options, **CPU).train()
    for name, value in weights(models[0]).items():
        torch.testing.assert_close(value, models[1].state_dict()[name], atol=1e-6, rtol=1e-5, msg=name)


def test_a_resumed_run_is_exact_to_the_last_bit(tmp_path, smooth):
    """Averaged weights, optimizer, order, dropout: all of it, from a checkpoint in the middle of an epoch."""

    def trainer(model, folder):
        return ProLabTrainer.from_recipe(
            model, smooth, folder, train_dataset=Stripes(), eval_dataset=Stripes(4), **CPU
        )

    whole = build_model()
    first = trainer(whole, tmp_path / "run")
    first.train()
    resumed = build_model(seed=3)
    second = trainer(resumed, tmp_path / "run")
    second.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-6"))
    assert_equal(weights(whole), weights(resumed))
    assert logs(first, "loss")[-2:] == logs(second, "loss")[-2:]
    assert logs(first, "eval_mean_iou") == logs(second, "eval_mean_iou")


def test_what_is_saved_while_training_is_the_average(tmp_path, smooth):
    """A checkpoint resumes the trained weights; what a user saves, measures or pushes is the average."""
    seen = {}

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 4:
                trainer.save_model(str(tmp_path / "mine"))
                seen.update({name: value.clone() for name, value in trainer.average.tensors.items()})

    model = build_model()
    trainer = ProLabTrainer.from_recipe(
        model, smooth, tmp_path / "run", train_dataset=Stripes(), callbacks=[Look()], **CPU
    )
    trainer.train()
    mine = weights(AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "mine"))
    trained = weights(AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "run" / "checkpoint-4"))
    name = "decode_head.classifier.weight"
    assert torch.equal(mine[name], seen[name]) and not torch.equal(mine[name], trained[name])
    assert torch.equal(
        load_file(tmp_path / "run" / "checkpoint-4" / "averaged_weights.safetensors")[name], seen[name]
    )
    assert not (tmp_path / "mine" / "averaged_weights.safetensors").exists()


def test_layer_decay_class_weights_and_frozen_statistics(tmp_path, smooth):
    recipe = smooth.replace(**{"balance.class_weights": "sqrt", "model.freeze": "stages:1"})
    model = build_model()
    before = weights(model)
    trainer = ProLabTrainer.from_recipe(model, recipe, tmp_path, train_dataset=Stripes(), **CPU)
    trainer.train()
    assert len(model.config.class_weights) == 3 and (tmp_path / "class_balance.json").is_file()
    frozen = [name for name in before if name.startswith(("backbone.embedder", "backbone.encoder.stages.0."))]
    assert frozen and all(torch.equal(before[name], model.state_dict()[name]) for name in frozen)
    assert any("running_mean" in name for name in frozen)
    assert all(parameter.requires_grad for parameter in model.parameters())
    arguments = ProLabTrainingArguments(
        str(tmp_path), layer_decay=0.5, num_layers=2, max_steps=4, use_cpu=True
    )
    beit = build_model(backbone_config=beit_config(), feature_pyramid=False)
    groups = ProLabTrainer(beit, arguments).create_optimizer().param_groups
    assert {group["lr_scale"] for group in groups} == {1.0, 0.5, 0.25, 0.125}


def test_property_statistics_are_those_of_the_evaluated_images(tmp_path, smooth):
    model = build_model()
    trainer = ProLabTrainer.from_recipe(
        model, smooth, tmp_path, train_dataset=Stripes(), eval_dataset=Stripes(4), **CPU
    )
    found = trainer.evaluate()
    statistics = PropertyStatistics(model.class_property_matrix)
    model.eval()
    with torch.no_grad():
        for example in (Stripes(4)[index] for index in range(4)):
            logits = model(example["pixel_values"][None]).property_logits
            statistics.update(model.property_scores(logits), example["labels"][None])
    expected = statistics.summary()
    assert found["eval_property_activation"] == pytest.approx(expected.mean_activation)
    assert found["eval_dead_properties"] == len(expected.dead)
    assert found["eval_calibration_error"] == pytest.approx(expected.calibration_error)


def test_the_solved_start(tmp_path, smooth, monkeypatch):
    """The last layer is at its solution before the first step."""
    seen = []
    own = trainer_module.solve_before_training
    monkeypatch.setattr(
        trainer_module,
        "solve_before_training",
        lambda model, data, *rest: seen.append(data) or own(model, data, *rest),
    )
    recipe = smooth.replace(
        **{"closed_form.init": "solve", "optimizer.learning_rate": 1e-12, "optimizer.ema_decay": None}
    )
    model = build_model()
    before = weights(model)["decode_head.classifier.weight"]
    pairs = drawn_pairs(4)
    processor = image_processor(recipe, model.config)
    trainer = ProLabTrainer.from_recipe(
        model, recipe, tmp_path / "run", train_dataset=pairs, processor=processor, **CPU
    )
    trainer.train()
    assert [len(data) for data in seen] == [4]
    solved = build_model()
    own(solved, pairs, processor, trainer.accelerator)
    after = model.state_dict()["decode_head.classifier.weight"]
    torch.testing.assert_close(
        after, solved.state_dict()["decode_head.classifier.weight"], atol=1e-6, rtol=1e-5
    )
    assert not torch.allclose(after, before)


def test_adapters_are_merged_in_the_end(tmp_path, smooth):
    model = build_model()
    names = set(model.state_dict())
    recipe = smooth.replace(**{"peft.method": "lora", "peft.rank": 2})
    trainer = ProLabTrainer.from_recipe(
        model, recipe, tmp_path / "run", train_dataset=Stripes(), eval_dataset=Stripes(2), **CPU
    )
    trainer.train()
    assert set(model.state_dict()) == names
    trainer.save_model(str(tmp_path / "saved"))
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "saved")
    assert_equal(weights(loaded), weights(model))


def test_early_stopping_of_a_recipe(tmp_path, smooth):
    recipe = smooth.replace(
        **{
            "evaluation.early_stopping": 1,
            "evaluation.least_improvement": 0.9,
            "optimizer.learning_rate": 1e-12,
        }
    )
    trainer = ProLabTrainer.from_recipe(
        build_model(), recipe, tmp_path, train_dataset=Stripes(), eval_dataset=Stripes(2), **CPU
    )
    trainer.train()
    assert trainer.state.global_step == 4


def test_push_to_hub_uploads_the_average(tmp_path, smooth, monkeypatch):
    uploads = []

    class Hub:
        def create_repo(self, name, **options):
            return type("Url", (), {"repo_id": name})()

        def upload_folder(self, **options):
            uploads.append(options)
            return "https://hub.example/user/street"

    from transformers import trainer as module

    monkeypatch.setattr(module, "hf_api", Hub)
    model = build_model()
    trainer = ProLabTrainer.from_recipe(
        model, smooth, tmp_path / "run", train_dataset=Stripes(), hub_model_id="user/street", **CPU
    )
    trainer.train()
    trainer.push_to_hub()
    assert [upload["repo_id"] for upload in uploads] == ["user/street"]
    pushed = AutoModelForSemanticSegmentation.from_pretrained(uploads[0]["folder_path"])
    assert_equal(weights(pushed), weights(model))
    assert not (tmp_path / "run" / "averaged_weights.safetensors").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("schedule.max_minutes", 3), ("closed_form.finish", "solve"), ("peft.targets", ["fc1"])],
)
def test_what_only_train_can_do_is_refused(tmp_path, recipe, field, value):
    with pytest.raises(ValueError, match=rf"{field} is .*, which transformers.Trainer cannot do"):
        training_arguments_defaults(recipe.replace(**{field: value}), tmp_path, 8)


def test_arguments_are_checked_by_the_recipe(tmp_path):
    with pytest.raises(ValueError, match=r"optimizer.layer_decay is 0.9 but num_layers is None"):
        ProLabTrainingArguments(str(tmp_path), layer_decay=0.9)
    with pytest.raises(ValueError, match=r"optimizer.ema_decay is 2; it must be a number"):
        ProLabTrainingArguments(str(tmp_path), ema_decay=2)
    with pytest.raises(
        TypeError, match="args is a TrainingArguments; ProLabTrainer needs ProLabTrainingArguments"
    ):
        ProLabTrainer(build_model(), TrainingArguments(str(tmp_path)))
    arguments = ProLabTrainingArguments(
        str(tmp_path), layer_decay=0.9, num_layers=2, optim="adafactor", max_steps=3
    )
    with pytest.raises(
        ValueError, match=r"layer_decay is 0.9, which optim='OptimizerNames.ADAFACTOR' does not know"
    ):
        ProLabTrainer(build_model(), arguments).create_optimizer()


def test_arguments_are_read_from_the_command_line(tmp_path):
    """`HfArgumentParser`, as scripts of transformers use it."""
    (found,) = HfArgumentParser(ProLabTrainingArguments).parse_args_into_dataclasses(
        [
            "--output_dir",
            str(tmp_path),
            "--layer_decay",
            "0.9",
            "--num_layers",
            "12",
            "--class_weights",
            "sqrt",
        ]
    )
    recipe = found.to_recipe()
    assert (recipe.optimizer.layer_decay, recipe.balance.class_weights) == (0.9, "sqrt")
    assert recipe.optimizer.max_gradient_norm is None and found.batch_eval_metrics
