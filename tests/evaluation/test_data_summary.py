from pathlib import Path
from typing import Any

from mammoscope.evaluation import Case, ImageResult, Report, evaluate
from mammoscope.evaluation.data_summary import data_card
from mammoscope.evaluation.reports.claim import claim_checklist
from mammoscope.findings import Box


def report(**extra) -> Report:
    """Two images of one patient, one of another: masses of 5 %, 20 % and 20 % of the image's side."""
    small, large = Box(0, 0, 5, 5), Box(0, 0, 20, 20)
    marks = {"label": "Mass", "margins": "OBSCURED"}
    cases = (
        Case(ImageResult(1, "p", (small, large), ()), "a.png", 100, 100, {"view": "CC", "density": "2"}, (marks,) * 2),
        Case(ImageResult(2, "p", (), ()), "b.png", 200, 100, {"view": "MLO"}, ()),
        Case(ImageResult(3, "q", (large,), ()), "c.png", 100, 100, {"view": "CC"}, ({"label": "Mass"},)),
    )
    metrics = evaluate([case.result for case in cases], 0.5, "by hand", resamples=0, dataset="set", split="val")
    return Report(Path(), metrics.to_json() | extra, cases)


def test_what_was_counted():
    facts = dict(data_card(report(data={"source": "Films of 1990", "licence": None})).facts)
    assert facts["data set"] == "set, split val"
    assert facts["source, to be cited"] == "Films of 1990"
    assert facts["licence"] == "not stated (evaluate --licence)"
    assert facts["patients"] == "2, with 1 to 2 (median 1.5) images each"
    assert facts["marked lesions"] == "3; images by lesions: 0: 1, 1: 1, 2: 1"
    assert facts["image size"] == "100 to 200 (median 100) rows, 100 columns"
    assert facts["images by view"] == "CC: 2, MLO: 1"
    assert facts["images by density"] == "2: 1, unknown: 2"
    assert facts["lesions by margins"] == "OBSCURED: 2, unknown: 1"


def test_sizes_in_steps_of_two_and_a_half_per_cent():
    card = data_card(report())
    assert card.size_edges[2] == 5
    assert {edge: n for edge, n in zip(card.size_edges, card.size_counts, strict=False) if n} == {5.0: 1, 20.0: 2}


def test_the_checklist_has_each_item_once_and_tells_who_fills_it():
    whole = report()
    items = claim_checklist(whole.metrics, {}, data_card(whole).facts)
    assert [item.number for item in items] == list(range(1, 45))
    assert len({item.asks for item in items}) == 44
    assert all(item.filled or item.author for item in items)
    by_number = {item.number: item for item in items}
    assert by_number[35].filled == "2 patients, 3 images, of which 1 without a lesion."
    assert by_number[38].filled.startswith("Sensitivity per lesion 0.000")
    assert by_number[36].filled.startswith("Known of these images: view, density, label, margins")
    assert by_number[25].filled == by_number[34].filled == by_number[44].filled == ""


RECIPE = {
    "detector": {"architecture": "retinanet", "backbone": "resnet50", "weights": "imagenet"},
    "optimiser": {"kind": "sgd", "learning_rate": 0.001},
    "schedule": {"batch": 16, "ema": 0.9},
    "run": {"seed": 4},
}


def filled_by(recipe: dict[str, Any]) -> dict[int, str]:
    whole = report()
    return {item.number: item.filled for item in claim_checklist(whole.metrics, recipe, data_card(whole).facts)}


def test_the_recipe_fills_the_training_items():
    items = filled_by(RECIPE)
    assert items[22].startswith("retinanet on resnet50")
    assert items[24] == "Backbone: weights 'imagenet'; the rest at random from seed 4."
    assert "sgd, learning rate 0.001, batches of 16" in items[25]
    assert "decay 0.9" in items[27]


def test_several_networks_are_told_of_once_where_they_are_alike():
    items = filled_by({"mirrored": False, "averaged": {"1": RECIPE, "2": {**RECIPE, "start": "first"}}})
    assert items[22].startswith("retinanet on resnet50; all")
    assert items[24] == (
        "Backbone: weights 'imagenet'; the rest at random from seed 4; all weights from the end of first."
    )
    assert items[25].count("sgd") == 1
    assert items[27] == "2 networks; the mean of their weights; weights averaged over the run (decay 0.9)."
