"""`report.md`: the figures as a person reads them."""

from collections.abc import Sequence

from mammoscope.evaluation.matching import ImageResult
from mammoscope.evaluation.metrics import Metrics


def report_markdown(metrics: Metrics, results: Sequence[ImageResult] = ()) -> str:
    """The report in Markdown.

    Parameters
    ----------
    results
        For the list of unreadable images.
    """
    m = metrics
    figures = [
        ("AP at IoU 0.5 (AP50)", m.ap50, "ap50"),
        ("AP at IoU 0.2", m.ap20, "ap20"),
        ("AP at IoU 0.1", m.ap10, "ap10"),
        ("Precision", m.precision, "precision"),
        ("Recall", m.recall, "recall"),
        ("F1", m.f1, "f1"),
        *((f"Sensitivity at {x} FPPI", value, f"froc_{x}") for x, value in m.froc.items()),
        *((f"Sensitivity at {x} FPPI, IoU 0.2", value, f"froc_iou20_{x}") for x, value in m.froc_iou20.items()),
    ]
    of_split = f", split {m.split}" if m.split else ""
    lines = [
        f"# Evaluation of {m.model or 'a model'} {m.model_version}".rstrip(),
        "",
        "Research use only; not a medical device.",
        "",
        f"Data: {m.dataset or 'unnamed'}{of_split}: {m.n_images} images of {m.n_patients} patients with "
        f"{m.n_boxes} boxes; {m.n_images_without_boxes} images have no box.",
        "",
        f"Operating point: score {m.threshold:.4g} or more ({m.threshold_rule}). Hits at IoU {m.iou:g} or more.",
        "",
        "| figure | value | 95 % interval |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {_value(value)} | {_interval(metrics, key)} |" for name, value, key in figures),
        "",
        f"At the operating point {m.true_positives} boxes were found and {m.false_negatives} missed, with "
        f"{m.false_positives} false positives ({m.fppi:.2f} per image).",
        "",
        f"Intervals: {m.resamples} bootstrap resamples over patients, seed {m.seed}.",
    ]
    if m.note:
        lines += ["", f"Note: {m.note}"]
    unreadable = [result for result in results if result.unreadable is not None]
    if unreadable:
        lines += ["", f"## {len(unreadable)} unreadable images, counted as images without findings", ""]
        lines += [f"- image {result.image_id}: {result.unreadable}" for result in unreadable]
    return "\n".join(lines) + "\n"


def _value(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _interval(metrics: Metrics, key: str) -> str:
    interval = metrics.intervals.get(key)
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
