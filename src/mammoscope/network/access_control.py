"""`CallerRules`: who may connect, and what is said about those who may not."""

import ipaddress
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

MOST_TOLD = 60
"""Refusals told one by one in an interval; the rest is counted."""
MOST_TOLD_OF_ONE = 10
"""... and of one address."""
INTERVAL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class CallerRules:
    """Who may call.

    Parameters
    ----------
    ae_titles
        Calling AE titles; empty for all. A title is no proof of who calls; a certificate is.
    networks
        Addresses and networks, for example ``10.0.0.7`` or ``10.0.0.0/24``; empty for all.
    """

    ae_titles: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()

    def may_connect(self, address: str) -> bool:
        """Whether somebody at this address may connect at all."""
        if not self.networks:
            return True
        caller = ipaddress.ip_address(address.partition("%")[0])
        # A listener for IPv6 and IPv4 alike names callers of the latter ::ffff:10.0.0.7.
        caller = getattr(caller, "ipv4_mapped", None) or caller
        return any(caller in ipaddress.ip_network(network) for network in self.networks)


@dataclass(frozen=True, slots=True)
class CallerRefusal:
    """Somebody who was not let in.

    Parameters
    ----------
    peer
        The calling AE title; empty where it came not that far.
    times
        How many refusals this one stands for.
    """

    peer: str
    address: str
    reason: str
    times: int = 1


_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    **dict.fromkeys(
        ("HTTP_REQUEST", "WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "RECORD_LAYER_FAILURE"),
        "it does not speak TLS 1.2 or newer",
    ),
}
"""OpenSSL's names of what may go wrong in a handshake."""

OnCallerRefused = Callable[[CallerRefusal], None]


def network_of(address: str) -> str:
    """Tell whose an address is, for counting: itself, or of IPv6 its network of 64 bits, which one host may have."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(ip, "ipv4_mapped", None)
    if ip.version == 4 or mapped is not None:
        return str(mapped or ip)
    return str(ipaddress.ip_network((int(ip) >> 64 << 64, 64)))


class RefusalReport:
    """Tells of refusals one by one while they are few, and of the rest by one summary an interval.

    So whoever calls thousands of times a second fills neither the log nor the audit trail. Safe to use from several
    threads.

    Parameters
    ----------
    tell
        Given what is told. A summary has no peer, and an address only where all its refusals came from one.
    interval_seconds
        How often a summary is told at most.
    """

    def __init__(self, tell: OnCallerRefused, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._tell = tell
        self._interval = interval_seconds
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._told: Counter[str] = Counter()
        self._untold: Counter[tuple[str, str]] = Counter()
        self._timer: threading.Timer | None = None

    def __call__(self, refusal: CallerRefusal) -> None:
        """Tell of a refusal, now or in the next summary."""
        if self._is_to_be_told(refusal):
            self._tell(refusal)

    def flush(self) -> None:
        """Tell the summary of what was not told yet, if there is any."""
        with self._lock:
            untold, self._untold = self._untold, Counter()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if untold:
            self._tell(_summary(untold))

    def _is_to_be_told(self, refusal: CallerRefusal) -> bool:
        network = network_of(refusal.address)
        with self._lock:
            now = time.monotonic()
            if now - self._began >= self._interval:
                self._began = now
                self._told.clear()
            if self._told[network] < MOST_TOLD_OF_ONE and self._told.total() < MOST_TOLD:
                self._told[network] += 1
                return True
            key = (network, refusal.reason)
            self._untold[key if key in self._untold or len(self._untold) < MOST_TOLD else ("", "")] += 1
            if self._timer is None:
                self._timer = threading.Timer(self._interval, self.flush)
                self._timer.daemon = True
                self._timer.start()
            return False


def _summary(untold: Counter[tuple[str, str]]) -> CallerRefusal:
    networks = {network for network, _ in untold}
    reasons = [reason for (_, reason), _ in untold.most_common() if reason]
    address = networks.pop() if len(networks) == 1 else ""
    said = f", most of them because {reasons[0]}" if reasons else ""
    return CallerRefusal("", address, f"{untold.total()} more calls were refused{said}", untold.total())


def handshake_failure(error: OSError) -> str:
    """Say why a caller's TLS handshake with us failed."""
    if isinstance(error, TimeoutError):
        return "it fell silent in the TLS handshake"
    if isinstance(error, (ssl.SSLEOFError, ConnectionError)):
        return "it hung up in the TLS handshake"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return "it does not trust our certificate"
    return _REASONS.get(reason) or f"its TLS handshake failed ({reason or type(error).__name__})"
