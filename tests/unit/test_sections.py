"""What each section of a role becomes as a value."""

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.model.spec import (
    Disk,
    DiskKind,
    Probe,
    Ready,
    Repair,
    Rung,
    SecretRef,
    Stop,
    Via,
)
from tests.unit.test_servicefile import role


def test_disks_and_the_times_of_a_stop():
    fields = (
        'local_storage: {cache: {size: 1GiB, mount: /var/cache/app, mode: "0700", clean_on_reimage: true}}\n'
        "    volumes: {data: {size: 5GiB, mount: /srv, owner: app:app}}\n"
        "    stop: {drain: 5s, timeout: 2m, keep_overlay: 0s}"
    )
    (found,) = parse(role(fields), "f").roles
    assert found.disks == (
        Disk("data", DiskKind.VOLUME, 5120, "/srv", "app:app"),
        Disk("cache", DiskKind.LOCAL, 1024, "/var/cache/app", "root:root", "0700", is_clean=True),
    )
    assert found.stop == Stop(5.0, 120.0, 0.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", Repair(is_on=False)),
        ('"off"', Repair(is_on=False)),
        ("{}", Repair()),
        ("{grace: 1m, max_percent: 50}", Repair(True, 60.0, 50)),
        ("{reimage: {tries: 0}, reboot: {wait: 5s}}", Repair(reimage=Rung(0, 60.0), reboot=Rung(1, 5.0))),
    ],
)
def test_repair_is_off_or_a_ladder(text, value):
    (found,) = parse(role(f"repair: {text}"), "f").roles
    assert found.repair == value


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
