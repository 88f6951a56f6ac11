"""The runtime file: what is in it, when a guest is told, and that nobody's machine is touched for it."""

import itertools
import json
from dataclasses import replace

import pytest

from orchestrator.engine import verbs
from orchestrator.engine.plan import plan
from orchestrator.engine.runtime import document, failed_hooks, peers, read_revision, revision, settings
from orchestrator.engine.status import State
from orchestrator.model.action import SaveInstance, Tell
from orchestrator.model.making import MachineSpec
from orchestrator.model.setup import Setup
from orchestrator.model.spec import Disk, DiskKind, Ready, Size, Via
from orchestrator.model.upgrade import Upgrade
from orchestrator.model.vicinity import Vicinity
from orchestrator.render.records import dump_instance, load_instance, upgraded
from tests.fakes.build import DIGEST, GOSSIP, HELLO, HTTP, SSH, record, role, service, web
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld

FIRST, SECOND = "hello.production.web-0", "hello.production.web-1"
MEMBERS = ((web(0).instance, "198.18.0.10"), (web(1).instance, "198.18.0.11"))


def asked(value: str = "blue", **changes):
    setup = Setup(settings=(("COLOUR", value),))
    return service(role(instances=2, endpoints=(HTTP, GOSSIP), setup=setup, **changes), role("db", 1, endpoints=()))


def running(**changes) -> FakeWorld:
    world = FakeWorld()
    world.up(asked(**changes))
    world.settle()
    return world


def file_of(world: FakeWorld, name: str) -> dict:
    instance = world.record(name)
    return json.loads(world.guests.files[f"{instance.id}.g{instance.generation}"])


def ready_in(world: FakeWorld, name: str) -> dict[str, bool]:
    return {i["name"]: i["ready"] for r in file_of(world, name)["roles"].values() for i in r["instances"]}


def test_what_an_instance_is_told_of_itself():
    disks = (Disk("cache", DiskKind.LOCAL, 64, "/var/cache"), Disk("data", DiskKind.VOLUME, 64, "/srv"))
    known = record(web(7).instance, generation=3, machine=MachineSpec(DIGEST, Size(), Setup(), disks))
    around = Vicinity("198.51.100.1", settings=(("WHO", "{{instance}} of {{role.web.dips}}"),), domains=4)
    told = json.loads(document(known, around))
    assert (told["version"], told["service"], told["slot"]) == (1, "hello", "production")
    assert (told["role"], told["instance"], told["ordinal"], told["generation"]) == ("web", "web-7", 7, 3)
    assert (told["upgrade_domain"], told["machine"]) == (3, "hello.production.web-7.g3")
    assert (told["dip"], told["vip"]) == ("198.18.0.17", "198.51.100.1")
    assert told["settings"] == {"WHO": "web-7 of 198.18.0.17"}
    assert (told["local_storage"], told["volumes"]) == ({"cache": "/var/cache"}, {"data": "/srv"})


def test_what_an_instance_is_told_of_all_roles():
    shared = peers((role(endpoints=(HTTP, SSH, GOSSIP)), role("db", endpoints=())), MEMBERS, {web(1).instance})
    told = json.loads(document(record(), Vicinity(peers=shared)))["roles"]
    assert told["web"]["instances"] == [
        {"name": "web-0", "ordinal": 0, "dip": "198.18.0.10", "ready": False},
        {"name": "web-1", "ordinal": 1, "dip": "198.18.0.11", "ready": True},
    ]
    assert told["web"]["endpoints"]["gossip"] == {"port": 9000, "protocol": "tcp", "visibility": "internal"}
    assert told["web"]["endpoints"]["http"]["vip_port"] == 80
    assert told["web"]["endpoints"]["ssh"]["vip_ports"] == [9100, 9109]
    assert told["db"] == {"endpoints": {}, "instances": []}


def test_the_revision_is_at_the_files_beginning_and_another_for_another_file():
    around = Vicinity(settings=(("A", "1"),), peers=peers((role(),), MEMBERS, ()))
    text = document(record(), around)
    assert read_revision(text[:60]) == revision(record(), around) != ""
    others = [
        (record(generation=2), around),
        (record(), replace(around, settings=(("A", "2"),))),
        (record(), replace(around, peers=peers((role(),), MEMBERS, {web(0).instance}))),
    ]
    assert len({text, *(document(*other) for other in others)}) == 4
    assert len({read_revision(document(*other)) for other in others} | {read_revision(text)}) == 4
    assert [read_revision(text) for text in ("", "{", '{"a": 1}', ' "revision": "0123456789abcdef"')] == [""] * 4


def test_the_settings_alone_and_a_variable_of_somebody_who_is_gone():
    around = Vicinity(settings=(("A", "{{instance.web-9.dip}}!"), ("B", "{{{{")))
    assert json.loads(settings(document(record(), around))) == {"A": "!", "B": "{{"}


def test_settings_are_changed_in_the_guest_and_touch_no_machine():
    world = running()
    assert file_of(world, "web-0")["settings"] == {"COLOUR": "blue"}
    before = {r.id: (r.generation, r.boot, r.boot_id, r.machine, r.version) for r in world.store.intent().instances}
    domains = dict(world.hosts["local"].domains)
    world.up(asked("red"))
    world.settle()
    assert [file_of(world, name)["settings"] for name in ("web-0", "web-1")] == [{"COLOUR": "red"}] * 2
    # Nor is anything stored for it.
    after = {r.id: (r.generation, r.boot, r.boot_id, r.machine, r.version) for r in world.store.intent().instances}
    assert (after, world.hosts["local"].domains) == (before, domains)


def test_a_deployment_is_not_at_rest_before_its_guests_know():
    world = running()
    world.clock.pass_by(2)
    world.up(asked("red"))
    made = world.look()
    assert {step.action.machine.instance.name for step in made.steps if isinstance(step.action, Tell)} == {
        "web-0",
        "web-1",
    }
    assert not next(d for d in made.deployments if d.id == HELLO).settled
    assert not [step for step in made.steps if isinstance(step.action, SaveInstance)]


def test_who_is_ready_is_told_to_everybody():
    world = running()
    assert ready_in(world, "db-0") == {"web-0": True, "web-1": True, "db-0": True}
    world.scripts[SECOND] = Script(busy="counting money")
    world.settle()
    assert ready_in(world, "db-0") == {"web-0": True, "web-1": False, "db-0": True}
    assert ready_in(world, "web-1") == ready_in(world, "db-0")
    world.scripts[SECOND] = Script()
    world.settle()
    assert ready_in(world, "db-0") == {"web-0": True, "web-1": True, "db-0": True}


def test_a_neighbour_that_comes_or_goes_is_told():
    world = running()
    world.up(service(role(instances=1, endpoints=(HTTP,)), role("db", 1, endpoints=())))
    world.settle()
    assert set(ready_in(world, "db-0")) == {"web-0", "db-0"}
    assert set(file_of(world, "db-0")["roles"]["web"]["endpoints"]) == {"http"}


def test_another_number_of_upgrade_domains_is_told():
    world = running()
    world.up(asked(upgrade=Upgrade(domains=1)))
    world.settle()
    assert [file_of(world, name)["upgrade_domain"] for name in ("web-0", "web-1")] == [0, 0]
    assert {r.generation for r in world.store.intent().instances} == {1}


def test_a_file_that_somebody_has_spoilt_is_put_right():
    world = running()
    world.guests.files[f"{FIRST}.g1"] = "{}"
    world.settle()
    assert file_of(world, "web-0")["instance"] == "web-0"


def test_a_guest_is_told_no_more_than_once_a_second():
    world = running()
    told = []
    with world.loop() as loop:
        for turn in range(120):
            world.scripts[SECOND] = Script(busy="flaps" if turn // 8 % 2 else "")
            made = loop.tick()
            told += [world.clock.now() for s in made.steps if isinstance(s.action, Tell) and s.track.endswith("db-0")]
            world.clock.wait(0.05)
    assert len(told) >= 2
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(told))


@pytest.mark.parametrize(
    "script",
    [Script(agent_s=None), Script(frozen=True), Script(setup_errors=("no",))],
    ids=["away", "frozen", "failed"],
)
def test_who_cannot_be_told_is_left_alone(script):
    world = FakeWorld()
    world.scripts[FIRST] = script
    world.up(asked())
    with world.loop() as loop:
        for _turn in range(100):
            made = loop.tick()
            world.clock.wait(0.1)
    assert {s.record.id.name for s in made.instances if s.state is State.READY} >= {"web-1", "db-0"}
    assert not any(status.is_untold for status in made.instances if status.record.id.name == "web-0")


def test_nobody_in_a_guest_is_told_that_only_the_network_sees():
    world = running(ready=Ready(via=Via.NETWORK))
    assert f"{FIRST}.g1" not in world.guests.files
    world.up(asked("red", ready=Ready(via=Via.NETWORK)))
    assert world.settle().deployments[0].settled


def test_a_stopped_instance_is_told_when_it_is_back():
    world = running()
    world.ask(verbs.stop, "web-0")
    world.settle()
    world.up(asked("red"))
    world.settle()
    assert file_of(world, "web-0")["settings"] == {"COLOUR": "blue"}
    world.ask(lambda r: verbs.start(r, timeout_s=300.0, now=world.clock.now()), "web-0")
    world.settle()
    assert file_of(world, "web-0")["settings"] == {"COLOUR": "red"}


def test_a_store_of_before_makes_no_machine_another():
    world = running()
    stored = json.loads(dump_instance(world.record("web-0")))
    stored["machine"]["setup"]["settings"] = [["COLOUR", "blue"]]
    stored["next"] = {
        "act": "upgrade",
        "machine": stored["machine"],
        "generation": 2,
        "host": "a",
        "dip": "",
        "place": 1,
    }
    known = load_instance(upgraded(json.dumps(stored)))
    assert known.machine == world.record("web-0").machine
    assert known.next is not None
    assert known.next.machine == known.machine
    intent = world.store.intent()
    others = tuple(r for r in intent.instances if r.id != known.id)
    again = replace(intent, instances=(replace(known, next=None), *others))
    with world.loop() as loop:
        seen = loop.see()
    assert not any(s.record.next for s in plan(again, seen, world.clock.now()).instances)


def test_a_program_that_ended_badly_is_said_once_and_harms_nobody():
    world = running()
    world.guests.hooks[f"{FIRST}.g1"] = "told of a change, 10-app ended with exit code 3"
    world.settle()
    first = next(status for status in world.look().instances if str(status.record.id) == FIRST)
    assert (first.state, first.in_rotation, first.reason) == (State.READY, True, world.guests.hooks[f"{FIRST}.g1"])
    world.settle()
    told = [event.cause for _number, event in world.store.events(FIRST) if event.what == "on-change failed"]
    assert told == [world.guests.hooks[f"{FIRST}.g1"]]
    world.guests.hooks.clear()
    world.settle()
    assert world.record("web-0").hooks == ""
    assert next(status for status in world.look().instances if str(status.record.id) == FIRST).reason == ""


def test_what_a_guest_says_of_its_programs_is_read_with_care():
    many = "".join(f"1 {number}\n" for number in range(1000))
    assert failed_hooks("") == failed_hooks("nonsense\n\x00\n") == failed_hooks("3\n3 \n") == ""
    assert "10-a b ended with exit code 3, see" in failed_hooks("3 10-a b\n")
    assert "10-app was ended after 60 s" in failed_hooks("124 10-app\n")
    assert len(failed_hooks(many)) < 300
    assert "\x1b" not in failed_hooks("3 \x1b[31mred\n")
