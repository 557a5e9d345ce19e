"""pynetdicom's association server, made safe against peers that are silent, huge or unwanted.

What differs from pynetdicom 3.0: the TLS handshake happens in the connection's own thread, where a silent peer holds
up nobody else; the whole association request, and later each whole PDU, must arrive in time, however it drips (ARTIM
of DICOM PS3.8 section 9.1.2); of too many connections that ask for nothing the oldest of whoever has most is closed,
and no address may have all associations; a PDU that claims to be longer than agreed is not read into memory; an object
arrives in a folder of our choice, and one that will be refused is not kept there.

Having the system write a file to the disk while it still grows, so that little is left to sync at its end.
"""

import contextlib
import ctypes
import os
import queue
import select
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import _TemporaryFileWrapper
from typing import Any

import structlog
from pynetdicom import AE, _config, dimse_messages, evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from mammoscope.network.access_control import (
    CallerRefusal,
    CallerRules,
    OnCallerRefused,
    handshake_failure,
    network_of,
)
from mammoscope.network.errors import ObjectRefusedError
from mammoscope.network.received import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, out_of_resources

WRITE = 2
"""SYNC_FILE_RANGE_WRITE of Linux: begin to write what is not on its way yet, and do not wait for it."""


def _system_call() -> Callable[[int, int, int, int], int] | None:
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_sync_file_range = _system_call()


def begin_to_write(descriptor: int, start: int, end: int) -> None:
    """Begin to write these bytes of a file: a hint, which makes nothing safe. Nothing where the system lacks it."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, start, end - start, WRITE)


MAX_PDU = 131072
"""Bytes. Twice the objects per second of the usual 16 KiB on a fast link."""
LONGEST_READ = 4 * MAX_PDU
"""Bytes. An association request with many contexts may be longer than the PDUs agreed on for objects."""
LARGEST_OBJECT = 2**30
"""Bytes."""
WRITE_OUT_BYTES = 2**22
"""So much of an object is sent on to the disk while the next arrives."""
HANDSHAKE_SECONDS = 15.0
MOST_CONNECTIONS = 200
"""Open at once, whether or not an association was asked for; a connection beyond them is closed at once."""
MOST_PENDING = 100
"""Connections to one port without an association request; beyond them the oldest of whoever has most is closed."""
MOST_ASSOCIATIONS = 20
MOST_ASSOCIATIONS_OF_ONE = 15
"""... of one address, so that nobody takes them all."""
REJECTED_TRANSIENT, BY_PRESENTATION, LIMIT_EXCEEDED = 2, 3, 2
"""Result, source and reason of DICOM PS3.8 Table 9-21: local limit exceeded, which may be tried again later."""

log = structlog.get_logger(__name__)

BackPressure = Callable[[], str | None]
"""Why no object can be taken now, or ``None``."""


_arriving = threading.local()


def _temporary_file(**options: Any) -> Any:
    return tempfile.NamedTemporaryFile(dir=getattr(_arriving, "folder", None), **options)


# pynetdicom writes an object that arrives to Python's folder for temporary files, one for the whole process, and has no
# setting for it. Each object must arrive on the file system where it is kept, to be linked there rather than copied.
vars(dimse_messages)["NamedTemporaryFile"] = _temporary_file
_config.STORE_RECV_CHUNKED_DATASET = True


class SharedContexts(list[PresentationContext]):
    """Presentation contexts that associations share.

    pynetdicom copies them deeply for each association, 40 ms for all storage classes; negotiation only reads them.
    """

    def __deepcopy__(self, _: dict[int, object]) -> list[PresentationContext]:
        return list(self)


class ApplicationEntity(AE):
    """Its limit counts the associations asked for: a line that is open and says nothing takes nobody's place."""

    @property
    def connections(self) -> list[Association]:
        """Whoever is connected, whether or not he asked for an association yet."""
        return super().active_associations

    @property
    def active_associations(self) -> list[Association]:
        """Associations that were asked for."""
        return [a for a in self.connections if a.requestor.primitive is not None]

    def associations_of(self, address: str) -> int:
        """How many associations an address has asked for."""
        network = network_of(address)
        return sum(network_of(a.requestor.address or "") == network for a in self.active_associations if a.is_acceptor)


class PendingConnections:
    """Connections to a port that have not asked for an association yet. Safe to use from several threads.

    A peer that is honest asks within moments, so where there are too many, the oldest of the address that has most is
    the one to close.

    Parameters
    ----------
    most
        How many there may be.
    """

    def __init__(self, most: int = MOST_PENDING) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._sockets: dict[Any, socket.socket] = {}
        """By the address and port of the peer, the oldest first."""

    def add(self, peer: Any, connection: socket.socket) -> None:
        """Add a connection, closing another if there are too many."""
        with self._lock:
            while len(self._sockets) >= self._most:
                counts = Counter(network_of(address) for address, *_ in self._sockets)
                [(network, _)] = counts.most_common(1)
                oldest = next(p for p in self._sockets if network_of(p[0]) == network)
                _hang_up(self._sockets.pop(oldest))
            self._sockets[peer] = connection

    def replace(self, peer: Any, connection: socket.socket) -> None:
        """Name the socket that took over a connection for its TLS."""
        with self._lock:
            if peer in self._sockets:
                self._sockets[peer] = connection
            else:  # closed meanwhile
                _hang_up(connection)

    def remove(self, peer: Any) -> None:
        """Take out a connection that closed or asked for an association."""
        with self._lock:
            self._sockets.pop(peer, None)


def _hang_up(connection: socket.socket) -> None:
    """End a connection; whoever reads from it in another thread sees its end."""
    with contextlib.suppress(OSError):
        # Not SSLSocket's own, which would pull TLS from under the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class GuardedServer(ThreadedAssociationServer):
    """Listens on one address, plain or by TLS.

    Parameters
    ----------
    incoming
        Folder for objects while they arrive.
    largest_object
        Bytes; a data set above it is refused.
    silence_seconds
        After which a peer in the middle of a PDU is given up.
    """

    daemon_threads = True  # a handshake that hangs does not keep the process

    def __init__(
        self,
        ae: ApplicationEntity,
        address: tuple[str, int],
        contexts: SharedContexts,
        handlers: list[evt.EventHandlerType],
        *,
        incoming: Path,
        tls: ssl.SSLContext | None,
        rules: CallerRules,
        on_refused: OnCallerRefused,
        back_pressure: BackPressure,
        largest_object: int,
        silence_seconds: float,
    ) -> None:
        self.entity = ae
        self.incoming = incoming
        self.tls = tls
        self.rules = rules
        self.on_refused = on_refused
        self.back_pressure = back_pressure
        self.largest_object = largest_object
        self.silence_seconds = silence_seconds
        self.pending = PendingConnections()
        super().__init__(ae, address, ae.ae_title, contexts, None, handlers, _GuardedHandler)

    def start(self) -> None:
        """Serve in a thread until `shutdown`."""
        self.ae._servers.append(self)
        threading.Thread(target=self.serve_forever, name=f"dicom {self.server_address[1]}", daemon=True).start()

    def verify_request(self, _: Any, client_address: Any) -> bool:
        """Whether somebody at this address may connect now."""
        reason = None
        if not self.rules.may_connect(client_address[0]):
            reason = "its address is not allowed"
        elif len(self.entity.connections) >= MOST_CONNECTIONS:
            reason = f"{MOST_CONNECTIONS} connections are open already"
        if reason is not None:
            self.on_refused(CallerRefusal("", client_address[0], reason))
        return reason is None

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        self.pending.add(client_address, request)
        super().process_request(request, client_address)

    def handle_error(self, _: Any, client_address: Any) -> None:
        """Report instead of printing a traceback."""
        self.pending.remove(client_address)
        reason = f"its connection failed at once ({type(sys.exc_info()[1]).__name__})"
        self.on_refused(CallerRefusal("", client_address[0], reason))


class _GuardedHandler(RequestHandler):
    server: GuardedServer

    def handle(self) -> None:
        if self.server.tls is not None and not self._shake_hands(self.server.tls):
            return
        _give_up_silent(self.request, self.server.silence_seconds)
        super().handle()

    def _shake_hands(self, tls: ssl.SSLContext) -> bool:
        try:
            self.request = tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
            self.server.pending.replace(self.client_address, self.request)
            _shake_hands(self.request, time.monotonic() + HANDSHAKE_SECONDS)
        except OSError as error:
            self.server.pending.remove(self.client_address)
            self.server.on_refused(CallerRefusal("", self.client_address[0], handshake_failure(error)))
            self.request.close()
            return False
        return True

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.event_queue.get_nowait()  # the socket made there announced the connection; ours does so again
        association.dul.socket = _GuardedSocket(association, self.request, self.server.silence_seconds)
        association.acse = _GuardedACSE(association, self.server.pending, self.client_address)
        association.dimse = GuardedDimse(
            association, self.server.incoming, self.server.largest_object, self.server.back_pressure
        )
        return association


def _shake_hands(connection: ssl.SSLSocket, deadline: float) -> None:
    """Do a TLS handshake as a whole before the deadline.

    Raises
    ------
    OSError
        If it fails; `TimeoutError` if it takes longer.
    """
    connection.setblocking(False)
    while (wanted := _step_of_handshake(connection)) is not None:
        waiting = select.poll()
        waiting.register(connection, wanted)
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not waiting.poll(remaining * 1000):
            raise TimeoutError("the TLS handshake took too long")


def _step_of_handshake(connection: ssl.SSLSocket) -> int | None:
    """What a handshake waits for now, as of `select.poll`; ``None`` when it is done."""
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return select.POLLIN
    except ssl.SSLWantWriteError:
        return select.POLLOUT
    return None


def _give_up_silent(connection: socket.socket, seconds: float) -> None:
    """Let a blocking read fail after so much silence.

    By the system's own limit where it can be: Python's costs one more system call for each read.
    """
    if isinstance(connection, ssl.SSLSocket):
        connection.settimeout(seconds)
        return
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


class _GuardedACSE(ACSE):
    """Negotiates associations, of which no address gets all."""

    def __init__(self, association: Association, pending: PendingConnections, peer: Any) -> None:
        super().__init__(association)
        self._pending = pending
        self._peer = peer

    def forget_connection(self) -> None:
        """Take the connection out of those that wait for a request."""
        self._pending.remove(self._peer)

    def _negotiate_as_acceptor(self) -> None:
        self.forget_connection()
        entity = self.assoc.ae
        assert isinstance(entity, ApplicationEntity)
        if entity.associations_of(self._peer[0]) <= MOST_ASSOCIATIONS_OF_ONE:
            super()._negotiate_as_acceptor()
            return
        request = self.requestor.primitive
        assert request is not None
        self.requestor.ae_title = request.calling_ae_title or ""
        self.send_reject(REJECTED_TRANSIENT, BY_PRESENTATION, LIMIT_EXCEEDED)
        evt.trigger(self.assoc, evt.EVT_REJECTED, {})
        self.assoc.kill()


class _GuardedSocket(AssociationSocket):
    """Reads PDUs, each of which must be whole in time; so must all that comes before the association request is."""

    def __init__(self, association: Association, connection: socket.socket, seconds: float) -> None:
        super().__init__(association, client_socket=connection)
        self._association = association
        self._seconds = seconds
        self._request_by: float | None = time.monotonic() + seconds

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > LONGEST_READ:
            raise OSError(f"a PDU of {nr_bytes} bytes is longer than agreed")
        connection = self.socket
        assert connection is not None
        deadline = self._deadline(connection)
        buffer = bytearray(nr_bytes)
        view, got = memoryview(buffer), 0
        while got < nr_bytes:
            count = connection.recv_into(view[got:])
            if count == 0:
                break
            got += count
            if got < nr_bytes and time.monotonic() > deadline:
                raise TimeoutError("a PDU took too long to arrive")
        view.release()
        del buffer[got:]
        return buffer

    def _deadline(self, connection: socket.socket) -> float:
        now = time.monotonic()
        if self._request_by is None:
            return now + self._seconds
        if self._association.requestor.primitive is None:
            _give_up_silent(connection, max(self._request_by - now, 0.01))
            return self._request_by
        self._request_by = None
        _give_up_silent(connection, self._seconds)
        return now + self._seconds


class GuardedDimse(DIMSEServiceProvider):
    """Watches over each object while it arrives in ``folder``."""

    def __init__(self, association: Association, folder: Path, largest: int, back_pressure: BackPressure) -> None:
        super().__init__(association)
        self._folder = folder
        self._largest = largest
        self._back_pressure = back_pressure

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the next piece; at the first of an object decide whether it is kept."""
        _arriving.folder = self._folder
        begun = self.message._data_set_file if self.message is not None else None
        try:
            super().receive_primitive(primitive)
        except Exception as error:  # whatever pynetdicom raises, or no room for a file at all
            log.warning("message not understood", caller=self.assoc.requestor.ae_title, error=type(error).__name__)
            self.discard()
            self.message = None
            self.dul.event_queue.put("Evt19")  # as for any invalid PDU: the association is aborted
            return
        message = self.message
        if message is None or message._data_set_file is None or isinstance(message._data_set_file, IncomingFile):
            return
        if begun is not None:  # a second command in the middle of an object begins another
            discard(begun)
        incoming = IncomingFile(message._data_set_file, self._largest)
        message._data_set_file = incoming  # type: ignore[assignment]
        try:
            refuse_when_full(self._back_pressure)
        except ObjectRefusedError as refusal:
            incoming.refuse(refusal)

    def discard(self) -> None:
        """Delete what arrived before the association ended: the part of an object, and whole ones not yet looked at."""
        if self.message is not None and self.message._data_set_file is not None:
            discard(self.message._data_set_file)
        with contextlib.suppress(queue.Empty):
            while True:
                _, request = self.msg_queue.get_nowait()
                if request is not None and request._dataset_file is not None:
                    discard(request._dataset_file)


_HEAD_BYTES = 1 << 14
"""Of an object that is too large: its identifiers come among the first elements (PS3.5 section 7.1)."""


class IncomingFile:
    """The file of an object that is arriving; once refused it takes no more room, whatever else arrives of it.

    ``head`` is how one that was too large began, which tells whoever sent it which object it was.
    """

    def __init__(self, file: Any, largest: int) -> None:
        self._file: _TemporaryFileWrapper[bytes] = file
        self._largest = largest
        self._size = file.tell()
        self._on_its_way = 0
        self.name = file.name
        self.refusal: ObjectRefusedError | None = None
        self.head = b""

    @property
    def file(self) -> "IncomingFile":
        """Itself: pynetdicom flushes the file inside its temporary file."""
        return self

    def write(self, data: bytes) -> int:
        """Keep a piece, unless the object is refused."""
        self._size += len(data)
        if self.refusal is None and self._size > self._largest:
            with Path(self.name).open("rb") as written:
                self.head = (written.read(_HEAD_BYTES) + data)[:_HEAD_BYTES]
            self.refuse(
                ObjectRefusedError(
                    f"an object above the limit of {self._largest} bytes was refused",
                    CANNOT_UNDERSTAND,
                    comment=f"the object is larger than {self._largest} bytes",
                )
            )
        if self.refusal is None:
            try:
                self._file.write(data)
                self._file.flush()
            except OSError as error:
                self.refuse(out_of_resources(error))
            if self._size - self._on_its_way >= WRITE_OUT_BYTES:
                begin_to_write(self._file.fileno(), self._on_its_way, self._size)
                self._on_its_way = self._size
        return len(data)

    def flush(self) -> None:
        """Nothing: each piece is flushed as it is written, where a full disk can still be answered."""

    def refuse(self, refusal: ObjectRefusedError) -> None:
        """Free the disk, and keep nothing of what follows."""
        self.refusal = refusal
        os.truncate(self.name, 0)

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # what a full disk left in the buffer
            self._file.close()


def give_up(association: Association) -> None:
    """Let go of an association whose connection closed: of its half object, and of its thread if nothing was asked."""
    if isinstance(association.dimse, GuardedDimse):
        association.dimse.discard()
    if isinstance(association.acse, _GuardedACSE):
        association.acse.forget_connection()
    if association.requestor.primitive is None:  # it still waits for a request, as long as a silent peer is given
        answers: Any = association.dul.to_user_queue  # typed as never holding the None that ends a wait
        answers.put(None)


def discard(file: Any) -> None:
    """Close and delete a temporary file, which may be gone already."""
    with contextlib.suppress(OSError):
        file.close()
    with contextlib.suppress(OSError):
        Path(file.name).unlink()


def refuse_when_full(back_pressure: BackPressure) -> None:
    """Refuse an object when none can be taken now.

    Raises
    ------
    ObjectRefusedError
        With status 0xA700, after which the peer tries again later.
    """
    reason = back_pressure()
    if reason is not None:
        raise ObjectRefusedError(f"an object was put off: {reason}", OUT_OF_RESOURCES, comment=reason)
