"""The sections of a node's settings, each a table of the TOML file.

Each key has its meaning as ``description`` and, where its default shows nothing, an example: the reference of settings
and the file that ``mammoscope node init`` writes are made from them.
"""

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from mammoscope.settings.rules import wrong_keyword
from mammoscope.settings.viewers import ResultKind, Viewer, kinds_for


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
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
        raise ValueError(
            "a DICOMweb address is like https://pacs:8042/dicom-web; a password or token goes into 'token'"
        )
    return value.rstrip("/")


def _expected_view(value: str) -> str:
    if not re.fullmatch(r"[LR](CC|MLO|ML|LM)", value):
        raise ValueError("a view is a side and a projection, like LCC or RMLO")
    return value


def _as_list(value: Any) -> Any:
    """One value as a list of one, so that a key may name one thing or several."""
    return (value,) if isinstance(value, str) else value


_MAIL = r"^[^\s@<>,;]+@[^\s@<>,;]+$"

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
    HL7 = "hl7"
    """HL7 v2 by MLLP: a destination that is sent a summary in words instead of objects."""


def _names(values: type[StrEnum]) -> str:
    return ", ".join(f"`{value}`" for value in values)


DEFAULT_VIEWERS = (Viewer.ANY,)
DEFAULT_RESULTS = kinds_for(DEFAULT_VIEWERS)
HL7_RESULTS = (ResultKind.AI_SR,)
"""What an HL7 message is made of."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceSettings(_Section):
    """``[node]``: who we are, where we listen, where we keep things, when a study is read."""

    ae_title: AETitle = Field(
        default="MAMMOSCOPE", description="Our AE title: at most 16 characters; calls to another title are rejected."
    )
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description='The address to listen on; "0.0.0.0" for all of this machine.',
    )
    port: int = Field(default=11112, ge=0, le=65535, description="The port to listen on without TLS; 0 for a free one.")
    plain: bool | None = Field(
        default=None,
        description="Whether to listen on `port` without TLS. Without the key: only if there is no TLS port under"
        " `[tls]`.",
        examples=[True],
    )
    storage: Path = Field(
        default=Path("mammoscope-node"),
        description="Folder for everything the node keeps, on a local disk with hard links, mode 0700. Several workers"
        " share it.",
    )
    database: SecretStr | None = Field(
        default=None,
        description="PostgreSQL, which several workers may share; without the key SQLite in the storage folder.",
        examples=["postgresql://user:password@host/name"],
    )
    quiet_seconds: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="A study is read when no image of it arrived for so long.",
    )
    expected_views: tuple[ExpectedView, ...] = Field(
        default=("RCC", "LCC", "RMLO", "LMLO"),
        description="A study with all of these is read at once, and reports name those that did not come; [] to wait"
        " for quiet always.",
    )
    answer_minutes: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description='A study is answered so long after its last image at the latest, if only by "not processed".',
    )
    allowed_callers: tuple[AETitle, ...] = Field(
        default=(), description="Calling AE titles that may associate; [] for all.", examples=[["PACS"]]
    )
    allowed_addresses: tuple[Network, ...] = Field(
        default=(), description="Addresses and networks that may connect; [] for all.", examples=[["10.0.0.0/24"]]
    )
    keep_images_hours: float = Field(
        default=24.0,
        ge=0,
        allow_inf_nan=False,
        description="How long read images are kept, so that a late one is reported together with them.",
    )
    free_gigabytes: float = Field(
        default=2.0,
        ge=0,
        allow_inf_nan=False,
        description="Below so much free disk no object is taken (status 0xA700) until there is more again.",
    )
    largest_object_gigabytes: float = Field(
        default=1.0, gt=0, allow_inf_nan=False, description="An object above it is refused (status 0xC000)."
    )
    shadow: bool = Field(default=False, description="Read and record everything, send nothing.")


_ADDRESS = {
    Transport.DIMSE: ("ae_title", "host", "port"),
    Transport.DICOMWEB: ("url",),
    Transport.HL7: ("host", "port"),
}
"""The keys that a peer needs, by how it is spoken to."""


class _Peer(_Section):
    """One peer, by DIMSE (AE title, host, port) or by DICOMweb (url)."""

    name: str = Field(min_length=1, description="What logs and records call it.", examples=["pacs"])
    transport: Transport = Field(
        default=Transport.DIMSE,
        description="How it is spoken to: `dimse` or `dicomweb`; a destination that is a RIS also by `hl7` (ORU^R01 by"
        " MLLP).",
    )
    ae_title: AETitle | None = Field(default=None, description="By DIMSE: its AE title.", examples=["PACS"])
    host: str | None = Field(
        default=None, min_length=1, description="By DIMSE and HL7: its name or address.", examples=["127.0.0.1"]
    )
    port: int | None = Field(default=None, ge=1, le=65535, description="By DIMSE and HL7: its port.", examples=[104])
    tls: bool = Field(
        default=False,
        description="By DIMSE and HL7: whether to call it over TLS with the certificate of `[tls]`. By DICOMweb the"
        " address says so: https.",
    )
    url: WebAddress | None = Field(
        default=None, description="By DICOMweb: the root of its service.", examples=["https://pacs:8042/dicom-web"]
    )
    token: SecretStr | None = Field(
        default=None, description="By DICOMweb: sent as a bearer token.", examples=["a long random text"]
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        by_web = self.transport is Transport.DICOMWEB
        for key in _ADDRESS[self.transport]:
            if getattr(self, key) is None:
                raise ValueError(f"the key '{key}' is missing, which a peer spoken to by {self.transport} needs")
        if self.token is not None and not by_web:
            raise ValueError("a token is sent by dicomweb only; delete it, or set transport = 'dicomweb'")
        if self.tls and (self.url or "").startswith("http://"):
            raise ValueError("tls = true needs a url that begins with https://")
        return self


class DestinationSettings(_Peer):
    """``[[destinations]]``: a peer that takes the results; the block is repeated for each."""

    viewer: Annotated[tuple[Viewer, ...], BeforeValidator(_as_list)] = Field(
        default=DEFAULT_VIEWERS,
        min_length=1,
        description="What its results are looked at with, one or a list, which says what it is sent: "
        f"{_names(Viewer)}. `any` where nothing is known.",
        examples=["ohif"],
    )
    results: tuple[ResultKind, ...] = Field(
        default=DEFAULT_RESULTS,
        min_length=1,
        description="What it is sent, in this order; without the key what its `viewer` shows. Kinds: "
        f"{_names(ResultKind)}.",
    )
    rejection_notes: bool = Field(
        default=False,
        description="For an archive that knows IHE IOCM: with the newer report of a study comes a note (Key Object"
        " Selection) that rejects the results which it replaces, so that they are hidden there.",
    )
    application: str | None = Field(
        default=None, max_length=180, description="By HL7: the receiving application (MSH-5).", examples=["RIS"]
    )
    facility: str | None = Field(
        default=None, max_length=180, description="By HL7: the receiving facility (MSH-6).", examples=["HOSPITAL"]
    )
    retry_hours: float = Field(
        default=72.0,
        ge=0,
        allow_inf_nan=False,
        description="How long a result that cannot be delivered is tried again before it is parked for a person.",
    )
    timeout_seconds: float = Field(
        default=120.0,
        gt=0,
        allow_inf_nan=False,
        description="How long it may take to answer for one object; after that the object is sent again.",
    )
    commitment: bool = Field(
        default=False,
        description="By DIMSE: ask it for storage commitment, and take a report for sent only when it committed.",
    )
    try_store: bool = Field(
        default=False,
        description="Whether `mammoscope node check` may store an object there: results of no patient, with the"
        " Patient ID MAMMOSCOPE-CHECK and the same UIDs each time, to be kept from routing or deleted there.",
    )

    @model_validator(mode="before")
    @classmethod
    def _results_follow_the_viewer(cls, values: Any) -> Any:
        """Without results of its own a destination is sent what its viewer shows."""
        if not isinstance(values, dict) or "results" in values:
            return values
        if values.get("transport") == Transport.HL7:
            return {**values, "results": HL7_RESULTS}
        try:
            viewers = [Viewer(viewer) for viewer in _as_list(values.get("viewer", DEFAULT_VIEWERS))]
        except (TypeError, ValueError):  # told as what it is when the key itself is looked at
            return values
        return {**values, "results": kinds_for(viewers)} if viewers else values

    @model_validator(mode="after")
    def _notes_are_sent_last(self) -> Self:
        """A note is an object like any other, and rejects nothing before what replaces it is there."""
        if self.rejection_notes and self.transport is Transport.HL7:
            raise ValueError("rejection_notes are objects, and hl7 carries none; delete the key")
        others = tuple(kind for kind in self.results if kind is not ResultKind.REJECTION_NOTE)
        if not others:
            raise ValueError("a rejection-note alone says nothing; name other results too")
        if self.rejection_notes or len(others) < len(self.results):
            object.__setattr__(self, "results", (*others, ResultKind.REJECTION_NOTE))
        return self

    @model_validator(mode="after")
    def _commitment_is_of_dimse(self) -> Self:
        if self.commitment and self.transport is not Transport.DIMSE:
            raise ValueError(f"commitment = true needs a peer spoken to by dimse; nothing commits by {self.transport}")
        return self

    @model_validator(mode="after")
    def _hl7_has_one_kind(self) -> Self:
        if self.transport is Transport.HL7 and self.results != HL7_RESULTS:
            raise ValueError("by hl7 a summary is sent, not results; delete the key 'results'")
        if self.transport is not Transport.HL7 and (self.application or self.facility):
            raise ValueError("application and facility are of HL7; delete them, or set transport = 'hl7'")
        return self


class SourceSettings(_Peer):
    """``[[sources]]``: an archive that studies are fetched from; the block is repeated for each."""

    poll_seconds: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="How often it is asked for new studies; 0 for never, only by `mammoscope node pull`.",
        examples=[60.0],
    )
    where: dict[str, str] = Field(
        default_factory=lambda: {"ModalitiesInStudy": "MG"},
        description="Attributes that a study must match, by keyword.",
    )
    retrieve: str = Field(
        default="move",
        pattern="^(move|get)$",
        description="By DIMSE: `move` has it send to us (it must know our AE title), `get` uses the same association.",
    )

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if self.transport is Transport.HL7:
            raise ValueError("no studies can be fetched by hl7; use dimse or dicomweb")
        return self


class RuleSettings(_Section):
    """``[[rules]]``: what is done with images that match; the first rule that matches an image applies to it."""

    name: str = Field(min_length=1, max_length=64, description="What logs and records call it.", examples=["north"])
    where: dict[str, Annotated[tuple[str, ...], BeforeValidator(_as_list)]] = Field(
        default_factory=dict,
        description="Attributes of an image, by keyword, all of which must match: one text or a list of which one must,"
        " upper and lower case alike, `*` for anything and `?` for one character. Without the key every image matches.",
        examples=[{"StationName": "MG-NORTH*", "PresentationIntentType": "FOR PRESENTATION"}],
    )
    callers: tuple[AETitle, ...] = Field(
        default=(),
        description="AE titles, or names of sources, of which one must have sent the image; [] for all.",
        examples=[["NORTH_PACS"]],
    )
    read: bool = Field(
        default=True,
        description="Whether such images are read. Nothing is sent of a study of which none is, and in the results of"
        " other studies they are not processed.",
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Lowest score reported of such images; without the key that of `[model]`.",
        examples=[0.4],
    )
    destinations: tuple[str, ...] | None = Field(
        default=None,
        description="Names of the destinations that get the results of the study; without the key all, or with"
        " `back_to_sender` none but the sender.",
        examples=[["pacs"]],
    )
    back_to_sender: bool = Field(
        default=False,
        description="Whether the results also go to those of the `[[destinations]]` whose AE title sent the images.",
    )
    results: tuple[ResultKind, ...] | None = Field(
        default=None,
        min_length=1,
        description="What these destinations are sent; without the key what each is sent otherwise.",
        examples=[["cad-sr", "presentation-state"]],
    )

    @model_validator(mode="after")
    def _looks_at_no_patient(self) -> Self:
        for keyword in self.where:
            if (wrong := wrong_keyword(keyword)) is not None:
                raise ValueError(f"where = {{ {keyword} = ... }}: {wrong}")
        return self


class TLSSettings(_Section):
    """``[tls]``: DICOM over mutual TLS (DICOM PS3.15 B.12), listening and calling, and https."""

    certificate: Path = Field(
        description="Our own certificate, PEM, followed by those between it and its root.", examples=["node.crt"]
    )
    key: Path = Field(
        description="Its private key, PEM, without a password, readable by the node's account only.",
        examples=["node.key"],
    )
    trusted: Path = Field(
        description="The certificates, PEM, one of which must have signed each peer's.", examples=["trusted.crt"]
    )
    port: int | None = Field(
        default=2762,
        ge=0,
        le=65535,
        description="The port to listen on by TLS. The one without TLS is closed then unless `[node] plain` is true.",
    )
    listen: bool = Field(
        default=True, description="Whether to listen on `port`; false to use the certificate for calls only."
    )

    @property
    def listening_port(self) -> int | None:
        """What to listen on by TLS; ``None`` to only call."""
        return self.port if self.listen else None


class WebSettings(_Section):
    """``[web]``: health and metrics for the administrator, and STOW-RS in if tokens are given."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description='The address to listen on; "0.0.0.0" for all of this machine.'
    )
    port: int = Field(default=8080, ge=0, le=65535, description="The port to listen on; 0 for a free one.")
    tls: bool = Field(default=False, description="Whether to serve https, with the certificate of `[tls]`.")
    tokens: tuple[SecretStr, ...] = Field(
        default=(),
        description="Bearer tokens that may store by STOW-RS; [] for no STOW-RS at all.",
        examples=[["a long random text"]],
    )


class SecondReader(StrEnum):
    """Whether each study is read by a second reader, and whether that one sees the first one's boxes."""

    NONE = "none"
    BLIND = "blind"
    OPEN = "open"


class ReviewSettings(_Section):
    """``[review]``: the reading room, where readers see the studies and correct what was found."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="The address to listen on; any but this machine's needs accounts (`mammoscope readers add`).",
    )
    port: int = Field(default=8090, ge=0, le=65535, description="The port to listen on; 0 for a free one.")
    tls: bool = Field(default=False, description="Whether to serve https, with the certificate of `[tls]`.")
    behind_https: bool = Field(
        default=False, description="Whether a proxy in front serves https: cookies travel by it only then."
    )
    second_reader: SecondReader = Field(
        default=SecondReader.NONE,
        description="Whether a second reader reads each study: `none`, `blind` or `open` (sees the first one's boxes).",
    )
    organisation: str = Field(
        default="unknown", min_length=1, max_length=64, description="Whose readers they are, for the verified reports."
    )
    classes: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(
        default=(),
        description="What a reader can call a box besides the model's own classes: `Mass`, `Calcification`,"
        " `Architectural distortion`, `Asymmetry`, `Lymph node`.",
        examples=[["Calcification", "Asymmetry"]],
    )
    viewer_url: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="The site's own viewer, with `{study}` for the Study Instance UID: a link beside each study.",
        examples=["https://pacs/ohif/viewer?StudyInstanceUIDs={study}"],
    )


class Role(StrEnum):
    """What somebody may do in the reading room; everybody sees studies and figures."""

    READER = "reader"
    """Reads studies, settles disagreements, sends to the PACS."""
    ANNOTATOR = "annotator"
    """Reads studies."""
    ADMIN = "admin"
    """As a reader, and has the node send or read a study again."""
    AUDITOR = "auditor"
    """Reads nothing; sees who did what."""

    @property
    def may_read(self) -> bool:
        """Whether they may judge boxes."""
        return self is not Role.AUDITOR

    @property
    def may_send(self) -> bool:
        """Whether they may send to the PACS."""
        return self in (Role.READER, Role.ADMIN)

    @property
    def may_see_the_node(self) -> bool:
        """Whether they see how the node stands, and the audit trail."""
        return self in (Role.ADMIN, Role.AUDITOR)


class OpenIDSettings(_Section):
    """``[openid]``: readers log in by the site's OpenID Connect provider; needs `[review]` too."""

    issuer: str = Field(
        pattern=r"^https?://[^\s?#@]+$",
        description="The provider's address, as it writes it itself; https, but for one on this machine.",
        examples=["https://login.example/realms/clinic"],
    )
    client_id: str = Field(min_length=1, description="What we are called there.", examples=["mammoscope"])
    client_secret: SecretStr | None = Field(
        default=None,
        description="Our password there; without one we are a public client and show the proof of key (PKCE) alone.",
        examples=["a long secret"],
    )
    name: str = Field(
        default="the site's login", min_length=1, max_length=60, description="What the login page calls the provider."
    )
    scopes: tuple[str, ...] = Field(
        default=("profile",), description="What is asked for besides `openid`: what brings the two claims below."
    )
    name_claim: str = Field(
        default="preferred_username",
        min_length=1,
        description="The claim that has the name of the reader, which stands beside everything that they do.",
    )
    role_claim: str = Field(
        default="groups",
        min_length=1,
        description="The claim that has the role: a text or a list; `a.b` for `b` within `a`.",
        examples=["realm_access.roles"],
    )
    roles: dict[str, Role] = Field(
        min_length=1,
        description="Which value of it is which role: `reader`, `annotator`, `admin` or `auditor`. The first that fits"
        " counts; nobody comes in without.",
        examples=[{"radiologists": "reader", "it": "admin"}],
    )
    url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s?#@]+$",
        description="Where browsers reach the reading room; what the browser says unless given. Register"
        " `URL/login/openid/back` with the provider.",
        examples=["https://reading.example"],
    )

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.issuer.startswith("http://") and not re.match(
            r"http://(localhost|127\.0\.0\.1|\[::1\])[:/]", self.issuer
        ):
            raise ValueError("issuer is https, but for a provider on this machine")
        return self


class HealthSettings(_Section):
    """``[health]``: a synthetic study goes round the node at an interval, apart from patients."""

    every_minutes: float = Field(default=60.0, gt=0, allow_inf_nan=False, description="How often.")
    deadline_seconds: float = Field(
        default=600.0,
        gt=0,
        allow_inf_nan=False,
        description="The node is unwell when the results are not back by then.",
    )


class AuditSettings(_Section):
    """``[audit]``: the audit trail, always in the storage folder; also to a collector if one is named."""

    syslog: str | None = Field(
        default=None,
        pattern=r"^(udp|tcp|tls)://[^\s/:@]+:\d+$",
        description="A collector: `udp://host:514`, `tcp://host:601` or `tls://host:6514` (RFC 5424, 5426, 5425).",
        examples=["tls://collector:6514"],
    )


class NoticeSettings(_Section):
    """``[notices]``: who is told when a study failed, results were given up, or a destination is down."""

    webhook: WebAddress | None = Field(
        default=None,
        description="Each notice is posted there as JSON; without the key nowhere.",
        examples=["https://chat.hospital/hooks/mammoscope"],
    )
    webhook_token: SecretStr | None = Field(
        default=None, description="Sent there as a bearer token.", examples=["a long random text"]
    )
    smtp: str | None = Field(
        default=None,
        pattern=r"^(smtp|smtp\+starttls|smtps)://[^\s/:@]+:\d+$",
        description="The mail server: `smtp://host:25`, `smtp+starttls://host:587` or `smtps://host:465`; without the"
        " key no mail is sent.",
        examples=["smtp+starttls://mail.hospital:587"],
    )
    smtp_user: str | None = Field(default=None, description="Its account, if it asks for one.", examples=["mammoscope"])
    smtp_password: SecretStr | None = Field(default=None, description="Its password.", examples=["a long random text"])
    mail_from: str | None = Field(
        default=None, pattern=_MAIL, description="Sender of the mails.", examples=["mammoscope@hospital.example"]
    )
    mail_to: tuple[Annotated[str, Field(pattern=_MAIL)], ...] = Field(
        default=(), description="Who gets them.", examples=[["pacs-team@hospital.example"]]
    )
    down_minutes: float = Field(
        default=15.0,
        ge=0,
        allow_inf_nan=False,
        description="A destination is down when nothing could be sent to it for so long.",
    )

    @model_validator(mode="after")
    def _mail_is_whole(self) -> Self:
        if self.smtp is not None and (self.mail_from is None or not self.mail_to):
            raise ValueError("smtp needs mail_from and mail_to")
        if self.smtp is None and (self.mail_from or self.mail_to or self.smtp_user):
            raise ValueError("mail needs the key 'smtp', the mail server")
        if (self.smtp_user is None) != (self.smtp_password is None):
            raise ValueError("smtp_user and smtp_password go together")
        if self.smtp_password is not None and (self.smtp or "").startswith("smtp://"):
            raise ValueError("smtp_password would cross the network in clear; use smtp+starttls:// or smtps://")
        if self.webhook_token is not None and self.webhook is None:
            raise ValueError("webhook_token needs the key 'webhook'")
        return self


class ModelSettings(_Section):
    """``[model]``: the bundle that reads."""

    bundle: Path | None = Field(
        default=None,
        description="Made by `mammoscope export`; without the key the shipped model reads.",
        examples=["my.onnx"],
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        description="How many images are read at once, each in a process of its own; without the key one for every two"
        " cores.",
        examples=[2],
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Of each process; without the key the cores are shared among them.",
        examples=[2],
    )
    threshold: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Lowest score reported; without the key the bundle's own operating point.",
        examples=[0.5],
    )
    two_views: bool = Field(
        default=True,
        description="Whether the CC and the MLO view of a breast are read together, where the bundle knows how"
        " (docs/evaluation.md#two-views); `false` reads each view by itself.",
    )
