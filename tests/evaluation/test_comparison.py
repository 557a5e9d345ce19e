import json

import pytest

from mammoscope.evaluation import (
    Case,
    EvaluationError,
    ImageResult,
    Report,
    differences_table,
    evaluate,
    figures_table,
    paired_differences,
)
from mammoscope.findings import Box, Finding

A, NOWHERE = Box(0, 0, 10, 10), Box(100, 100, 110, 110)


def results(hits: str) -> list[ImageResult]:
    """One image a patient: '+' found, '-' a false alarm in its place."""
    return [ImageResult(n, str(n), (A,), (Finding(A if sign == "+" else NOWHERE, 0.9),)) for n, sign in enumerate(hits)]


def report(folder, hits: str, model: str) -> Report:
    found = results(hits)
    metrics = evaluate(found, 0.5, "by hand", resamples=50, dataset="set", split="val", model=model)
    cases = tuple(Case(r, f"{r.image_id}.png", 20, 20, {}, ({"label": "Mass"},)) for r in found)
    return Report(folder, json.loads(json.dumps(metrics.to_json())), cases)


def test_a_model_differs_from_itself_by_nothing():
    same = paired_differences((results("++--+"), 0.5), (results("++--+"), 0.5), resamples=99)
    assert same["f1"].value == 0
    assert same["f1"].interval == (0, 0)
    assert same["f1"].p == 1


def test_a_model_better_on_every_patient_is_better_in_every_resample():
    better = paired_differences((results("----"), 0.5), (results("++++"), 0.5), resamples=99)
    assert (better["ap50"].value, better["f1"].value) == (1, 1)
    assert better["ap50"].interval == (1, 1)
    assert better["ap50"].p == pytest.approx(2 / 100)
    worse = paired_differences((results("++++"), 0.5), (results("----"), 0.5), resamples=99)
    assert worse["f1"].value == -1
    assert worse["f1"].p == pytest.approx(2 / 100)


def test_pairing_sees_what_two_intervals_apart_do_not():
    # both miss half the patients, the second finds five more: each model's own interval is far wider than the pair's
    one = results("+" * 50 + "-" * 50)
    two = results("+" * 60 + "-" * 40)
    pair = paired_differences((one, 0.5), (two, 0.5), resamples=500)["f1"]
    apart = evaluate(two, 0.5, "given", resamples=500).intervals["f1"]
    assert pair.value == pytest.approx(0.1)
    assert pair.interval[1] - pair.interval[0] < 0.7 * (apart[1] - apart[0])
    assert pair.p < 0.05


def test_an_undefined_difference():
    empty = [ImageResult(1, "p", (), ())]
    none = paired_differences((empty, 0.5), (empty, 0.5), resamples=9)
    assert none["ap50"].value is none["ap50"].interval is none["ap50"].p is None


def test_other_images_cannot_be_paired():
    with pytest.raises(EvaluationError, match="not evaluated on the same images"):
        paired_differences((results("++"), 0.5), (results("+++"), 0.5))
    other_truth = [ImageResult(n, str(n), (NOWHERE,), ()) for n in range(2)]
    with pytest.raises(EvaluationError, match="same truth"):
        paired_differences((results("++"), 0.5), (other_truth, 0.5))


def test_the_papers_table(tmp_path):
    table = figures_table([report(tmp_path / "a", "++--", "one"), report(tmp_path / "b", "+++-", "two")])
    assert table.header == ("Model", "Precision", "Recall", "F1", "AP50")
    assert [row[0] for row in table.rows] == ["one", "two"]
    assert table.rows[0][1].startswith("0.500 (")
    assert table.rows[1][2].startswith("0.750 (")
    assert "set, split val: 4 images of 4 patients with 4 boxes" in table.caption
    assert "Thresholds: one 0.5, two 0.5: by hand." in table.caption


def test_models_of_one_name_are_told_apart_by_their_folders(tmp_path):
    pair = [report(tmp_path / "a", "++--", "net"), report(tmp_path / "b", "+++-", "net")]
    assert [row[0] for row in figures_table(pair).rows] == ["net (a)", "net (b)"]


def test_the_table_of_differences(tmp_path):
    pair = [report(tmp_path / "a", "----", "one"), report(tmp_path / "b", "++++", "two")]
    table = differences_table(pair, resamples=99)
    assert table.rows == (("two", "+1.000 (+1.000 to +1.000)", "0.020", "+1.000 (+1.000 to +1.000)", "0.020"),)
    assert "Minus one" in table.caption


def test_p_is_twice_the_share_of_resamples_without_a_difference():
    # The second model finds one lesion more, the first patient's, and is never worse. The difference vanishes in the
    # resamples that leave that patient out: (2/3)^3 = 8/27 of them, counted by hand. p = 2 * 8/27.
    one, two = results("-+-"), results("++-")
    p = paired_differences((one, 0.5), (two, 0.5), resamples=20_000)["f1"].p
    assert p == pytest.approx(16 / 27, abs=0.02)
    # the other way round the same resamples stand on the other side
    assert paired_differences((two, 0.5), (one, 0.5), resamples=20_000)["f1"].p == p


def test_p_is_below_five_per_cent_when_the_interval_leaves_out_zero():
    one, two = results("-" * 8 + "+" * 40), results("+" * 48)
    better = paired_differences((one, 0.5), (two, 0.5), resamples=2000)["f1"]
    assert better.interval[0] > 0
    assert better.p < 0.05
    same = paired_differences((results("-+" * 20), 0.5), (results("+-" * 20), 0.5), resamples=2000)["f1"]
    assert same.interval[0] < 0 < same.interval[1]
    assert same.p > 0.05
