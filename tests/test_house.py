"""The house's rules, read from the syntax tree: who may import whom, which words stand for what, what sizes are."""

import ast
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "prolab_hf"
MAX_LINES, MAX_FILES = 450, 14
MAX_SHARE_OF_ANY = 0.03

# Data flows downwards; rooms on one level do not know each other, except that data may use the model's processor.
LEVELS = {
    "": 0, "label_space": 1, "model": 2, "data": 3, "evaluation": 4, "solving": 5, "training": 6, "explanation": 6,
    "editing": 7, "hub": 8, "demo": 9, "quickstart": 10, "cli": 11,
}  # fmt: skip
ROOT_FILES = {"__init__", "__main__", "bundled_models", "deprecation", "files", "markup", "progress", "protocols",
              "quickstart", "registration", "remote_code", "suggestions", "uploading"}  # fmt: skip
# transformers' scan for remote code forces these three to name each other.
ALLOWED_CIRCLE = {f"prolab_hf.model.image_processing_{name}prolab" for name in ("", "pil_", "shared_")}
FORBIDDEN_FILES = {"utils", "helpers", "common", "base", "support", "misc", "tools"}
WORDS = {
    r"picture": "image",
    r"licen[c]e": "license",
    r"show_progress_bar|progress_bar": "show_progress",
    r"(^|_)door(_|$)": "the field's word: loop, dataloader, command",
    r"remember": "cache",
}
# Rooms that hold a PropertySpace or masks count classes; rooms that hold a model count labels, as transformers does.
COUNTS = {"label_space": "num_labels", "data": "num_labels", "model": "num_classes", "evaluation": "num_classes",
          "solving": "num_classes", "training": "num_classes", "explanation": "num_classes"}  # fmt: skip


@cache
def modules():
    """Dotted name of every module of the package, with its file and its syntax tree."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = (path, ast.parse(path.read_text("utf-8")))
    return found


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVELS else ""


@cache
def imports():
    """Who imports whom inside of the package, also late and for annotations only."""
    known = modules()

    def target(name):
        while name not in known:
            name = name.rpartition(".")[0]
        return name

    edges = defaultdict(set)
    for module, (path, tree) in known.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = package.rsplit(".", node.level - 1)[0] if node.level else ""
                start = ".".join(part for part in (above, node.module) if part)
                names = [f"{start}.{alias.name}" for alias in node.names]
            else:
                continue
            edges[module] |= {target(name) for name in names if name.partition(".")[0] == "prolab_hf"} - {
                module
            }
    return edges


def test_a_room_imports_only_earlier_rooms():
    wrong = [
        f"{module} imports {other}"
        for module, others in imports().items()
        for other in others
        if module != "prolab_hf"  # the public names, loaded when they are used
        and room(module) != room(other)
        and LEVELS[room(other)] >= LEVELS[room(module)]
        and module != "prolab_hf.__main__"
        and other != "prolab_hf"
    ]
    assert wrong == []


def test_nothing_but_the_command_asks_for_the_public_names():
    """An import of the package itself from inside of it hides which room is meant."""
    wrong = [
        module for module, others in imports().items()
        if "prolab_hf" in others and room(module) != "cli"
    ]  # fmt: skip
    assert wrong == []


def test_the_model_travels_alone():
    """Remote code is a flat folder: at the top of its files, only siblings and installed packages are imported."""
    for module, (path, tree) in modules().items():
        if room(module) != "model":
            continue
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("prolab_hf"), path
                assert node.level <= 1 and ("." not in (node.module or "") or node.level == 0), path


def test_there_are_no_circles():
    edges = {module: others - {"prolab_hf"} for module, others in imports().items()}

    def reach(start):
        found, ahead = set(), [start]
        while ahead:
            for other in edges.get(ahead.pop(), ()):
                if other not in found:
                    found.add(other)
                    ahead.append(other)
        return found

    reachable = {module: reach(module) for module in list(edges)}
    circles = {module for module, found in reachable.items() if module in found}
    assert circles == ALLOWED_CIRCLE


def identifiers(tree):
    """Names that a module gives: of classes, functions, arguments, fields and variables, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def test_one_word_for_one_thing():
    wrong = {
        f"{path.relative_to(PACKAGE)}: {name} (say {better})"
        for path, tree in modules().values()
        for name, _ in identifiers(tree)
        for word, better in WORDS.items()
        if re.search(word, name, re.IGNORECASE)
    }
    assert wrong == set()


def test_a_room_counts_classes_or_labels():
    wrong = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for module, (path, tree) in modules().items()
        for name, _ in identifiers(tree)
        if COUNTS.get(room(module)) == name
    }
    assert wrong == set()


def test_files_have_names_of_their_own_and_a_size_that_can_be_read():
    wrong = []
    for path, _ in modules().values():
        name = str(path.relative_to(PACKAGE))
        lines = len(path.read_text("utf-8").splitlines())
        if path.stem in FORBIDDEN_FILES or lines > MAX_LINES:
            wrong.append(f"{name}: {lines} lines")
    assert wrong == []
    assert {path.stem for path in PACKAGE.glob("*.py")} <= ROOT_FILES


def test_folders_can_be_overseen():
    files = Counter(path.parent for path, _ in modules().values() if path.stem != "__init__")
    # A command is a file; the model's folder travels as remote code, which transformers copies from one flat folder.
    wide = {PACKAGE / "cli", PACKAGE / "model"}
    assert {folder.name: number for folder, number in files.items()
            if number > MAX_FILES and folder not in wide} == {}  # fmt: skip


def functions():
    for module, (path, tree) in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield module, path, node


def annotated(function):
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [argument for argument in every if argument is not None and argument.arg not in ("self", "cls")]


def test_every_argument_says_what_it_is():
    bare = [
        f"{path.relative_to(PACKAGE)}: {function.name}({argument.arg})"
        for _, path, function in functions()
        for argument in annotated(function)
        if argument.annotation is None
    ]
    assert bare == []


def is_any(annotation):
    """Whether a hint says nothing: `Any` itself, alone or in a union; a mapping of JSON values says something."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp):
        return is_any(annotation.left) or is_any(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def share_of_any():
    """Arguments whose hint is `Any`, as a share of the annotated ones; `*args` and `**kwargs` count too."""
    hints = [argument.annotation for _, _, function in functions() for argument in annotated(function)]
    return sum(is_any(hint) for hint in hints) / len(hints)


def test_hints_say_something():
    assert share_of_any() < MAX_SHARE_OF_ANY


@pytest.mark.parametrize(
    ("hint", "says_nothing"),
    [("Any", True), ("Any | None", True), ("'Any'", True), ("dict[str, Any]", False), ("object", False)],
)
def test_the_measure_of_any(hint, says_nothing):
    assert is_any(ast.parse(hint, mode="eval").body) == says_nothing
