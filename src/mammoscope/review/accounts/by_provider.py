"""`ProviderLogin`: logins by an OpenID Connect provider, from the begun attempt to a user with a role."""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mammoscope.review.accounts.accounts import Accounts, User
from mammoscope.review.errors import ForbiddenError, ReviewError
from mammoscope.settings.schema import OpenIDSettings, Role
from mammoscope.untrusted_text import one_line

if TYPE_CHECKING:
    from mammoscope.network.openid import LoginAttempt, OpenIDProvider

ATTEMPT_SECONDS = 600.0
"""Within which somebody has to come back from the provider."""
MOST_ATTEMPTS = 1000
"""That wait; of more the oldest are forgotten, so that nobody fills the memory."""
BACK = "/login/openid/back"
"""Where the provider sends browsers back to."""


class ProviderLogin:
    """Logins by one provider. Safe to use from several threads.

    Parameters
    ----------
    clock
        Seconds.
    """

    def __init__(
        self,
        provider: "OpenIDProvider",
        settings: OpenIDSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: OrderedDict[str, tuple[float, LoginAttempt, str]] = OrderedDict()

    @property
    def name(self) -> str:
        """What the login page calls the provider."""
        return self._settings.name

    def begin(self, base: str, to: str) -> tuple[str, str]:
        """Begin a login; give the secret that its cookie holds, and where the browser goes.

        Parameters
        ----------
        base
            Where this browser reaches the reading room, without a slash at the end; the settings' own goes before.
        to
            Where it wants to be in the end.

        Raises
        ------
        OpenIDError
            If the provider does not answer, or says of itself what cannot be.
        """
        attempt = self._provider.begin((self._settings.url or base).rstrip("/") + BACK)
        cookie = secrets.token_urlsafe(32)
        with self._lock:
            self._begun[_digest(cookie)] = self._clock(), attempt, to
            while len(self._begun) > MOST_ATTEMPTS:
                self._begun.popitem(last=False)
        return cookie, attempt.url

    def finish(self, cookie: str, answered: Mapping[str, str], accounts: Accounts) -> tuple[User, str]:
        """End a login, which can be done once; give who it is and where they want to be.

        Parameters
        ----------
        answered
            The parameters with which the browser came back.

        Raises
        ------
        OpenIDError
            If the provider refused, or its answer cannot be trusted.
        ReviewError
            If the login was not begun in this browser a short while ago, or the name cannot be had.
        ForbiddenError
            If the provider gives no role.
        """
        with self._lock:
            begun = self._begun.pop(_digest(cookie), None)
        if begun is None or self._clock() - begun[0] > ATTEMPT_SECONDS:
            raise ReviewError("this login was not begun here, or too long ago: log in again.")
        _, attempt, to = begun
        claims = self._provider.finish(attempt, answered)
        user = accounts.enter_by_provider(
            self._settings.issuer, str(claims["sub"])[:256], self._name(claims), self._role(claims)
        )
        return user, to

    def _name(self, claims: Mapping[str, Any]) -> str:
        named = claim(claims, self._settings.name_claim)
        if not isinstance(named, str) or not named.strip():
            raise ReviewError(
                f"the provider says no {self._settings.name_claim} of you: your administrator sets name_claim, scopes."
            )
        return named

    def _role(self, claims: Mapping[str, Any]) -> Role:
        said = claim(claims, self._settings.role_claim)
        values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        for value, role in self._settings.roles.items():
            if value in values:
                return role
        told = one_line(", ".join(map(str, values)), 120) or "none"
        raise ForbiddenError(
            f"you may not come in: of your {self._settings.role_claim} ({told}) none stands for a role here; ask your"
            " administrator."
        )


def claim(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, or one within another by both with a dot between; ``None`` where there is none."""
    if name in claims:
        return claims[name]
    outer, dot, inner = name.partition(".")
    within = claims.get(outer)
    return claim(within, inner) if dot and isinstance(within, Mapping) else None


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
