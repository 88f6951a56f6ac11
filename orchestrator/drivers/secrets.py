"""Secrets at rest: one encrypted file and its key beside it, both for their owner alone.

It has what people store under a name (`vmrole secret`), and the values that deployments' records refer to by a key:
a keyed digest of the value, from which nobody without the key file can guess it. So a changed value is another key,
and whoever makes a machine later needs neither the environment nor the files that the values came from.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import json
import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestrator.drivers._files import locked, write_durably
from orchestrator.errors import NotFound, Refused, StoreAway
from orchestrator.model.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set
    from pathlib import Path

    from orchestrator.model.secret import SecretRef

log = logging.getLogger(__name__)
KEY_BYTES = 32
NONCE_BYTES = 12
OTHERS = 0o077
ABOUT = b"vmrole secrets 1"
LOST = "put secrets and secrets.key back from one backup; or move both away, store named ones again, run `vmrole up`"


@dataclass
class _Content:
    """``named``: by people. ``kept``: by their keys, for records."""

    named: dict[str, Secret] = field(default_factory=dict)
    kept: dict[str, Secret] = field(default_factory=dict)


class SecretStore:
    """The secrets of one home folder. Raises Refused when its files do not belong together, StoreAway without room."""

    def __init__(self, home: Path) -> None:
        self._path = home / "secrets"
        self._key_path = home / "secrets.key"
        self._lock = home / "secrets.lock"
        self._fresh = os.urandom(KEY_BYTES)  # the key until there is one: a plan writes nothing

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts no other process changes them; not to be entered twice."""
        try:
            with locked(self._lock):
                yield
        except OSError as error:
            raise StoreAway(f"{self._path} cannot be written: {error.strerror}", "look at its folder") from error

    def is_there(self) -> bool:
        """Whether anything was ever stored: else there is nothing to forget, and no file to be made for it."""
        return self._path.exists()

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._read().named))

    def named(self, name: str) -> Secret | None:
        return self._read().named.get(name)

    def put_named(self, name: str, value: Secret) -> None:
        with self.alone():
            content = self._read()
            content.named[name] = value
            self._write(content)

    def remove_named(self, name: str) -> None:
        """Raises NotFound."""
        with self.alone():
            content = self._read()
            if content.named.pop(name, None) is None:
                raise NotFound(f"there is no secret {name}", "`vmrole secret ls` lists them")
            self._write(content)

    def digest(self, value: Secret) -> str:
        """The key of a value; as long as there is no store, one that only this process would give it."""
        return hmac.digest(self._derived("key of a value"), value.reveal(), "sha256").hex()[:32]

    def keep(self, values: Mapping[str, Secret]) -> None:
        """Store values under their keys. The caller is ``alone``, also while the record that has the keys is stored."""
        content = self._read()
        if not values.keys() <= content.kept.keys():
            content.kept |= values
            self._write(content)

    def forget_but(self, keys: Set[str]) -> None:
        """Forget every kept value but these. The caller is ``alone``, also when it learns which are needed."""
        content = self._read()
        if not content.kept.keys() <= keys:
            content.kept = {key: value for key, value in content.kept.items() if key in keys}
            self._write(content)

    def has(self, ref: SecretRef) -> bool:
        return ref.key in self._read().kept

    def reveal(self, ref: SecretRef) -> Secret:
        value = self._read().kept.get(ref.key)
        if value is None:
            # The hint is in the message, too: a status shows only that.
            hint = "run `vmrole up FILE` again where it can be read: that stores it"
            raise Refused(f"the secret {ref.source} is not in this home's store: {hint}", hint)
        return value

    def make_key(self) -> None:
        """Have a key from now on, so that digests last."""
        with self.alone():
            self._make_key()

    def _make_key(self) -> None:
        if not self._key_path.exists() and not self._path.exists():
            write_durably(self._key_path, self._fresh.hex() + "\n")

    def _key(self) -> bytes:
        try:
            self._close_key()
            key = bytes.fromhex(self._key_path.read_text())
        except FileNotFoundError as error:
            if self._path.exists():
                raise Refused(f"{self._key_path} is gone: nobody can read {self._path}", LOST) from error
            return self._fresh
        except (OSError, ValueError) as error:
            raise Refused(f"{self._key_path} cannot be read, or is damaged", LOST) from error
        if len(key) != KEY_BYTES:
            raise Refused(f"{self._key_path} is damaged", LOST)
        return key

    def _close_key(self) -> None:
        """A key that came back from a backup is often open to others."""
        mode = self._key_path.stat().st_mode
        if mode & OTHERS:
            log.warning("%s could be read by others (mode %04o): it is 0600 now", self._key_path, mode & 0o7777)
            self._key_path.chmod(mode & 0o600)

    def _derived(self, purpose: str) -> bytes:
        return hmac.digest(self._key(), purpose.encode(), "sha256")

    def _read(self) -> _Content:
        try:
            sealed = base64.b64decode(self._path.read_bytes(), validate=True)
            plain = AESGCM(self._derived("encryption")).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], ABOUT)
            parts = json.loads(plain)
        except FileNotFoundError:
            return _Content()
        except OSError as error:
            raise StoreAway(f"{self._path} cannot be read: {error.strerror}", "look at who may read it") from error
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise Refused(f"{self._path} is damaged, or {self._key_path.name} is not its key", LOST) from error
        return _Content(_loaded(parts["named"]), _loaded(parts["kept"]))

    def _write(self, content: _Content) -> None:
        self._make_key()
        plain = json.dumps({"named": _dumped(content.named), "kept": _dumped(content.kept)}).encode()
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(self._derived("encryption")).encrypt(nonce, plain, ABOUT)
        write_durably(self._path, base64.b64encode(sealed).decode())


def _dumped(values: Mapping[str, Secret]) -> dict[str, str]:
    return {name: base64.b64encode(value.reveal()).decode() for name, value in values.items()}


def _loaded(values: Mapping[str, str]) -> dict[str, Secret]:
    return {name: Secret(base64.b64decode(text)) for name, text in values.items()}
