"""`prolab plot` reads the log of a run and says clearly what is no run."""

import json

import pytest
from PIL import Image

from prolab_hf.cli import run
from prolab_hf.training.run_folder import LOG_FILE, RECIPE_FILE


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs of one name in different folders, a started one, and a folder that is none."""
    for index, folder in enumerate(("a/first", "b/first")):
        (tmp_path / folder).mkdir(parents=True)
        lines = [
            {"event": "step", "step": 5 * k, "loss": (1 + index) / k, "learning_rate": 1e-3}
            for k in range(1, 9)
        ]
        classes = [{"name": "sky", "iou": 0.5}, {"name": "$a$ <b>", "iou": None}]
        lines.append({"event": "evaluation", "step": 40, "mean_iou": 0.5, "classes": classes})
        text = "\n".join(map(json.dumps, lines)) + '\n{"event": "step", "ste'  # a crash cut the last line off
        (tmp_path / folder / LOG_FILE).write_text(text)
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / RECIPE_FILE).write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / LOG_FILE).write_text("no json\n")
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_run_and_two_side_by_side(runs, capsys):
    assert run(["plot", "a/first"]) == 0
    assert "Wrote curves.png" in capsys.readouterr().out
    one = Image.open(runs / "curves.png")
    assert run(["plot", "a/first", "b/first", "--out", "two.svg"]) == 0
    text = (runs / "two.svg").read_text()
    assert one.width > 1000 and "<svg" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no run folder nowhere"),
        (["file"], "file is a file; name the folder of a run"),
        (["empty"], f"The folder empty has no {LOG_FILE}: it is no training run"),
        (["started"], f"The folder started has no {LOG_FILE}: its run has not logged a step yet"),
        (["broken"], "holds no line of a training run"),
        (["a/first", "a/../a/first"], "is named twice"),
        (["a/first", "--out", "x.bmp"], "x.bmp does not end like a figure"),
        (["a/first", "--out", "no/where.png"], "There is no folder"),
    ],
)
def test_mistakes_end_with_one_line_and_code_2(runs, capsys, arguments, message):
    assert run(["plot", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
