"""What each field of a changed file costs; and that what is said is what happens to machines."""

from dataclasses import fields, replace
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel

from orchestrator.config.schema import RoleForm, ServiceForm
from orchestrator.config.servicefile import parse
from orchestrator.engine.difference import COSTS, NAMED, Change, Cost, _fields, changes, cost_of
from orchestrator.model.setup import Certificate, Command, Setup
from orchestrator.model.spec import Platform, Role
from tests.fakes.build import deployment

BASE = """
service: hello
roles:
  web:
    image: debian-12
    instances: 4
    size: {vcpus: 1, memory: 512MiB}
    endpoints:
      http: {port: 80, target: 8080, protocol: http, check: {path: /}}
      gossip: {target: 9000, visibility: internal}
    setup: {run: [first], settings: {COLOUR: blue}, timezone: UTC}
    local_storage: {cache: {size: 1GiB, mount: /cache}}
    volumes: {data: {size: 1GiB, mount: /srv}}
"""
FULL = """
service: full
roles:
  web:
    image: debian-12
    endpoints:
      http: {port: 80, protocol: http, check: {port: 81}, tls: {certificate: {secret: "file:x"}}, sticky: cookie}
      gossip: {target: 9000-9009, visibility: internal}
    setup: {run: [first], settings: {COLOUR: blue}}
    ready: {via: ssh, ssh: {user: root, key: {secret: "file:k"}}}
    autoscale: {max: 5, target: {cpu_percent: 50}}
    local_storage: {cache: {size: 1GiB, mount: /cache}}
    volumes: {data: {size: 1GiB, mount: /srv}}
"""
# what is replaced, by what: the field that this changes, and its cost
EDITS = {
    ("memory: 512MiB", "memory: 1GiB"): ("size.memory", Cost.MACHINE),
    ("vcpus: 1", "vcpus: 2"): ("size.vcpus", Cost.MACHINE),
    ("size: {vcpus: 1", "size: {disk: 8GiB, vcpus: 1"): ("size.disk", Cost.MACHINE),
    ("check: {path: /}", "check: {path: /health}"): ("endpoints.http.check.path", Cost.BALANCER),
    ("check: {path: /}", "check: {path: /, rise: 5}"): ("endpoints.http.check.rise", Cost.BALANCER),
    ("port: 80,", "port: 81,"): ("endpoints.http.port", Cost.BALANCER),
    ("target: 9000", "target: 9001"): ("endpoints.gossip.target", Cost.TOLD),
    ("target: 9000", "target: 9000-9009"): ("endpoints.gossip.target", Cost.TOLD),
    ("protocol: http,", "protocol: http, idle_timeout: 2m,"): ("endpoints.http.idle_timeout", Cost.BALANCER),
    ("run: [first]", "run: [second]"): ("setup.run", Cost.MACHINE),
    ("timezone: UTC", "timezone: Europe/Berlin"): ("setup.timezone", Cost.MACHINE),
    ("1GiB, mount: /cache", "1GiB, mount: /tmp/cache"): ("local_storage.cache.mount", Cost.MACHINE),
    ("1GiB, mount: /cache", "2GiB, mount: /cache"): ("local_storage.cache.size", Cost.GROW),
    ("1GiB, mount: /srv", "2GiB, mount: /srv"): ("volumes.data.size", Cost.GROW),
    ("1GiB, mount: /srv", '1GiB, mode: "0700", mount: /srv'): ("volumes.data.mode", Cost.MACHINE),
    ("    volumes:", "    ready: {timeout: 1m}\n    volumes:"): ("ready.timeout", Cost.NOTHING),
    ("timezone: UTC", "timezone: UTC, user_data: {bootcmd: [one]}"): ("setup.user_data", Cost.MACHINE),
    ("timezone: UTC", 'timezone: UTC, trusted_certificates: [{name: a, secret: "file:a"}]'): (
        "setup.trusted_certificates",
        Cost.MACHINE,
    ),
    ("    volumes:", "    stop: {drain: 1s}\n    volumes:"): ("stop.drain", Cost.NOTHING),
    ("    volumes:", "    stop: {keep_overlay: 1m}\n    volumes:"): ("stop.keep_overlay", Cost.NOTHING),
    ("    volumes:", "    repair: off\n    volumes:"): ("repair", Cost.NOTHING),
    ("    volumes:", "    upgrade: {max_unavailable: 50%}\n    volumes:"): ("upgrade.max_unavailable", Cost.NOTHING),
    ("    volumes:", "    upgrade: {domains: 2}\n    volumes:"): ("upgrade.domains", Cost.NOTHING),
    ("    volumes:", "    upgrade: {automatic: false}\n    volumes:"): ("upgrade.automatic", Cost.NOTHING),
    ("    volumes:", "    upgrade: {min_ready: 9s}\n    volumes:"): ("upgrade.min_ready", Cost.NOTHING),
    ("    volumes:", "    repair: {reimage: {tries: 1}}\n    volumes:"): ("repair.reimage.tries", Cost.NOTHING),
    ("instances: 4", "instances: 6"): ("instances", Cost.COUNT),
    ("    volumes:", "    egress: false\n    volumes:"): ("egress", Cost.NOTHING),
    ("    volumes:", "    autoscale: {max: 9, target: {cpu_percent: 50}}\n    volumes:"): ("autoscale", Cost.NOTHING),
}


def wanted(text: str, **changed: object):
    return deployment(parse(text, lambda _reference: ""), **changed)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit[1].strip())
def test_a_field_costs_what_it_does_to_machines(edit):
    old, new = wanted(BASE), wanted(BASE.replace(*edit))
    (found,) = changes(old, new)
    assert (found.path.removeprefix("roles.web."), found.cost) == EDITS[edit]
    machines = [record.machine(record.service.roles[0]) for record in (old, new)]
    assert (machines[0] != machines[1]) == (found.cost in {Cost.MACHINE, Cost.GROW})


def test_settings_cost_what_they_do_to_machines():
    old, new = wanted(BASE), wanted(BASE.replace("COLOUR: blue", "COLOUR: red"))
    (found,) = changes(old, new)
    machines = [record.machine(record.service.roles[0]) for record in (old, new)]
    assert found.path == "roles.web.setup.settings.COLOUR"
    assert (machines[0] == machines[1], found.cost) == (True, Cost.TOLD)
    assert found.costs == "4 instances are told; no machine is touched"


def test_every_field_of_a_role_has_its_cost():
    unknown = [name for name in RoleForm.model_fields if not any(row[0] == name for row in COSTS)]
    assert unknown == [], "say in engine/difference.py what a change of it costs"


def test_every_field_of_the_file_is_told():
    assert set(ServiceForm.model_fields) == {"service", "roles", "vip", "traffic"}, (
        "engine/difference.py tells of no other"
    )


def test_traffic_is_told_as_it_is_read():
    gossip = "traffic: [{to: web.gossip, from: [web]}]"
    (found,) = changes(wanted(BASE), wanted(f"{gossip}\n{BASE}"))
    assert (found.path, found.was, found.will_be) == ("traffic", "", "web.gossip from web")
    assert (found.cost, "no machine is touched" in found.costs) == (Cost.NOTHING, True)


def test_nothing_changed_is_nothing_told():
    assert changes(wanted(BASE), wanted(BASE)) == ()


def test_the_words_say_how_many_and_how():
    old = wanted(BASE)
    (size,) = changes(old, wanted(BASE.replace("memory: 512MiB", "memory: 1GiB")))
    assert size == Change(
        "roles.web.size.memory",
        "512 MiB",
        "1024 MiB",
        Cost.MACHINE,
        "4 instances get a new machine: 4 upgrade domains, at most 1 away at once",
    )
    surged = BASE.replace(
        "    volumes: {data: {size: 1GiB, mount: /srv}}", "    upgrade: {max_unavailable: 0, max_surge: 50%}"
    )
    (size,) = changes(wanted(surged), wanted(surged.replace("memory: 512MiB", "memory: 1GiB")))
    assert size.costs.endswith("4 upgrade domains, at most 0 away at once, 2 extra instances stand in")
    (more,) = changes(old, wanted(BASE.replace("instances: 4", "instances: 5")))
    assert more.costs == "1 instance more"
    (fewer,) = changes(old, wanted(BASE.replace("instances: 4", "instances: 1")))
    assert fewer.costs == "3 instances deleted; volumes are kept"


def test_what_the_file_leaves_out_is_not_a_number():
    (size,) = changes(wanted(BASE), wanted(BASE.replace("size: {vcpus: 1", "size: {disk: 8GiB, vcpus: 1")))
    assert (size.was, size.will_be) == ("not set", "8 GiB")
    (ports,) = changes(wanted(BASE), wanted(BASE.replace("target: 9000", "target: 9000-9009")))
    assert (ports.was, ports.will_be) == ("9000", "9000-9009")
    assert ports.costs == "the deployment's instances are told; no machine is touched"


def test_an_endpoint_that_comes_onto_the_vip_is_haproxys():
    seen = changes(wanted(BASE), wanted(BASE.replace("{target: 9000, visibility: internal}", "{port: 81}")))
    assert {change.cost for change in seen} == {Cost.BALANCER}
    assert ("roles.web.endpoints.gossip.port", "not set", "81") in {(c.path, c.was, c.will_be) for c in seen}


def every_leaf(told: type, at: tuple[str, ...] = ()):
    """The paths of a form's fields, as deep as forms go; * stands for a name that the user gives."""
    for name, field in told.model_fields.items():
        kinds = [k for k in (field.annotation, *get_args(field.annotation)) if isinstance(k, type)]
        form = next((k for k in kinds if issubclass(k, BaseModel)), None)
        if get_origin(field.annotation) is dict:
            form = next(
                (k for k in get_args(field.annotation) if isinstance(k, type) and issubclass(k, BaseModel)), None
            )
            yield (*at, name)
            yield from every_leaf(form, (*at, name, "*")) if form is not None else [(*at, name, "*")]
            continue
        yield (*at, name)
        yield from every_leaf(form, (*at, name)) if form is not None else ()


def test_the_words_are_those_of_the_file():
    known, service = {*every_leaf(RoleForm)}, parse(FULL, "a test", lambda _reference: "")
    told = [path for path, _value in _fields(service.roles[0]) if not (len(path) == 2 and path[0] in NAMED)]
    assert [".".join(path) for path in told if not {path, (path[0], "*", *path[2:]), (*path[:2], "*")} & known] == [
        "volumes.data.clean_on_reimage"  # of local storage only: it never differs
    ]


@pytest.mark.parametrize("field", [field.name for field in fields(Setup) if field.name != "settings"])
def test_whatever_is_another_setup_is_told(field):
    """Each field's value is taken for another one here, whatever the form would say to it."""
    old = wanted(BASE)
    values = {"commands": (Command("other"),), "certificates": (Certificate("c", "pem"),)}
    (role,) = old.service.roles
    setup = replace(role.setup, **{field: values.get(field, "other")})
    new = replace(old, service=replace(old.service, roles=(replace(role, setup=setup),)))
    found = changes(old, new)
    assert {change.cost for change in found} == {Cost.MACHINE}


def test_what_an_image_asks_machines_for_is_told():
    old = wanted(BASE)
    (found,) = changes(old, replace(old, platforms={"web": Platform(firmware="uefi", tpm=True)}))
    assert (found.path, found.cost) == ("roles.web.image", Cost.MACHINE)
    assert "firmware uefi, tpm true" in found.will_be


def test_an_image_is_what_it_resolves_to():
    old = wanted(BASE)
    (moved,) = changes(old, replace(old, digests={"web": "sha256:" + "f" * 64}))
    assert (moved.path, moved.cost) == ("roles.web.image", Cost.MACHINE)
    renamed = wanted(BASE.replace("image: debian-12", "image: other"), digests=old.digests)
    (named,) = changes(old, renamed)
    assert named.cost is Cost.NOTHING


def test_what_comes_or_goes_as_a_whole_is_one_change():
    without = "\n".join(line for line in BASE.splitlines() if "gossip" not in line)
    (gone,) = changes(wanted(BASE), wanted(without))
    assert (gone.path, gone.was, gone.will_be, gone.cost) == ("roles.web.endpoints.gossip", "there", "", Cost.TOLD)
    (role,) = changes(wanted(BASE), wanted(BASE + "  db: {image: debian-12, instances: 2}\n"))
    assert (role.path, role.costs) == ("roles.db", "2 instances made")


def test_what_may_be_secret_is_not_shown():
    old, new = wanted(BASE), wanted(BASE.replace("run: [first]", "run: [echo hunter2]"))
    assert "hunter2" not in repr(changes(old, new))


def test_windows_firewall_is_set_up_with_the_ports():
    windows = {"web": Platform("windows")}
    old = wanted(BASE, platforms=windows)
    (found,) = changes(old, wanted(BASE.replace("target: 9000", "target: 9001"), platforms=windows))
    assert found.cost is Cost.MACHINE


def test_every_field_of_the_values_is_told():
    """A field of a role that no path leads to would change without a word."""
    told = {"name", "image", "instances", "disks"} | {row[0] for row in COSTS}
    assert {field.name for field in fields(Role)} <= told
    with pytest.raises(LookupError):
        cost_of(("nonsense",))
