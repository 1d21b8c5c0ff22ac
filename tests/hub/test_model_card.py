"""The card says what is in the folder, survives being renewed, and its snippet runs."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from prolab_hf.hub.card_text import without_folders
from prolab_hf.hub.model_card import write_model_card
from tests.solving.conftest import NAMES, solve_patches

EVALUATION = {
    "mean_iou": 0.5,
    "mean_accuracy": 0.6,
    "pixel_accuracy": 0.75,
    "frequency_weighted_iou": 0.55,
    "num_images": 9,
    "num_pixels": 1234,
    "data": "drawn",
    "per_class": [
        {"id": 0, "name": "cat|<b>x</b>", "iou": 0.5, "accuracy": 0.6, "share_of_pixels": 0.25},
        {"id": 1, "name": "dog", "iou": None, "accuracy": None, "share_of_pixels": 0.0},
    ],
}


def header(path):
    return yaml.safe_load(path.read_text().split("---\n")[1])


def test_card_is_filled_from_the_folder(model_folder):
    (model_folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    (model_folder / "training_recipe.json").write_text(json.dumps({"name": "small", "learning_rate": 0.0005}))
    path = write_model_card(model_folder, metadata={"license": "apache-2.0", "datasets": ["user/images"]})
    text = path.read_text()
    facts = header(path)
    assert facts["pipeline_tag"] == "image-segmentation"
    assert facts["library_name"] == "transformers"
    assert facts["license"] == "apache-2.0"
    metrics = facts["model-index"][0]["results"][0]["metrics"]
    assert {(m["type"], m["value"]) for m in metrics} >= {("mean_iou", 0.5)}
    assert ModelCard(text).data.eval_results[0].metric_value == 0.5
    assert "| mean IoU | 50.0 % |" in text
    assert "| dog | - | - | 0.0 % |" in text
    assert "<b>" not in text and "cat\\|&lt;b&gt;" in text
    assert "| learning rate | 0.0005 |" in text
    assert "| training time | 2.0 min |" in text
    space = json.loads((model_folder / "property_space.json").read_text())
    assert space["fingerprint"] in text
    results = yaml.safe_load((model_folder / ".eval_results" / "semantic_segmentation.yaml").read_text())
    assert results[0]["dataset"]["id"] == "user/images"
    assert results[0]["value"] == 50.0
    entry = parse_eval_result_entries(results)[0]  # as the Hub's own client reads it
    assert (entry.dataset_id, entry.task_id) == ("user/images", "semantic_segmentation")
    for row in (
        "| task | semantic segmentation (`image-segmentation`) |",
        "| data sets | user/images |",
        "| base model | none recorded |",
        "| license | apache-2.0 |",
    ):
        assert row in text, row


def test_renewing_keeps_what_a_person_wrote(model_folder):
    path = write_model_card(model_folder)
    text = path.read_text().replace("## Use", "## My own words\n\nHand-written.\n\n## Use")
    text = text.replace("library_name:", "thumbnail: mine.png\nlibrary_name:", 1)
    text = re.sub(r"<!-- prolab:training -->.*?<!-- /prolab:training -->", "No comment.", text, flags=re.S)
    path.write_text(text)
    (model_folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    renewed = write_model_card(model_folder).read_text()
    assert "Hand-written." in renewed
    assert "No comment." in renewed and "prolab:training" not in renewed
    assert "| mean IoU | 50.0 % |" in renewed
    assert header(path)["thumbnail"] == "mine.png"
    assert write_model_card(model_folder).read_text() == renewed


def test_a_foreign_readme_is_kept_whole(model_folder):
    (model_folder / "README.md").write_text("# Mine\n\nWords.\n")
    text = write_model_card(model_folder).read_text()
    assert "# Mine\n\nWords." in text
    assert "prolab:summary" in text


def test_the_snippet_runs_as_printed(model_folder):
    text = write_model_card(model_folder).read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    assert len(code.strip().splitlines()) <= 10
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=model_folder.parent, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\{'(cat|dog|car)'", done.stdout)


def test_errors_name_the_file(model_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json is missing"):
        write_model_card(tmp_path / "nowhere")
    (model_folder / "evaluation.json").write_text("{broken")
    with pytest.raises(ValueError, match=r"evaluation.json: this evaluation is not readable JSON"):
        write_model_card(model_folder)


def test_damaged_neighbors_are_named(model_folder):
    (model_folder / "evaluation.json").write_text('{"mean_iou": 0.5, "num_images": 1}')
    with pytest.raises(ValueError, match=r"evaluation.json: not what `prolab evaluate` writes"):
        write_model_card(model_folder)
    (model_folder / "evaluation.json").unlink()
    (model_folder / "README.md").write_text("---\nlicense: [open\n---\n# Mine\n")
    with pytest.raises(ValueError, match=r"README.md: its header is no YAML mapping"):
        write_model_card(model_folder)


def test_a_strangers_space_cannot_put_markup_into_the_card(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    config["property_space_info"]["name"] = "x`<img src=x onerror=alert(1)>"
    config["property_names"][0] = "</td><script>alert(2)</script>"
    (model_folder / "config.json").write_text(json.dumps(config))
    text = write_model_card(model_folder).read_text()
    assert "alert(1)" in text  # shown, not run
    assert "<img" not in text and "<script" not in text and "</td>" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/home/ann/data/camvid", "camvid"),
        ("~/spaces/mine/", "mine"),
        ("../up", "up"),
        ("C:\\Users\\ann\\run", "run"),
        ("user/images", "user/images"),
        ("camvid:train", "camvid:train"),
        (3, 3),
        ("table:/home/ann/table.json", "table:table.json"),
        ("cityscapes: /data/ann/city scapes/val", "cityscapes: val"),
        ("see https://a.example/b/c and ~/d/e.", "see https://a.example/b/c and e."),
        ("file:///home/ann/x", "x"),
        ("model at '/home/ann b/run', step 3", "model at 'run', step 3"),
        ("\\\\server\\share\\x", "x"),
        ("data=C:/Users/ann/x", "data=x"),
        ("and/or", "and/or"),
        (["/home/a/b", {"/home/a/c.png": "~ann/d"}], ["b", {"c.png": "d"}]),
    ],
)
def test_folders_of_a_machine_are_not_shown(value, shown):
    assert without_folders(value) == shown


def test_names_make_no_links_no_strike_through_and_reorder_nothing(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    names = ["~~gone~~ www.evil.example", "see https://evil.example", "a\u202eb\u2066c me@evil.example"]
    config["property_names"][:3] = names
    config["class_properties"] = [[0, 1, 2], [0, 1], [0, 2]]
    (model_folder / "config.json").write_text(json.dumps(config))
    text = write_model_card(model_folder).read_text()
    assert r"\~\~gone\~\~ www<!-- -->.evil.example" in text
    assert "see https:<!-- -->//evil.example" in text
    assert "abc me<!-- -->@evil.example" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)


@pytest.mark.parametrize(
    ("provenance", "sentence"),
    [
        ({"authors": "Ann and Ben"}, "The descriptions were written by Ann and Ben;"),
        ({"authors": ["Ann", "a *model*"]}, r"The descriptions were written by Ann, a \*model\*;"),
        ({"author": "Ann"}, "The descriptions were written by Ann;"),
        ({}, "Nobody noted who wrote the descriptions;"),
    ],
)
def test_the_card_names_who_wrote_the_descriptions(model_folder, provenance, sentence):
    config = json.loads((model_folder / "config.json").read_text())
    config["property_space_info"]["provenance"] = provenance
    (model_folder / "config.json").write_text(json.dumps(config))
    assert sentence in write_model_card(model_folder).read_text()


def test_a_recipe_in_groups_and_a_log_that_was_cut_off_are_read(model_folder):
    recipe = {"name": "small", "optimizer": {"learning_rate": 0.0005}, "data": {"crop_size": [64, 64]}}
    (model_folder / "training_recipe.json").write_text(json.dumps(recipe))
    (model_folder / "training_log.jsonl").write_text('{"train_seconds": 240.0}\n{"train_seconds": 9')
    text = write_model_card(model_folder).read_text()
    assert "| name | small |" in text and "| learning rate | 0.0005 |" in text
    assert r"| crop size | \[64, 64\] |" in text
    assert "| training time | 4.0 min |" in text


def test_the_card_of_a_solved_model_says_how_it_was_solved(tmp_path, model_folder):
    model = solve_patches()
    model.save_pretrained(tmp_path)
    text = write_model_card(tmp_path).read_text()
    solution = model.config.solution
    for row in (
        "| images | 10 |",
        f"| labeled pixels | {solution['num_pixels']:,} |",
        f"| ridge (lambda) | {solution['ridge']:g} |",
        f"| unspoken weight (beta) | {solution['unspoken_weight']:g} |",
        f"| spoken share of the winning scores | {100 * solution['spoken_share']:.1f} % |",
    ):
        assert row in text, row
    for name in NAMES:
        assert f"| {name} | {100 * solution['spoken_share_per_class'][name]:.1f} % |" in text
    assert "No recipe" not in text and "pass over the images" in text
    assert "closed form" not in write_model_card(model_folder).read_text()  # a trained one
