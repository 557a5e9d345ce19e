import json

import pytest

from mammoscope.evaluation import EvaluationError, ImageResult, evaluate, model_card_markdown, read_metrics
from mammoscope.evaluation.metrics import interval_text
from mammoscope.findings import Box, Finding
from mammoscope.imaging import Crop
from mammoscope.inference import BundleInput, BundleMetadata, Calibration, Figures, OperatingPoint, TrainingData

A, NOWHERE = Box(0, 0, 10, 10), Box(80, 80, 90, 90)
METADATA = BundleMetadata(
    name="net", version="7", input=BundleInput(rows=320, columns=192, crop=Crop.BREAST), classes=("Mass",),
    operating_points=(OperatingPoint(name="default", threshold=0.25, rule="highest F1", chosen_on="val"),),
    training_data=(TrainingData(name="films | 1990", licence="CC0", images=9, patients=3, fingerprint="ab" * 32),),
    figures=(
        Figures(dataset="films", split="val", iou=0.5, threshold_rule="highest F1", values={"ap50": 0.81234, "f1": 0.5},
                intervals={"ap50": (0.7, 0.9)}),
    ),
    calibration=Calibration(slope=2, intercept=1, rule="a mark hits", fitted_on="films, split val"),
    recipe={"detector": {"backbone": "resnet50"}},
    made_with="a pencil",
)  # fmt: skip
SPEED = {
    "model": "net", "version": "7", "threads": 2, "repeats": 3, "peer": "another",
    "rows": [{"mammogram": "film", "rows": 4000, "columns": 3000, "model": 0.1, "file_to_reading": 0.2, "peer": 3.05}],
}  # fmt: skip


def metrics(**extra):
    """One lesion of two found, a false mark beside it: precision, recall and F1 are 1/2."""
    results = [
        ImageResult(1, "p", (A,), (Finding(A, 0.9),)),
        ImageResult(2, "q", (A,), (Finding(NOWHERE, 0.8),)),
    ]
    found = evaluate(results, 0.25, "from val", resamples=50, dataset="test films", model="net", model_version="7")
    return found.to_json() | extra


def rows(card):
    return [[cell.strip() for cell in line.split(" | ")] for line in card.splitlines() if line.startswith("| ")]


def test_the_nine_sections_in_order():
    card = model_card_markdown(METADATA, metrics(), megabytes=14.5)
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == [
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
        "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    ]  # fmt: skip


def test_figures_stand_beside_the_bundles_own():
    whole = metrics()
    card = rows(model_card_markdown(METADATA, whole, megabytes=14.5))
    low, high = whole["intervals"]["f1"]
    assert ["| F1", f"0.500 ({interval_text((low, high), 50)})", "0.500 |"] in card
    assert any(row[0].endswith("(AP50)") and row[2] == "0.812 (0.70 to 0.90) |" for row in card)


def test_what_the_bundle_says_of_itself():
    card = model_card_markdown(METADATA, metrics(), megabytes=14.46)
    for text in (
        "14.5 MB", "score 0.25: highest F1, chosen on val", "probabilities that a mark hits, calibrated on films",
        "| `detector.backbone` | resnet50 |", r"films \| 1990 | CC0 | 9 | 3 | abababababab |",
        "1 lesions are found and 1 missed, with 1 false marks: 0 localisation, 0 duplicate, 1 background",
    ):  # fmt: skip
        assert text in card, text


def test_without_calibration_recipe_speed_and_figures():
    bare = METADATA.model_copy(update={"calibration": None, "recipe": {}, "figures": ()})
    card = model_card_markdown(bare, metrics(), megabytes=1)
    for text in (
        "the network's own, no probabilities", "The bundle does not say how it was trained.",
        "empty: the bundle holds no figures", "No subgroup was looked at.", "Scores are no probabilities",
    ):  # fmt: skip
        assert text in card, text
    assert "median of" not in card


def test_with_data_source_speed_and_caveats():
    whole = metrics(data={"source": "Lee et al.", "licence": "CC BY 3.0"})
    card = model_card_markdown(METADATA, whole, megabytes=1, speed=SPEED, caveats="- Only film.\n")
    assert "| source | Lee et al. |" in card
    assert ["| film", "4000 x 3000", "0.20", "0.10", "3.05", "30 |"] in rows(card)
    assert card.rstrip().endswith("- Only film.")


def test_figures_or_times_of_another_model_are_refused():
    with pytest.raises(EvaluationError, match="the figures are of net 7, not of net 8: evaluate this bundle first"):
        model_card_markdown(METADATA.model_copy(update={"version": "8"}), metrics(), megabytes=1)
    with pytest.raises(EvaluationError, match="the times are not of net 7"):
        model_card_markdown(METADATA, metrics(), megabytes=1, speed=SPEED | {"version": "6"})


def test_metrics_from_the_file_or_its_folder(tmp_path):
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(metrics()))
    assert read_metrics(file) == read_metrics(tmp_path)
    for content in ("{}", "[1]", "no JSON"):
        file.write_text(content)
        with pytest.raises(EvaluationError, match="does not hold the figures of an evaluation by this version"):
            read_metrics(tmp_path)
    with pytest.raises(EvaluationError, match="does not hold the figures"):
        read_metrics(tmp_path / "none.json")
