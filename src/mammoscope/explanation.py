"""What `mammoscope explain` leaves in its folder and says of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mammoscope.errors import MammoscopeError
from mammoscope.explain import SAME_MAP, HeatMap, correlation, rank_correlation
from mammoscope.findings import Algorithm, Reading
from mammoscope.results import ReadMammogram, draw_heat_map, heat_map_capture, verify_against_reading

_WHITEST = 65535


@dataclass(frozen=True)
class Explanation:
    """A finding's heat map, and those that the method gives it with shuffled weights.

    Parameters
    ----------
    number
        Of the finding in its reading, from 1.
    shuffled
        By what was shuffled; empty where no sanity check was asked for.
    """

    number: int
    heat_map: HeatMap
    shuffled: Mapping[str, HeatMap] = field(default_factory=dict)

    @cached_property
    def correlations(self) -> dict[str, tuple[float, float]]:
        """Pearson's and Spearman's correlation of the map with each of the others."""
        values = self.heat_map.values
        return {
            part: (correlation(values, other.values), rank_correlation(values, other.values))
            for part, other in self.shuffled.items()
        }

    @property
    def sane(self) -> bool:
        """Whether the map is another one once all weights are shuffled (the last of them)."""
        return not self.correlations or max(list(self.correlations.values())[-1]) < SAME_MAP

    def summary(self, reading: Reading) -> str:
        """A line or two for the terminal."""
        finding = reading.findings[self.number - 1]
        words = f"Finding {self.number}: {finding.label} {finding.score * 100:.0f} %, {self.heat_map.method}"
        if self.heat_map.agreement is not None:
            words += f", agreement {self.heat_map.agreement:.2f}"
        if self.heat_map.peak == 0:
            words += "; no heat at all: this map explains nothing"
        elif self.heat_map.noisy:
            words += "; a noisy map: do not trust it, give more --masks"
        for part, (linear, rank) in self.correlations.items():
            words += f"\n  {part} shuffled: correlation {linear:.2f}, of ranks {rank:.2f}"
        if self.correlations:
            verdict = "another map, as it should be" if self.sane else "THE SAME MAP: it does not show what was learned"
            words += f"\n  sanity check (below {SAME_MAP}): {verdict}"
        return words


def write_explanations(
    out: Path,
    file: Path,
    image: ReadMammogram,
    algorithm: Algorithm,
    explanations: Sequence[Explanation],
    *,
    with_objects: bool,
) -> list[str]:
    """Write pictures, maps, objects and ``explanations.json``; what could not be made comes back, a sentence each.

    Raises
    ------
    MammoscopeError
        If the folder cannot be written.
    """
    problems: list[str] = []
    entries = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for explanation in explanations:
            entry = _entry(explanation, image.reading)
            stem = f"{file.stem}.finding-{explanation.number}"
            entry["picture"] = f"{stem}.png"
            drawn = draw_heat_map(image, explanation.number, explanation.heat_map, algorithm)
            Image.fromarray(drawn).save(out / entry["picture"])
            entry["map"] = _write_map(out, f"{stem}.map.png", explanation.heat_map, image.reading)
            entry["object"] = None
            if with_objects:
                try:
                    entry["object"] = _write_object(out, f"{stem}.dcm", explanation, image, algorithm)
                except MammoscopeError as error:
                    problems.append(f"finding {explanation.number} has no DICOM object: {error}")
            entries.append(entry)
        listed = {
            "file": str(file),
            "algorithm": {"name": algorithm.name, "version": algorithm.version},
            "threshold": image.reading.threshold,
            "findings": entries,
        }
        text = json.dumps(listed, indent=1).encode("utf-8", "backslashreplace")
        (out / "explanations.json").write_bytes(text + b"\n")
    except OSError as error:
        raise MammoscopeError(f"cannot write to {out}: {error.strerror or error}; name another --out") from error
    return problems


def _entry(explanation: Explanation, reading: Reading) -> dict[str, Any]:
    finding, heat_map = reading.findings[explanation.number - 1], explanation.heat_map
    entry: dict[str, Any] = {
        "number": explanation.number,
        "box": finding.box.as_tuple(),
        "score": finding.score,
        "label": finding.label,
        "method": heat_map.method,
        "meaning": heat_map.meaning,
        "peak": heat_map.peak,
        "agreement": heat_map.agreement,
        "noisy": heat_map.noisy,
    }
    if explanation.correlations:
        entry["sanity"] = {
            part: {"correlation": linear, "rank_correlation": rank}
            for part, (linear, rank) in explanation.correlations.items()
        }
        entry["sane"] = explanation.sane
    return entry


def _write_map(out: Path, name: str, heat_map: HeatMap, reading: Reading) -> dict[str, Any]:
    """A 16-bit picture in the file's geometry, and which values its lowest and highest grey stand for."""
    values = heat_map.on_file(reading.rows or 0, reading.columns or 0)
    low, high = float(values.min()), float(values.max())
    grey: NDArray[np.uint16] = np.round((values - low) / ((high - low) or 1.0) * _WHITEST).astype(np.uint16)
    Image.fromarray(grey).save(out / name)
    return {"file": name, "value_of_0": low, f"value_of_{_WHITEST}": high}


def _write_object(out: Path, name: str, explanation: Explanation, image: ReadMammogram, algorithm: Algorithm) -> str:
    dataset = heat_map_capture(image, explanation.number, explanation.heat_map, algorithm)
    verify_against_reading(dataset, [image])
    dataset.save_as(out / name, enforce_file_format=True)
    return name
