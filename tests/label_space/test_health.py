"""Figures against brute force, findings against spaces with one known flaw each."""

import json

import numpy as np
import pytest

from prolab_hf.label_space.property_space import PropertySpace
from prolab_hf.label_space.report.comparison import compare
from prolab_hf.label_space.report.findings import CLOSE_COSINE, Severity
from prolab_hf.label_space.report.health import figure_rows
from prolab_hf.label_space.report.matrix_statistics import (
    matrix_rank,
    pair_figures,
    recovery,
    taxonomy_agreement,
)


def random_matrix(rows, columns, density, seed=0):
    return (np.random.default_rng(seed).random((rows, columns)) < density).astype(np.uint8)


def space_of(matrix, **texts):
    matrix = np.asarray(matrix)
    return PropertySpace(
        class_names=[f"class {index}" for index in range(len(matrix))],
        property_names=[f"property {index}" for index in range(matrix.shape[1])],
        property_embeddings=np.eye(matrix.shape[1]),
        class_property_matrix=matrix,
        **texts,
    )


def kinds(report):
    return {finding.kind: finding for finding in report.findings}


def test_pair_figures_equal_brute_force():
    matrix = random_matrix(30, 12, 0.3)
    matrix[7] = matrix[3]
    matrix[9] = matrix[4] | matrix[5]
    found = pair_figures(matrix, num_closest=5)
    sets = [set(np.flatnonzero(row)) for row in matrix]
    cosines, duplicates, nested = {}, [], []
    for first in range(30):
        for second in range(first + 1, 30):
            size = np.sqrt(max(1, len(sets[first])) * max(1, len(sets[second])))
            cosines[first, second] = len(sets[first] & sets[second]) / size
            if sets[first] and sets[first] == sets[second]:
                duplicates.append((first, second))
    for first in range(30):
        nested += [(first, second) for second in range(30) if sets[first] and sets[first] < sets[second]]
    assert found.duplicates == duplicates and found.nested == nested
    assert (3, 7) in duplicates and (4, 9) in nested
    assert found.mean_cosine == pytest.approx(np.mean(list(cosines.values())))
    assert found.disjoint_share == pytest.approx(np.mean([value == 0 for value in cosines.values()]))
    best = sorted(cosines.values(), reverse=True)[:5]
    assert [cosine for _, _, cosine in found.closest] == pytest.approx(best)
    for row in range(30):
        others = [value for pair, value in cosines.items() if row in pair]
        assert found.nearest_cosine[row] == pytest.approx(max(others))


def test_pair_figures_do_not_depend_on_the_block_size(monkeypatch):
    from prolab_hf.label_space.report import matrix_statistics as row_figures

    matrix = random_matrix(50, 20, 0.2)
    whole = pair_figures(matrix)
    monkeypatch.setattr(row_figures, "_BLOCK", 7)
    parts = pair_figures(matrix)
    assert parts.closest == whole.closest and parts.nested == whole.nested
    assert parts.mean_cosine == pytest.approx(whole.mean_cosine)


def test_one_class_has_no_pairs():
    found = pair_figures(np.ones((1, 3), dtype=np.uint8))
    assert found.closest == [] and found.mean_cosine == 0
    assert PropertySpace.one_hot(["only"]).check().figures["largest_pair"] == []


def test_recovery_without_noise_is_perfect_and_with_half_the_bits_flipped_is_chance():
    matrix = random_matrix(20, 64, 0.2)
    assert recovery(matrix, 0.0) == 1
    assert recovery(matrix, 0.0, kind="missing") == 1
    assert recovery(matrix, 0.5, num_trials=200) == pytest.approx(1 / 20, abs=0.02)
    assert recovery(matrix, 1.0, kind="missing") == pytest.approx(1 / 20)


def test_recovery_shares_the_credit_between_equal_rows():
    matrix = np.repeat(random_matrix(4, 32, 0.4), 2, axis=0)
    assert recovery(matrix, 0.0) == pytest.approx(0.5)


def test_recovery_equals_the_exact_expectation_on_one_hot_rows():
    # Three one-hot rows, each bit lost with probability p: right if the bit stays, else a tie of three.
    assert recovery(np.eye(3, dtype=np.uint8), 0.3, kind="missing", num_trials=20000) == pytest.approx(
        0.7 + 0.3 / 3, abs=0.01
    )
    # Flips: own bit stays up (1-p) or falls, each of the others rises with p; the maxima share the credit.
    p = 0.2
    exact = (1 - p) * ((1 - p) ** 2 + 2 * p * (1 - p) / 2 + p**2 / 3) + p * (1 - p) ** 2 / 3
    assert recovery(np.eye(3, dtype=np.uint8), p, num_trials=20000) == pytest.approx(exact, abs=0.01)


def test_recovery_falls_with_noise_and_is_seeded():
    matrix = random_matrix(40, 64, 0.1)
    shares = [recovery(matrix, rate) for rate in (0.05, 0.1, 0.2)]
    assert shares == sorted(shares, reverse=True) and shares[0] > shares[2]
    assert recovery(matrix, 0.1, seed=1) == recovery(matrix, 0.1, seed=1)


def test_the_density_of_the_published_matrix_gives_figures_of_its_size():
    """Random rows as dense as the released ADE20K matrix, which is recovered at 100 / 99.6 / 86.4 %."""
    report = PropertySpace.random_codes([str(index) for index in range(150)], 256, 0.0366).check(
        num_trials=20
    )
    shares = list(report.figures["recovery_flip"].values())
    assert shares[0] > 0.99 and shares[1] > 0.97 and 0.75 < shares[2] < 0.92


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (5, 5)])
def test_rank_equals_numpys(shape):
    matrix = random_matrix(*shape, 0.4)
    assert matrix_rank(matrix) == np.linalg.matrix_rank(matrix.astype(float))


def test_taxonomy_by_hand():
    matrix = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    found = taxonomy_agreement(matrix, ["a", "a", "b", "b"])
    assert found["agreement"] == 1
    # Of the three ways to pair four classes one is right.
    assert found["control"] == pytest.approx(1 / 3, abs=0.08)
    assert found["ratio"] == pytest.approx(found["agreement"] / found["control"])
    assert found["cosine_within"] == pytest.approx(1 / np.sqrt(2)) and found["cosine_between"] == 0
    assert taxonomy_agreement(matrix, ["a", "b", "a", "b"])["agreement"] == 0


def test_taxonomy_must_cover_the_classes(space):
    with pytest.raises(ValueError, match=r"lacks 4 classes.*'bus'"):
        space.check(taxonomy={"car": "vehicle"})
    with pytest.raises(ValueError, match="at least two"):
        space.check(taxonomy=dict.fromkeys(space.class_names, "thing"))
    report = space.check(taxonomy={"car": "v", "bus": "v", "cart": "v", "tree": "p", "grass": "p"})
    assert report.figures["taxonomy"]["num_groups"] == 2


def test_each_flaw_is_found_with_advice():
    matrix = np.zeros((6, 8))
    rows = [[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6], [4, 5, 6, 0], [1], []]
    close = np.zeros((3, 6))
    for row, columns in enumerate([[0, 1, 2], [1, 2, 3], [4, 5]]):
        close[row, columns] = 1
    for row, columns in enumerate(rows):
        matrix[row, columns] = 1
    report = space_of(matrix).check()
    found = kinds(report)
    assert found["duplicate_rows"].subjects == ["class 0", "class 1"] and not report.ok
    assert found["nested_rows"].severity == Severity.WARNING
    assert ["class 2", "class 3"] in [f.subjects for f in report.findings if f.kind == "nested_rows"]
    assert found["empty_row"].subjects == ["class 5"]
    assert found["few_properties"].subjects == ["class 4"]
    assert found["orphan_property"].subjects == ["property 7"]
    assert kinds(space_of(close).check())["close_pair"].subjects == ["class 0", "class 1"]
    # Of one pair the worst is said, once.
    assert ["class 2", "class 3"] not in [f.subjects for f in report.findings if f.kind == "close_pair"]
    assert "single_class_property" in {f.kind for f in space_of(np.eye(2)).check().findings}
    assert all(finding.advice and finding.message for finding in report.findings)
    order = [list(Severity).index(finding.severity) for finding in report.findings]
    assert order == sorted(order)


def test_many_properties_of_one_class_are_one_finding():
    lonely = {finding.kind: finding for finding in space_of(np.eye(9)).check().findings}[
        "single_class_property"
    ]
    assert len(lonely.subjects) == 9 and lonely.message.startswith(
        "9 of 9 properties belong to one class each"
    )
    assert "'property 0' (class 0)" in lonely.message
    few = space_of(np.eye(8)).check().findings
    assert sum(finding.kind == "single_class_property" for finding in few) == 8


def test_close_pair_names_the_sentences_that_fell_together():
    texts = {
        "class 0": ["deep basin", "white bowl", "tap", "tiles", "porcelain"],
        "class 1": ["deep bowl", "white bowl", "lid", "tiles", "porcelain"],
    }
    assignments = {"class 0": [0, 1, 2, 3, 4], "class 1": [0, 1, 5, 3, 4]}
    matrix = np.zeros((2, 6))
    matrix[0, :5] = matrix[1, [0, 1, 3, 4, 5]] = 1
    report = space_of(matrix, descriptions=texts, assignments=assignments).check()
    pair = report.closest_pairs[0]
    assert pair["only_first"] == ["property 2"] and pair["only_second"] == ["property 5"]
    assert pair["cosine"] == pytest.approx(0.8) and pair["cosine"] > CLOSE_COSINE
    assert pair["different_words_same_property"] == [
        {"property": "property 0", "class 0": ["deep basin"], "class 1": ["deep bowl"]}
    ]
    advice = kinds(report)["close_pair"].advice
    assert "'deep basin'" in advice and "'deep bowl'" in advice and "reword" in advice


def test_opposites_in_one_property_are_found():
    texts = {"class 0": ["small wheels", "red"], "class 1": ["large wheels", "blue"]}
    space = space_of(
        [[1, 1, 0], [1, 0, 1]], descriptions=texts, assignments={"class 0": [0, 1], "class 1": [0, 2]}
    )
    found = kinds(space.check())["conflicting_phrases"]
    assert found.subjects[0] == "property 0" and "'small wheels'" in found.message
    assert found.severity == Severity.WARNING and found.command.startswith("prolab space build")


def test_the_most_harmful_findings_come_first_and_five_are_shown():
    matrix = np.zeros((8, 8))
    for row, columns in enumerate([[0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6], [4, 5, 6, 0], [1], [], [7], [2]]):
        matrix[row, columns] = 1
    report = space_of(matrix).check()
    assert [finding.kind for finding in report.findings[:2]] == ["duplicate_rows", "empty_row"]
    text = report.to_text()
    assert text.index("Findings") < text.index("classes x properties") and text.count("[") == 5
    assert all(f.command for f in report.findings if f.kind in ("duplicate_rows", "nested_rows", "empty_row"))


def test_a_merged_property_of_one_class_is_not_praised():
    texts = {"class 0": ["snout", "whiskers", "fur"], "class 1": ["fur", "hooves"]}
    space = space_of(
        [[1, 1, 0], [0, 1, 1]], descriptions=texts, assignments={"class 0": [0, 0, 1], "class 1": [1, 2]}
    )
    report = space.check()
    pair = report.closest_pairs[0]
    assert pair["phrases_first"] == [] and pair["phrases_second"] == ["hooves"]
    assert kinds(report)["merged_single_class"].subjects == ["property 0", "class 0"]


def test_fidelity_counts_phrases_that_lost_their_meaning():
    texts = {"class 0": ["small wheels", "red"], "class 1": ["large wheels", "blue", "tail"]}
    space = space_of(
        [[1, 1, 0, 0], [1, 0, 1, 1]],
        descriptions=texts,
        assignments={"class 0": [0, 1], "class 1": [0, 2, 3]},
    )
    figures = space.check().figures
    assert figures["fidelity"] == pytest.approx(3 / 5) and figures["conflicting_properties"] == 1
    rows = dict(figure_rows(figures))
    assert rows["phrases kept (fidelity)"] == "60.0 % of 5"
    # The space's own threshold counts too.
    far = space_of(
        [[1], [1]],
        descriptions={"class 0": ["tail"], "class 1": ["long tail"]},
        assignments={"class 0": [0], "class 1": [0]},
        clustering={"far_cosine": 0.4, "phrase_cosines": {"tail": 0.9, "long tail": 0.3}},
    )
    assert far.check().figures["fidelity"] == pytest.approx(0.5)


def test_common_property_in_a_larger_space():
    matrix = np.concatenate([np.eye(24), np.ones((24, 1)), np.roll(np.eye(24), 1, axis=1)], axis=1)
    assert kinds(space_of(matrix).check())["common_property"].subjects == ["property 24"]


def test_a_sound_space_is_ok(space):
    report = space.remove_classes("cart").check()
    assert report.ok and report.by_severity("error") == []
    figures = report.figures
    assert figures["density"] == pytest.approx(10 / 32)
    assert figures["properties_per_class"] == [3, 3, 2, 2]
    assert figures["classes_per_property"] == [2, 1, 2, 1, 2, 1, 1, 0]
    assert (figures["single_class_properties"], figures["orphan_properties"]) == (4, 1)
    assert figures["largest_pair"] == ["car", "bus"] and figures["largest_pair_cosine"] == pytest.approx(
        2 / 3
    )


def test_stability_over_seeds_needs_descriptions(descriptions, encoder, space):
    built = PropertySpace.build(descriptions, encoder=encoder, num_properties=7)
    stability = built.check(encoder=encoder).figures["stability"]
    assert -1 <= stability["adjusted_rand_min"] <= stability["adjusted_rand_mean"] <= 1
    with pytest.raises(ValueError, match="no descriptions"):
        PropertySpace.one_hot(["a", "b"]).check(encoder=encoder)


def test_report_as_json_and_as_text(space):
    report = space.check()
    assert json.loads(json.dumps(report.to_dict()))["figures"]["num_classes"] == 5
    text = report.to_text(max_findings=1)
    assert "car / cart" in text and "and " in text and space.fingerprint[:12] in text
    labels = [label for label, _ in figure_rows(report.figures)]
    assert len(labels) == len(set(labels))


def test_comparison(space, encoder):
    same = compare(space, space)
    assert same.row_similarity_correlation == pytest.approx(1) and same.adjusted_rand == 1
    assert same.changed_rows == {} and same.only_first == []
    changed = compare(space, space.set_row("cart", ["wheels", "flat"]).remove_classes("bus"))
    assert changed.changed_rows == {"cart": {"gained": ["flat"], "lost": ["metal"]}}
    assert changed.only_first == ["bus"] and changed.common_classes == ["car", "cart", "tree", "grass"]
    assert "gained flat; lost metal" in changed.to_text()
    json.dumps(changed.to_dict())
    stranger = compare(space, PropertySpace.one_hot(["x", "y"]))
    assert stranger.common_classes == [] and stranger.row_similarity_correlation is None


def test_comparison_of_groupings(descriptions, encoder):
    first = PropertySpace.build(descriptions, encoder=encoder, num_properties=7)
    second = PropertySpace.build(descriptions, encoder=encoder, num_properties=6)
    result = compare(first, second)
    assert result.changed_rows == {} and 0 < result.adjusted_rand <= 1
    rows = {label: (left, right) for label, left, right in result.rows()}
    assert rows["classes x properties"] == ("4 x 7", "4 x 6")


def test_phrases_that_fell_in_with_something_else_are_named_once():
    space = PropertySpace(
        class_names=["bicycle", "road"],
        property_names=["grey color", "flat"],
        property_embeddings=np.eye(2, dtype="f4"),
        class_property_matrix=np.array([[1, 0], [1, 1]]),
        descriptions={"bicycle": ["two wheels"], "road": ["grey color", "flat"]},
        assignments={"bicycle": [0], "road": [0, 1]},
        clustering={"far_cosine": 0.4, "phrase_cosines": {"two wheels": 0.78, "grey color": 0.9}},
    )
    found = [item for item in space.check().findings if item.kind == "far_phrase"]
    assert len(found) == 1 and "'two wheels' in 'grey color'" in found[0].message
    assert found[0].command.endswith("--num-properties auto")
    near = space.replace(clustering={"phrase_cosines": {"two wheels": 0.81, "grey color": 0.9}})
    assert not [item for item in near.check().findings if item.kind == "far_phrase"]
