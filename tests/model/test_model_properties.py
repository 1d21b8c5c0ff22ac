"""One list of properties that every model must have, checked for each family of backbones.

A new backbone is a subclass of `ModelProperties` of a few lines.
"""

import copy
import logging
import os
import re
import subprocess
import sys
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    AutoModelForSemanticSegmentation,
    BeitConfig,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    PvtV2Config,
    SwinConfig,
    TimmBackbone,
    TimmBackboneConfig,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTModel,
)
from transformers.utils import is_timm_available

from prolab_hf import (
    ProLabConfig,
    ProLabForSemanticSegmentation,
    ProLabImageProcessorPil,
    PropertySpace,
    ViTAdapterBackbone,
    ViTAdapterConfig,
)
from prolab_hf.remote_code import FILES, joined, parts

SELECTS_LAYERS = hasattr(transformers.backbone_utils, "selected_hidden_states")
STAGES = ["stage1", "stage2", "stage3", "stage4"]
NUM_CLASSES, NUM_PROPERTIES, EMBEDDING_DIM = 3, 7, 12


def make_space(num_classes=NUM_CLASSES, seed=1):
    rows = torch.zeros(num_classes, NUM_PROPERTIES)
    for index, row in enumerate(rows):
        row[[index, (index + 2) % NUM_PROPERTIES]] = 1
    vectors = torch.randn(NUM_PROPERTIES, EMBEDDING_DIM, generator=torch.Generator().manual_seed(seed))
    return PropertySpace(
        class_names=[f"class {index}" for index in range(num_classes)],
        property_names=[f"property {index}" for index in range(NUM_PROPERTIES)],
        property_embeddings=torch.nn.functional.normalize(vectors, dim=1),
        class_property_matrix=rows,
    )


def make_config(backbone_config, **fields):
    small = {"hidden_size": 16, "auxiliary_channels": 8, "backbone_config": backbone_config}
    return ProLabConfig(**{**small, **make_space().to_config_kwargs(), **fields})


def make_model(backbone_config, **fields):
    """A model in evaluation mode whose tensors differ from what construction or loading would put there."""
    torch.manual_seed(0)
    model = ProLabForSemanticSegmentation(make_config(backbone_config, **fields))
    model.set_property_space(make_space())
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.01)
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(3)
    return model.eval()


def all_tensors(model):
    """Parameters and all buffers, those that are not saved, too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def assert_same_tensors(first, second):
    first, second = all_tensors(first), all_tensors(second)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def make_batch(size, batch_size=2):
    generator = torch.Generator().manual_seed(3)
    height, width = size
    labels = torch.randint(0, NUM_CLASSES, (batch_size, height, width), generator=generator)
    labels[:, :2] = 255
    return {"pixel_values": torch.randn(batch_size, 3, height, width, generator=generator), "labels": labels}


@contextmanager
def collected_warnings():
    """What a user would see: records of level WARNING of both libraries, and Python warnings."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("transformers", "prolab_hf")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for logger in loggers:
            logger.addHandler(handler)
        try:
            yield messages
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
            messages.extend(str(warning.message) for warning in caught)


class ModelProperties:
    """The properties. Subclasses give `backbone()` and what the family can and cannot do."""

    size = (64, 64)
    odd_size = (71, 53)  # None: the family works at one size only
    first_stride = 4
    has_attentions = False
    reentrant = True  # works with PyTorch's older form of checkpointing, too
    never_trained = r"$^"  # parameters that the backbone itself does not use
    left_uninitialized: tuple[str, ...] = ()  # tensors that transformers leaves as they are without weights

    def backbone(self):
        raise pytest.UsageError(f"{type(self).__name__} gives no backbone")

    @pytest.fixture
    def model(self):
        return make_model(self.backbone())

    def loss_and_gradients(self, model, batch):
        model.zero_grad()
        torch.manual_seed(5)
        loss = model(**batch).loss
        loss.backward()
        return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    # ---- saving and loading -------------------------------------------------------------------------------

    @pytest.mark.parametrize("shard_size", ["5GB", "20KB"])
    def test_saved_model_comes_back_bit_for_bit(self, model, tmp_path, shard_size):
        model.save_pretrained(tmp_path, max_shard_size=shard_size)
        assert (len(list(tmp_path.glob("model*.safetensors"))) > 1) == (shard_size == "20KB")
        with collected_warnings() as messages:
            loaded, info = AutoModelForSemanticSegmentation.from_pretrained(
                tmp_path, output_loading_info=True
            )
        assert type(loaded) is ProLabForSemanticSegmentation
        assert not any(info.values()), info
        assert messages == []
        assert_same_tensors(model, loaded)
        batch = make_batch(self.size)
        with torch.no_grad():
            for key, value in model(**batch).items():  # memory alignment alone may move the last bit
                torch.testing.assert_close(loaded(**batch)[key], value, atol=1e-6, rtol=1e-6)

    def test_built_on_the_meta_device_and_filled(self, model):
        with torch.device("meta"):
            empty = ProLabForSemanticSegmentation(model.config)
        assert {tensor.device.type for tensor in empty.state_dict().values()} == {"meta"}
        shapes = {name: tensor.shape for name, tensor in all_tensors(model).items()}
        assert {name: tensor.shape for name, tensor in all_tensors(empty).items()} == shapes
        filled = ProLabForSemanticSegmentation.from_pretrained(
            None, config=model.config, state_dict=model.state_dict()
        )
        assert_same_tensors(model, filled)

    def test_without_weights_everything_is_initialized(self, model):
        loaded = ProLabForSemanticSegmentation.from_pretrained(None, config=model.config, state_dict={})
        fresh = ProLabForSemanticSegmentation(model.config)
        for name, tensor in all_tensors(loaded).items():
            if isinstance(model.backbone, TimmBackbone) and name.startswith("backbone."):
                continue  # transformers leaves timm's weights to the checkpoint
            assert torch.isfinite(tensor).all(), name
            assert tensor.float().abs().max() < 100, name  # uninitialized memory is not
        for name, buffer in fresh.named_buffers():
            if name.startswith(self.left_uninitialized):
                continue
            assert torch.equal(dict(loaded.named_buffers())[name], buffer), name

    def test_weights_have_the_configured_range(self):
        backbone = self.backbone()
        if hasattr(backbone, "initializer_range"):
            backbone.initializer_range = 1e-10
        config = make_config(backbone, initializer_range=1e-10)
        model = ProLabForSemanticSegmentation(config)
        own = {n: p for n, p in model.named_parameters() if not n.startswith("backbone.")}
        assert own
        for name, parameter in own.items():
            one = parameter.ndim == 1 and name.endswith("weight")  # scale of a normalization
            assert (parameter - float(one)).abs().max() < 1e-6, name
        wide = ProLabForSemanticSegmentation(make_config(self.backbone(), initializer_range=0.5))
        weight = max((p for n, p in wide.named_parameters() if n.startswith("decode_head.")), key=torch.numel)
        assert weight.std().item() == pytest.approx(0.5, rel=0.1)

    def test_half_precision_loading_keeps_the_property_space_exact(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        loaded = ProLabForSemanticSegmentation.from_pretrained(tmp_path, dtype=torch.bfloat16)
        assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
        assert torch.equal(loaded.property_embeddings, model.property_embeddings)
        batch = make_batch(self.size)
        with torch.no_grad():
            half = loaded(batch["pixel_values"].bfloat16()).logits.float()
            full = model(batch["pixel_values"]).logits
        assert torch.isfinite(half).all()
        assert (half - full).abs().mean() < 0.05

    def test_other_number_of_labels(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        loaded = ProLabForSemanticSegmentation.from_pretrained(
            tmp_path, num_labels=5, ignore_mismatched_sizes=True
        )
        assert loaded.config.num_labels == 5
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name
        batch = make_batch(self.size)
        with pytest.raises(RuntimeError, match="set_property_space"):
            loaded(**batch)
        loaded.set_property_space(make_space(num_classes=5))
        assert loaded(**batch).logits.shape[:2] == (2, 5)

    # ---- forward ------------------------------------------------------------------------------------------

    def test_shapes_at_odd_sizes(self, model):
        sizes = [self.size] if self.odd_size is None else [self.size, self.odd_size]
        for height, width in sizes:
            batch = make_batch((height, width), batch_size=1)
            out = model(**batch)
            grid = out.logits.shape[-2:]
            assert out.logits.shape == (1, NUM_CLASSES, *grid)
            assert out.property_logits.shape == (1, NUM_PROPERTIES, *grid)
            assert all(
                abs(cells * self.first_stride - side) < 2 * self.first_stride
                for cells, side in zip(grid, (height, width))
            )
            other = model(batch["pixel_values"], labels=make_batch((19, 23), batch_size=1)["labels"])
            assert torch.isfinite(other.loss) and other.loss.ndim == 0
            assert torch.equal(other.logits, out.logits)

    def test_tuple_instead_of_named_output(self, model):
        batch = make_batch(self.size)
        arguments = {"output_hidden_states": True, "output_attentions": self.has_attentions}
        with torch.no_grad():
            named = model(**batch, **arguments)
            plain = model(**batch, **arguments, return_dict=False)
        assert isinstance(plain, tuple)
        assert len(plain) == len(named.to_tuple()) == 4 + self.has_attentions
        assert torch.equal(plain[0], named.loss) and torch.equal(plain[1], named.logits)
        assert torch.equal(plain[3][-1], named.hidden_states[-1])

    def test_hidden_states_and_attentions_on_demand(self, model):
        batch = make_batch(self.size)
        with torch.no_grad():
            silent = model(**batch)
            asked = model(**batch, output_hidden_states=True, output_attentions=self.has_attentions)
            model.config.output_hidden_states = True
            configured = model(**batch)
        assert silent.hidden_states is None and silent.attentions is None
        assert len(asked.hidden_states) >= 4
        assert len(configured.hidden_states) == len(asked.hidden_states)
        assert (asked.attentions is not None) == self.has_attentions
        torch.testing.assert_close(asked.logits, silent.logits)
        if not isinstance(model.backbone, TimmBackbone):  # which cannot give all layers itself
            own = model.backbone(batch["pixel_values"], output_hidden_states=True).hidden_states
            assert len(own) == len(asked.hidden_states)
            for ours, theirs in zip(asked.hidden_states, own):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)

    def test_hidden_states_of_chosen_layers(self, model):
        if not SELECTS_LAYERS:
            pytest.skip("transformers chooses single layers from 5.24 on")
        batch = make_batch(self.size)
        with torch.no_grad():
            every = model(**batch, output_hidden_states=True).hidden_states
            chosen = model(**batch, output_hidden_states=[0, 2]).hidden_states
        assert len(chosen) == len(every)
        assert [index for index, state in enumerate(chosen) if state is not None] == [0, 2]
        assert torch.equal(chosen[2], every[2])

    def test_input_embeddings_are_the_backbones(self, model):
        try:
            expected = model.backbone.get_input_embeddings()
        except NotImplementedError:
            with pytest.raises(NotImplementedError):
                model.get_input_embeddings()
            return
        assert model.get_input_embeddings() is expected
        other = torch.nn.Identity()
        model.set_input_embeddings(other)
        assert model.backbone.get_input_embeddings() is other

    def test_a_image_does_not_depend_on_its_batch(self, model):
        images = make_batch(self.size, batch_size=3)["pixel_values"]
        with torch.no_grad():
            together = model(images).property_logits
            alone = torch.cat([model(image[None]).property_logits for image in images])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)

    def test_mixed_precision(self, model):
        batch = make_batch(self.size)
        full = model(**batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(**batch)
        mixed.loss.backward()
        assert mixed.loss.dtype == torch.float32
        assert mixed.loss.item() == pytest.approx(full.loss.item(), abs=0.05)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    def test_attention_implementation_reaches_the_backbone(self, tmp_path):
        if not self.has_attentions:
            pytest.skip("the family has no attention")
        make_model(self.backbone()).save_pretrained(tmp_path)
        images = make_batch(self.size)["pixel_values"]
        outputs = []
        for name in ("eager", "sdpa"):
            model = ProLabForSemanticSegmentation.from_pretrained(tmp_path, attn_implementation=name)
            assert model.backbone.config._attn_implementation == name
            with torch.no_grad():
                outputs.append(model(images).logits)
        torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)

    # ---- training -----------------------------------------------------------------------------------------

    def test_gradient_reaches_every_parameter(self, model):
        loss, gradients = self.loss_and_gradients(model.train(), make_batch(self.size))
        assert torch.isfinite(loss)
        missing = [n for n, p in model.named_parameters() if p.requires_grad and n not in gradients]
        assert [name for name in missing if not re.search(self.never_trained, name)] == []
        silent = [n for n, g in gradients.items() if not g.abs().sum() > 0]
        assert [name for name in silent if not re.search(self.never_trained, name)] == []

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_gradient_checkpointing_changes_nothing(self, model, reentrant):
        if reentrant and not self.reentrant:
            pytest.skip("the family does not support reentrant checkpointing")
        batch = make_batch(self.size)
        model.train()
        saved_model = copy.deepcopy(model)
        _, plain = self.loss_and_gradients(model, batch)
        statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model = saved_model
        enable = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": reentrant})
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
        _, saved = self.loss_and_gradients(model, batch)
        assert plain.keys() == saved.keys()
        for name, gradient in plain.items():
            torch.testing.assert_close(saved[name], gradient, msg=lambda text, name=name: f"{name}: {text}")
        # The forward that runs again in backward must not move the running statistics again.
        for name, buffer in copy.deepcopy(model).named_buffers():
            torch.testing.assert_close(
                buffer, statistics[name], msg=lambda text, name=name: f"{name}: {text}"
            )

    def trainer(self, model, folder, **arguments):
        images = [make_batch(self.size, batch_size=1) for _ in range(4)]
        examples = [{key: value[0] for key, value in batch.items()} for batch in images]
        defaults = {
            "output_dir": str(folder),
            "per_device_train_batch_size": 2,
            "per_device_eval_batch_size": 2,
            "learning_rate": 1e-2,
            "max_steps": 4,
            "save_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "dataloader_drop_last": True,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "label_names": ["labels"],
        }
        training = TrainingArguments(**{**defaults, **arguments})
        return Trainer(model, training, train_dataset=examples, eval_dataset=examples[:2])

    def test_trainer_resumes_and_finds_its_best_weights(self, tmp_path):
        straight = make_model(self.backbone())
        self.trainer(straight, tmp_path, load_best_model_at_end=False).train()
        middle = ProLabForSemanticSegmentation.from_pretrained(tmp_path / "checkpoint-2")
        assert not torch.equal(
            middle.decode_head.classifier.weight, straight.decode_head.classifier.weight
        )  # two more steps did change it

        torch.manual_seed(99)
        resumed = ProLabForSemanticSegmentation(make_config(self.backbone()))
        trainer = self.trainer(resumed, tmp_path, load_best_model_at_end=False)
        with collected_warnings() as messages:
            trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        assert [message for message in messages if "missing" in message or "unexpected" in message] == []
        assert_same_tensors(resumed, straight)

        best = make_model(self.backbone())
        trainer = self.trainer(best, tmp_path / "best", learning_rate=0.0, max_steps=2)
        trainer.train()
        torch.manual_seed(98)
        other = ProLabForSemanticSegmentation(make_config(self.backbone()))
        trainer.model = trainer.model_wrapped = other
        trainer._load_best_model()  # as train() ends with load_best_model_at_end
        assert_same_tensors(other, best)

    def test_copies_are_independent(self, model):
        twin = copy.deepcopy(model)
        assert_same_tensors(model, twin)
        with torch.no_grad():
            twin.decode_head.classifier.weight.add_(1)
        assert not torch.equal(twin.decode_head.classifier.weight, model.decode_head.classifier.weight)


class TestConvNext(ModelProperties):
    def backbone(self):
        return ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], out_features=STAGES)


class TestPvtV2(ModelProperties):
    """The encoder of SegFormer's kind that transformers offers as a backbone."""

    reentrant = False  # its first checkpointed layer is fed with the images, which need no gradient

    def backbone(self):
        return PvtV2Config(
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
            mlp_ratios=[2, 2, 2, 2],
            drop_path_rate=0.0,
            out_features=STAGES,
        )


class TestSwin(ModelProperties):
    has_attentions = True
    never_trained = r"^backbone\.(swin\.)?layernorm\."  # of the classifier that Swin was made for

    def backbone(self):
        return SwinConfig(
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 4],
            window_size=4,
            out_features=STAGES,
            drop_path_rate=0.0,
        )


class TestDinov2(ModelProperties):
    size = (28, 28)
    odd_size = (36, 20)
    first_stride = 1
    has_attentions = True
    never_trained = r"mask_token"

    def backbone(self):
        return Dinov2Config(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=28,
            patch_size=4,
            out_indices=[1, 2, 3, 4],
        )


class TestBeit(ModelProperties):
    size = (32, 32)
    odd_size = None
    first_stride = 2
    has_attentions = True
    never_trained = r"mask_token|pooler"

    def backbone(self):
        return BeitConfig(
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
            patch_size=8,
            out_indices=[1, 2, 3, 4],
            use_relative_position_bias=True,
            drop_path_rate=0.0,
        )


@pytest.mark.skipif(not is_timm_available(), reason="timm is not installed")
class TestTimm(ModelProperties):
    left_uninitialized = ("backbone._backbone.",)

    def backbone(self):
        return TimmBackboneConfig(backbone="test_efficientnet", out_indices=[1, 2, 3, 4])


FAMILIES = {
    family.__name__: (family().backbone, family.size)
    for family in (TestConvNext, TestPvtV2, TestSwin, TestDinov2, TestBeit)
}
if is_timm_available():
    FAMILIES["TestTimm"] = (TestTimm().backbone, TestTimm.size)


def vit_adapter():
    vit = ViTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64
    )
    return ViTAdapterConfig(vit_config=vit, conv_inplane=8, deform_num_heads=2)


FAMILIES["ViTAdapter"] = (vit_adapter, (64, 64))

HEADS = {
    "segformer": {"decoder": "segformer"},
    "aspp": {"decoder": "aspp"},
    "linear": {"decoder": "linear"},
    "solved": {"decoder": "linear", "similarity": "linear_cosine", "unspoken_weight": 0.3},
    "before joining": {},  # as earlier versions saved: every part a file
}

WITHOUT_THE_PACKAGE = """
import sys
from pathlib import Path

class Hide:  # as if the package were not installed
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "prolab_hf":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

for folder in sorted(Path(sys.argv[1]).iterdir()):
    arrays = np.load(folder / "arrays.npz")
    image = Image.fromarray(arrays["image"])
    for place in (folder, folder / "again"):
        model = AutoModelForSemanticSegmentation.from_pretrained(place, trust_remote_code=True)
        processor = AutoImageProcessor.from_pretrained(place, trust_remote_code=True)
        for part in (model, model.config, processor):
            assert type(part).__module__.startswith("transformers_modules."), type(part)
        inputs = processor(images=image, return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits.numpy()
        # Another process may choose other kernels: equal to the last bits of float32.
        np.testing.assert_allclose(logits, arrays["logits"], rtol=0, atol=1e-6, err_msg=str(folder))
        if place == folder:
            found = pipeline("image-segmentation", model=str(place), trust_remote_code=True)(image)
            assert {item["label"] for item in found} == set(arrays["found"].tolist()), folder
            model.save_pretrained(folder / "again")
            processor.save_pretrained(folder / "again")
            shipped, again = ({path.name for path in p.glob("*.py")} for p in (folder, folder / "again"))
            assert shipped == again, shipped ^ again
"""


def test_as_remote_code_in_a_fresh_process(tmp_path, monkeypatch):
    for cls, auto_class in (
        (ProLabConfig, "AutoConfig"),
        (ProLabForSemanticSegmentation, "AutoModelForSemanticSegmentation"),
        (ProLabImageProcessorPil, "AutoImageProcessor"),
    ):
        monkeypatch.setattr(cls, "_auto_class", auto_class)
    kinds = {**FAMILIES, **{name: (TestConvNext().backbone, (64, 64)) for name in HEADS}}
    for name, (backbone, size) in kinds.items():
        model = make_model(backbone(), **HEADS.get(name, {}))
        folder = tmp_path / "models" / name
        processor = ProLabImageProcessorPil.from_model_config(model.config, do_resize=False)
        with monkeypatch.context() as patch:
            if name == "before joining":
                patch.setattr("prolab_hf.remote_code.join_shipped_files", lambda folder: None)
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
        shipped = {file.stem: file.read_text("utf-8") for file in folder.glob("*.py")}
        if name == "before joining":
            assert {*shipped, "image_processing_prolab"} == set(parts())
        else:
            # The other image processor is shipped by its own backend.
            assert {*shipped, "image_processing_prolab"} == set(FILES)
            assert all(text == joined(file) for file, text in shipped.items())
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        inputs = processor(images=image, return_tensors="pt")
        with torch.no_grad():
            output = model(**inputs)
        found = processor.post_process_semantic_segmentation(output, [size])[0].unique().tolist()
        labels = np.array([model.config.id2label[index] for index in found])
        np.savez(folder / "arrays.npz", image=image, logits=output.logits, found=labels)
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, str(tmp_path / "models")]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_backbone_remembers_its_hub_id_but_no_folder(tmp_path):
    ConvNextModel(TestConvNext().backbone()).save_pretrained(tmp_path / "network")
    small = {"hidden_size": 16, "auxiliary_channels": 8}
    model = ProLabForSemanticSegmentation.from_backbone(str(tmp_path / "network"), make_space(), **small)
    model.save_pretrained(tmp_path / "model")
    assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()
    vit = ViTModel(vit_adapter().vit_config)
    vit.save_pretrained(tmp_path / "vit")
    adapter = ViTAdapterBackbone.from_vit(tmp_path / "vit", conv_inplane=8, deform_num_heads=2)
    model = ProLabForSemanticSegmentation.from_backbone(adapter, make_space(), **small)
    model.save_pretrained(tmp_path / "model")
    assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()
