"""A whole world in memory, which outlives every loop that works on it, as the real one outlives our process."""

import contextlib
import copy
import copyreg
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network

from orchestrator.control.apply import Effects, apply
from orchestrator.control.loop import Loop
from orchestrator.control.observe import Observer
from orchestrator.engine.deploy import deployed, free_subnets, withdrawn
from orchestrator.engine.plan import Plan, plan
from orchestrator.engine.swap import pair, swapped, withdrawn_with
from orchestrator.model.names import DeploymentId
from orchestrator.model.record import InstanceRecord, Timeline
from orchestrator.model.spec import Service
from orchestrator.model.world import Power

from .balancer import FakeBalancer
from .build import OWNER
from .clock import FakeClock
from .faults import Faults
from .guests import FakeGuests, Script
from .host import FakeHost
from .invariants import violations
from .small import FakeBoard, FakeImages, FakeSecrets, FakeSeeds, digest_of
from .store import FakeStore

ENOUGH_TURNS = 4000


def _event(is_set: bool) -> threading.Event:
    made = threading.Event()
    if is_set:
        made.set()
    return made


# What a copied world has of its own in place of what nobody can copy.
copyreg.pickle(type(threading.Lock()), lambda _lock: (threading.Lock, ()))
copyreg.pickle(type(threading.RLock()), lambda _lock: (threading.RLock, ()))
copyreg.pickle(threading.Event, lambda event: (_event, (event.is_set(),)))


class FakeWorld:
    """``scripts``: how the guests of an instance behave, by its full name; ``images``: those of an image's digest.

    All others are well-behaved.
    """

    def __init__(self, *hosts: str) -> None:
        self.clock = FakeClock()
        self.faults = Faults()
        self.scripts: dict[str, Script] = {}
        self.images: dict[str, Script] = {}
        self.store = FakeStore(OWNER, self.faults)
        self.balancer = FakeBalancer(self.faults, self.clock.now)
        self.secrets = FakeSecrets()
        self.board = FakeBoard()
        self.guests = FakeGuests(self.clock, self.script)
        names = hosts or ("local",)
        self.hosts = {n: FakeHost(n, OWNER, self.clock, self.faults, self.script) for n in names}
        for host in self.hosts.values():
            host.peers = tuple(self.hosts.values())

    def copied(self) -> "FakeWorld":
        """The same world once more, and nobody at work in it: what is done in one is not done in the other."""
        intent = self.store.intent()
        values = {id(record): record for record in (*intent.deployments, *intent.instances)}
        made = copy.deepcopy(self, values)
        made.faults.before = None
        return made

    def script(self, instance: str) -> Script:
        """How an instance's guest behaves: as it was told, or as every guest of its image does."""
        return self.scripts.get(instance) or self._script_of_image(instance) or Script()

    def _script_of_image(self, instance: str) -> Script | None:
        if not self.images:  # as in a world of a thousand instances, where it would be looked up for each of them
            return None
        records = self.store.intent().instances
        return next((self.images.get(r.machine.digest) for r in records if str(r.id) == instance), None)

    @property
    def effects(self) -> Effects:
        images = FakeImages("debian-12", "debian-13", "debian-14")
        return Effects(
            self.hosts,
            self.guests,
            self.balancer,
            images,
            FakeSeeds(),
            self.store,
            lambda _text: None,
            self.secrets,
            self.board,
        )

    def up(self, wanted: Service, slot: str = "production", canary: int = 0) -> DeploymentId:
        """What ``vmrole up`` writes."""
        key, intent = DeploymentId(wanted.name, slot), self.store.intent()
        known = intent.deployment(key)
        pools = {name: IPv4Network(f"198.{18 + n}.0.0/16") for n, name in enumerate(self.hosts)}
        new = free_subnets(pools, {name: host.observe() for name, host in self.hosts.items()}, intent)
        digests = {role.name: digest_of(role.image) for role in wanted.roles}
        taken = {record.vip for record in intent.deployments} | self.balancer.vips
        vip = next(vip for n in range(1, 255) if (vip := f"198.51.100.{n}") not in taken)
        record = deployed(
            intent,
            key,
            wanted,
            digests=digests,
            vip=known.vip if known else vip,
            subnets=known.subnets if known else new,
            canary=canary,
        )
        if record != known:
            self.store.save_deployment(record)
        return key

    def down(self, key: DeploymentId, *, with_volumes: bool = False) -> None:
        """What ``vmrole down`` writes."""
        intent = self.store.intent()
        record = intent.deployment(key)
        assert record is not None
        self.store.save_deployments(withdrawn_with(intent, withdrawn(record, with_volumes=with_volumes)), [])

    def swap(self, service: str) -> None:
        """What ``vmrole swap`` writes."""
        two = pair(self.store.intent(), service)
        assert two is not None
        after = swapped(two)
        self.store.save_deployments([after.live, after.coming], [])

    def ask(self, verb: Callable[[InstanceRecord], InstanceRecord], *names: str) -> None:
        """What a command on instances (``web-0``; none: all) writes."""
        for record in self.store.intent().instances:
            if not names or record.id.name in names:
                wish = verb(record)
                if wish != record:
                    self.store.save_instance(wish)

    def record(self, name: str) -> InstanceRecord:
        return next(record for record in self.store.intent().instances if record.id.name == name)

    @contextlib.contextmanager
    def loop(self) -> Iterator[Loop]:
        """A process that runs the loop."""
        made = Loop(Observer(self.hosts, self.guests, self.balancer), self.effects, self.clock)
        try:
            yield made
        finally:
            made.close()

    def look(self) -> Plan:
        with self.loop() as loop:
            return loop.look()[1]

    def settle(self) -> Plan:
        """Run the loop until there is nothing left to do, and return the last, empty plan."""
        with self.loop() as loop:
            return self.settle_by(loop)

    def settle_by(self, loop: Loop) -> Plan:
        turns = iter(range(ENOUGH_TURNS))

        def is_at_rest(made: Plan) -> bool:
            assert next(turns, None) is not None, f"no rest after {ENOUGH_TURNS} turns: {made.steps} {made.instances}"
            is_settled = all(d.settled for d in made.deployments)
            return is_settled and not made.steps and not loop.trouble()

        return loop.run(is_at_rest)

    def step_by_step(self, *, max_turns: int = 400) -> None:
        """The same, one effect after the other; what must always hold is checked after each of them."""
        observer = Observer(self.hosts, self.guests, self.balancer)
        try:
            for _turn in range(max_turns):
                intent = self.store.intent()
                made = plan(intent, observer.look(intent, {}, frozenset(), self.clock.now()), self.clock.now())
                if not made.steps and all(d.settled for d in made.deployments):
                    return
                for step in made.steps:
                    apply(step.action, self.effects)
                    assert violations(self) == []
                self.clock.wait(max(made.requeue_s, 0.01))
        finally:
            observer.close()
        raise AssertionError(f"no rest after {max_turns} turns")

    def crash(self, instance: str) -> None:
        """The instance's machine goes off by itself."""
        for host in self.hosts.values():
            for name, domain in host.domains.items():
                if name.startswith(f"{instance}.g"):
                    host.domains[name] = replace(domain, power=Power.OFF)

    def state(self) -> dict[str, object]:
        """Everything that is there, without times and without counts of what is over."""
        deployments = [replace(d, version=0) for d in self.store.intent().deployments]
        instances = [
            replace(
                r,
                version=0,
                timeline=Timeline(0.0),
                deadline=0.0,
                boot_id="",
                kept=replace(r.kept, until=None) if r.kept is not None else None,
            )
            for r in self.store.intent().instances
        ]
        hosts = {
            name: (
                {n: (d.owner, d.digest, d.power) for n, d in host.domains.items()},
                dict(host.networks),
                dict(host.volumes),
                host.has_pool,
            )
            for name, host in self.hosts.items()
        }
        seen = self.balancer.observe()
        return {"deployments": deployments, "instances": instances, "hosts": hosts, "balancer": seen}

    def serving(self) -> set[str]:
        """The names of the servers in rotation."""
        return {name for _backend, name in self.balancer.servers}
