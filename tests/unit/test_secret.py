"""Secrets: the type that does not print, references wherever they are, and reading them all at once."""

import copy
import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from pydantic import TypeAdapter

from orchestrator.config.secrets import resolved
from orchestrator.config.servicefile import load
from orchestrator.errors import InvalidInput
from orchestrator.model.secret import MAX_BYTES, Secret, SecretRef
from orchestrator.model.secretrefs import refs, with_refs
from orchestrator.model.setup import Certificate, File, Join, Setup, User
from orchestrator.model.spec import Endpoint, Protocol, Ready, Tls, Traffic
from orchestrator.render import records
from tests.fakes.build import deployment, role, service

CANARY = "s3cret-canary"
SECRET = Secret(CANARY.encode())
REF = SecretRef("env:X")
SETUP = Setup(
    files=(File("/a", "plain"), File("/b", REF)),
    users=(User("me", password=REF, password_hash=REF),),
    administrator_password=REF,
    certificates=(Certificate("c", REF, password=REF),),
    join=Join("d", "u", REF),
    license_key=REF,
)
WANTED = service(role(setup=SETUP, ready=Ready(ssh_key=REF)))
WITHOUT_CERTIFICATE = service(role(setup=replace(SETUP, certificates=()), ready=Ready(ssh_key=REF)))
PLACES = {
    "files.1.content", "users.0.password", "users.0.password_hash", "administrator_password", "certificates.0.content",
    "certificates.0.password", "join.password", "license_key",
}  # fmt: skip


@pytest.mark.parametrize("said", [repr, str, "{}".format, "{:>20}".format, lambda s: f"{s!r} {[s]} {s!s}"])
def test_no_text_of_a_secret_has_it(said):
    assert CANARY not in said(SECRET)
    assert "Secret(…)" in said(SECRET)


@pytest.mark.parametrize(
    "act", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, hash, vars, bytes, TypeAdapter(object).dump_json]
)
def test_a_secret_cannot_be_made_something_else(act):
    with pytest.raises((TypeError, ValueError)) as told:
        act(SECRET)
    assert CANARY not in str(told.value)


def test_secrets_compare_by_value():
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"


def test_every_place_that_can_hold_a_reference_is_found_and_replaced():
    found = {".".join(map(str, path)) for path, _ref in refs(WANTED)}
    assert found == {f"roles.web.setup.{place}" for place in PLACES} | {"roles.web.ready.ssh_key"}
    changed = with_refs(WANTED, lambda ref: replace(ref, key="k"))
    assert {ref for _path, ref in refs(changed)} == {SecretRef("env:X", "k")}
    assert with_refs(changed, lambda _ref: REF) == WANTED
    assert with_refs(WANTED, lambda ref: ref) is WANTED


def read(tmp_path, wanted, **env):
    file = tmp_path / "hello.yaml"
    if not file.exists():
        file.write_text("service: hello\n")
    stored = {"known": SECRET}
    return resolved(wanted, file, env=env, stored=stored.get, digest=lambda value: f"d-{len(value.reveal())}")


def of(*sources):
    return service(role(setup=Setup(files=tuple(File(f"/{n}", SecretRef(s)) for n, s in enumerate(sources)))))


def test_each_source_is_read_where_the_command_runs(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/key.pem").write_bytes(b"\xff\n")
    known, values = read(tmp_path, of("file:sub/key.pem", "env:X", "store:known", "env:X"), X="longer")
    assert [ref.key for _path, ref in refs(known)] == ["d-2", "d-6", "d-13", "d-6"]
    assert {key: value.reveal() for key, value in values.items()} == {
        "d-2": b"\xff\n", "d-6": b"longer", "d-13": CANARY.encode(),
    }  # fmt: skip


def test_all_that_cannot_be_read_is_told_at_once_with_its_path(tmp_path):
    (tmp_path / "large").write_bytes(b"x" * (MAX_BYTES + 1))
    (tmp_path / "full").write_bytes(b"x" * MAX_BYTES)
    (tmp_path / "empty").touch()
    bad = ["file:none", "file:.", "file:large", "file:empty", "env:NONE", "store:none"]
    with pytest.raises(InvalidInput) as told:
        read(tmp_path, of(*bad, "file:full", "env:SET"), SET=CANARY)
    assert [p.path for p in told.value.problems] == [f"roles.web.setup.files[{n}].secret" for n in range(6)]
    assert all(source in problem.message for source, problem in zip(bad, told.value.problems, strict=True))
    assert CANARY not in told.value.message


def test_a_problem_has_the_files_own_path(tmp_path):
    file = tmp_path / "hello.yaml"
    setup = {
        "files": "[{path: /a, content: b}, {path: /b, secret: env:X}]",
        "users": "[{name: a, password: {secret: env:X}}, {name: b, password_hash: {secret: env:X}}]",
        "administrator": "{password: {secret: env:X}}",
        "certificates": "[{name: a, secret: env:X, password: {secret: env:X}}]",
        "trusted_certificates": "[{name: b, secret: env:X}]",
        "domain_join": "{domain: d, user: u, password: {secret: env:X}}",
        "license_key": "{secret: env:X}",
    }
    lines = "".join(f"\n      {key}: {value}" for key, value in setup.items())
    ready = "ready: {via: ssh, ssh: {user: u, key: {secret: env:X}}}"
    file.write_text(f"service: s\nroles:\n  web:\n    image: i\n    {ready}\n    setup:{lines}\n")
    with pytest.raises(InvalidInput) as told:
        read(tmp_path, load(file, lambda _image: ""))
    places = [(p.path.removeprefix("roles.web."), p.line) for p in told.value.problems]
    assert sorted(places, key=lambda place: place[1]) == [
        ("ready.ssh.key", 5), ("setup.files[1].secret", 7), ("setup.users[0].password", 8),
        ("setup.users[1].password_hash", 8), ("setup.administrator.password", 9), ("setup.certificates[0].secret", 10),
        ("setup.certificates[0].password", 10), ("setup.trusted_certificates[0].secret", 11),
        ("setup.domain_join.password", 12), ("setup.license_key", 13),
    ]  # fmt: skip


def test_what_can_be_no_password_and_no_certificate_is_told_before(tmp_path):
    given = {"PEM": "-----BEGIN CERTIFICATE-----", "DER": "0x", "LINE": "word\r\n", "LINES": "a\nb\n", "EMPTY": "\n"}
    users = tuple(User(f"u{n}", password=SecretRef(f"env:{n}")) for n in ("LINE", "LINES", "EMPTY"))
    own = tuple(Certificate(n, SecretRef(f"env:{n}")) for n in ("PEM", "DER", "LINE"))
    roots = tuple(Certificate(f"r{n}", SecretRef(f"env:{n}"), is_root=True) for n in ("PEM", "DER"))
    wanted = service(role(setup=Setup(users=users, certificates=(*own, *roots))))
    with pytest.raises(InvalidInput) as told:
        read(tmp_path, wanted, **given)
    assert [(p.path.removeprefix("roles.web.setup."), p.message.split(" ", 3)[3]) for p in told.value.problems] == [
        ("users[1].password", "is not one line of printable characters"),
        ("users[2].password", "is not one line of printable characters"),
        ("certificates[2].secret", "holds no certificate: it must be PEM, or for Windows PKCS #12"),
        ("trusted_certificates[1].secret", "holds no certificate: it must be PEM"),
    ]


NOT_READ = "that can be read: it must be certificate, chain and key, in PEM"


def of_tls(*sources):
    tls = (Traffic(tls=Tls(SecretRef(source))) for source in sources)
    doors = (Endpoint(f"e{n}", (n + 1, n + 1), 80, Protocol.HTTP, traffic=one) for n, one in enumerate(tls))
    return service(role(endpoints=tuple(doors)))


def pem(bits=2048, key=None, passphrase=""):
    """(certificate, private key), as openssl writes them."""
    key = key or rsa.generate_private_key(65537, bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example")])
    day, now = timedelta(days=1), datetime(2024, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + day).sign(key, hashes.SHA256())
    locked = form.BestAvailableEncryption(passphrase.encode()) if passphrase else form.NoEncryption()
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, locked)
    return made.public_bytes(form.Encoding.PEM), secret


def test_a_certificate_that_haproxy_would_refuse_is_refused_before(tmp_path):
    (own, key), (other, other_key) = pem(), pem(key=ec.generate_private_key(ec.SECP256R1()))
    given = {
        "good": own + other + key, "key-first": other_key + other,
        "no-key": own, "no-certificate": key, "other-key": own + other_key, "locked": own + pem(passphrase="x")[1],
        "short": b"".join(pem(1024)), "binary": b"\xff\0",
    }  # fmt: skip
    for name, value in given.items():
        (tmp_path / name).write_bytes(value)
    with pytest.raises(InvalidInput) as told:
        read(tmp_path, of_tls(*(f"file:{name}" for name in given)))
    assert [(p.path, p.message) for p in told.value.problems] == [
        (f"roles.web.endpoints.e{number}.tls.certificate", f"the secret file:{name} {why}")
        for number, (name, why) in enumerate(
            [
                ("no-key", f"holds no private key {NOT_READ}"),
                (
                    "no-certificate",
                    f"holds no certificate {NOT_READ}",
                ),
                ("other-key", "has a key that is not of its first certificate"),
                ("locked", "has a key with a passphrase, which nobody is there to type: store it without"),
                ("short", "is refused by OpenSSL: ee key too small"),
                ("binary", f"holds no certificate {NOT_READ}"),
            ],
            start=2,
        )
    ]


def test_what_is_stored_and_copied_to_hosts_has_references_only(tmp_path):
    known, values = read(tmp_path, WITHOUT_CERTIFICATE, X=CANARY)
    stored = records.dump_deployment(deployment(known))
    assert CANARY.encode() not in stored
    assert records.load_deployment(stored).service == known
    assert [value.reveal() for value in values.values()] == [CANARY.encode()]
