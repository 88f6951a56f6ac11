"""Whether a secret is what HAProxy needs to end TLS: PEM, with a certificate and the key that belongs to it.

Asked where the service file is read: HAProxy takes all of its file or nothing, so one that it refuses would keep the
changes of every other service out, too.
"""

from __future__ import annotations

import os
import ssl
import warnings
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization as form
from cryptography.x509 import load_pem_x509_certificates

if TYPE_CHECKING:
    from orchestrator.model.secret import Secret

PEM, DER = b"-----BEGIN CERTIFICATE-----", b"\x30"
WANTED = "certificate, chain and key, in PEM"


def wrong_certificate(value: Secret) -> str:
    """Why TLS cannot be ended with this; "" if it can. Says nothing of what is in it."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is odd in a certificate that works
            own, *_chain = load_pem_x509_certificates(value.reveal())
            public = own.public_key()
    except Exception:  # noqa: BLE001 - cryptography raises its own, ValueError, and more that depends on the version
        return f"holds no certificate that can be read: it must be {WANTED}"
    try:
        key = form.load_pem_private_key(value.reveal(), password=None)
    except TypeError:
        return "has a key with a passphrase, which nobody is there to type: store it without"
    except Exception:  # noqa: BLE001 - as above
        return f"holds no private key that can be read: it must be {WANTED}"
    if _bytes(key.public_key()) != _bytes(public):
        return "has a key that is not of its first certificate"
    return _refused(value)


def without_certificate(value: Secret, *, is_authority: bool) -> str:
    """Why a value can be no certificate of a setup; "" if it can. Whether a system takes it, its rendering tells.

    A certificate of an instance's own may be PKCS #12, which is DER: it begins with a SEQUENCE.
    """
    if PEM in value.reveal() or (not is_authority and value.reveal().startswith(DER)):
        return ""
    return f"holds no certificate: it must be PEM{'' if is_authority else ', or for Windows PKCS #12'}"


def _refused(value: Secret) -> str:
    """What OpenSSL, which HAProxy uses, has against it beyond that: a key too short, a digest too weak."""
    handle = os.memfd_create("certificate", os.MFD_CLOEXEC)  # OpenSSL reads files only; this one is on no disk
    try:
        with open(handle, "wb", closefd=False) as file:
            file.write(value.reveal())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(f"/proc/self/fd/{handle}", password=b"")
    except ssl.SSLError as error:
        return f"is refused by OpenSSL: {(error.reason or 'it does not say why').replace('_', ' ').lower()}"
    finally:
        os.close(handle)
    return ""


def _bytes(public: object) -> bytes:
    encode = public.public_bytes  # type: ignore[attr-defined]
    return bytes(encode(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo))
