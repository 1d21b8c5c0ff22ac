import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForSemanticSegmentation

from prolab_hf import PropertySpace, SpaceEditor, apply_patch, segment
from prolab_hf.cli import run
from prolab_hf.cli.edit_command import write_overlays
from prolab_hf.cli.edit_words import EditWords, kind_of
from prolab_hf.hub.model_card import write_model_card

from .editing_fixtures import KIOSK, make_place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("edit"))


def edit(place, *words):
    return run(["edit", str(place / "model"), *map(str, words), "--device", "cpu"])


def described(phrases):
    return [word for text in phrases for word in ("--phrase", text)]


def test_a_dry_run_shows_what_an_edit_would_do_and_writes_nothing(place, tmp_path, capsys):
    before = sorted(path.name for path in (place / "model").iterdir())
    assert (
        edit(place, "--add-class", "kiosk", *described(KIOSK), "--dry-run", "--json", tmp_path / "x.json")
        == 0
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "Adds the class 'kiosk'" in printed and "mean IoU 0." in printed and "kiosk would take" in printed
    assert "IoU on the calibration sample" in printed and "kiosk (described)" in printed
    assert "A dry run: no model and no patch was written." in printed
    assert sorted(path.name for path in (place / "model").iterdir()) == before
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["edits"][0]["edit"]["edit"] == "add_class"
    assert content["overall"]["mean_iou"]["before"] > content["overall"]["mean_iou"]["after"] - 0.1
    assert content["edits"][0]["claims"][0]["class"] == "kiosk"


def test_edits_are_written_as_a_model_and_as_a_patch_that_does_the_same(place, tmp_path, capsys):
    words = [
        "--rename", "sky=heaven", "--rename", "blue color=azure", "--merge", "ground=road+floor",
        "--merge", "pattern of parallel stripes=pattern of small dots", "--add-class", "kiosk", *described(KIOSK),
        "--tick", "round outline", "--tick", "heaven=green color", "--untick", "kiosk=round outline",
        "--remove", "curtain", "--budget", "0.02",
    ]  # fmt: skip
    patch, out = tmp_path / "edits.json", tmp_path / "edited"
    assert edit(place, *words, "--patch-out", patch, "--out", out) == 0
    assert "The edited model is in" in capsys.readouterr().out
    loaded = AutoModelForSemanticSegmentation.from_pretrained(out).eval()
    names = loaded.property_space.class_names
    assert {"heaven", "ground", "kiosk"} <= set(names) and not {"sky", "road", "floor", "curtain"} & set(
        names
    )
    assert "azure" in loaded.property_space.property_names and loaded.config.claim_budget == 0.02
    content = json.loads(patch.read_text())
    assert [each["edit"] for each in content["edits"]] == [
        "rename_class", "rename_property", "merge_classes", "merge_properties", "add_class", "tick", "untick",
        "remove_classes", "set_claim_budget",
    ]  # fmt: skip
    applied = tmp_path / "applied"
    assert edit(place, "--apply", patch, "--out", applied) == 0
    again = AutoModelForSemanticSegmentation.from_pretrained(applied).eval()
    assert again.property_space.fingerprint == loaded.property_space.fingerprint
    assert again.config.class_offsets == loaded.config.class_offsets
    image = Image.open(place / "images" / "scene0.png").convert("RGB")
    editor = SpaceEditor.load(place / "model")
    expected = apply_patch(editor, patch).editor.model
    processor = editor.processor
    for model in (loaded, again):
        assert torch.equal(
            segment(model, processor, image).labels, segment(expected, processor, image).labels
        )


def test_a_patch_for_other_words_is_refused_in_one_line_and_applied_partly(place, tmp_path, capsys):
    patch = tmp_path / "edits.json"
    assert edit(place, "--rename", "sky=heaven", "--remove", "curtain", "--patch-out", patch) == 0
    other = tmp_path / "other"
    assert edit(place, "--remove", "curtain", "--out", other) == 0
    capsys.readouterr()
    assert run(["edit", str(other), "--apply", str(patch), "--dry-run", "--device", "cpu"]) == 2
    message = capsys.readouterr().err
    base = json.loads(patch.read_text())["base"]["fingerprint"]
    assert message.count("\n") == 1 and base in message and "--partly" in message
    assert PropertySpace.from_pretrained(other).fingerprint in message
    assert run(["edit", str(other), "--apply", str(patch), "--partly", "--dry-run", "--device", "cpu"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "left out: Removes 'curtain'" in printed and "'sky' is now 'heaven'" in printed


def test_images_show_the_edit_with_iou_and_overlays(place, tmp_path, capsys):
    overlays = tmp_path / "overlays"
    assert (
        edit(
            place, "--restrict", "wall", "--restrict", "floor", "--restrict", "sky", "--dry-run",
            "--images", place / "images", "--masks", place / "masks", "--overlays", overlays,
        ) == 0
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "IoU on scene0" in printed and "Scene1: mean IoU" in printed
    assert {path.name for path in overlays.iterdir()} == {
        f"scene{index}_{text}.png" for index in (0, 1) for text in ("before", "after", "change")
    }
    pairs = [Image.open(overlays / f"scene0_{text}.png").tobytes() for text in ("before", "after")]
    assert pairs[0] != pairs[1]


def test_new_sentences_use_the_encoder_and_are_told_where_they_went(place, capsys):
    words = [
        "--add-class",
        "hut",
        "--phrase",
        "purple color of wood",
        "--phrase",
        "quantum flux",
        "--dry-run",
    ]
    assert edit(place, *words) == 2
    assert "is new to the space" in (message := capsys.readouterr().err) and "--encoder" in message
    assert edit(place, *words, "--tick", "round outline", "--encoder", place / "encoder") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Where the sentences go" in printed and "left out" in printed
    assert "'quantum flux' was left out" in printed


def test_words_come_from_a_file(place, tmp_path, capsys):
    file = tmp_path / "words.json"
    file.write_text(json.dumps({"kiosk": KIOSK, "rug": ["gray color", "lies flat on the ground"]}))
    assert edit(place, "--from", file, "--dry-run") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Adds the class 'kiosk'" in printed and "Describes anew the class 'rug'" in printed
    assert edit(place, "--from", file, "--add-class", "kiok", "--dry-run") == 2
    assert "does not describe 'kiok'; did you mean 'kiosk'?" in capsys.readouterr().err


def test_phrases_are_split_off_and_properties_added(place, capsys):
    words = ["--merge", "colored=blue color+green color", "--split", "colored=green color", "--dry-run"]
    assert (
        edit(place, *words, "--add-property", "zebra canvas", "--on", "rug", "--encoder", place / "encoder")
        == 0
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "Splits 'green color' off 'colored'" in printed and "Adds the property 'zebra canvas'" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name an edit"),
        (["--rename", "sky=heaven"], "Where to?"),
        (["--rename", "sky", "--dry-run"], "--rename 'sky' is not of the form OLD=NEW"),
        (["--rename", "skyy=x", "--dry-run"], "no class and no property 'skyy'. Did you mean 'sky'?"),
        (["--merge", "a=sky+blue color", "--dry-run"], "name things of one kind"),
        (["--tick", "sky", "--dry-run"], "--tick 'sky' is not of the form CLASS=PROPERTY"),
        (["--tick", "sky=blue colr", "--dry-run"], "Did you mean 'blue color'"),
        (["--phrase", "x", "--dry-run", "--budget", "0"], "--phrase describes a class"),
        (["--on", "sky", "--dry-run"], "--on names the classes of a new property"),
        (["--add-property", "x", "--dry-run"], "Which classes show 'x'?"),
        (["--add-class", "a", "--describe-class", "b", "--dry-run"], "exclude each other"),
        (["--add-class", "sky", "--tick", "blue color", "--dry-run"], "'sky' exists already"),
        (["--budget", "much", "--dry-run"], "--budget is 'much'"),
        (["--budget", "1.5", "--dry-run"], "claim budget is 1.5"),
        (["--budget", "0.1", "--dry-run", "--masks", "x"], "--masks goes with --images"),
        (["--budget", "0.1", "--dry-run", "--images", "none"], "There is no folder none"),
        (["--partly", "--budget", "0", "--dry-run"], "--partly goes with --apply"),
        (["--apply", "none.json", "--dry-run"], "none.json"),
        (["--from", "none.json", "--dry-run"], "There is no file none.json"),
        (["--budget", "0", "--patch-out", "no/such/folder/x.json"], "There is no folder"),
    ],
)  # fmt: skip
def test_mistakes_end_with_one_line_and_code_two(words, message, place, capsys):
    assert edit(place, *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_folder_of_another_model_is_not_overwritten(place, capsys):
    assert edit(place, "--rename", "sky=heaven", "--out", place / "model") == 2
    assert "holds a model already" in capsys.readouterr().err
    assert run(["edit", str(place / "none"), "--budget", "0", "--dry-run"]) == 2
    assert "There is no model folder" in capsys.readouterr().err


def test_a_name_that_is_a_class_and_a_property_wants_a_prefix():
    space = PropertySpace(
        class_names=["blue", "red"],
        property_names=["blue", "warm"],
        property_embeddings=torch.eye(2),
        class_property_matrix=[[1, 0], [0, 1]],
    )
    with pytest.raises(ValueError, match="write class:blue or property:blue"):
        kind_of(space, ["blue"])
    assert kind_of(space, ["property:blue"]) == ("property", ["blue"])
    assert kind_of(space, ["class:blue", "class:red"]) == ("class", ["blue", "red"])
    assert kind_of(space, ["warm"]) == ("property", ["warm"])


def test_the_order_of_edits_is_that_of_the_help():
    words = EditWords(budget="none", remove=["x"], rename=["a=b"], add_class="c", phrases=["d"])
    assert len(words.steps()) == 4


def test_overlays_keep_a_classs_color(place, tmp_path):
    editor = SpaceEditor.load(place / "model", images=[place / "images" / "scene0.png"])
    names = editor.space.class_names
    gone = next(name for name, _ in editor.segment("scene0.png").shares() if name != names[-1])
    editor.remove_classes([gone])
    editor.rename_class(names[-1], "last")
    change = editor.image_change(None, "scene0.png")
    write_overlays(editor, tmp_path)
    before, after = (
        np.asarray(Image.open(tmp_path / f"scene0.png_{text}.png"))[: 128 * 5, : 160 * 5]
        for text in ("before", "after")
    )
    same = np.array(
        [
            [
                change.before.class_names[first].replace(names[-1], "last")
                == change.after.class_names[second]
                for first, second in zip(*rows)
            ]
            for rows in zip(change.before.labels.tolist(), change.after.labels.tolist())
        ]
    )
    inner = same & np.roll(same, 1, 0) & np.roll(same, -1, 0) & np.roll(same, 1, 1) & np.roll(same, -1, 1)
    assert 0 < (~same).mean() < 0.9 and inner.mean() > 0.05
    middle = np.s_[2::5, 2::5]  # where contours of neighbors do not reach
    assert (before[middle][inner] == after[middle][inner]).all()


def test_an_edited_model_says_what_was_edited_and_that_its_figures_are_older(place, tmp_path):
    source, once, twice = tmp_path / "source", tmp_path / "once", tmp_path / "twice"
    shutil.copytree(place / "model", source)
    figures = {"mean_iou": 0.5, "pixel_accuracy": 0.75, "num_images": 9, "num_pixels": 1234, "data": "drawn",
               "per_class": [{"name": "sky", "iou": 0.5, "accuracy": 0.6, "share_of_pixels": 0.25}]}  # fmt: skip
    (source / "evaluation.json").write_text(json.dumps(figures))
    write_model_card(source, metadata={"license": "cc-by-nc-4.0"})
    card = (source / "README.md").read_text()
    assert "model-index" in card and "edited" not in card
    (source / "README.md").write_text(card + "\nMind the fog.\n")
    edits = ["--rename", "sky=heaven", "--remove", "curtain"]
    assert run(["edit", str(source), *edits, "--out", str(once), "--device", "cpu"]) == 0
    told = ["The class 'sky' is now 'heaven'.", "Removes 'curtain'."]
    assert json.loads((once / "evaluation.json").read_text()) == figures | {"before_edits": told}
    record = json.loads((once / "edits.json").read_text())
    assert record["edits"] == told and record["result"]["fingerprint"] != record["base"]["fingerprint"]
    assert record["calibration_sample"]["mean_iou"]["before"] > 0
    card = (once / "README.md").read_text()
    assert "were measured before the last 2 of these edits" in card and "2. Removes 'curtain'." in card
    assert "| curtain |" in card, "what is gone is among the changed IoU"
    assert "cc-by-nc-4.0" in card and "Mind the fog." in card
    assert "model-index" not in card, "the Hub must not list figures of other words"

    assert run(["edit", str(once), "--rename", "road=street", "--out", str(twice), "--device", "cpu"]) == 0
    assert json.loads((twice / "edits.json").read_text())["edits"][:2] == told
    assert len(json.loads((twice / "evaluation.json").read_text())["before_edits"]) == 3
    (twice / "evaluation.json").write_text(json.dumps(figures))  # as `prolab evaluate` does
    write_model_card(twice)
    card = (twice / "README.md").read_text()
    assert "were measured before" not in card and "model-index" in card
    assert "3. The class 'road' is now 'street'." in card


def test_a_session_without_edits_marks_nothing(place, tmp_path):
    (tmp_path / "evaluation.json").write_text('{"mean_iou": 0.5}')
    SpaceEditor.load(place / "model").save_pretrained(tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"mean_iou": 0.5}
    assert not (tmp_path / "edits.json").exists()
