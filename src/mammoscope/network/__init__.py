"""Speaking DICOM and DICOMweb in both directions: services that receive, clients that send, find and fetch."""

from mammoscope.network.caller import Caller
from mammoscope.network.callers import CallerRefusal, CallerRules
from mammoscope.network.commitment import (
    CommitmentClient,
    CommitmentReport,
    CommitmentReports,
    CommitmentService,
    Instance,
)
from mammoscope.network.errors import (
    AssociationRejectedError,
    CertificateError,
    ConnectionLostError,
    ContextNotAcceptedError,
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
from mammoscope.network.peers import Destination, DimsePeer, Peer, WebPeer
from mammoscope.network.query import QueryClient
from mammoscope.network.received import ObjectRefusal, Receipt, ReceivedObject, Receiver
from mammoscope.network.retrieval import FoundStudy, QueryError, Retrieval
from mammoscope.network.sender import Sender
from mammoscope.network.sop_classes import (
    IGNORED_SOP_CLASSES,
    READ_SOP_CLASSES,
    REFUSED_SOP_CLASSES,
    TRANSFER_SYNTAXES,
)
from mammoscope.network.storage_client import Sending, StorageClient
from mammoscope.network.storage_service import StorageService
from mammoscope.network.stow import StowService
from mammoscope.network.study_source import StudySource
from mammoscope.network.tls import TLSConfig
from mammoscope.network.web_client import WebClient
from mammoscope.network.web_service import WebService

__all__ = [
    "IGNORED_SOP_CLASSES",
    "READ_SOP_CLASSES",
    "REFUSED_SOP_CLASSES",
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
    "Instance",
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
]
