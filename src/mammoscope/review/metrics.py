"""`ReviewMetrics`: the site's figures for Prometheus, on the node's page of metrics."""

import threading
import time
from collections.abc import Iterable, Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mammoscope.logging import where_raised
from mammoscope.review.figures import Group, SiteFigures, site_figures
from mammoscope.review.store import ReviewStore

KEPT_SECONDS = 1800.0
"""Figures are worked out anew no sooner: they go through all studies."""
MOST_SCANNERS = 50

log = structlog.get_logger(__name__)


class ReviewMetrics(Collector):
    """The figures of a store, as they were half an hour ago: they take some 5 ms a study, so nobody waits for them.

    The first reading of the page has them not yet.
    """

    def __init__(self, store: ReviewStore) -> None:
        self._store = store
        self._known: tuple[float, SiteFigures] | None = None
        self._working_out = threading.Lock()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As of Prometheus' client; a store that does not answer leaves its lines out."""
        try:
            counts = self._store.counts()
        except Exception as error:  # the node's own lines are still worth reading
            log.warning("figures not known", error=where_raised(error))
            return
        yield _family("studies", "Studies by how far their readers are.", counts.items(), "progress")
        if self._known is None or time.monotonic() - self._known[0] > KEPT_SECONDS:
            threading.Thread(target=self.work_out, name="figures", daemon=True).start()
        if self._known is not None:
            yield from _families(self._known[1])

    def work_out(self) -> None:
        """Work the figures out, unless they are being worked out; the next reading of the page has them."""
        if not self._working_out.acquire(blocking=False):
            return
        try:
            self._known = time.monotonic(), site_figures(self._store, ())
        except Exception as error:
            log.warning("figures not known", error=where_raised(error))
        finally:
            self._working_out.release()


def _families(figures: SiteFigures) -> Iterator[GaugeMetricFamily]:
    scanners, groups = figures.intake_scanners[:MOST_SCANNERS], figures.scanners[:MOST_SCANNERS]
    yield _family("images", "Images, by scanner.", ((one.name, one.images) for one in scanners), "scanner")
    per_image = ((one.name, one.findings_per_image) for one in scanners)
    yield _family("findings_per_image", "Findings an image, by scanner.", per_image, "scanner")
    yield _family("images_read", "Images that readers have finished.", _of(groups, "images"), "scanner")
    yield _family("acceptance_ratio", "Share of proposals accepted.", _of(groups, "acceptance"), "scanner")
    yield _family(
        "false_positives_per_image", "Proposals rejected, an image.", _of(groups, "false_positives"), "scanner"
    )
    yield _family("sensitivity_ratio", "Lesions of readers proposed.", _of(groups, "sensitivity"), "scanner")
    distances = ((drift.statistic, drift.distance) for drift in figures.drifts)
    yield _family("drift_distance", "Latest month against those before, 0 to 1.", distances, "statistic")
    alarms = ((drift.statistic, drift.alarm) for drift in figures.drifts)
    yield _family("drift_alarm", "Whether that is more than chance and enough to act on.", alarms, "statistic")


def _of(groups: Iterable[Group], figure: str) -> Iterator[tuple[str, float | None]]:
    return ((group.name, getattr(group, figure)) for group in groups)


def _family(name: str, help_text: str, values: Iterable[tuple[str, float | None]], label: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"mammoscope_review_{name}", help_text, labels=(label,))
    for said, value in values:
        if value is not None:
            family.add_metric([str(said)], float(value))
    return family
