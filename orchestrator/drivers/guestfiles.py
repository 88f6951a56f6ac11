"""Files into a guest and out of it, by its agent, in pieces that the agent's channel carries."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from orchestrator.drivers.looks import CALL_S
from orchestrator.errors import AgentRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from orchestrator.drivers.hurried import Asks

# As text it is a third longer, and an agent's answer of more than 4 MiB is lost on its way.
PIECE_BYTES = 1024 * 1024
SEND_BYTES = 48 * 1024  # what is sent comes whole up to 128 KiB, and is no JSON any more at 256 (measured)


def receive(host: Asks, domain: str, path: str) -> Iterator[bytes]:
    """A guest's file, piece by piece. Raises AgentSilent, AgentRefused."""
    handle = _open(host, domain, path, "r")
    try:
        while piece := _read(host, domain, handle):
            yield piece
    finally:
        host.agent(domain, "guest-file-close", {"handle": handle}, CALL_S)


def send(host: Asks, domain: str, path: str, content: BinaryIO) -> int:
    """Write all that ``content`` has to a guest's file; how many bytes. Raises AgentSilent, AgentRefused."""
    handle, sent = _open(host, domain, path, "w"), 0
    try:
        while piece := content.read(SEND_BYTES):
            _write(host, domain, handle, piece)
            sent += len(piece)
        host.agent(domain, "guest-file-flush", {"handle": handle}, CALL_S)
    finally:
        host.agent(domain, "guest-file-close", {"handle": handle}, CALL_S)
    return sent


def _open(host: Asks, domain: str, path: str, mode: str) -> int:
    return _number(host.agent(domain, "guest-file-open", {"path": path, "mode": mode}, CALL_S))


def _read(host: Asks, domain: str, handle: int) -> bytes:
    answer = host.agent(domain, "guest-file-read", {"handle": handle, "count": PIECE_BYTES}, CALL_S)
    try:
        return base64.b64decode(str(_field(answer, "buf-b64")), validate=True)
    except binascii.Error as error:
        raise AgentRefused("the guest agent answered with something that is not base64") from error


def _write(host: Asks, domain: str, handle: int, piece: bytes) -> None:
    while piece:  # an agent may take less than it was given, as a full disk does
        told = {"handle": handle, "buf-b64": base64.b64encode(piece).decode()}
        count = _number(_field(host.agent(domain, "guest-file-write", told, CALL_S), "count"))
        if not 0 < count <= len(piece):
            raise AgentRefused(f"the guest agent has written {count} of {len(piece)} bytes")
        piece = piece[count:]


def _field(answer: object, name: str) -> object:
    if not isinstance(answer, dict) or name not in answer:
        raise AgentRefused(f"the guest agent answered without {name}")
    return answer[name]


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise AgentRefused("the guest agent answered with something that is not a number")
    return value
