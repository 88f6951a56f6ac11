"""What an answer file says of its neighbours is known when it is made, and makes no machine another one."""

import base64
import json

from orchestrator.control.apply import apply
from orchestrator.control.observe import Observer
from orchestrator.engine import verbs
from orchestrator.engine.plan import plan
from orchestrator.model.action import CreateSeed
from orchestrator.model.setup import File, Setup
from orchestrator.render.cloudinit import seed
from tests.fakes.build import role, service
from tests.fakes.world import FakeWorld

SPEAKING = Setup(files=(File("/peers", "{{role.web.dips}} {{role.db.dips}} {{vip}}"),), is_static=True)


def seeds(world: FakeWorld) -> dict[str, CreateSeed]:
    """Run to rest; the answer files that were made on the way, by machine."""
    made: dict[str, CreateSeed] = {}
    observer = Observer(world.hosts, world.guests, world.balancer)
    for _turn in range(400):
        intent = world.store.intent()
        steps = plan(intent, observer.look(intent, {}, frozenset(), world.clock.now()), world.clock.now())
        if not steps.steps and all(d.settled for d in steps.deployments):
            break
        made |= {str(step.action.machine): step.action for step in steps.steps if isinstance(step.action, CreateSeed)}
        for step in steps.steps:
            apply(step.action, world.effects)
        world.clock.wait(max(steps.requeue_s, 0.01))
    observer.close()
    return made


def test_every_instance_knows_the_others_from_the_very_first_boot():
    world = FakeWorld("east", "west")
    world.up(service(role(instances=2, setup=SPEAKING), role("db", 1, endpoints=())))
    made = seeds(world)
    dips = {r.id.name: r.dip for r in world.store.intent().instances}
    said = f"{dips['web-0']},{dips['web-1']} {dips['db-0']} 198.51.100.1"
    hosts = {made[f"hello.production.web-{n}.g1"].record.host for n in range(2)}
    assert hosts == {"east", "west"}
    for n in range(2):
        action = made[f"hello.production.web-{n}.g1"]
        text = seed(action.record, action.around, lambda _secret: b"").files()
        assert said.encode() in _first_file(text["user-data"])
        assert dips[f"web-{n}"].encode() in text["network-config"]


def _first_file(user_data: bytes) -> bytes:
    return base64.b64decode(json.loads(user_data.split(b"\n", 1)[1])["write_files"][0]["content"])


def test_a_neighbours_new_address_makes_no_machine_outdated_and_the_next_seed_has_it():
    world = FakeWorld("east", "west")
    world.up(service(role(instances=2, setup=SPEAKING), role("db", 1, endpoints=())))
    seeds(world)
    moved = world.record("web-1")
    host, net = ("west", 19) if moved.host == "east" else ("east", 18)
    world.ask(lambda r: verbs.relocate(r, r.machine, host, f"198.{net}.0.99"), "web-1")
    made = seeds(world)
    assert set(made) == {"hello.production.web-1.g2"}
    assert {r.id.name: r.generation for r in world.store.intent().instances} == {"web-0": 1, "web-1": 2, "db-0": 1}
    world.ask(lambda r: verbs.reimage(r, r.machine), "web-0")
    (action,) = seeds(world).values()
    assert dict(action.around.members)[world.record("web-1").id] == f"198.{net}.0.99"


def test_who_is_on_the_way_out_is_no_neighbour_any_more():
    world = FakeWorld()
    world.up(service(role(instances=2, setup=SPEAKING), role("db", 1, endpoints=())))
    seeds(world)
    world.up(service(role(instances=1, setup=SPEAKING), role("db", 1, endpoints=())))
    world.ask(lambda r: verbs.reimage(r, r.machine), "web-0")
    (action,) = seeds(world).values()
    assert {key.name for key, _dip in action.around.members} == {"web-0", "db-0"}
