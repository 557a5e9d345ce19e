"""Every part that a node needs and every peer it speaks to, tried one by one, each told in words."""

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MammographyCADSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from mammoscope import __version__
from mammoscope.errors import MammoscopeError
from mammoscope.findings import Algorithm, Reading, ReadingStatus
from mammoscope.imaging import MammogramReader
from mammoscope.inference.pool import ModelPool
from mammoscope.logging import where_raised
from mammoscope.network import DimsePeer, HL7Client, HL7Peer, Sender, TLSConfig, WebPeer, check_mail
from mammoscope.network.association import Caller
from mammoscope.network.echo import echo, may_store_web, not_accepted, query_web, resolve, try_listening
from mammoscope.network.peers import Peer
from mammoscope.network.sop_classes import STORAGE_COMMITMENT, STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE
from mammoscope.network.syslog import SyslogClient
from mammoscope.node.db.repository import Records
from mammoscope.node.jobs.deliver_report import hl7_peer_of, peer_of
from mammoscope.node.monitoring.phantom_check import PHANTOM_ROOT, phantom_images
from mammoscope.node.monitoring.readiness import disk_has_room, nothing_is_late, storage_is_writable
from mammoscope.node.node import is_running
from mammoscope.node.notices.notifier import mail_server_of
from mammoscope.node.retrieve.archives import tls_of
from mammoscope.phantom import screening_study
from mammoscope.results import ReadMammogram, study_results
from mammoscope.settings import (
    DestinationSettings,
    NodeSettings,
    NoticeSettings,
    ResultKind,
    SourceSettings,
    Transport,
    kinds_for,
    not_shown,
)

CERTIFICATE_DAYS = 30
"""A certificate that ends sooner is to be renewed."""
PEER_SECONDS = 15.0
"""How long a peer may take for each answer."""

PHANTOM_ROWS, PHANTOM_COLUMNS = 1024, 768
"""Of the mammogram that the model is tried with."""
CHECK_PATIENT = "MAMMOSCOPE-CHECK"
"""Patient ID and name of what is stored to try a destination."""
CHECK_STUDY = f"{PHANTOM_ROOT}.1"
CHECK_ROWS, CHECK_COLUMNS = 256, 192
CHECK_TIME = datetime(2000, 1, 1)

SOP_CLASSES = {
    ResultKind.CAD_SR: MammographyCADSRStorage,
    ResultKind.AI_SR: Comprehensive3DSRStorage,
    ResultKind.PRESENTATION_STATE: GrayscaleSoftcopyPresentationStateStorage,
    ResultKind.SHEET: SecondaryCaptureImageStorage,
    ResultKind.COLOUR_SHEET: SecondaryCaptureImageStorage,
    ResultKind.IMAGE_CAPTURE: SecondaryCaptureImageStorage,
    ResultKind.COLOUR_IMAGE_CAPTURE: SecondaryCaptureImageStorage,
    ResultKind.SEGMENTATION: SegmentationStorage,
    ResultKind.REJECTION_NOTE: KeyObjectSelectionDocumentStorage,
}
"""What each kind of result is stored as."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one try ended.

    Parameters
    ----------
    part
        What was tried.
    well
        Whether it works.
    words
        What was seen, or what is wrong and what to do.
    """

    part: str
    well: bool
    words: str


Try = Callable[[], str]
"""Tries something; returns what was seen, or raises what is wrong."""


class CheckError(MammoscopeError):
    """Something that does not work."""


def check_node(settings: NodeSettings) -> Iterator[Outcome]:
    """Try everything, in the order in which a node needs it; continues whatever is wrong."""
    yield from check_machine(settings)
    yield from check_peers(settings)


def check_machine(settings: NodeSettings) -> Iterator[Outcome]:
    """Try what this machine gives: disk, database, certificate, ports, and last the model, which takes longest."""
    storage = settings.node.storage
    yield _outcome("storage", partial(_storage, storage))
    yield _outcome("disk", partial(_disk, storage, settings.node.free_gigabytes * 1e9))
    yield _outcome("database", partial(_database, settings))
    yield _outcome("waiting", partial(_waiting, settings))
    tls = tls_of(settings)
    if tls is not None:
        yield _outcome("certificate", partial(_certificate, tls))
    for what, port in _ports(settings):
        yield _outcome(what, partial(_port, settings.node.host, port, storage))
    if settings.web is not None:
        yield _outcome("web port", partial(_port, settings.web.host, settings.web.port, storage))
        if settings.web.tokens and not settings.web.tls:
            yield _outcome("web tokens", partial(_tokens, settings.web.host))
    yield _outcome("model", partial(_model, settings))


def check_peers(settings: NodeSettings) -> Iterator[Outcome]:
    """Try everyone the node speaks to, giving nothing to keep to whoever does not allow it (``try_store``)."""
    tls = tls_of(settings)
    if settings.notices.smtp is not None:
        yield _outcome("notices by mail", partial(_mail_server, settings.notices, tls))
    if settings.notices.webhook is not None:
        yield _outcome("notices by webhook", partial(_webhook, settings.notices.webhook))
    if settings.audit.syslog is not None:
        yield _outcome("audit collector", partial(_collector, settings.audit.syslog, tls))
    caller = Caller(settings.node.ae_title, PEER_SECONDS, tls)
    for destination in settings.destinations:
        yield from _destination(destination, caller, tls)
    for source in settings.sources:
        yield from _source(source, caller, tls)


def _outcome(part: str, attempt: Try) -> Outcome:
    try:
        return Outcome(part, True, attempt())
    except MammoscopeError as error:
        return Outcome(part, False, str(error))
    except Exception as error:  # whatever it is, the other parts are still to be tried
        return Outcome(part, False, f"unexpected {where_raised(error)}")


def _storage(folder: Path) -> str:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CheckError(f"the storage folder {folder} cannot be made ({error.strerror}); name another") from None
    _raise_if(storage_is_writable(folder)())
    if mode := folder.stat().st_mode & 0o077:
        raise CheckError(
            f"the storage folder {folder} holds patients' images and is open to other accounts (mode"
            f" {0o700 | mode:04o}); chmod 700 it"
        )
    return f"{folder} can be written, synced and hard-linked"


def _disk(folder: Path, free_bytes: float) -> str:
    _raise_if(disk_has_room(folder, free_bytes)())
    return f"more than {free_bytes / 1e9:g} GB free"


def _database(settings: NodeSettings) -> str:
    with _records(settings) as records:
        counts = records.counts()
        return f"{records.database} answers; {sum(counts.studies.values())} studies"


def _waiting(settings: NodeSettings) -> str:
    with _records(settings) as records:
        _raise_if(nothing_is_late(records, settings)())
    return f"every study is answered within {settings.node.answer_minutes:g} minutes, and what is due is sent"


def _records(settings: NodeSettings) -> Records:
    url = settings.node.database
    return Records.open(settings.node.storage, url.get_secret_value() if url else None)


def _model(settings: NodeSettings) -> str:
    with (
        ModelPool(settings.model.bundle, processes=1, threads=settings.model.threads) as model,
        MammogramReader() as reader,
        TemporaryDirectory() as folder,
    ):
        image = screening_study(0, rows=PHANTOM_ROWS, columns=PHANTOM_COLUMNS).save(Path(folder))[0]
        started = time.monotonic()
        reading = model.read(reader.read(image), settings.model.threshold)
        seconds = time.monotonic() - started
        name = f"{model.algorithm.name} {model.algorithm.version}"
    return f"{name} read a synthetic mammogram in {seconds:.1f} s ({len(reading.findings)} findings)"


def _certificate(tls: TLSConfig) -> str:
    _raise_if(tls.key_exposure())
    tls.listening()
    tls.calling()
    ends = tls.expires_at()
    if ends - datetime.now(UTC) < timedelta(days=CERTIFICATE_DAYS):
        raise CheckError(f"our certificate {tls.certificate} ends on {ends:%Y-%m-%d}; renew it now")
    return f"{tls.certificate} fits its key and is valid until {ends:%Y-%m-%d}"


def _ports(settings: NodeSettings) -> list[tuple[str, int]]:
    ports = [("port", settings.node.port)] if settings.listens_plain else []
    if settings.tls_port is not None:
        ports.append(("TLS port", settings.tls_port))
    return ports


def _port(host: str, port: int, storage: Path) -> str:
    """Whether we may listen there, or the node with that storage folder runs and does."""
    try:
        try_listening(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and is_running(storage):
            return f"{host} port {port} is listened on, and the node runs"
        words = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise CheckError(
            f"{host} port {port} cannot be listened on ({words}); choose a free port, above 1024 unless root, and an"
            " address of this machine"
        ) from None
    return f"{host} port {port} is free"


def _tokens(host: str) -> str:
    """Whether tokens stay on this machine where they are sent without TLS."""
    if host in ("localhost", "::1") or host.startswith("127."):
        return "the web without TLS is reached from this machine only"
    raise CheckError(
        "tokens cross the network in clear; set [web] tls = true, or listen on 127.0.0.1 behind a TLS proxy"
    )


def _collector(address: str, tls: TLSConfig | None) -> str:
    parts = urlsplit(address)
    resolve(parts.hostname or "", parts.port or 0)
    with SyslogClient(address, tls.calling_https() if tls else None, PEER_SECONDS) as client:
        client.send(())
    return f"{address} cannot tell whether it receives (UDP)" if parts.scheme == "udp" else f"{address} takes messages"


def _mail_server(settings: NoticeSettings, tls: TLSConfig | None) -> str:
    server = mail_server_of(settings)
    parts = urlsplit(server.address)
    resolve(parts.hostname or "", parts.port or 0)
    check_mail(server, tls.calling_https() if tls is not None else None)
    return f"{server} lets us in; whether it takes mail for {', '.join(settings.mail_to)} only a notice shows"


def _webhook(address: str) -> str:
    parts = urlsplit(address)
    resolve(parts.hostname or "", parts.port or 0)
    return f"{parts.hostname} is known; whether it takes our notices only a notice shows"


def _destination(settings: DestinationSettings, caller: Caller, tls: TLSConfig | None) -> Iterator[Outcome]:
    name = f"destination {settings.name}"
    if settings.transport is Transport.HL7:
        yield _outcome(f"{name}: connection", partial(_answers_hl7, hl7_peer_of(settings), tls))
        return
    if not_shown(settings.viewer, settings.results):
        yield _outcome(f"{name}: viewer", partial(_is_shown, settings))
    peer = peer_of(settings)
    if isinstance(peer, WebPeer):
        allowed = _outcome(f"{name}: store", partial(_web_store, peer, tls))
        yield allowed
        if allowed.well:
            sender = Sender(caller.ae_title, PEER_SECONDS, tls)
            yield _outcome(f"{name}: store for real", partial(_store, settings, peer, sender))
        return
    reached = _outcome(f"{name}: echo", partial(_echo, caller, peer))
    yield reached
    if not reached.well:
        return
    for kind in settings.results:
        yield _outcome(f"{name}: {kind}", partial(_accepts, caller, peer, [SOP_CLASSES[kind]]))
    yield _outcome(
        f"{name}: store for real", partial(_store, settings, peer, Sender(caller.ae_title, PEER_SECONDS, tls))
    )
    if settings.commitment:
        yield _outcome(f"{name}: storage commitment", partial(_accepts, caller, peer, [STORAGE_COMMITMENT]))


def _is_shown(settings: DestinationSettings) -> str:
    """Say what of that which is sent none of the viewers there shows; raises if that is all of it."""
    hidden = not_shown(settings.viewer, settings.results)
    shown = [kind for kind in settings.results if kind not in hidden]
    viewers = " or ".join(settings.viewer)
    if not shown:
        raise CheckError(
            f"{viewers} shows nothing of what is sent ({', '.join(hidden)}); delete the key 'results', which sends"
            f" {', '.join(kinds_for(settings.viewer))}"
        )
    return f"{viewers} shows {', '.join(shown)}, but not {', '.join(hidden)}"


def _answers_hl7(peer: HL7Peer, tls: TLSConfig | None) -> str:
    HL7Client(PEER_SECONDS, tls).connect(peer)
    return f"{peer} takes connections; whether it takes our messages only a report shows"


def _source(settings: SourceSettings, caller: Caller, tls: TLSConfig | None) -> Iterator[Outcome]:
    name = f"source {settings.name}"
    peer = peer_of(settings)
    if isinstance(peer, WebPeer):
        yield _outcome(f"{name}: query", partial(_web_query, peer, tls))
        return
    reached = _outcome(f"{name}: echo", partial(_echo, caller, peer))
    yield reached
    if not reached.well:
        return
    retrieve = STUDY_ROOT_MOVE if settings.retrieve == "move" else STUDY_ROOT_GET
    yield _outcome(f"{name}: query", partial(_accepts, caller, peer, [STUDY_ROOT_FIND]))
    yield _outcome(f"{name}: {settings.retrieve}", partial(_accepts, caller, peer, [retrieve]))


def _echo(caller: Caller, peer: DimsePeer) -> str:
    address = resolve(peer.host, peer.port)
    echo(caller, peer)
    return f"{peer} answers from {address}"


def _accepts(caller: Caller, peer: DimsePeer, sop_classes: Sequence[UID]) -> str:
    missing = not_accepted(caller, peer, sop_classes)
    if missing:
        names = ", ".join(uid.name for uid in missing)
        raise CheckError(f"{peer} does not accept {names}; allow it there, or leave it out of our settings")
    return f"it accepts {', '.join(uid.name for uid in sop_classes)}"


def _web_query(peer: WebPeer, tls: TLSConfig | None) -> str:
    resolve(urlsplit(peer.url).hostname or "", 0)
    query_web(peer, tls, PEER_SECONDS)
    return f"{peer} answers a query (QIDO-RS)"


def _web_store(peer: WebPeer, tls: TLSConfig | None) -> str:
    resolve(urlsplit(peer.url).hostname or "", 0)
    may_store_web(peer, tls, PEER_SECONDS)
    return f"{peer} lets us store (STOW-RS)"


def _store(settings: DestinationSettings, peer: Peer, sender: Sender) -> str:
    """Store the results of a study of no patient, where that is allowed; otherwise say that it was not tried."""
    if not settings.try_store:
        return "not tried; only try_store = true in its settings shows whether it keeps what it accepts"
    with TemporaryDirectory() as folder:
        files = _results_of_nobody(settings.results, Path(folder))
        sendings = sender.send(files, peer)
    for sending in sendings:
        if sending.error is not None:
            raise sending.error
    return f"it took {len(sendings)} results of the patient {CHECK_PATIENT}; delete them there or route them nowhere"


def _results_of_nobody(kinds: Sequence[ResultKind], folder: Path) -> list[Path]:
    """The results of a synthetic study of one fixed Study Instance UID, the same each time."""
    images = []
    for dataset in phantom_images(CHECK_STUDY, rows=CHECK_ROWS, columns=CHECK_COLUMNS):
        dataset.PatientID = CHECK_PATIENT
        dataset.PatientName = CHECK_PATIENT
        dataset.save_as(file := folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
        images.append(file)
    with MammogramReader() as reader:
        mammograms = [reader.read(image) for image in images]
    algorithm = Algorithm("Mammoscope check", __version__)
    read = [
        ReadMammogram(
            mammogram,
            Reading(
                mammogram.name,
                ReadingStatus.NOTHING_FOUND,
                rows=mammogram.rows,
                columns=mammogram.columns,
                laterality=mammogram.laterality,
                view=mammogram.view,
                algorithm=algorithm,
                threshold=1.0,
            ),
        )
        for mammogram in mammograms
    ]
    made = study_results(read, algorithm, kinds=kinds, now=CHECK_TIME).objects
    files = [folder / f"result {number}.dcm" for number in range(len(made))]
    for dataset, file in zip(made, files, strict=True):
        dataset.save_as(file, enforce_file_format=True)
    return files


def _raise_if(wrong: str | None) -> None:
    if wrong is not None:
        raise CheckError(wrong)
