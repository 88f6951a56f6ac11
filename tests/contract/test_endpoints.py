"""Whatever the service file's rules let through, HAProxy takes, without as much as a warning."""

import itertools
import json
import subprocess

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.engine.rotation import frontends, servers
from orchestrator.errors import InvalidInput
from orchestrator.model.spec import Service
from orchestrator.render import haproxy
from tests.fakes.build import deployment, record, web

pytestmark = pytest.mark.real

TLS = {"certificate": {"secret": "store:site"}}
CHECKS = [{}, {"check": {"path": "/x"}}, {"check": {"path": "/x", "port": 99, "status": "200-299"}}]
LIMITS = [{}, {"max_connections": 5, "max_connections_per_instance": 2, "idle_timeout": "1h", "proxy_protocol": True}]


def every() -> list[dict[str, object]]:
    rules, kinds = ["roundrobin", "leastconn", "source"], ["none", "cookie", "source"]
    choices = itertools.product(["http", "https", "tcp"], rules, kinds, [None, TLS], CHECKS, LIMITS)
    return [
        {"protocol": protocol, "balance": balance, "sticky": sticky, **({"tls": tls} if tls else {}), **check, **limits}
        for protocol, balance, sticky, tls, check, limits in choices
    ]


def accepted() -> Service:
    """One service of all that goes together."""
    good = {}
    for number, fields in enumerate(every()):
        endpoint = {"port": 1000 + number, **fields}
        try:
            parse(text(**{f"e{number}": endpoint}), "f")
        except InvalidInput:
            continue
        good[f"e{number}"] = endpoint
    return parse(text(**good), "f")


def text(**endpoints: object) -> str:
    return json.dumps({"service": "hello", "roles": {"web": {"image": "tiny", "endpoints": endpoints}}})


def test_haproxy_takes_every_combination(tmp_path):
    service = accepted()
    assert 100 < len(service.roles[0].endpoints) < len(every())
    fronts = frontends([deployment(service)])
    folder = tmp_path / haproxy.CERTIFICATES
    folder.mkdir()
    (name,) = {haproxy.certificate_file(f.traffic.tls.certificate) for f in fronts if f.traffic.tls is not None}
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    out = ["-subj", "/CN=x", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt")]
    subprocess.run([*argv, *out], check=True, capture_output=True)
    (folder / name).write_text((tmp_path / "crt").read_text() + (tmp_path / "key").read_text())
    members = servers(record(web(0).instance), service.roles[0])
    (tmp_path / haproxy.ROUTES).write_text("")
    (tmp_path / "haproxy.cfg").write_text(haproxy.config_text(fronts, members))
    done = subprocess.run(
        ["haproxy", "-c", "-C", str(tmp_path), "-f", "haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[WARNING]" not in done.stderr, done.stderr
