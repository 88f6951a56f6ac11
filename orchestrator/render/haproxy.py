"""HAProxy's file and the commands of its runtime socket, from values that were validated at the edge.

The socket splits its input at ``;`` and at newlines (measured, 2.6), so every word that goes there is checked once
more here: a name that could be a second command never leaves this module.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from orchestrator.engine.rotation import fingerprint, layout, routes, signature
from orchestrator.model.spec import Protocol
from orchestrator.model.traffic import Balance, Sticky
from orchestrator.render.layouts import frontend_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.action import Frontend, Server
    from orchestrator.model.secret import SecretRef

_WORD = re.compile(r"[A-Za-z0-9_.:/-]+")
_URI = re.compile(r"/[A-Za-z0-9_.~/%?&=+-]*")
HEADER = "# vmrole "
ADMIN_SOCKET = "haproxy.sock"
MASTER_SOCKET = "master.sock"
PEERS_SOCKET = "peers.sock"
CERTIFICATES = "tls"
# Where ports lead that lead elsewhere than in the file: empty on the disk, filled through the runtime socket only.
ROUTES = "routes.map"
COOKIE = "VMROLE"
# A reload leaves connections to the process before it: they may take as long as the longest drain.
LAST_S = 24 * 3600
CLIENTS = "100k"  # that a backend remembers by their address: some 10 MiB, taken only as they come
REMEMBERED = "1h"


def config_text(frontends: Sequence[Frontend], servers: Sequence[Server]) -> str:
    """The whole file. Its first line identifies frontends and servers, its description the frontends alone.

    A port's ``default_backend`` is what is wanted when the file is written; while HAProxy runs its map may say
    otherwise.

    Its sockets and certificates are named from the folder that HAProxy is started in: a path has no limit and no
    rule for spaces then.
    """
    lines = [
        HEADER + fingerprint(frontends, servers),
        "global",
        f"    description {description(frontends)}",
        f"    stats socket unix@{ADMIN_SOCKET} mode 600 level admin expose-fd listeners",
        "    localpeer vmrole",
        f"    hard-stop-after {LAST_S}s",
        *frontend_lines(frontends),
        "defaults",
        "    timeout connect 2s",
        "    timeout http-request 30s",
        "    retries 3",
        "    option redispatch 1",
    ]
    if any(frontend.traffic.sticky is Sticky.SOURCE for frontend in frontends):
        # What a backend remembers of its clients goes from the old process to the new one by this (reload).
        lines += ["peers vmrole", f"    bind unix@{PEERS_SOCKET} mode 600", "    server vmrole"]
    for frontend in frontends:
        own = [server for server in servers if server.backend == frontend.name]
        lines += [*_frontend(frontend), *_backend(frontend, own)]
    return "\n".join(lines) + "\n"


def description(frontends: Sequence[Frontend]) -> str:
    """What HAProxy tells of itself: the layout, and where the ports lead as long as its map is empty."""
    return f"{layout(frontends)}.{signature(routes(frontends))}"


def certificate_file(certificate: SecretRef) -> str:
    """The name of a certificate's file in the folder ``CERTIFICATES``: another one for another value."""
    return f"{word(certificate.key or hashlib.sha256(certificate.source.encode()).hexdigest()[:16])}.pem"


def _frontend(frontend: Frontend) -> list[str]:
    traffic, is_http = frontend.traffic, frontend.protocol is Protocol.HTTP
    lines = [
        f"frontend {word(frontend.address)}",
        f"    mode {_mode(frontend)}",
        f"    bind {word(frontend.vip)}:{frontend.port}{_tls(frontend)}",
        f"    timeout client {_ms(traffic.idle_s)}",
    ]
    if traffic.max_connections:
        lines.append(f"    maxconn {traffic.max_connections}")
    if is_http:
        # In a reload a connection that waits for its next request gets that one answered before it is closed.
        lines += ["    option idle-close-on-response", "    option forwardfor"]
        lines.append(f"    http-request set-header X-Forwarded-Proto {'https' if traffic.tls else 'http'}")
    # A backend that the map does not name, or that is not there, is the default one (2.6, "use_backend").
    return [*lines, f"    use_backend %[fe_name,map({ROUTES})]", f"    default_backend {word(frontend.name)}"]


def _tls(frontend: Frontend) -> str:
    tls = frontend.traffic.tls
    if tls is None:
        return ""
    more = " alpn h2,http/1.1" if frontend.protocol is Protocol.HTTP else ""
    crt = f"{CERTIFICATES}/{certificate_file(tls.certificate)}"
    return f" ssl crt {crt} ssl-min-ver TLSv{word(tls.min_version)}{more}"


def _backend(frontend: Frontend, servers: Sequence[Server]) -> list[str]:
    traffic = frontend.traffic
    lines = [f"backend {word(frontend.name)}", f"    mode {_mode(frontend)}", f"    balance {traffic.balance.value}"]
    if traffic.balance is Balance.SOURCE:
        lines.append("    hash-type consistent")  # without it no server can come while it runs
    lines += [f"    timeout server {_ms(traffic.idle_s)}", f"    timeout check {_ms(traffic.check.timeout_s)}"]
    if frontend.protocol is Protocol.HTTP:
        # A connection that a dying server closed is tried again elsewhere, as long as nothing was answered.
        # Never a request that may not be sent twice.
        lines += ["    retry-on conn-failure empty-response", "    http-request disable-l7-retry unless METH_GET"]
    lines += [*_stickiness(frontend), *_http_check(frontend)]
    ordered = sorted(servers, key=lambda server: server.name)
    how = _keywords(frontend)
    return [*lines, *(f"    server {word(s.name)} {word(s.address)}:{s.port} {how}" for s in ordered)]


def _stickiness(frontend: Frontend) -> list[str]:
    if frontend.traffic.sticky is Sticky.SOURCE:
        table = f"stick-table type ip size {CLIENTS} expire {REMEMBERED} peers vmrole"
        return [f"    {table}", "    stick on src"]
    if frontend.traffic.sticky is Sticky.COOKIE:
        # Of the server's address and a key: the same after a reload, a restart or a reimage, and it names nobody.
        secure = " secure" if frontend.traffic.tls else ""
        cookie = f"cookie {COOKIE} insert indirect nocache httponly{secure} dynamic"
        return [f"    {cookie}", f"    dynamic-cookie-key {_cookie_key(frontend.name)}"]
    return []


def _cookie_key(backend: str) -> str:
    return hashlib.sha256(backend.encode()).hexdigest()[:16]


def _http_check(frontend: Frontend) -> list[str]:
    if not frontend.check_path:
        return []
    first, last = frontend.traffic.check.status
    return [
        "    option httpchk",
        f"    http-check send meth GET uri {uri(frontend.check_path)}",
        f"    http-check expect status {first}-{last}",
    ]


def _keywords(frontend: Frontend) -> str:
    """What a server's line says beside its address, in the file and on the runtime socket alike."""
    traffic, check = frontend.traffic, frontend.traffic.check
    words = [f"check inter {_ms(check.interval_s)} rise {check.rise} fall {check.fall}"]
    if check.port:
        words.append(f"port {check.port}")
    elif frontend.check_path and frontend.protocol is Protocol.HTTPS:
        words.append("check-ssl verify none")  # it is asked by its address, which no certificate names
    if traffic.proxy_protocol:
        # Without a port of its own the check comes to who expects the header.
        words.append("send-proxy-v2" if check.port else "send-proxy-v2 check-send-proxy")
    if traffic.max_per_instance:
        words.append(f"maxconn {traffic.max_per_instance}")
    return " ".join(words)


def _mode(frontend: Frontend) -> str:
    return "http" if frontend.protocol is Protocol.HTTP else "tcp"


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def add_command(server: Server, frontend: Frontend) -> str:
    """Bring a server in: a new one starts in maintenance and without checks (management guide, "add server")."""
    name = f"{word(server.backend)}/{word(server.name)}"
    return f"add server {name} {word(server.address)}:{server.port} {_keywords(frontend)}"


def enable_commands(server: Server, frontend: Frontend) -> tuple[str, ...]:
    """Let a server that was added serve. Each of these may be given again."""
    name = f"{word(server.backend)}/{word(server.name)}"
    cookie = f"set dynamic-cookie-key backend {word(server.backend)} {_cookie_key(frontend.name)}"
    # A server that comes while HAProxy runs has no cookie until the key is set again (2.6.12).
    is_cookie = frontend.traffic.sticky is Sticky.COOKIE
    return (*((cookie,) if is_cookie else ()), f"enable health {name}", f"enable server {name}")


def state_command(backend: str, name: str, state: str) -> str:
    return f"set server {word(backend)}/{word(name)} state {word(state)}"


def down_command(backend: str, name: str) -> str:
    """Take a server for down until its checks say otherwise."""
    return f"set server {word(backend)}/{word(name)} health down"


def delete_command(backend: str, name: str) -> str:
    return f"del server {word(backend)}/{word(name)}"


def routes_command() -> str:
    return f"show map {ROUTES}"


def new_routes_command() -> str:
    """Begin another version of the map; nobody sees it before it is committed."""
    return f"prepare map {ROUTES}"


def route_commands(version: int, ways: Mapping[str, str]) -> tuple[str, ...]:
    """Fill a version of the map, and have it take the other's place: for every port at the same moment."""
    added = [f"add map @{version:d} {ROUTES} {word(address)} {word(backend)}" for address, backend in ways.items()]
    return (*added, f"commit map @{version:d} {ROUTES}")


def of_process(pid: int, command: str) -> str:
    """``command`` for one worker, also one that a reload has replaced; to be given to the master."""
    return f"@!{pid} {command}"


def of_worker(command: str) -> str:
    """``command`` for the worker that takes connections now; to be given to the master."""
    return f"@1 {command}"


def every_session_command() -> str:
    return "show sess"


def session_command(session: str) -> str:
    """End a session that ``show sess`` names. A worker that was replaced takes no command about a server (2.6.12)."""
    return f"shutdown session {word(session)}"


def sessions_command() -> str:
    """Statistics of backends (type 2) and their servers (type 4)."""
    return "show stat -1 6 -1"


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


def alerts(said: str) -> str:
    """What HAProxy has against a file, in its own words, without what it says of every one."""
    rows = [match[1] for match in re.finditer(r"^\[ALERT\] .*? : (.*)$", said, re.MULTILINE)]
    told = [row.removeprefix("config : ") for row in rows if not re.search("rrors? ?(\\(s\\) )?found in", row)]
    return "; ".join(told) or said.strip()


def blamed(frontends: Sequence[Frontend], config: str, said: str) -> tuple[str, ...]:
    """The backends that HAProxy's words about a file are about: it names a line, or a section. None if it does not."""
    rows, numbers = config.splitlines(), re.findall(r"\.cfg:([0-9]+)", said)
    heads = [next((row for row in reversed(rows[: int(n)]) if row[:1].strip() and row[0] != "#"), "") for n in numbers]
    named = {head.partition(" ")[2] for head in heads} | set(re.findall(r"'([^' ]+)'", said))
    return tuple(front.name for front in frontends if {front.name, front.address} & named)


def saved_fingerprint(text: str) -> str:
    """What the first line of a file says that it holds; "" if it is not ours."""
    first = text.split("\n", 1)[0]
    return first.removeprefix(HEADER) if first.startswith(HEADER) else ""
