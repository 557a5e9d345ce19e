"""`OpenIDProvider`: has somebody logged in by an OpenID Connect provider, with the authorization code flow and PKCE.

OpenID Connect Core 1.0 section 3.1 and Discovery 1.0, with proof of key (RFC 7636), the issuer in the answer (RFC 9207)
and what RFC 9700 asks of a client. Needs the extra ``review`` (authlib and joserfc).
"""

import hmac
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
from authlib.common.security import generate_token
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from mammoscope.network.errors import NetworkError
from mammoscope.untrusted_text import one_line

WELL_KNOWN = "/.well-known/openid-configuration"
TIMEOUT_SECONDS = 10.0
MOST_ANSWER_BYTES = 1 << 20
CLOCKS_APART_SECONDS = 60
METADATA_SECONDS = 3600.0
"""For so long the provider's own description and its keys count as known."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Of signatures that a provider alone can make; never ``none``, nor one by a secret that we know too."""


class OpenIDError(NetworkError):
    """A login by a provider that came to nothing; the sentence is for whoever wanted to log in."""


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A login that was begun.

    Parameters
    ----------
    url
        Where the browser goes.
    state, nonce, verifier
        What its answer, the ID token and we have to show.
    redirect_uri
        Where the browser comes back to.
    """

    url: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str


class OpenIDProvider:
    """One provider, to whom we are known as a client. Safe to use from several threads.

    Parameters
    ----------
    issuer
        Its address; what it says of itself is at ``ISSUER/.well-known/openid-configuration``.
    client_secret
        ``None`` for a public client, who shows the proof of key alone.
    scopes
        What is asked for besides ``openid``.
    tls
        How its certificate is checked; the system's roots unless given.

    Examples
    --------
    >>> attempt = provider.begin("https://review.example/login/openid/back")  # doctest: +SKIP
    >>> claims = provider.finish(attempt, parameters_of_the_request)  # doctest: +SKIP
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str | None = None,
        *,
        scopes: Sequence[str] = ("profile",),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = " ".join(dict.fromkeys(("openid", *scopes)))
        self._tls = tls
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, KeySet] | None = None

    def begin(self, redirect_uri: str) -> LoginAttempt:
        """Begin a login.

        Raises
        ------
        OpenIDError
            If the provider does not answer, or says of itself what cannot be.
        """
        state, nonce, verifier = generate_token(48), generate_token(48), generate_token(64)
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scope,
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        endpoint = self._endpoint("authorization_endpoint")
        url = f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{urlencode(query)}"
        return LoginAttempt(url, state, nonce, verifier, redirect_uri)

    def finish(self, attempt: LoginAttempt, answered: Mapping[str, str]) -> dict[str, Any]:
        """What the provider says of who logged in: the claims of the ID token, and of the user info where it has one.

        Parameters
        ----------
        answered
            The parameters with which the browser came back.

        Raises
        ------
        OpenIDError
            If it refused, or its answer does not belong to the attempt, or is not signed by it for us and now.
        """
        if not hmac.compare_digest(answered.get("state", "").encode(), attempt.state.encode()):
            raise OpenIDError("the answer of the login provider belongs to another login: log in again")
        if "error" in answered:
            said = one_line(answered.get("error_description") or answered["error"], 200)
            raise OpenIDError(f"the login provider refused ({said}): log in again, or tell your administrator")
        metadata = self._metadata()
        required = metadata.get("authorization_response_iss_parameter_supported") is True
        if answered.get("iss", None if required else self._issuer) != self._issuer:
            raise OpenIDError("the answer came from another login provider: log in again, and tell your administrator")
        tokens = self._tokens(attempt, answered.get("code", ""))
        claims = self._id_token(tokens, attempt.nonce)
        return {**self._user_info(tokens, claims["sub"]), **claims}

    def _tokens(self, attempt: LoginAttempt, code: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": attempt.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        basic = None
        if self._client_secret is None:
            form["client_id"] = self._client_id
        elif "client_secret_basic" in self._metadata().get(
            "token_endpoint_auth_methods_supported", ["client_secret_basic"]
        ):
            # RFC 6749 section 2.3.1: both are encoded as in a form before they become user and password.
            basic = httpx.BasicAuth(quote(self._client_id, safe=""), quote(self._client_secret, safe=""))
        else:
            form |= {"client_id": self._client_id, "client_secret": self._client_secret}
        return self._asked("POST", self._endpoint("token_endpoint"), data=form, auth=basic)

    def _id_token(self, tokens: Mapping[str, Any], nonce: str) -> dict[str, Any]:
        supported = self._metadata().get("id_token_signing_alg_values_supported") or ["RS256"]
        algorithms = [name for name in ALGORITHMS if name in supported]
        try:
            try:
                token = jwt.decode(str(tokens.get("id_token")), self._key_set(), algorithms)
            except InvalidKeyIdError:  # it has a new key
                token = jwt.decode(str(tokens.get("id_token")), self._key_set(anew=True), algorithms)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {"iss": {"value": self._issuer}, "aud": {"value": self._client_id}, "nonce": {"essential": True}},
                {"nonce": nonce, "client_id": self._client_id, "access_token": tokens.get("access_token")},
            )
            claims.validate(leeway=CLOCKS_APART_SECONDS)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise OpenIDError(
                f"what the login provider says of you cannot be trusted ({one_line(error, 99)}): log in again, and tell"
                " your administrator if it stays so"
            ) from None
        return dict(token.claims)

    def _user_info(self, tokens: Mapping[str, Any], subject: str) -> dict[str, Any]:
        if "userinfo_endpoint" not in self._metadata() or not tokens.get("access_token"):
            return {}
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        said = self._asked("GET", self._endpoint("userinfo_endpoint"), headers=bearer)
        if said.get("sub") != subject:  # section 5.3.2
            raise OpenIDError("the login provider speaks of somebody else: log in again, and tell your administrator")
        return said

    def _key_set(self, *, anew: bool = False) -> KeySet:
        with self._lock:
            known = self._keys
        if known is None or anew or time.monotonic() - known[0] > METADATA_SECONDS:
            said = self._asked("GET", self._endpoint("jwks_uri"))
            known = time.monotonic(), KeySet.import_key_set(said)  # type: ignore[arg-type]
            with self._lock:
                self._keys = known
        return known[1]

    def _metadata(self) -> dict[str, Any]:
        with self._lock:
            known = self._known
        if known is None or time.monotonic() - known[0] > METADATA_SECONDS:
            said = self._asked("GET", self._issuer.rstrip("/") + WELL_KNOWN)
            if said.get("issuer") != self._issuer:
                raise OpenIDError(
                    f"the login provider at {self._issuer} calls itself {one_line(said.get('issuer'), 100)}: write that"
                    " as its issuer in the settings"
                )
            known = time.monotonic(), said
            with self._lock:
                self._known = known
        return known[1]

    def _endpoint(self, name: str) -> str:
        address = self._metadata().get(name)
        if not isinstance(address, str) or not is_safe(address):
            raise OpenIDError(f"the login provider {self._issuer} names no {name} by https: tell your administrator")
        return address

    def _asked(self, method: str, address: str, **given: Any) -> dict[str, Any]:
        verify: ssl.SSLContext | bool = self._tls if self._tls is not None else True
        try:
            with (
                httpx.Client(timeout=TIMEOUT_SECONDS, verify=verify) as client,
                client.stream(method, address, **given) as answer,
            ):
                content = b""
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > MOST_ANSWER_BYTES:
                        raise OpenIDError(f"the login provider at {self._issuer} answers with more than it should")
        except (httpx.HTTPError, OSError) as error:
            raise OpenIDError(
                f"the login provider {self._issuer} does not answer ({one_line(error, 99) or 'not in time'}): try again"
                " later, or log in with a local account"
            ) from None
        said = _object(content)
        if answer.status_code != 200:
            why = one_line(said.get("error_description") or said.get("error") or f"status {answer.status_code}", 200)
            raise OpenIDError(f"the login provider at {self._issuer} refused ({why}): tell your administrator")
        if not said:
            raise OpenIDError(f"the login provider at {self._issuer} does not answer in JSON: tell your administrator")
        return said


def is_safe(address: str) -> bool:
    """Whether an address is https, or http on this machine."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    try:
        return parts.scheme == "http" and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
    except ValueError:
        return False


def _object(content: bytes) -> dict[str, Any]:
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
