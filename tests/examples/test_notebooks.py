"""The notebooks run from top to bottom, in a kernel of their own, without a network."""

import pytest

NAMES = ("solve_and_explain", "new_classes", "adapt_a_model")


def test_all_notebooks_are_tested(repository):
    assert {path.stem for path in (repository / "examples/notebooks").glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, repository, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="needs the extra docs")
    client = pytest.importorskip("nbclient", reason="needs the extra docs")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.read(repository / "examples/notebooks" / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells), "notebooks are kept without outputs"
    client.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell for cell in book.cells if cell.cell_type == "code" and cell.outputs]
    assert shown and not any(output.output_type == "error" for cell in shown for output in cell.outputs)
