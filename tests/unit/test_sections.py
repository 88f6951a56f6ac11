"""What each section of a role becomes as a value."""

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.model.spec import Disk, DiskKind, Repair, Rung, Stop
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
