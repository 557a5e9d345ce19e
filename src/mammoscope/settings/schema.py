"""The sections of a node's settings, each a table of the TOML file."""

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator


def _ae_title(value: str) -> str:
    if not value.strip() or len(value) > 16 or "\\" in value or not (value.isascii() and value.isprintable()):
        raise ValueError("an AE title is 1 to 16 plain characters without a backslash")
    return value.strip()


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError("an address is like 10.0.0.7, or a network like 10.0.0.0/24 without host bits") from None


def _web_address(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", value):
        raise ValueError("a DICOMweb address is like https://pacs:8042/dicom-web")
    return value.rstrip("/")


def _expected_view(value: str) -> str:
    if not re.fullmatch(r"[LR](CC|MLO|ML|LM)", value):
        raise ValueError("a view is a side and a projection, like LCC or RMLO")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
"""DICOM PS3.5 value representation AE."""
Network = Annotated[str, AfterValidator(_network)]
"""An address or a network of addresses, IPv4 or IPv6."""
WebAddress = Annotated[str, AfterValidator(_web_address)]
"""The root of a DICOMweb service."""
ExpectedView = Annotated[str, AfterValidator(_expected_view)]
"""Side and projection of one mammogram."""


class Transport(StrEnum):
    """How a peer is spoken to."""

    DIMSE = "dimse"
    DICOMWEB = "dicomweb"


class ResultKind(StrEnum):
    """A kind of object that a destination may be sent."""

    CAD_SR = "cad-sr"
    AI_SR = "ai-sr"
    PRESENTATION_STATE = "presentation-state"
    SHEET = "sheet"
    COLOUR_SHEET = "colour-sheet"
    IMAGE_CAPTURE = "image-capture"
    COLOUR_IMAGE_CAPTURE = "colour-image-capture"
    SEGMENTATION = "segmentation"


DEFAULT_RESULTS = (ResultKind.CAD_SR, ResultKind.PRESENTATION_STATE, ResultKind.SHEET)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceSettings(_Section):
    """``[node]``: who we are, where we listen, where we keep things, when a study is read.

    Parameters
    ----------
    host, port
        Address to listen on. Port 0 takes a free one.
    plain
        Whether to listen on ``port`` without TLS; with ``[tls]`` alone the node listens on its port only.
    storage
        Folder for everything the node keeps; on a file system with hard links. Several workers share it.
    database
        ``None`` for a SQLite file in ``storage``; or ``postgresql://user:password@host/name``, which several workers
        on several machines may share.
    quiet_seconds
        A study is read when no image of it arrived for so long.
    expected_views
        A study with all of these is read at once; empty to wait for quiet always.
    answer_minutes
        A study is answered this long after its last image at the latest, where nothing else can be said by "not
        processed".
    allowed_callers
        Calling AE titles that may associate; empty for all.
    allowed_addresses
        Addresses and networks that may connect; empty for all.
    keep_images_hours
        How long the images of a read study are kept, so that a late one is reported together with them.
    free_gigabytes
        Below so much free disk no object is taken (status 0xA700) until there is more again.
    largest_object_gigabytes
        An object above it is refused.
    shadow
        Read and record everything, send nothing.
    """

    ae_title: AETitle = "MAMMOSCOPE"
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=11112, ge=0, le=65535)
    plain: bool = True
    storage: Path = Path("mammoscope-node")
    database: SecretStr | None = None
    quiet_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    expected_views: tuple[ExpectedView, ...] = ("RCC", "LCC", "RMLO", "LMLO")
    answer_minutes: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    allowed_callers: tuple[AETitle, ...] = ()
    allowed_addresses: tuple[Network, ...] = ()
    keep_images_hours: float = Field(default=24.0, ge=0, allow_inf_nan=False)
    free_gigabytes: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    largest_object_gigabytes: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    shadow: bool = False


class _Peer(_Section):
    """One peer, by DIMSE (AE title, host, port) or by DICOMweb (url).

    Parameters
    ----------
    name
        What logs and records call it.
    tls
        By DIMSE: whether to call it over TLS with the certificate of ``[tls]``. A DICOMweb peer says so by https.
    token
        By DICOMweb: sent as a bearer token.
    """

    name: str = Field(min_length=1)
    transport: Transport = Transport.DIMSE
    ae_title: AETitle | None = None
    host: str | None = Field(default=None, min_length=1)
    port: int | None = Field(default=None, ge=1, le=65535)
    tls: bool = False
    url: WebAddress | None = None
    token: SecretStr | None = None

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        wanted = ("url",) if self.transport is Transport.DICOMWEB else ("ae_title", "host", "port")
        for key in wanted:
            if getattr(self, key) is None:
                raise ValueError(f"the key '{key}' is missing, which a peer spoken to by {self.transport} needs")
        return self


class DestinationSettings(_Peer):
    """One ``[[destinations]]``: a peer that takes the results.

    Parameters
    ----------
    results
        What it is sent, in this order.
    retry_hours
        How long a result that cannot be delivered is tried again before it is put aside.
    timeout_seconds
        How long it may take to answer for one object; one that takes longer is sent the same object again.
    commitment
        By DIMSE: ask it for storage commitment, and take a report for sent only when it committed.
    """

    results: tuple[ResultKind, ...] = Field(default=DEFAULT_RESULTS, min_length=1)
    retry_hours: float = Field(default=72.0, ge=0, allow_inf_nan=False)
    timeout_seconds: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    commitment: bool = False


class SourceSettings(_Peer):
    """One ``[[sources]]``: an archive that studies are pulled from.

    Parameters
    ----------
    poll_seconds
        How often it is asked for new studies; 0 for never, only by ``mammoscope node pull``.
    where
        Attributes that a study must match, by keyword, for example ``{ ModalitiesInStudy = "MG" }``.
    retrieve
        By DIMSE: ``move`` has it send to us (it must know our AE title), ``get`` uses the same association.
    """

    poll_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    where: dict[str, str] = Field(default_factory=lambda: {"ModalitiesInStudy": "MG"})
    retrieve: str = Field(default="move", pattern="^(move|get)$")


class TLSSettings(_Section):
    """``[tls]``: DICOM over mutual TLS (DICOM PS3.15 B.12), listening and calling.

    Parameters
    ----------
    certificate, key
        Our own, PEM.
    trusted
        The certificates, PEM, one of which must have signed each peer's.
    port
        What to listen on; ``None`` to only call.
    """

    certificate: Path
    key: Path
    trusted: Path
    port: int | None = Field(default=2762, ge=0, le=65535)


class WebSettings(_Section):
    """``[web]``: health and metrics for the administrator, and STOW-RS in if tokens are given.

    Parameters
    ----------
    tls
        Whether to serve https with the certificate of ``[tls]``.
    tokens
        Bearer tokens that may store by STOW-RS; empty for no STOW-RS at all.
    """

    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=8080, ge=0, le=65535)
    tls: bool = False
    tokens: tuple[SecretStr, ...] = ()


class HealthSettings(_Section):
    """``[health]``: a phantom study goes round the node at an interval.

    Parameters
    ----------
    deadline_seconds
        It is unwell when the phantom's results are not back by then.
    """

    every_minutes: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    deadline_seconds: float = Field(default=600.0, gt=0, allow_inf_nan=False)


class AuditSettings(_Section):
    """``[audit]``: the audit trail, always in ``storage/audit``; also by syslog if an address is given.

    Parameters
    ----------
    syslog
        ``udp://host:514``, ``tcp://host:601`` or ``tls://host:6514`` (RFC 5424, 5426, 5425).
    """

    syslog: str | None = Field(default=None, pattern=r"^(udp|tcp|tls)://[^\s/:]+:\d+$")


class ModelSettings(_Section):
    """``[model]``: the bundle that reads.

    Parameters
    ----------
    bundle
        An exported bundle; ``None`` for the one shipped with Mammoscope.
    processes
        How many images are read at once, each in a process of its own; ``None`` for one for every two cores.
    threads
        Of each process; ``None`` to share the cores among them.
    threshold
        Lowest score reported; ``None`` for the bundle's own operating point.
    """

    bundle: Path | None = None
    processes: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    threshold: float | None = Field(default=None, ge=0, le=1)
