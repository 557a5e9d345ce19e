"""The CLAIM checklist, filled as far as a bundle and its evaluation know.

Tejani, Klontzas, Gatti, Mongan, Moy, Park, Kahn: Checklist for Artificial Intelligence in Medical Imaging (CLAIM):
2024 Update. Radiology: Artificial Intelligence 2024;6(4):e240300. 44 items, here in our own words.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammoscope import __version__
from mammoscope.evaluation.metrics import interval_text
from mammoscope.evaluation.reports.run_record import joined_how, networks_of
from mammoscope.imaging import Crop
from mammoscope.inference import BundleMetadata


@dataclass(frozen=True, slots=True)
class ClaimItem:
    """One item: what it asks for, what is known of it, and what only the author can say.

    Parameters
    ----------
    filled
        What this evaluation and the bundle state; empty where they know nothing.
    author
        What is left to the author; empty where nothing is.
    """

    number: int
    section: str
    asks: str
    filled: str
    author: str


_ITEMS: tuple[tuple[str, str, str], ...] = (
    ("Title and abstract", "Say that this is a study of AI, and which kind", "State it in the title."),
    ("Title and abstract", "Summarise design, methods, results, conclusions", "Write the abstract."),
    ("Introduction", "Background, and the role that the AI is meant to have", "Write it for your setting."),
    ("Introduction", "Aims and hypotheses", "State them, and when they were fixed."),
    ("Study design", "Prospective or retrospective", "State it for data and reading."),
    ("Study design", "Goal of the study", "For example: new model, feasibility, non-inferiority."),
    ("Data", "Where the data come from", "Sites, dates, ethics approval or waiver."),
    ("Data", "Who was included and who was not", "Criteria of the collection and your own."),
    ("Data", "What was done to the data before use", "Anything done before import."),
    ("Data", "How parts of the data were selected", "Why this part, if not all was used."),
    ("Data", "De-identification", "Method, and who checked it."),
    ("Data", "What was done about missing data", "Reasons for what is missing."),
    ("Data", "How the images were acquired", "Scanners, film or digital, exposure, compression."),
    ("Reference standard", "How truth was defined", "Biopsy, follow-up, consensus: which makes a mass a mass."),
    ("Reference standard", "Why this standard", "Reasons and known weaknesses."),
    ("Reference standard", "Who marked it", "Readers, their experience, instructions and tools."),
    ("Reference standard", "How the test set was marked", "Whether otherwise than the training set, and blind to it."),
    ("Reference standard", "Agreement within and between readers", "Measure it, or say that it is unknown."),
    ("Partitions", "How images were assigned to partitions", "Reasons for the proportions."),
    ("Partitions", "At which level partitions are apart", "Sites and dates, if they were kept apart too."),
    ("Test data", "How large the test set should be, and why", "The calculation, if one was made before."),
    ("Model", "The model in full", "A drawing, if reviewers want one."),
    ("Model", "Software and versions", "Hardware."),
    ("Model", "Where the weights start", "Licence and data of pretrained weights."),
    ("Training", "How it was trained", "What was tried besides."),
    ("Training", "How the final model was chosen", "How many were compared."),
    ("Training", "Ensembles", "Their make-up, if you used any."),
    ("Evaluation", "Which figures measure it", "Which of them is the primary one."),
    ("Evaluation", "Significance and uncertainty", "Corrections for several comparisons."),
    ("Evaluation", "Robustness", "Other scanners, noise, other thresholds."),
    ("Evaluation", "Explanation", "Maps of 'mammoscope explain', and how they were checked."),
    ("Evaluation", "Evaluation on internal data", "Say which figures are internal."),
    ("Evaluation", "Testing on external data", "Another site's or vendor's images."),
    ("Evaluation", "Registration of a trial", "Registry and number, if it is a trial."),
    ("Results: data", "How many were included and excluded", "A flow diagram with reasons."),
    ("Results: data", "Who the patients were, by partition", "Age, symptoms, ethnicity, prevalence."),
    ("Results: performance", "Figures with their uncertainty, by partition", ""),
    ("Results: performance", "Diagnostic performance and its precision", "Beside readers, if that is claimed."),
    ("Results: performance", "What went wrong and why", "A reader's view of the cases in the gallery."),
    ("Discussion", "Limits", "Bias, and what keeps the result from other settings."),
    ("Discussion", "What it means for practice", "Intended use, and what has to be shown before."),
    ("Other", "Protocol or further technical detail", "Reference to the protocol."),
    ("Other", "What is available to others", "Where data and weights can be had."),
    ("Other", "Funding and the funders' role", "State them."),
)
"""(section, what it asks for, what the author has to say), items 1 to 44 in order."""


def claim_checklist(
    metrics: Mapping[str, Any], recipe: Mapping[str, Any], card: Sequence[tuple[str, str]]
) -> tuple[ClaimItem, ...]:
    """The 44 items with what is known.

    Parameters
    ----------
    metrics
        The content of metrics.json.
    recipe
        How the model was trained, by section; empty where that is not known.
    card
        The facts of the data card.
    """
    filled = {**_of_the_evaluation(metrics, dict(card)), **_of_the_model(metrics.get("bundle") or {}, recipe)}
    return tuple(
        ClaimItem(number, section, asks, filled.get(number, ""), author)
        for number, (section, asks, author) in enumerate(_ITEMS, start=1)
    )


def _of_the_evaluation(m: Mapping[str, Any], card: Mapping[str, str]) -> dict[int, str]:
    by = [name.partition(" by ")[2] for name in card if " by " in name]
    groups = dict.fromkeys(group["attribute"] for group in m.get("subgroups") or ())
    without = m["n_images_without_boxes"]
    found = {
        1: "Deep learning: a convolutional object detector.",
        6: "Detection of masses in single mammograms, measured against marked boxes.",
        7: card["source, to be cited"],
        12: f"{m['n_unreadable']} images could not be read; they count as images without findings. Resamples in which "
        "a figure is undefined are left out of its interval.",
        21: f"{m['n_patients']} patients, {m['n_images']} images, {m['n_boxes']} lesions were at hand; the intervals "
        "show what that number can tell.",
        28: "AP by COCO's 101 recalls at IoU 0.5, 0.2, 0.1 and 0.5 to 0.95; precision, recall, F1 at the operating "
        "point; FROC; ROC AUC where there are normals; calibration error.",
        29: f"95 % intervals: percentiles of {m['resamples']} bootstrap resamples over patients, seed {m['seed']}; "
        "differences of models by the paired bootstrap (mammoscope compare).",
        30: f"Figures by {', '.join(groups)}." if groups else "",
        35: f"{m['n_patients']} patients, {m['n_images']} images, of which {without} without a lesion.",
        36: f"Known of these images: {', '.join(by) or 'nothing'}; counts in the data card.",
        37: f"AP50 {_figure(m, 'ap50')}, F1 {_figure(m, 'f1')}; the table of figures has the others.",
        38: f"Sensitivity per lesion {_figure(m, 'recall')} with {m['fppi']:.2f} false positives per image; precision "
        f"{_figure(m, 'precision')}.",
        39: "Counts by kind of error; the worst misses and false alarms in the gallery.",
        40: m["note"],
        41: "Research use only; not a medical device.",
        43: "Mammoscope is open source (Apache 2.0); the fingerprint tells the exact data.",
    }
    return {number: text for number, text in found.items() if text}


def _of_the_model(bundle: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[int, str]:
    found = {
        20: "Patients: Mammoscope refuses a data set with a patient in two splits.",
        23: f"mammoscope {__version__}",
    }
    if bundle:
        size = BundleMetadata.model_validate(bundle).input  # whichever format the evaluation was written in
        region = "the breast's region" if size.crop is Crop.BREAST else "the whole image"
        found[9] = f"{region} as {size.rows} x {size.columns} pixels; grey values: {size.pixels}."
        found[19] = "; ".join(
            f"trained on {data['images']} images of {data['patients']} patients of {data['name']}"
            for data in bundle["training_data"]
        )
        found[23] = f"{bundle['made_with']}; evaluated with mammoscope {__version__}"
        found[26] = "; ".join(
            f"operating point '{p['name']}': {p['rule']}, {p['chosen_on']}" for p in bundle["operating_points"]
        )
        found[32] = "; ".join(
            f"{figures['dataset']}, {figures['split']}: AP50 {figures['values']['ap50']:.3f}"
            for figures in bundle["figures"]
            if "ap50" in figures["values"]
        )
    if recipe:
        networks = list(networks_of(recipe).values())
        found[22] = f"{_each(networks, _network)}; all settings in the recipe."
        found[24] = f"{_each(networks, _first_weights)}."
        found[25] = f"{_each(networks, _optimiser)}; schedule, loss and augmentation in the recipe."
        found[27] = "; ".join(filter(None, (_ensemble(recipe), _each(networks, _averaging)))) + "."
    return {number: text for number, text in found.items() if text}


def _figure(m: Mapping[str, Any], key: str) -> str:
    value, interval = m[key], m["intervals"].get(key)
    if value is None:
        return "undefined"
    return f"{value:.3f}" + (f" ({interval_text(interval, m['resamples'])})" if interval else "")


def _each(networks: Sequence[Mapping[str, Any]], describe: Callable[[Mapping[str, Any]], str]) -> str:
    """What is said of each network, once where it is the same."""
    return "; ".join(dict.fromkeys(describe(network) for network in networks))


def _network(recipe: Mapping[str, Any]) -> str:
    detector = recipe.get("detector", {})
    return f"{detector.get('architecture')} on {detector.get('backbone')}"


def _first_weights(recipe: Mapping[str, Any]) -> str:
    if recipe.get("start"):
        return f"all weights from the end of {Path(str(recipe['start'])).name}"
    weights, seed = recipe.get("detector", {}).get("weights"), recipe.get("run", {}).get("seed")
    return f"Backbone: weights '{weights}'; the rest at random from seed {seed}"


def _optimiser(recipe: Mapping[str, Any]) -> str:
    how, pace = recipe.get("optimiser", {}), recipe.get("schedule", {})
    return f"{how.get('kind')}, learning rate {how.get('learning_rate')}, batches of {pace.get('batch')}"


def _ensemble(recipe: Mapping[str, Any]) -> str:
    how = joined_how(recipe)
    return f"{len(networks_of(recipe))} networks; {how}" if how else "None"


def _averaging(recipe: Mapping[str, Any]) -> str:
    decay = recipe.get("schedule", {}).get("ema")
    return f"weights averaged over the run (decay {decay})" if decay else ""
