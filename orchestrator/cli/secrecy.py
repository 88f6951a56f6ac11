"""Secrets on their way from where they are to the store: read by `up` and `plan`, forgotten when nobody needs them."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from orchestrator.config.secrets import resolved
from orchestrator.errors import VmroleError
from orchestrator.model.secretrefs import refs

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.model.record import Intent
    from orchestrator.model.secret import Secret, SecretRef
    from orchestrator.model.spec import Service
    from orchestrator.wiring import Wiring

log = logging.getLogger(__name__)


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
    if not wiring.secrets.is_there():
        return
    try:
        with wiring.secrets.alone():
            wiring.secrets.forget_but({ref.key for ref in _needed(wiring.store.intent())})
    except VmroleError as error:  # what was asked for is done: whoever needs a secret hears of it then
        log.warning("secrets that nobody needs are not forgotten: %s", error.message)


def _needed(intent: Intent) -> set[SecretRef]:
    return {ref for record in (*intent.deployments, *intent.instances) for _path, ref in refs(record)}


def lost(wiring: Wiring) -> list[str]:
    """Where the secrets come from that records refer to and this home does not have."""
    return sorted({ref.source for ref in _needed(wiring.store.intent()) if not wiring.secrets.has(ref)})
