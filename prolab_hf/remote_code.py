"""The code that travels with a checkpoint: the many files of `prolab_hf/model`, joined into the seven of `FILES`.

transformers copies every file that a saved class needs beside the weights, for `trust_remote_code=True` where
prolab_hf is not installed. Thirty files are good to read and bad to ship: the Hub client asks for each of them. So
the files that were copied are replaced by fewer, as transformers generates its own `modeling_*.py` from parts. Nothing
is rewritten on the way: the text of each part stands in the joined file as it stands in the package, only imports
are gathered at the top.

`python -m prolab_hf.remote_code FOLDER` writes the files, for whoever wants to read what strangers would run.
"""

import ast
import builtins
import sys
import textwrap
from functools import cache
from pathlib import Path

MODEL = Path(__file__).with_name("model")

FILES = (
    "remote_code_prolab",
    "resize_prolab",
    "configuration_prolab",
    "modeling_prolab",
    "image_processing_shared_prolab",
    "image_processing_prolab",
    "image_processing_pil_prolab",
)
"""What is shipped. Each file takes in the parts that it needs and that no file before it took in."""

MAX_LINE = 120


def join_shipped_files(folder: Path) -> None:
    """Replaces the files of `prolab_hf/model` that transformers copied into a folder by the joined ones.

    Files that are not the package's, byte by byte, stay as they are: those of another version and those of users.

    Args:
        folder: Folder of a saved model, configuration or processor.
    """
    copied = [name for name in FILES if _is_copy(folder / f"{name}.py")]
    if not copied:
        return
    for part in parts():
        if part not in FILES and _is_copy(folder / f"{part}.py"):
            (folder / f"{part}.py").unlink()
    for name in copied:
        (folder / f"{name}.py").write_text(joined(name), "utf-8")


def _is_copy(path: Path) -> bool:
    return path.is_file() and path.read_bytes() == (MODEL / path.name).read_bytes()


def joined(name: str) -> str:
    """The text of a shipped file.

    Args:
        name: One of `FILES`.

    Raises:
        ValueError: The parts cannot stand in one file: two of them give a name different meanings, or an import
            renames what a part defines.
    """
    return _all_joined()[name]


@cache
def parts() -> dict[str, tuple[str, ...]]:
    """Every file of `prolab_hf/model` that is shipped, and the files beside it that it imports."""
    found = {}
    for path in sorted(MODEL.glob("*.py")):
        if path.stem != "__init__":
            nodes = ast.parse(path.read_text("utf-8")).body
            found[path.stem] = tuple(
                node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level
            )
    return found


@cache
def _all_joined() -> dict[str, str]:
    place: dict[str, str] = {}
    order: dict[str, list[str]] = {}

    def take(part: str, name: str) -> None:
        if part in place or (part in FILES and part != name):
            return
        place[part] = name
        for needed in parts()[part]:
            take(needed, name)
        order[name].append(part)  # after what it needs

    for name in FILES:
        order[name] = []
        take(name, name)
    return {name: _JoinedFile(name, order[name], place).text() for name in FILES}


class _JoinedFile:
    """One shipped file, made of parts whose order is that of their imports.

    Args:
        name: Name of the file; its own part is the last.
        order: The parts.
        place: The file that each part of all files goes to.
    """

    def __init__(self, name: str, order: list[str], place: dict[str, str]) -> None:
        self.name, self.order, self.place = name, order, place
        self.imports: dict[tuple[int, str], set[tuple[str, str | None]]] = {}
        self.meanings: dict[str, str] = {}
        self.title = ""

    def text(self) -> str:
        """The whole file."""
        bodies = [self._body(part) for part in self.order]
        note = textwrap.fill(
            "Written by prolab_hf/remote_code.py; what to change are the files in prolab_hf/model that stand here "
            f"one after another: {', '.join(self.order)}.",
            MAX_LINE,
            break_on_hyphens=False,
        )
        return "\n\n".join([f'"""{self.title}\n\n{note}\n"""', self._gathered_imports(), *bodies]) + "\n"

    def _body(self, part: str) -> str:
        """The text of a part without its docstring and its imports."""
        source = (MODEL / f"{part}.py").read_text("utf-8")
        lines, tree = source.splitlines(), ast.parse(source)
        dropped: set[int] = set()
        for node in tree.body:
            first, last = node.lineno, node.end_lineno or node.lineno
            if node is tree.body[0]:
                text = ast.get_docstring(tree) or ""
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._gather(node, part)
            elif not self._is_repeated(node, "\n".join(lines[first - 1 : last]), part):
                continue
            dropped.update(range(first, last + 1))
        kept = "\n".join(line for number, line in enumerate(lines, 1) if number not in dropped).strip("\n")
        self.title = text.replace("\\", "\\\\")
        if len(self.order) == 1:
            return "\n" + kept
        rule = f"# {'=' * 20} {part}.py {'=' * 20}"
        comment = "" if part == self.name else "\n" + "\n".join(f"# {t}".rstrip() for t in text.splitlines())
        while "\n\n\n\n" in kept:
            kept = kept.replace("\n\n\n\n", "\n\n\n")
        return f"\n{rule}{comment}\n\n{kept}"

    def _gather(self, node: ast.Import | ast.ImportFrom, part: str) -> None:
        module, level = (node.module or "", node.level) if isinstance(node, ast.ImportFrom) else ("", 0)
        for alias in node.names:
            if level:
                if alias.asname is not None:
                    raise ValueError(f"{part}.py: {alias.name} is imported as {alias.asname}.")
                place = self.place[module]
                if place == self.name:
                    continue
                where = place
            else:
                where = module
            self._means(alias.asname or alias.name, f"import of {where} {alias.name}", part)
            self.imports.setdefault((level, where), set()).add((alias.name, alias.asname))

    def _is_repeated(self, node: ast.stmt, text: str, part: str) -> bool:
        """Whether a statement repeats one of an earlier part, or is the list of public names of one."""
        names = _defined_names(node)
        if "__all__" in names:
            return part != self.name
        repeated = [self._means(name, text, part) for name in names]
        return bool(repeated) and all(repeated)

    def _means(self, name: str, meaning: str, part: str) -> bool:
        """Notes what a name stands for; whether it was known.

        Raises:
            ValueError: It stands for something else already, or for something that Python has by that name.
        """
        if name == "_":  # what nobody calls by its name
            return False
        before = self.meanings.setdefault(name, meaning)
        if before is not meaning and _plain(before) != _plain(meaning):
            raise ValueError(f"{part}.py defines {name!r}, which has another meaning in {self.name}.py.")
        if hasattr(builtins, name):
            raise ValueError(f"{part}.py defines {name!r}, which is Python's.")
        return before is not meaning

    def _gathered_imports(self) -> str:
        theirs: list[str] = []
        ours: list[str] = []
        for (level, module), names in self.imports.items():
            ordered = sorted(names, key=lambda pair: (not pair[0].isupper(), pair[0].islower(), pair[0]))
            said = [name if asname is None else f"{name} as {asname}" for name, asname in ordered]
            if not module:
                theirs += [f"import {one}" for one in said]
                continue
            line = f"from {'.' * level}{module} import {', '.join(said)}"
            if len(line) > MAX_LINE:
                line = f"from {'.' * level}{module} import (\n    " + ",\n    ".join(said) + ",\n)"
            (ours if level else theirs).append(line)
        blocks = [sorted(theirs, key=lambda line: (line.startswith("from"), line)), sorted(ours)]
        return "\n\n".join("\n".join(block) for block in blocks if block)


def _plain(meaning: str) -> str:
    """Where a name is imported from is one meaning, whichever of its two forms the import has."""
    return " ".join(meaning.replace("import of torch.nn.functional", "import of torch.nn functional").split())


def _defined_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.If):  # `if TYPE_CHECKING:`
        return [name for inner in node.body for name in _defined_names(inner)]
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def write_remote_code(folder: Path) -> None:
    """Writes all shipped files into a folder, to be read.

    Args:
        folder: Where to; made if absent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (folder / f"{name}.py").write_text(joined(name), "utf-8")


if __name__ == "__main__":
    write_remote_code(Path(sys.argv[1]))
