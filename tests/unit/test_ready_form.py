"""A role's `ready` becomes a value, or the whole list of what is wrong in it."""

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.errors import InvalidInput
from orchestrator.model.secret import SecretRef
from orchestrator.model.spec import Probe, Ready, Via


def role(fields: str) -> str:
    return f"service: hello\nroles:\n  web:\n    image: debian-12\n    {fields}\n"


BAD = {
    "two probes in one": (
        role("ready: {probes: [{tcp: 80, exec: [a]}]}"),
        [(5, "roles.web.ready.probes[0]", "exactly one of http, tcp and exec")],
    ),
    "a probe of a page": (
        role("ready: {probes: [{http: {port: 0, path: x}}]}"),
        [
            (5, "roles.web.ready.probes[0].http.path", "a path of a URL"),
            (5, "roles.web.ready.probes[0].http.port", "must be at least 1, got 0"),
        ],
    ),
    "a probe of nothing": (
        role("ready: {probes: [{exec: []}]}"),
        [(5, "roles.web.ready.probes[0].exec", "is an empty command")],
    ),
    "thresholds": (
        role("ready: {failures: 4, window: 3}"),
        [(5, "roles.web.ready", "failures is 4, more than the 3 looks")],
    ),
    "no key": (role("ready: {via: ssh}"), [(5, "roles.web.ready", "via: ssh needs ssh")]),
    "a key for nothing": (
        role("ready: {ssh: {key: {secret: file:/k}}}"),
        [(5, "roles.web.ready", "without it ssh means nothing")],
    ),
    "a key that is none": (
        role("ready: {via: ssh, ssh: {key: {secret: /k}}}"),
        [(5, "roles.web.ready.ssh.key.secret", "must say where the secret is")],
    ),
    "nothing to see": (role("ready: {via: network}"), [(3, "roles.web", "needs a probe, or an endpoint")]),
    "names that no service can have": (
        role(r'ready: {services: ["", " ", "a\nb", "\x07", " a", "' + "x" * 256 + '", a]}'),
        [(5, f"roles.web.ready.services[{n}]", "must be a service's name") for n in range(6)],
    ),
    "nobody to ask": (
        role("ready: {via: network, services: [a], probes: [{tcp: 80}]}"),
        [(5, "roles.web.ready", "sees no services")],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_every_problem_is_told_with_its_place(name):
    text, wanted = BAD[name]
    with pytest.raises(InvalidInput) as caught:
        parse(text, "hello.yaml")
    found = caught.value.problems
    assert [(p.line, p.path) for p in found] == [(line, path) for line, path, _message in wanted]
    for problem, (_line, _path, message) in zip(found, wanted, strict=True):
        assert message in problem.message


def test_how_readiness_is_found_out():
    text = """
service: hello
roles:
  web:
    image: debian-12
    endpoints:
      http: {port: 80, target: 8080, protocol: http, check: {path: /healthz}}
      raw: {port: 81}
      own: {target: 9000, visibility: internal}
    ready:
      services: [nginx]
      probes: [{http: {port: 8080, path: /up}, timeout: 2s}, {tcp: 22}, {exec: [a, b]}, {exec: "a | b"}]
      successes: 3
      interval: 10s
      via: ssh
      ssh: {user: admin, key: {secret: "file:/key"}}
  mute:
    image: debian-12
    endpoints: {http: {port: 82, target: 8080, protocol: http, check: {path: /healthz}}, raw: {port: 83}}
    ready: {via: network}
"""
    web, mute = parse(text, "f").roles
    assert web.ready == Ready(
        ("nginx",),
        via=Via.SSH,
        probes=(
            Probe("http", 8080, "/up", timeout_s=2.0), Probe("tcp", 22),
            Probe("exec", words=("a", "b")), Probe("exec", words="a | b"),
        ),
        successes=3,
        interval_s=10.0,
        ssh_user="admin",
        ssh_key=SecretRef("file:/key"),
    )  # fmt: skip
    # Without probes of its own, its endpoints on the VIP are all that is seen of it.
    assert mute.ready.probes == (Probe("http", 8080, "/healthz"), Probe("tcp", 83))
