"""Files into a guest, by its agent: packed here, sent in pieces, unpacked there."""

from __future__ import annotations

import base64
import io
import tarfile
from typing import TYPE_CHECKING

from orchestrator.errors import AgentRefused, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.ports import Host, Progress

CALL_S = 10.0
PIECE_BYTES = 512 * 1024  # libvirt carries agent commands of up to 4 MiB
ARCHIVE = "/tmp/vmrole-copy.tar"  # noqa: S108 - the guest's


def packed(pairs: Iterable[tuple[Path, str]]) -> bytes:
    """An archive of files and folders, each to lie at its absolute path. Raises UserError for one that cannot be read.

    Everything in it is root's: whoever has a file here is nobody there.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for source, target in pairs:
            try:
                archive.add(source, arcname=target.lstrip("/"), filter=_of_root)
            except OSError as error:
                raise UserError(f"{source} cannot be copied: {error.strerror}") from error
    return out.getvalue()


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def send(host: Host, domain: str, content: bytes, report: Progress) -> None:
    """Write ``ARCHIVE`` in a guest. Raises AgentSilent, AgentRefused."""
    handle = host.agent(domain, "guest-file-open", {"path": ARCHIVE, "mode": "w"}, CALL_S)
    try:
        for offset in range(0, len(content), PIECE_BYTES):
            report(f"copying {offset // 1024} of {len(content) // 1024} KiB into the guest")
            piece = base64.b64encode(content[offset : offset + PIECE_BYTES]).decode()
            done = host.agent(domain, "guest-file-write", {"handle": handle, "buf-b64": piece}, CALL_S)
            if not isinstance(done, dict) or done.get("count") != len(content[offset : offset + PIECE_BYTES]):
                raise AgentRefused(
                    f"the guest of {domain} took only a part of what was copied into it: is its disk full?"
                )
    finally:
        host.agent(domain, "guest-file-close", {"handle": handle}, CALL_S)
