"""Whatever is said in the middle of upgrades, good and bad: never too many away, one domain at once, and an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.engine import rollout, upgradeverbs
from orchestrator.engine.deploy import retried
from orchestrator.errors import UserError
from orchestrator.model.upgrade import Share, Upgrade, domain_of
from tests.fakes.build import role, service
from tests.fakes.guests import Script
from tests.fakes.invariants import violations
from tests.fakes.small import digest_of
from tests.fakes.world import FakeWorld

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.control.loop import Loop
    from orchestrator.model.record import DeploymentRecord
    from orchestrator.model.spec import Service

IMAGES = ("debian-12", "debian-13", "debian-14")
GUESTS = {"good": Script(), "bad": Script(setup_errors=("bad",)), "late": Script(services_s=None)}
SHARES = st.sampled_from([Share(1), Share(2), Share(50, is_percent=True), Share(100, is_percent=True)])
UPGRADES = st.builds(
    Upgrade,
    domains=st.integers(1, 4),
    max_unavailable=SHARES,
    max_surge=st.sampled_from([Share(0), Share(1), Share(50, is_percent=True)]),
    min_ready_s=st.sampled_from([0.0, 3.0]),
    timeout_s=st.sampled_from([20.0, None]),
    is_automatic=st.booleans(),
) | st.builds(Upgrade, st.integers(1, 3), st.just(Share(0)), st.just(Share(1)), st.just(1.0), st.just(20.0))
DEEDS = st.tuples(st.integers(1, 60), st.sampled_from(["up", "canary", "pause", "resume", "promote", "rollback"]))


class Run:
    """A world in which somebody says things while the loop runs; every turn is looked at."""

    def __init__(self, instances: int, upgrade: Upgrade, guests: dict[str, str]) -> None:
        self.world = FakeWorld()
        self.world.images = {digest_of(image): GUESTS[kind] for image, kind in guests.items()}
        self.count, self.upgrade = instances, upgrade
        self.images = 0
        self.world.up(self.wanted())
        self.world.settle()

    def wanted(self) -> Service:
        return service(role(instances=self.count, image=IMAGES[self.images % 3], upgrade=self.upgrade))

    def record(self) -> DeploymentRecord:
        return self.world.store.intent().deployments[0]

    def say(self, deed: str) -> None:
        if deed in {"up", "canary"}:
            self.images += 1
            self.world.up(self.wanted(), canary=1 if deed == "canary" else 0)
            return
        verbs: dict[str, Callable[[DeploymentRecord], DeploymentRecord]] = {
            "pause": lambda known: upgradeverbs.paused(known, self.world.clock.now()),
            "resume": upgradeverbs.resumed,
            "promote": upgradeverbs.promoted,
            "rollback": upgradeverbs.rolled_back,
        }
        try:
            wanted = verbs[deed](self.record())
        except UserError:
            return
        self.world.store.save_deployment(wanted)

    def turns(self, loop: Loop, count: int) -> None:
        for _turn in range(count):
            made = loop.tick()
            self.check()
            self.world.clock.wait(max(made.requeue_s, 0.01))

    def rest(self, loop: Loop) -> bool:
        """Let it come to rest; whether all is done then."""
        for _turn in range(600):
            made = loop.tick()
            self.check()
            if not made.steps and all(d.settled for d in made.deployments):
                return made.deployments[0].state == "ready"
            self.world.clock.wait(max(made.requeue_s, 0.01))
        raise AssertionError(f"no rest: {made.deployments}")

    def check(self) -> None:
        record = self.record()
        assert violations(self.world) == []
        least = self.count - self.upgrade.away(self.count)
        assert len(self.world.serving()) >= least, (self.world.serving(), record.rollout)
        if record.rollout is None or not record.rollout.is_whole:
            assert len(self.domains()) <= 1, (self.domains(), record.rollout)

    def domains(self) -> set[int]:
        """The domains in which something is under way, or did not come to a good end."""
        return {
            domain_of(known.id.ordinal, self.upgrade.domains)
            for known in self.world.store.intent().instances
            if known.id.ordinal < self.count and (known.farewell is not None or known.timeline.rotation is None)
        }

    def end(self, loop: Loop) -> None:
        """A file with a good image, and all the words that are waited for."""
        self.images = 0
        self.world.images[digest_of(IMAGES[0])] = Script()
        for known in retried(self.world.store.intent(), self.record(), self.world.clock.now()):
            self.world.store.save_instance(known)
        self.world.up(self.wanted())
        for _word in range(12):
            if self.rest(loop):
                break
            for deed in ("resume", "promote"):
                self.say(deed)
        made = loop.tick()
        assert [d.state for d in made.deployments] == ["ready"], made.deployments
        found = self.world.store.intent().instances
        assert {known.machine.digest for known in found} == {digest_of(IMAGES[0])}
        assert (len(found), len(self.world.serving()), self.record().rollout) == (self.count, self.count, None)
        assert rollout.is_same(self.record().good[0], self.record())


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 5),
    UPGRADES,
    st.tuples(st.sampled_from([*GUESTS]), st.sampled_from([*GUESTS])),
    st.lists(DEEDS, max_size=5),
)
def test_whatever_is_said_it_keeps_its_promises_and_a_superseding_file_reaches_its_end(count, upgrade, guests, deeds):
    run = Run(count, upgrade, {IMAGES[0]: "good", IMAGES[1]: guests[0], IMAGES[2]: guests[1]})
    with run.world.loop() as loop:
        for turns, deed in deeds:
            run.say(deed)
            run.turns(loop, turns)
        run.end(loop)
    assert run.record().wanted.value == "up"
