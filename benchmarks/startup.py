"""What starting costs, in CPU seconds: the command's help, its usage errors, and `import prolab_hf`.

    python benchmarks/startup.py --repeats 5

Every line is a process of its own; the least of the repeats is printed, because a busy machine only adds. The last
lines compare with what importing torch, transformers' Auto classes and torchvision costs in the same run.
"""

import argparse
import resource
import subprocess
import sys

BASE = """import torch, torchvision
from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation"""
COMMANDS = (
    ["--help"], ["--version"], ["train", "--help"], ["space", "build", "--help"], ["segment", "--help"],
    ["nonsense"], ["evaluate", "data"], ["segment", "image.png", "--model", "none/of/these"],
)  # fmt: skip
IMPORTS = {
    "torch, transformers' Auto classes, torchvision": BASE,
    "import prolab_hf": "import prolab_hf",
    "import prolab_hf, then the same": f"import prolab_hf\n{BASE}",
    "the same, then import prolab_hf": f"{BASE}\nimport prolab_hf",
    "from prolab_hf import *": "from prolab_hf import *",
    "from prolab_hf import PropertySpace": "from prolab_hf import PropertySpace",
}


def cpu_seconds(arguments: list[str], repeats: int) -> float:
    """CPU seconds of a process, the least of some repeats.

    Args:
        arguments: Of Python.
        repeats: Number of processes.
    """
    seconds = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="processes per line; the least is printed")
    repeats = parser.parse_args().repeats
    print("| command | CPU seconds |\n|---|---|")
    for words in COMMANDS:
        print(
            f"| prolab {' '.join(words)} | {cpu_seconds(['-m', 'prolab_hf', *words], repeats):.2f} |",
            flush=True,
        )
    print("\n| import | CPU seconds | ratio |\n|---|---|---|")
    base = 0.0
    for name, code in IMPORTS.items():
        seconds = cpu_seconds(["-c", code], repeats)
        base = base or seconds
        print(f"| {name} | {seconds:.2f} | {seconds / base:.2f} |", flush=True)


if __name__ == "__main__":
    main()
