"""Who may read: users and their roles, passwords, sessions; a name and a password come in, a session comes out."""

from mammoscope.review.accounts.accounts import Accounts, Session, User
from mammoscope.review.accounts.by_provider import ProviderLogin
from mammoscope.review.accounts.limits import LoginLimiter
from mammoscope.settings.schema import Role

__all__ = ["Accounts", "LoginLimiter", "ProviderLogin", "Role", "Session", "User"]
