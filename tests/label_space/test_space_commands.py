"""`prolab space` as a user runs it, on a real folder with a real encoder."""

import json
import re

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from prolab_hf.cli.space_commands import space_app
from prolab_hf.label_space.property_space import PropertySpace

runner = CliRunner()


def run(*arguments):
    return runner.invoke(space_app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def texts(tmp_path, descriptions):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(descriptions), "utf-8")
    return path


@pytest.fixture
def saved(space, tmp_path):
    space.save_pretrained(tmp_path / "toy")
    return tmp_path / "toy"


def test_build_then_add_a_class(texts, tmp_path, bert_folder, descriptions):
    out = tmp_path / "built"
    result = run(
        "build",
        texts,
        "--out",
        out,
        "--encoder",
        bert_folder,
        "-k",
        7,
        "--encoder-name",
        "me/tiny",
        "--license",
        "cc0-1.0",
    )
    assert result.exit_code == 0, result.output
    space = PropertySpace.from_pretrained(out)
    assert space.provenance == {"license": "cc0-1.0"}
    assert space.name == "built" and space.encoder["name"] == "me/tiny"
    expected = PropertySpace.build(descriptions, encoder=bert_folder, num_properties=7)
    assert torch.equal(space.class_property_matrix, expected.class_property_matrix)
    grown = tmp_path / "grown"
    result = run(
        "add-class",
        out,
        "--out",
        grown,
        "-e",
        bert_folder,
        "--name",
        "van",
        "--encoder-name",
        "me/tiny",
        "-d",
        "four round wheels",
        "-d",
        "leaves of metal",
    )
    assert result.exit_code == 0, result.output
    assert PropertySpace.from_pretrained(grown).class_names[-1] == "van"


def test_known_sentences_are_added_without_an_encoder(saved, tmp_path):
    result = run(
        "add-class", saved, "-o", tmp_path / "new", "--name", "van", "-d", "windows", "-d", "wheels of rubber"
    )
    assert result.exit_code == 0, result.output
    assert PropertySpace.from_pretrained(tmp_path / "new").class_properties[-1] == [0, 2]


def test_check_prints_findings_and_fails_on_errors(saved, space, tmp_path):
    report = tmp_path / "report.json"
    result = run("check", saved, "--json", report, "--limit", 30)
    assert result.exit_code == 0, result.output
    assert "nearest-row cosine" in result.output and "'unused'" in result.output
    assert json.loads(report.read_text("utf-8"))["fingerprint"] == space.fingerprint
    twins = space.replace(class_property_matrix=space.class_property_matrix[[0, 0, 2, 3, 4]], assignments={})
    twins.save_pretrained(tmp_path / "twins")
    result = run("check", tmp_path / "twins")
    assert result.exit_code == 1 and "equal rows" in result.output


def test_check_with_a_taxonomy(saved, space, tmp_path):
    path = tmp_path / "taxonomy.json"
    path.write_text(json.dumps(dict(zip(space.class_names, "vvvpp"))), "utf-8")
    result = run("check", saved, "--taxonomy", path)
    assert result.exit_code == 0 and "super-category" in result.output
    path.write_text("[]", "utf-8")
    assert isinstance(run("check", saved, "--taxonomy", path).exception, ValueError)


def test_show(saved, tmp_path):
    result = run("show", saved)
    assert result.exit_code == 0 and "green leaves" in result.output and "5 of 5 classes" in result.output
    result = run("show", saved, "--class", "car")
    assert "Four wheels; wheels of rubber" in result.output
    result = run("show", saved, "--property", "wheels")
    assert "cart" in result.output and "tree" not in result.output
    result = run("show", saved, "--figures", tmp_path / "figures", "--html", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "figures" / "matrix.png").is_file() and (tmp_path / "page.html").is_file()
    assert "Did you mean 'car'" in str(run("show", saved, "--class", "carr").exception)


def test_compare(saved, space, tmp_path):
    space.set_row("cart", ["wheels", "flat"]).replace(name="second").save_pretrained(tmp_path / "second")
    result = run("compare", saved, tmp_path / "second", "--json", tmp_path / "result.json")
    assert result.exit_code == 0, result.output
    assert "gained flat; lost metal" in result.output and "second" in result.output
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["changed_rows"]["cart"]["lost"] == [
        "metal"
    ]


def test_import_of_a_bank(tmp_path):
    bank, labels = np.eye(5, 3), np.array([[1.0, 0], [1, 1], [0, 1]])
    torch.save({"x_embeddings_and_labels": [bank, labels]}, tmp_path / "bank.pth")
    (tmp_path / "texts.json").write_text(json.dumps({"wall ": ["flat"], "sky": ["blue"]}), "utf-8")
    out = tmp_path / "imported"
    result = run("import", tmp_path / "bank.pth", "--out", out, "--descriptors", tmp_path / "texts.json")
    assert result.exit_code == 0, result.output
    space = PropertySpace.from_pretrained(out)
    assert space.class_names == ["wall", "sky"] and space.class_properties == [[0, 1], [1, 2]]


def test_import_of_descriptors(texts, tmp_path, bert_folder):
    error = run("import", texts, "--out", tmp_path / "a").exception
    assert isinstance(error, ValueError) and "--encoder" in str(error)
    result = run("import", texts, "--out", tmp_path / "a", "--encoder", bert_folder, "-k", 7)
    assert result.exit_code == 0, result.output
    assert PropertySpace.from_pretrained(tmp_path / "a").num_classes == 4


def test_a_full_folder_is_refused_before_the_work(texts, saved, bert_folder):
    before = (saved / "property_space.json").read_bytes()
    for arguments in (
        ("build", texts, "--encoder", "no/such/model", "-k", 7),
        ("add-class", saved, "--encoder", "no/such/model", "--name", "x", "-d", "y"),
        ("import", texts),
    ):
        error = run(*arguments, "--out", saved).exception
        assert isinstance(error, FileExistsError) and "--overwrite" in str(error)
    assert (saved / "property_space.json").read_bytes() == before
    result = run("build", texts, "--encoder", bert_folder, "-k", 7, "--out", saved, "--overwrite")
    assert result.exit_code == 0 and (saved / "property_space.json").read_bytes() != before
    assert isinstance(run("build", texts, "-e", "x", "-k", 7, "--out", texts).exception, NotADirectoryError)


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        (["show", "ade2ok"], FileNotFoundError, "ade2ok"),
        (["show", "ade20k", "--taxonomy", "nowhere.json"], FileNotFoundError, "nowhere.json"),
        (["add-class", "toy", "--out", "out", "-e", "x"], ValueError, "--description"),
        (["build", "nowhere.json", "--out", "out", "-e", "x", "-k", "7"], FileNotFoundError, "nowhere.json"),
    ],
)
def test_mistakes_raise_what_the_command_line_turns_into_one_line(
    arguments, error, word, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert isinstance(result.exception, error) and word in str(result.exception)


def test_names_with_markup_are_printed_as_they_are(space, tmp_path):
    space.rename_classes({"car": "[bold red]car[/]"}).save_pretrained(tmp_path / "toy")
    result = run("show", tmp_path / "toy")
    assert result.exit_code == 0 and "[bold red]car[/]" in result.output


def test_help_documents_every_command():
    output = re.sub(r"\x1b\[[0-9;]*m", "", run("--help").output)
    for command in ("build", "show", "check", "compare", "add-class", "import"):
        assert command in output
        assert run(command, "--help").exit_code == 0


def test_check_shows_five_findings_first_with_their_commands(saved):
    result = run("check", saved)
    assert result.output.index("Findings") < result.output.index("nearest-row cosine")
    assert "... and 4 more" in result.output
    assert f"prolab space add-property {saved} --out NEW --class cart" in " ".join(result.output.split())


def test_a_property_is_added_on_the_command_line(texts, tmp_path, bert_folder):
    assert run("build", texts, "-o", tmp_path / "built", "-e", bert_folder).exit_code == 0
    result = run("add-property", tmp_path / "built", "-o", tmp_path / "more", "-e", bert_folder,
                 "--phrase", "flat box", "--class", "bus")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert PropertySpace.from_pretrained(tmp_path / "more").phrase("bus", 7) == "flat box"
