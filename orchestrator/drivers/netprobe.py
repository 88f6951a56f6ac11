"""Probes of an instance over the network: a connection, or a page. The answers come from the guest: little is read."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING

from orchestrator.model.text import line

if TYPE_CHECKING:
    from orchestrator.model.spec import Probe

HEAD_BYTES = 4096
# What comes before the answer (RFC 9110, 15.2); after 101, which nobody has asked for, comes something else than HTTP.
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}(?=[ \r\n])")
_WHOLE_INTERIM = re.compile(rb"\A(?:HTTP/1\.[01] 1(?!01)[0-9]{2}(?=[ \r\n]).*?\r?\n\r?\n)+", re.DOTALL)
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")


def probe(address: str, what: Probe) -> str:
    """Take one probe from where this thread is; "" if it is good, else why not."""
    deadline = time.monotonic() + what.timeout_s
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
            link.settimeout(what.timeout_s)
            link.connect((address, what.port))
            return _page(link, address, what, deadline) if what.kind == "http" else ""
    except TimeoutError:
        return f"no answer within {what.timeout_s:g} s"
    except OSError as error:
        return line(error.strerror or str(error)).lower()


def _page(link: socket.socket, address: str, what: Probe, deadline: float) -> str:
    host = f"{address}:{what.port}"
    link.sendall(
        f"GET {what.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: vmrole\r\nConnection: close\r\n\r\n".encode()
    )
    head, count = b"", 0
    while (b"\n" not in head or _INTERIM.match(head)) and count < HEAD_BYTES:
        # Each byte may take its time, all of them together may not.
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        link.settimeout(left_s)
        part = link.recv(HEAD_BYTES)
        if not part:
            break
        head, count = _WHOLE_INTERIM.sub(b"", head + part), count + len(part)
    if _INTERIM.match(head) or (not head and count):
        return "it has only interim answers (1xx)"
    status = _STATUS.match(head)
    if status is None:
        return "the answer is not HTTP"
    return "" if 200 <= int(status.group(1)) < 400 else status.group(1).decode()
