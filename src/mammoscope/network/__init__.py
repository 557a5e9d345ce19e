"""Speaking DICOM in both directions: a storage service that receives, a storage client that sends."""

from mammoscope.network.caller import Caller
from mammoscope.network.callers import CallerRefusal, CallerRules
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
)
from mammoscope.network.peers import Destination, DimsePeer, Peer, WebPeer
from mammoscope.network.received import ObjectRefusal, Receipt, ReceivedObject, Receiver
from mammoscope.network.sop_classes import (
    IGNORED_SOP_CLASSES,
    READ_SOP_CLASSES,
    REFUSED_SOP_CLASSES,
    TRANSFER_SYNTAXES,
)
from mammoscope.network.storage_client import Sending, StorageClient
from mammoscope.network.storage_service import StorageService
from mammoscope.network.tls import TLSConfig
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
    "ConnectionLostError",
    "ContextNotAcceptedError",
    "Destination",
    "DimsePeer",
    "NetworkError",
    "NoTLSError",
    "ObjectRefusal",
    "ObjectRefusedError",
    "Peer",
    "PeerUnreachableError",
    "Receipt",
    "ReceivedObject",
    "Receiver",
    "Sending",
    "ServiceError",
    "StatusError",
    "StorageClient",
    "StorageService",
    "TLSConfig",
    "TLSConfigError",
    "UnsendableObjectError",
    "WebPeer",
    "WebService",
]
