"""Speaking DICOM and DICOMweb in both directions: services that receive, clients that send, find and fetch."""

from mammoscope.network.access_control import CallerRefusal, CallerRules
from mammoscope.network.association import Caller
from mammoscope.network.c_store_scp import StorageService
from mammoscope.network.c_store_scu import Sending, StorageClient
from mammoscope.network.dicomweb import WebClient
from mammoscope.network.errors import (
    AssociationRejectedError,
    CertificateError,
    ConnectionLostError,
    ContextNotAcceptedError,
    MessageRefusedError,
    NetworkError,
    NoTLSError,
    ObjectRefusedError,
    PeerUnreachableError,
    ServiceError,
    StatusError,
    TLSConfigError,
    UnsendableObjectError,
    WebStatusError,
)
from mammoscope.network.http_server import WebService
from mammoscope.network.mllp import HL7Client, HL7Peer
from mammoscope.network.notifying import MailServer, WebhookClient, check_mail, send_mail
from mammoscope.network.peers import Destination, DimsePeer, Peer, WebPeer
from mammoscope.network.query_retrieve import FoundStudy, QueryClient, QueryError, Retrieval
from mammoscope.network.received import ObjectRefusal, Receipt, ReceivedObject, Receiver
from mammoscope.network.sop_classes import (
    IGNORED_SOP_CLASSES,
    READ_SOP_CLASSES,
    REPORTED_SOP_CLASSES,
    TRANSFER_SYNTAXES,
)
from mammoscope.network.storage_commitment import (
    CommitmentClient,
    CommitmentReport,
    CommitmentReports,
    CommitmentService,
    Instance,
)
from mammoscope.network.stow_rs import StowService
from mammoscope.network.tls import TLSConfig
from mammoscope.network.transports import Sender, StudySource

__all__ = [
    "IGNORED_SOP_CLASSES",
    "READ_SOP_CLASSES",
    "REPORTED_SOP_CLASSES",
    "TRANSFER_SYNTAXES",
    "AssociationRejectedError",
    "Caller",
    "CallerRefusal",
    "CallerRules",
    "CertificateError",
    "CommitmentClient",
    "CommitmentReport",
    "CommitmentReports",
    "CommitmentService",
    "ConnectionLostError",
    "ContextNotAcceptedError",
    "Destination",
    "DimsePeer",
    "FoundStudy",
    "HL7Client",
    "HL7Peer",
    "Instance",
    "MailServer",
    "MessageRefusedError",
    "NetworkError",
    "NoTLSError",
    "ObjectRefusal",
    "ObjectRefusedError",
    "Peer",
    "PeerUnreachableError",
    "QueryClient",
    "QueryError",
    "Receipt",
    "ReceivedObject",
    "Receiver",
    "Retrieval",
    "Sender",
    "Sending",
    "ServiceError",
    "StatusError",
    "StorageClient",
    "StorageService",
    "StowService",
    "StudySource",
    "TLSConfig",
    "TLSConfigError",
    "UnsendableObjectError",
    "WebClient",
    "WebPeer",
    "WebService",
    "WebStatusError",
    "WebhookClient",
    "check_mail",
    "send_mail",
]
