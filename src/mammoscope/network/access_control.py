"""`CallerRules`: who may connect, and what is said about those who may not."""

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass


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
    """

    peer: str
    address: str
    reason: str


_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate",
    **dict.fromkeys(
        ("HTTP_REQUEST", "WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "RECORD_LAYER_FAILURE"),
        "it does not speak TLS 1.2 or newer",
    ),
}
"""OpenSSL's names of what may go wrong in a handshake."""

OnCallerRefused = Callable[[CallerRefusal], None]


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
