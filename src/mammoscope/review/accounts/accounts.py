"""`Accounts`: users, passwords by Argon2id (RFC 9106), and sessions that end."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mammoscope.review.errors import ReviewError
from mammoscope.review.store import schema as t
from mammoscope.review.store.database import Database
from mammoscope.settings.schema import Role

IDLE = timedelta(hours=1)
"""A session ends when nothing is asked in it for so long."""
LONGEST = timedelta(hours=12)
SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 1000
_NAME = re.compile(r"[\w.@-][\w.@ -]{0,62}", re.UNICODE)
_NO_NAME = re.compile(r"[^\w.@ -]", re.UNICODE)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in.

    Parameters
    ----------
    has_password
        Whether they log in here.
    issuer
        The OpenID Connect provider by whom they log in; ``None`` for nobody's.
    """

    name: str
    role: Role
    active: bool = True
    has_password: bool = True
    issuer: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether somebody vouches for who they are, a password or a provider; else they only gave a name."""
        return self.has_password or self.issuer is not None


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in.

    Parameters
    ----------
    form_token
        What every form and request that changes something has to carry.
    """

    user: User
    form_token: str


class Accounts:
    """The accounts of a reading room. Safe to use from several threads.

    Parameters
    ----------
    hasher
        How costly a guess is; argon2-cffi's own choice by default.
    by_provider
        Whether people log in by an OpenID Connect provider: then nobody comes in by a name alone.
    """

    def __init__(self, database: Database, hasher: PasswordHasher | None = None, *, by_provider: bool = False) -> None:
        self._database = database
        self._by_provider = by_provider
        self._hasher = hasher or PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_hex())

    def exist(self) -> bool:
        """Whether anybody has a password, or a provider tells who somebody is: then nobody comes in by a name alone."""
        return self._by_provider or self.have_passwords()

    def have_passwords(self) -> bool:
        """Whether anybody logs in by a password."""
        u = t.users.c
        query = sa.select(u.name).where(u.password.is_not(None), u.active).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def users(self) -> tuple[User, ...]:
        """Everybody, by name."""
        with self._database.reading() as connection:
            return tuple(
                _user(row) for row in connection.execute(sa.select(t.users).order_by(t.users.c.name)).mappings()
            )

    def add(self, name: str, password: str | None, role: Role) -> User:
        """Add somebody.

        Raises
        ------
        ReviewError
            If the name is taken or none, or the password is too short.
        """
        name = checked_name(name)
        row = {
            "name": name,
            "password": None if password is None else self._hashed(password),
            "role": role,
            "active": True,
            "made_at": datetime.now(UTC),
        }
        with self._database.writing() as connection:
            if connection.execute(sa.select(t.users.c.name).where(t.users.c.name == name)).first():
                raise ReviewError(f"there is a user {name} already.")
            connection.execute(sa.insert(t.users).values(**row))
        return User(name, role, has_password=password is not None)

    def set_password(self, name: str, password: str) -> None:
        """Give somebody a new password and end their sessions.

        Raises
        ------
        ReviewError
            If there is no such user, or the password is too short.
        """
        self._change(name, password=self._hashed(password))

    def set_active(self, name: str, active: bool) -> None:
        """Let somebody in again, or no longer; then their sessions end.

        Raises
        ------
        ReviewError
            If there is no such user.
        """
        self._change(name, active=active)

    def authenticate(self, name: str, password: str) -> User | None:
        """Whose name and password these are; ``None`` for nobody's. It takes as long for a name that does not exist."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(t.users).where(t.users.c.name == name.strip())).mappings().first()
        known = row["password"] if row is not None and row["active"] else None
        try:
            self._hasher.verify(known or self._nobody, password[:LONGEST_PASSWORD])
        except (VerificationError, InvalidHashError):
            return None
        return _user(row) if row is not None and known else None

    def enter_by_name(self, name: str) -> User:
        """Somebody at this machine, where there are no accounts.

        Raises
        ------
        ReviewError
            If it is no name, or there are accounts.
        """
        name = checked_name(name)
        if self._by_provider:
            raise ReviewError("log in by the provider.")
        with self._database.writing() as connection:
            if connection.execute(sa.select(t.users.c.name).where(t.users.c.password.is_not(None))).first():
                raise ReviewError("log in with your password.")
            row = connection.execute(sa.select(t.users).where(t.users.c.name == name)).mappings().first()
            if row is not None:
                return _user(row)
            values = {"name": name, "role": Role.READER, "active": True, "made_at": datetime.now(UTC)}
            connection.execute(sa.insert(t.users).values(**values))
        return User(name, Role.READER, has_password=False)

    def enter_by_provider(self, issuer: str, subject: str, name: str, role: Role) -> User:
        """Somebody whom a provider knows; added when they come for the first time, with the role of this time.

        Parameters
        ----------
        issuer, subject
            Who they are, for good: the name may change there, and stays here what it was the first time.

        Raises
        ------
        ReviewError
            If their name is somebody else's here, or none, or they are disabled.
        """
        u = t.users.c
        this = (u.issuer == issuer) & (u.subject == subject)
        with self._database.writing() as connection:
            row = connection.execute(sa.select(t.users).where(this)).mappings().first()
            if row is not None and not row["active"]:
                raise ReviewError(f"the account {row['name']} is disabled: ask your administrator.")
            if row is not None:
                connection.execute(sa.update(t.users).where(this).values(role=role))
                return User(row["name"], role, has_password=row["password"] is not None, issuer=issuer)
            name = checked_name(" ".join(_NO_NAME.sub(" ", name).split())[:63])
            there = connection.execute(sa.select(t.users).where(u.name == name)).mappings().first()
            if there is not None and _user(there).is_known:
                raise ReviewError(f"somebody else is called {name} here already: ask your administrator.")
            values = {"role": role, "active": True, "issuer": issuer, "subject": subject}
            if there is not None:  # whoever gave that name when nobody had to show who they are
                connection.execute(sa.update(t.users).where(u.name == name).values(**values))
            else:
                connection.execute(sa.insert(t.users).values(name=name, made_at=datetime.now(UTC), **values))
        return User(name, role, has_password=False, issuer=issuer)

    def open_session(self, user: User) -> str:
        """Begin a session, and give the secret that its cookie holds."""
        cookie, now = secrets.token_urlsafe(32), datetime.now(UTC)
        row = {"digest": _digest(cookie), "user": user.name, "form_token": secrets.token_urlsafe(32)}
        with self._database.writing() as connection:
            connection.execute(sa.delete(t.sessions).where(t.sessions.c.began_at < now - LONGEST))
            connection.execute(sa.insert(t.sessions).values(**row, began_at=now, seen_at=now))
        return cookie

    def session(self, cookie: str) -> Session | None:
        """The session of a cookie; ``None`` when it ended."""
        s, now = t.sessions.c, datetime.now(UTC)
        query = (
            sa.select(t.users, s.form_token, s.seen_at)
            .join(t.sessions, t.users.c.name == s.user)
            .where(s.digest == _digest(cookie), s.began_at > now - LONGEST, s.seen_at > now - IDLE, t.users.c.active)
        )
        with self._database.reading() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        if now - row["seen_at"] > timedelta(minutes=1):
            with self._database.writing() as connection:
                connection.execute(sa.update(t.sessions).where(s.digest == _digest(cookie)).values(seen_at=now))
        return Session(_user(row), row["form_token"])

    def close_session(self, cookie: str) -> None:
        """End a session."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(t.sessions).where(t.sessions.c.digest == _digest(cookie)))

    def _change(self, name: str, **values: object) -> None:
        with self._database.writing() as connection:
            changed = connection.execute(sa.update(t.users).where(t.users.c.name == name).values(**values))
            if not changed.rowcount:
                raise ReviewError(f"there is no user {name}.")
            connection.execute(sa.delete(t.sessions).where(t.sessions.c.user == name))

    def _hashed(self, password: str) -> str:
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise ReviewError(f"a password has {SHORTEST_PASSWORD} characters or more.")
        return self._hasher.hash(password)


def checked_name(name: str) -> str:
    """Give a user's name without the spaces around it.

    Raises
    ------
    ReviewError
        If it is none.
    """
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ReviewError("a name has 1 to 63 letters, digits, spaces or any of . @ _ -")
    return name


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()


def _user(row: sa.RowMapping) -> User:
    return User(row["name"], Role(row["role"]), bool(row["active"]), row["password"] is not None, row["issuer"])
