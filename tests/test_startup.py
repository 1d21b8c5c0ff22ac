"""What `import prolab_hf` and the command load, and what the Auto classes know whatever was imported first.

Modules are counted, in processes of their own; `benchmarks/startup.py` measures seconds.
"""

import json
import pickle
import subprocess
import sys

import pytest

import prolab_hf

HEAVY = {"torch", "transformers", "torchvision", "timm", "sklearn", "datasets", "accelerate", "matplotlib",
         "evaluate", "scipy", "pandas", "numpy", "huggingface_hub", "safetensors", "jinja2", "PIL", "starlette",
         "uvicorn"}  # fmt: skip
WHEN_USED = {"sklearn", "datasets", "matplotlib", "evaluate", "pandas", "timm"}
REPORT = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def loaded(code):
    """Top-level packages that are loaded after some code, in a new process."""
    result = subprocess.run(
        [sys.executable, "-c", code + REPORT], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def printed(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def command(*words):
    return (
        "import contextlib, io\nfrom prolab_hf.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        f"    code = run({list(words)!r})\n"
        "assert code in (0, 2), code\n"
    )


def test_the_package_loads_nothing_before_it_is_used():
    assert loaded("import prolab_hf") & HEAVY == set()


@pytest.mark.parametrize(
    "code",
    [
        "\n".join(command(*words) for words in (
            ["--help"], ["--version"], ["train", "--help"], ["space", "--help"], ["space", "build", "--help"],
            ["check-data", "--help"], ["evaluate", "--help"], ["segment", "--help"], ["push", "--help"],
        )),
        "\n".join(command(*words) for words in (
            [], ["nonsense"], ["check-data"], ["evaluate", "x"], ["segment", "a.png", "--model", "b", "--nonsense"],
            ["space", "nonsense"], ["demo", "--model", "none"], ["card", "none"], ["push", "none", "a/b"],
            ["explain", "a.png", "--model", "b"], ["explain", "a.png", "--model", "b", "--point", "x"],
            ["train"], ["train", "x", "--out", "y"], ["solve", "x"], ["adapt", "x"],
        )),
    ],
    ids=["help", "usage errors"],
)  # fmt: skip
def test_help_and_usage_errors_load_nothing(code):
    assert loaded(code) & HEAVY == set()


def test_the_public_names_load_what_they_need_and_no_more():
    # transformers' own Trainer loads `datasets`, wherever it is imported from.
    names = [name for name in prolab_hf.__all__ if not name.startswith("ProLabTrain")]
    assert loaded(f"from prolab_hf import {', '.join(names)}") & WHEN_USED == set()
    words = loaded("from prolab_hf import PropertySpace\nPropertySpace.from_pretrained('ade20k')")
    assert words & {"torchvision", "transformers", "sklearn", "matplotlib", "datasets"} == set()


def test_commands_about_words_load_no_image_library():
    shown = command("space", "show", "cityscapes")
    assert loaded(shown) & {"torchvision", "datasets", "timm", "evaluate"} == set()


CHECK = """
config = AutoConfig.for_model("prolab", backbone_config={"model_type": "resnet"}, class_properties=[[0], [1]])
print(type(config).__module__, AutoModelForSemanticSegmentation._model_mapping[type(config)].__name__)
print(AutoBackbone._model_mapping[type(AutoConfig.for_model("vit_adapter"))].__name__)
"""
AUTO = "from transformers import AutoBackbone, AutoConfig, AutoModelForSemanticSegmentation"


@pytest.mark.parametrize(
    "first",
    [
        f"import importlib, prolab_hf\nimportlib.reload(prolab_hf)\n{AUTO}",
        f"{AUTO}\nimport prolab_hf",
        f"import prolab_hf\nimport transformers.modeling_layers\n{AUTO}",
        f"import prolab_hf.model.modeling_prolab\n{AUTO}",
    ],
)
def test_the_auto_classes_know_prolab_in_every_order(first):
    expected = ["prolab_hf.model.configuration_prolab", "ProLabForSemanticSegmentation", "ViTAdapterBackbone"]
    assert printed(first + CHECK) == expected


def test_threads_may_import_at_the_same_time():
    code = """
import threading
import prolab_hf
names = ["transformers.modeling_layers", "prolab_hf.model.modeling_prolab", "transformers.pipelines",
         "prolab_hf.model.image_processing_pil_prolab", "transformers.models.auto.configuration_auto"]
import importlib
threads = [threading.Thread(target=importlib.import_module, args=(name,)) for name in names]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
import sys
assert not [finder for finder in sys.meta_path if type(finder).__name__ == "_AutoClasses"], "everything is registered"
"""
    expected = ["prolab_hf.model.configuration_prolab", "ProLabForSemanticSegmentation", "ViTAdapterBackbone"]
    assert printed(code + AUTO + CHECK) == expected


def test_pickles_name_the_modules_that_define_the_classes():
    config = prolab_hf.ProLabConfig(class_properties=[[0], [1]])
    assert b"prolab_hf.model.configuration_prolab" in pickle.dumps(config)
    assert pickle.loads(pickle.dumps(config)).num_labels == 2


def test_names_are_listed_found_and_refused():
    for name in prolab_hf.__all__:
        assert name in dir(prolab_hf)
        assert getattr(prolab_hf, name) is getattr(prolab_hf, name)
        assert getattr(prolab_hf, name).__module__.startswith("prolab_hf.")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = prolab_hf.nonsense
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec("from prolab_hf import nonsense")


def test_verbs_are_the_functions_of_their_rooms():
    from prolab_hf.evaluation.inference import segment
    from prolab_hf.explanation.contributions import explain
    from prolab_hf.training.trainer import train

    assert (prolab_hf.segment, prolab_hf.explain, prolab_hf.train) == (segment, explain, train)
    assert prolab_hf.evaluate.__module__ == "prolab_hf.evaluation.evaluate"
