"""HAProxy's file and the commands of its runtime socket, from values that were validated at the edge.

The socket splits its input at ``;`` and at newlines (measured, 2.6), so every word that goes there is checked once
more here: a name that could be a second command never leaves this module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.engine.rotation import fingerprint, layout
from orchestrator.model.spec import Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.action import Frontend, Server

_WORD = re.compile(r"[A-Za-z0-9_.:/-]+")
_URI = re.compile(r"/[A-Za-z0-9_.~/%?&=+-]*")
HEADER = "# vmrole "
ADMIN_SOCKET = "haproxy.sock"
MASTER_SOCKET = "master.sock"
# Two good answers to come back, three bad ones in a row to leave: 6 s until the network's view drops a server.
CHECK = "check inter 2s rise 2 fall 3"


def config_text(frontends: Sequence[Frontend], servers: Sequence[Server]) -> str:
    """The whole file. Its first line identifies frontends and servers, its description the frontends alone.

    Its socket is named from the folder that HAProxy is started in: a path has no limit and no rule for spaces then.
    """
    lines = [
        HEADER + fingerprint(frontends, servers),
        "global",
        f"    description {layout(frontends)}",
        f"    stats socket unix@{ADMIN_SOCKET} mode 600 level admin expose-fd listeners",
        "    hard-stop-after 60s",
        "defaults",
        "    timeout connect 3s",
        "    timeout client 60s",
        "    timeout server 60s",
        "    timeout http-request 30s",
        "    retries 3",
        "    option redispatch 1",
    ]
    for frontend in frontends:
        own = [server for server in servers if server.backend == frontend.name]
        lines += [*_frontend(frontend), *_backend(frontend, own)]
    return "\n".join(lines) + "\n"


def _frontend(frontend: Frontend) -> list[str]:
    return [
        f"frontend {word(frontend.name)}",
        f"    mode {frontend.protocol.value}",
        f"    bind {word(frontend.vip)}:{frontend.port}",
        f"    default_backend {word(frontend.name)}",
    ]


def _backend(frontend: Frontend, servers: Sequence[Server]) -> list[str]:
    lines = [f"backend {word(frontend.name)}", f"    mode {frontend.protocol.value}", "    balance roundrobin"]
    if frontend.protocol is Protocol.HTTP:
        # A connection that a dying server closed is tried again elsewhere, as long as nothing was answered.
        # Never a request that may not be sent twice.
        lines += ["    retry-on conn-failure empty-response", "    http-request disable-l7-retry unless METH_GET"]
    if frontend.check_path:
        lines += ["    option httpchk", f"    http-check send meth GET uri {uri(frontend.check_path)}"]
    ordered = sorted(servers, key=lambda server: server.name)
    return [*lines, *(f"    server {word(s.name)} {word(s.address)}:{s.port} {CHECK}" for s in ordered)]


def add_commands(server: Server) -> tuple[str, ...]:
    """Bring a server in: a new one starts in maintenance and without checks (management guide, "add server")."""
    name = f"{word(server.backend)}/{word(server.name)}"
    return (
        f"add server {name} {word(server.address)}:{server.port} {CHECK}",
        f"enable health {name}",
        f"enable server {name}",
    )


def state_command(backend: str, name: str, state: str) -> str:
    return f"set server {word(backend)}/{word(name)} state {word(state)}"


def delete_command(backend: str, name: str) -> str:
    return f"del server {word(backend)}/{word(name)}"


def shutdown_command(backend: str, name: str) -> str:
    return f"shutdown sessions server {word(backend)}/{word(name)}"


def sessions_command() -> str:
    """Statistics of servers only (type 4), of every backend."""
    return "show stat -1 4 -1"


def word(text: str) -> str:
    """``text``, if it is one harmless word for HAProxy; ValueError otherwise."""
    if not _WORD.fullmatch(text):
        raise ValueError(f"not a word for HAProxy: {text!r}")
    return text


def uri(text: str) -> str:
    """``text``, if it is a plain path of a URL; ValueError otherwise."""
    if not _URI.fullmatch(text):
        raise ValueError(f"not a path for HAProxy: {text!r}")
    return text


def saved_fingerprint(text: str) -> str:
    """What the first line of a file says that it holds; "" if it is not ours."""
    first = text.split("\n", 1)[0]
    return first.removeprefix(HEADER) if first.startswith(HEADER) else ""
