"""The joined files that travel with a checkpoint: the package's code and nothing else, and the same answers."""

import ast
import builtins
import dis
import importlib
import subprocess
import sys
from collections import Counter
from types import CodeType

import pytest
import torch
from transformers import ConvNextConfig, ViTConfig

from prolab_hf import (
    ProLabConfig,
    ProLabForSemanticSegmentation,
    ProLabImageProcessor,
    ProLabImageProcessorPil,
    PropertySpace,
    ViTAdapterConfig,
    remote_code,
)
from prolab_hf.remote_code import FILES, MODEL, join_shipped_files, joined, parts

MAX_FILES = 12
SIZE = 64


def statements(text):
    """What a file does, without docstring and imports: every statement in one canonical form."""
    nodes = ast.parse(text).body[1:]
    return [ast.dump(node) for node in nodes if not isinstance(node, ast.Import | ast.ImportFrom)]


def public_list(statement):
    return "Name(id='__all__'" in statement


@pytest.fixture(scope="module")
def joined_code(tmp_path_factory):
    """The joined files, imported as a package of their own beside prolab_hf."""
    folder = tmp_path_factory.mktemp("joined") / "joined_code"
    remote_code.write_remote_code(folder)
    (folder / "__init__.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder.parent))
        yield {name: importlib.import_module(f"joined_code.{name}") for name in FILES}
    for name in [name for name in sys.modules if name.startswith("joined_code")]:
        del sys.modules[name]


def test_the_joined_files_say_what_the_package_says():
    shipped = Counter(statement for name in FILES for statement in statements(joined(name)))
    package = Counter(
        statement for part in parts() for statement in statements((MODEL / f"{part}.py").read_text("utf-8"))
    )
    lost = package - shipped
    # Each part's list of public names goes but for the file's own, and what two parts both said is said once.
    assert [s for s in lost if not public_list(s) and s not in shipped] == []
    assert shipped - package == Counter()
    assert len(FILES) <= MAX_FILES
    assert {path.stem for path in MODEL.glob("*.py")} == {*parts(), "__init__"}


def global_names(code):
    """Names that functions look up when they run, those inside of classes and functions, too."""
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def test_every_name_in_the_joined_files_is_defined(joined_code):
    """Joining can lose an import; Python would only notice where the name is used."""
    for name, module in joined_code.items():
        used = set(global_names(compile(joined(name), name, "exec")))
        late = {"PropertySpace"}  # exists for annotations only
        assert used - {*vars(module), *vars(builtins)} <= late, name


@pytest.fixture(scope="module")
def space():
    return PropertySpace(
        class_names=["sky", "road", "car"],
        property_names=["blue", "flat", "has wheels", "above"],
        property_embeddings=torch.nn.functional.normalize(torch.randn(4, 12), dim=1),
        class_property_matrix=torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]]),
    )


def backbone():
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], out_features=stages)


def vit_adapter():
    vit = ViTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=64
    )
    return ViTAdapterConfig(vit_config=vit, conv_inplane=8, deform_num_heads=2)


KINDS = {
    "paper": {},
    "cosine": {"similarity": "cosine", "class_loss_weight": 0.5},
    "bce": {"property_loss": "bce", "class_loss_weight": 1.0, "decoder": "segformer"},
    "regions": {"dice_loss_weight": 0.5, "lovasz_loss_weight": 0.5, "decoder": "aspp"},
    "plain": {"loss_implementation": "plain", "similarity": "sigmoid_l2"},
    "linear": {"decoder": "linear"},
    "solved": {"decoder": "linear", "similarity": "linear_cosine", "unspoken_weight": 0.3},
    "vit adapter": {"backbone_config": vit_adapter},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_joined_code_gives_the_same_bits(joined_code, kind, space):
    fields = {"hidden_size": 16, "auxiliary_channels": 8, **space.to_config_kwargs(), **KINDS[kind]}
    make_backbone = fields.pop("backbone_config", backbone)
    torch.manual_seed(0)
    model = ProLabForSemanticSegmentation(ProLabConfig(backbone_config=make_backbone(), **fields))
    model.set_property_space(space)
    config = joined_code["configuration_prolab"].ProLabConfig.from_dict(model.config.to_dict())
    other = joined_code["modeling_prolab"].ProLabForSemanticSegmentation(config)
    assert type(other).__module__ == "joined_code.modeling_prolab"
    other.load_state_dict(model.state_dict())
    values = torch.randn(2, 3, SIZE, SIZE)
    labels = torch.randint(0, model.config.num_labels, (2, SIZE, SIZE))
    labels[:, :3] = 255
    results = []
    for network in (model, other):
        torch.manual_seed(1)  # dropout
        output = network.train()(values, labels=labels)
        output.loss.backward()
        found = {name: parameter.grad for name, parameter in network.named_parameters()}
        with torch.no_grad():
            answer = network.eval()(values)
        results.append(
            {**found, "loss": output.loss, "logits": answer.logits, "properties": answer.property_logits}
        )
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert value is results[1][name] is None or torch.equal(value, results[1][name]), name


@pytest.mark.parametrize("name", ["ProLabImageProcessor", "ProLabImageProcessorPil"])
def test_the_joined_processors_give_the_same_bits(joined_code, name):
    theirs = {
        "ProLabImageProcessor": ProLabImageProcessor,
        "ProLabImageProcessorPil": ProLabImageProcessorPil,
    }[name]
    file = "image_processing_prolab" if name == "ProLabImageProcessor" else "image_processing_pil_prolab"
    ours = getattr(joined_code[file], name)
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8).numpy()
    labels = torch.randint(0, 5, (50, 70)).numpy()
    batches = [cls(size={"shortest_edge": 64})(image, labels, return_tensors="pt") for cls in (theirs, ours)]
    assert batches[0].keys() == batches[1].keys()
    assert all(torch.equal(batches[0][key], batches[1][key]) for key in batches[0])


def test_what_is_not_the_packages_file_stays(tmp_path):
    own = {"modeling_prolab.py": "# of another version", "loss_prolab.py": "# mine", "notes.py": "# mine"}
    for name, text in own.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "resize_prolab.py").write_bytes((MODEL / "resize_prolab.py").read_bytes())
    (tmp_path / "wrapped_modules_prolab.py").write_bytes((MODEL / "wrapped_modules_prolab.py").read_bytes())
    join_shipped_files(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in own} == own
    assert (tmp_path / "resize_prolab.py").read_text("utf-8") == joined("resize_prolab")
    assert not (tmp_path / "wrapped_modules_prolab.py").exists()


@pytest.mark.parametrize(
    "parts, message",
    [
        ({"a": '"""A."""\n\nLIMIT = 1\n'}, "'LIMIT', which has another meaning"),
        ({"a": '"""A."""\n\nimport numpy as LIMIT\n'}, "'LIMIT', which has another meaning"),
        ({"a": '"""A."""\n\n\ndef sum():\n    pass\n'}, "'sum', which is Python's"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(tmp_path, monkeypatch, parts, message):
    root = '"""Root."""\n\nfrom .a import x\n\nLIMIT = 2\n'
    for name, text in {**parts, "root": root}.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(remote_code, "MODEL", tmp_path)
    monkeypatch.setattr(remote_code, "FILES", ("root",))
    for cached in (remote_code.parts, remote_code._all_joined):
        monkeypatch.setattr(remote_code, cached.__name__, cached.__wrapped__)
    with pytest.raises(ValueError, match=message):
        joined("root")


def test_the_module_writes_what_would_be_shipped(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "prolab_hf.remote_code", str(tmp_path / "code")],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "code").iterdir()}
    assert written == {f"{name}.py": joined(name) for name in FILES}
