"""Crash-isolated child processes, for the decoding of files and for the model.

In comes the module whose ``main`` a child runs, and requests; out come its answers, or the word that it died, hung or
does not start. Between them goes a plain schema of which nothing is executed (`mammoscope.subprocesses.protocol`); what
a child gives up before it touches untrusted bytes says `mammoscope.subprocesses.sandbox`. How many may run at once says
`usable_cores`.
"""

from mammoscope.subprocesses.cores import usable_cores
from mammoscope.subprocesses.pool import (
    Child,
    ChildDiedError,
    ChildError,
    ChildHungError,
    ChildPool,
    ChildStartError,
)
from mammoscope.subprocesses.protocol import Message, ProtocolError, serve
from mammoscope.subprocesses.sandbox import forbid_system_calls, limit_memory, machine_memory

__all__ = [
    "Child",
    "ChildDiedError",
    "ChildError",
    "ChildHungError",
    "ChildPool",
    "ChildStartError",
    "Message",
    "ProtocolError",
    "forbid_system_calls",
    "limit_memory",
    "machine_memory",
    "serve",
    "usable_cores",
]
