"""Secrets on their way from where they are to the store: read by `up` and `plan`, forgotten when nobody needs them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.config.secrets import resolved
from orchestrator.model.secretrefs import refs

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.model.secret import Secret
    from orchestrator.model.spec import Service
    from orchestrator.wiring import Wiring


def with_secrets(
    wiring: Wiring, service: Service, file: Path, *, is_lasting: bool
) -> tuple[Service, dict[str, Secret]]:
    """The service with its secrets' keys, and their values. ``is_lasting``: the keys are to be stored.

    Raises InvalidInput for those that cannot be read.
    """
    if not any(refs(service)):
        return service, {}
    if is_lasting:
        wiring.secrets.make_key()
    return resolved(service, file, env=os.environ, stored=wiring.secrets.named, digest=wiring.secrets.digest)


def forget_secrets(wiring: Wiring) -> None:
    """Forget the values that no record refers to any more; what is left after a crash goes the next time."""
    with wiring.secrets.alone():
        intent = wiring.store.intent()
        needed = {ref.key for record in (*intent.deployments, *intent.instances) for _path, ref in refs(record)}
        wiring.secrets.forget_but(needed)
