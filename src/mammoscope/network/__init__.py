"""Speaking DICOM in both directions: a storage service that receives, a storage client that sends."""

from mammoscope.network.errors import (
    AssociationRejectedError,
    ConnectionLostError,
    ContextNotAcceptedError,
    NetworkError,
    ObjectRefusedError,
    PeerUnreachableError,
    ServiceError,
    StatusError,
    TLSConfigError,
    UnsendableObjectError,
)
from mammoscope.network.storage_client import Destination, Sending, StorageClient
from mammoscope.network.storage_service import (
    IGNORED_SOP_CLASSES,
    READ_SOP_CLASSES,
    Receipt,
    ReceivedObject,
    StorageService,
)
from mammoscope.network.tls import TLSConfig
from mammoscope.network.web_service import WebService

__all__ = [
    "IGNORED_SOP_CLASSES",
    "READ_SOP_CLASSES",
    "AssociationRejectedError",
    "ConnectionLostError",
    "ContextNotAcceptedError",
    "Destination",
    "NetworkError",
    "ObjectRefusedError",
    "PeerUnreachableError",
    "Receipt",
    "ReceivedObject",
    "Sending",
    "ServiceError",
    "StatusError",
    "StorageClient",
    "StorageService",
    "TLSConfig",
    "TLSConfigError",
    "UnsendableObjectError",
    "WebService",
]
