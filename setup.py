"""Packaging of prolab_hf: dependencies with tested lower bounds, extras and the bundled property spaces."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "prolab_hf" / "__init__.py").read_text("utf-8"))[1]

EXTRAS = {
    # Any timm network as backbone, and torchvision's image-processing backend (timm needs torchvision).
    "timm": ["timm>=1.0.23", "torchvision>=0.25"],
    # Sentence encoders packaged for sentence-transformers (plain transformers encoders need no extra).
    "sentence-transformers": ["sentence-transformers>=5.2"],
    # Descriptions through an OpenAI-compatible endpoint.
    "describe": ["openai>=1.60", "gguf>=0.17"],
    # Adapters (LoRA and others) on backbone, decoder and heads.
    "peft": ["peft>=0.21"],
    # GeoTIFFs and other TIFFs of more than three bands or 8 bits.
    "geo": ["tifffile>=2024.8"],
    # COCO's polygons and run lengths.
    "formats": ["pycocotools>=2.0.8"],
    # Video files in `prolab segment`.
    "video": ["av>=13.0"],
    "export": ["onnx>=1.19", "onnxruntime>=1.20", "onnxscript>=0.7"],
}
EXTRAS["all"] = sorted({package for extra in EXTRAS.values() for package in extra})
# Large, and each for few: not part of `all`.
EXTRAS |= {
    # Trackers of training runs: --report-to NAME.
    "tensorboard": ["tensorboard>=2.18"],
    "trackio": ["trackio>=0.5"],
    "wandb": ["wandb>=0.18"],
    "mlflow": ["mlflow>=2.16"],
    "aim": ["aim>=3.24"],
    # ZeRO-2 and ZeRO-3; needs no compiled operator (DS_BUILD_OPS=0 pip install ...).
    "deepspeed": ["deepspeed>=0.18"],
}
EXTRAS["test"] = [
    "pytest>=8.0",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "httpx2>=2.0",
    # The page in a real browser; without Debian's chromium those tests skip.
    "playwright>=1.49",
    # Dice, focal and Lovasz losses, as an independent reference.
    "segmentation-models-pytorch>=0.5",
    "tensorboard>=2.18",
    *EXTRAS["peft"],
]
EXTRAS["dev"] = ["ruff>=0.14", "mypy>=1.14"]
# The site; where it is not installed, the tests of the documentation's code still run.
EXTRAS["docs"] = [
    "mkdocs>=1.6",
    "mkdocs-material>=9.6",
    "mkdocstrings[python]>=1.0",
    "nbclient>=0.10",
    "ipykernel>=6.29",
]
EXTRAS["release"] = ["build>=1.2", "twine>=6.1"]

setup(
    name="prolab_hf",
    version=VERSION,
    description="Semantic segmentation that answers in properties: ProLab for the Hugging Face ecosystem",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["prolab_hf", "prolab_hf.*"]),
        "prolab_hf.property_spaces",
        "prolab_hf.example_models",
    ],
    # Spaces and models live where people look for them in the repository, and inside the wheel.
    package_dir={
        "prolab_hf.property_spaces": "property_spaces",
        "prolab_hf.example_models": "examples/models",
    },
    package_data={
        "prolab_hf": ["py.typed", "hub/*.md.j2", "label_space/views/*.html", "demo/page/*"],
        "prolab_hf.property_spaces": ["*/property_space.json", "*/property_space.safetensors", "*/README.md"],
        "prolab_hf.example_models": ["*/*.json", "*/*.safetensors", "*/README.md"],
    },
    install_requires=[
        "torch>=2.10",
        "transformers>=5.23,<6",
        "huggingface-hub>=1.31,<3",
        "safetensors>=0.8",
        "datasets>=5.0",
        "accelerate>=1.12",
        "evaluate>=0.4.3",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "numpy>=2.0",
        "Pillow>=11.3",
        "matplotlib>=3.9",
        "typer>=0.20",
        "rich>=13.7",
        # What transformers asks of it for chat templates.
        "Jinja2>=3.1.6",
        "PyYAML>=6.0",
        # The web page of `prolab demo`: limits on bodies and cookies in frames came with starlette 1.7.
        "pydantic>=2.5.3",  # of typer, too
        "starlette>=1.7",
        "uvicorn>=0.30",
        "itsdangerous>=2.1",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["prolab = prolab_hf.cli:main"]},
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
