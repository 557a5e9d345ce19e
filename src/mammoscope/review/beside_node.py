"""The reading room beside a node: its studies, its audit trail, and its way to the PACS."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from mammoscope.network.tls import TLSConfig
from mammoscope.node.audit.trail import AuditTrail
from mammoscope.node.db.repository import Records
from mammoscope.node.retrieve.archives import tls_of
from mammoscope.results import CODED_CLASSES
from mammoscope.review.accounts import ProviderLogin
from mammoscope.review.administration import NodeAdministration
from mammoscope.review.errors import ReviewError
from mammoscope.review.metrics import ReviewMetrics
from mammoscope.review.out import PacsSender, export_read
from mammoscope.review.room import ReadingRoom
from mammoscope.review.service import ReviewService
from mammoscope.review.sources import NodeStudies
from mammoscope.review.tiles import TileCache
from mammoscope.settings import NodeSettings

FOLDER = "review"
"""Within the node's storage folder."""


@contextmanager
def reading_room(
    settings: NodeSettings,
    records: Records,
    registry: CollectorRegistry | None = None,
    classes: Sequence[str] = (),
) -> Iterator[ReviewService | None]:
    """Serve the reading room of a running node; nothing where its settings have none.

    Parameters
    ----------
    records
        The node's.
    registry
        Of the node's metrics: the site's figures stand there, too.
    classes
        The model's: with those of the settings, what a reader can call a box.

    Raises
    ------
    ServiceError
        If the address cannot be listened on, or is not this machine's own and there are no accounts.
    ReviewError
        If its folder cannot be used, or a class of the settings has no code in reports.
    """
    review = settings.review
    if review is None:
        yield None
        return
    storage = settings.node.storage
    labels = _labels(classes, review.classes)
    tiles = TileCache(storage / FOLDER / "tiles")
    audit = AuditTrail(storage / "audit")
    room = ReadingRoom(
        NodeStudies(records, storage, tiles.reader, settings.node.ae_title, labels),
        storage / FOLDER,
        tiles=tiles,
        audit=audit,
        second_reader=review.second_reader,
        viewer_url=review.viewer_url,
        bundle=settings.model.bundle,
        login=_login(settings),
        node=NodeAdministration(settings, records, audit),
    )
    room.export = partial(_exported, room)
    room.send = PacsSender(
        room.store,
        records,
        storage,
        tiles.reader,
        settings.destinations,
        review.organisation,
        shadow=settings.node.shadow,
    )
    tls = settings.tls
    certificate = TLSConfig(tls.certificate, tls.key, tls.trusted) if tls is not None and review.tls else None
    with ReviewService(room, review.host, review.port, tls=certificate, behind_https=review.behind_https) as service:
        figures = ReviewMetrics(room.store)
        if registry is not None:
            registry.register(figures)
        try:
            yield service
        finally:
            if registry is not None:
                registry.unregister(figures)


def _exported(room: ReadingRoom, out: Path) -> str:
    return str(export_read(room.store, out, name=f"{room.title}, read"))


def _labels(of_model: Sequence[str], of_settings: Sequence[str]) -> tuple[str, ...]:
    known = {label.casefold(): label for label in CODED_CLASSES}
    unknown = [label for label in of_settings if label.casefold() not in known]
    if unknown:
        raise ReviewError(
            f"[review] classes: no report has a code for {', '.join(unknown)}; there are {', '.join(CODED_CLASSES)}."
        )
    found: dict[str, str] = {}
    for label in (*of_model, *of_settings):
        found.setdefault(label.casefold(), known.get(label.casefold(), label))
    return tuple(found.values()) or ("Mass",)


def _login(settings: NodeSettings) -> ProviderLogin | None:
    openid = settings.openid
    if openid is None:
        return None
    from mammoscope.network.openid import OpenIDProvider  # authlib is loaded where it is wanted only

    tls = tls_of(settings)
    secret = openid.client_secret
    provider = OpenIDProvider(
        openid.issuer,
        openid.client_id,
        secret.get_secret_value() if secret else None,
        scopes=openid.scopes,
        tls=tls.calling_https() if tls else None,
    )
    return ProviderLogin(provider, openid)
