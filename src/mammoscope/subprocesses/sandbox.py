"""What a child process gives up before it touches what is not trusted: memory, the network, other programs, writing.

The filter of system calls needs Linux on x86-64 or 64-bit Arm; where there is none, the limits of memory remain.
"""

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

GIBIBYTE = 1 << 30

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000  # linux/seccomp.h: SECCOMP_RET_*
_LOAD, _JUMP_EQUAL, _JUMP_ANY_BIT, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06  # linux/bpf_common.h
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000  # calls of the x32 interface have this bit

_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True, slots=True)
class _Calls:
    """Numbers of system calls on one architecture (arch/x86/entry/syscalls/syscall_64.tbl, asm-generic/unistd.h)."""

    architecture: int
    denied: tuple[int, ...]
    unknown: tuple[int, ...]
    """Answered as if the kernel did not know them: the C library then uses an older call that the filter looks into."""
    open_flags: dict[int, int]
    """Which argument of a call that opens files holds its flags."""
    clone: int
    tgkill: int


_COMMON = (
    *(425, 426, 427),  # io_uring_setup, _enter, _register
    *(424, 434, 438),  # pidfd_send_signal, pidfd_open, pidfd_getfd
    *(428, 429, 430, 431, 432, 433, 442),  # the new mount interface
    452,  # fchmodat2
)
_CALLS = {
    "x86_64": _Calls(
        architecture=0xC000003E,
        denied=(
            *(41, 42, 43, 44, 46, 49, 50, 53, 288, 307),  # socket to listen, socketpair, accept4, sendmmsg
            *(57, 58, 59, 322),  # fork, vfork, execve, execveat
            *(62, 129, 200, 297),  # kill, rt_sigqueueinfo, tkill, rt_tgsigqueueinfo
            *(101, 310, 311),  # ptrace, process_vm_readv, process_vm_writev
            *(
                76,
                77,
                82,
                83,
                84,
                85,
                86,
                87,
                88,
            ),  # truncate, ftruncate, rename, mkdir, rmdir, creat, (un)link, symlink
            *(90, 91, 92, 93, 94, 132, 133, 235),  # chmod, chown and their kin, utime, mknod, utimes
            *(188, 189, 190, 197, 198, 199),  # setting and removing extended attributes
            *(258, 259, 260, 261, 263, 264, 265, 266, 268, 280, 316),  # the same relative to a folder
            *(155, 161, 165, 166, 272, 308),  # pivot_root, chroot, mount, umount2, unshare, setns
            *(248, 249, 250, 298, 304, 321, 323),  # keys, perf_event_open, open_by_handle_at, bpf, userfaultfd
        ),
        unknown=(435, 437),  # clone3, openat2
        open_flags={2: 1, 257: 2},  # open, openat
        clone=56,
        tgkill=234,
    ),
    "aarch64": _Calls(
        architecture=0xC00000B7,
        denied=(
            *(198, 199, 200, 201, 202, 203, 206, 211, 242, 269),
            *(221, 281),
            *(129, 130, 138, 240),
            *(117, 270, 271),
            *(33, 34, 35, 36, 37, 38, 45, 46, 276),
            *(52, 53, 54, 55, 88),
            *(5, 6, 7, 14, 15, 16),
            *(39, 40, 41, 51, 97, 268),
            *(217, 218, 219, 241, 265, 280, 282),
        ),
        unknown=(435, 437),
        open_flags={56: 2},
        clone=220,
        tgkill=131,
    ),
}


def limit_memory(most_bytes: int) -> None:
    """Have what asks for more memory fail with a `MemoryError`; and be the first to go where the machine has none left.

    A core dump would hold a patient's image: there is none.
    """
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = most_bytes if hard == resource.RLIM_INFINITY else min(most_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def machine_memory() -> int:
    """Bytes of memory that this process may have: the machine's, or its control group's where that is less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(Path(file).read_text(encoding="ascii")))
    return min(sizes)


def forbid_system_calls() -> bool:
    """Give up the network, other programs and processes, and every change of files, for good.

    Open files and pipes stay as they are, files can be opened to be read, and threads be started. What is forbidden
    fails with `PermissionError`.

    Returns
    -------
    bool
        Whether the system could do it.
    """
    calls = _CALLS.get(platform.machine())
    if not sys.platform.startswith("linux") or calls is None:
        return False
    program = _filter(calls, os.getpid())
    buffer = ctypes.create_string_buffer(b"".join(program))

    class Program(ctypes.Structure):
        """Of linux/filter.h: struct sock_fprog."""

        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    pointer = Program(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(pointer), 0, 0) == 0)


def _filter(calls: _Calls, process: int) -> list[bytes]:
    """Instructions of a classic BPF program; each jump is over the instructions that follow it."""
    refuse = _instruction(_RETURN, _ERRNO | errno.EPERM)
    unknown = _instruction(_RETURN, _ERRNO | errno.ENOSYS)
    allow = _instruction(_RETURN, _ALLOW)
    program = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, calls.architecture, no=0, yes=1),
        refuse,
        _instruction(_LOAD, _NUMBER),
        _instruction(_JUMP_AT_LEAST, _X32, yes=0, no=1),
        refuse,
    ]
    for number in (*calls.denied, *_COMMON):
        program += [_instruction(_JUMP_EQUAL, number, yes=0, no=1), refuse]
    for number in calls.unknown:
        program += [_instruction(_JUMP_EQUAL, number, yes=0, no=1), unknown]
    for number, argument in calls.open_flags.items():
        program += [
            _instruction(_JUMP_EQUAL, number, yes=0, no=4),
            _instruction(_LOAD, _ARGUMENTS + 8 * argument),
            _instruction(_JUMP_ANY_BIT, _WRITING, yes=0, no=1),
            refuse,
            allow,
        ]
    # Another thread of this process, and no process; a signal to itself, as abort() sends it, and to nobody else.
    program += [
        _instruction(_JUMP_EQUAL, calls.clone, yes=0, no=4),
        _instruction(_LOAD, _ARGUMENTS),
        _instruction(_JUMP_ANY_BIT, _CLONE_THREAD, yes=1, no=0),
        refuse,
        allow,
        _instruction(_JUMP_EQUAL, calls.tgkill, yes=0, no=4),
        _instruction(_LOAD, _ARGUMENTS),
        _instruction(_JUMP_EQUAL, process, yes=1, no=0),
        refuse,
        allow,
        allow,
    ]
    return program


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value & 0xFFFFFFFF)
