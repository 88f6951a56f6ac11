"""Upgrades through the whole of the decision, on fake machines: domain by domain, halted, stopped, back, superseded."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from orchestrator.engine import upgradeverbs
from orchestrator.engine.deploy import retried
from orchestrator.engine.plan import Plan
from orchestrator.errors import UserError
from orchestrator.model.record import DeploymentRecord
from orchestrator.model.spec import Disk, DiskKind, Endpoint, Protocol, Service, Traffic
from orchestrator.model.traffic import Check
from orchestrator.model.upgrade import Share, Upgrade
from tests.fakes.build import role, service
from tests.fakes.guests import Script
from tests.fakes.small import digest_of
from tests.fakes.world import FakeWorld

FAST = Upgrade(domains=2, max_unavailable=Share(2), min_ready_s=1.0)
OLD, NEW = digest_of("debian-12"), digest_of("debian-13")
BAD = Script(setup_errors=("no such file",))


def wanted(image: str = "debian-12", instances: int = 4, upgrade: Upgrade = FAST, **changes: object) -> Service:
    return service(role(instances=instances, image=image, upgrade=upgrade, **changes))


def ready(**changes: object) -> FakeWorld:
    world = FakeWorld()
    world.up(wanted(**changes))
    world.settle()
    return world


def record(world: FakeWorld) -> DeploymentRecord:
    (found,) = world.store.intent().deployments
    return found


def say(world: FakeWorld, verb: Callable[[DeploymentRecord], DeploymentRecord]) -> None:
    world.store.save_deployment(verb(record(world)))


def digests(world: FakeWorld) -> list[str]:
    return [known.machine.digest for known in world.store.intent().instances]


def told(world: FakeWorld) -> list[str]:
    return [event.what for _n, event in world.store.events("") if "upgrade" in event.what or "rollback" in event.what]


def watched(world: FakeWorld, look: Callable[[Plan], None], *, turns: int = 3000) -> Plan:
    """Run the loop to rest, with a look at the world after each turn."""
    with world.loop() as loop:
        for _turn in range(turns):
            made = loop.tick()
            look(made)
            if not made.steps and all(d.settled for d in made.deployments):
                return made
            world.clock.wait(max(made.requeue_s, 0.01))
    raise AssertionError("no rest")


def busy_domains(world: FakeWorld, domains: int) -> set[int]:
    """The domains of instances whose new machine is not ready, or whose old one is on its way out."""
    return {
        known.id.ordinal % domains
        for known in world.store.intent().instances
        if known.farewell is not None or known.timeline.rotation is None
    }


def test_an_upgrade_goes_domain_by_domain_and_the_revision_is_good_in_the_end():
    world = ready()
    assert [good.revision for good in record(world).good] == [1]
    world.up(wanted("debian-13"))
    seen: list[set[int]] = []
    watched(world, lambda _made: seen.append(busy_domains(world, 2)))
    assert all(len(domains) <= 1 for domains in seen)
    assert [d for i, d in enumerate(seen) if d and (not i or seen[i - 1] != d)] == [{0}, {1}]
    assert digests(world) == [NEW] * 4
    assert (record(world).rollout, [good.revision for good in record(world).good]) == (None, [2, 1])
    assert told(world)[0] == "upgrade to revision 2 begins: 4 instances in 2 domains"
    assert told(world)[-1] == "upgrade to revision 2 is done"


@pytest.mark.parametrize(
    ("upgrade", "least"),
    [
        (Upgrade(2, Share(1), min_ready_s=1.0), 3),
        (Upgrade(2, Share(50, is_percent=True), min_ready_s=1.0), 2),
        (Upgrade(2, Share(0), Share(1), min_ready_s=1.0), 4),
        (Upgrade(2, Share(1), Share(25, is_percent=True), min_ready_s=1.0), 3),
        (Upgrade(1, Share(4), min_ready_s=0.0), 0),
    ],
)
def test_never_more_than_max_unavailable_are_away_and_extra_ones_make_up_for_them(upgrade, least):
    world = ready(upgrade=upgrade)
    world.up(wanted("debian-13", upgrade=upgrade))
    seen: list[int] = []
    watched(world, lambda _made: seen.append(len(world.serving())))
    assert min(seen) == least
    assert digests(world) == [NEW] * 4
    assert len(world.serving()) == 4


def test_the_next_one_waits_until_the_last_has_been_ready_for_min_ready():
    slow = replace(FAST, min_ready_s=40.0, domains=1, max_unavailable=Share(1))
    world = ready(upgrade=slow)
    world.up(wanted("debian-13", upgrade=slow))
    begun = world.clock.now()
    watched(world, lambda _made: None)
    starts = sorted(known.timeline.requested for known in world.store.intent().instances)
    assert all(later - earlier >= 40 for earlier, later in pairwise(starts))
    assert world.clock.now() - begun >= 160


def test_a_bad_image_stops_at_the_first_domain_and_says_which_instance_which_stage_and_why():
    world = ready()
    world.images[NEW] = BAD
    world.up(wanted("debian-13"))
    made = watched(world, lambda _made: None)
    assert digests(world) == [NEW, OLD, NEW, OLD]
    assert world.serving() == {"web-1.g1", "web-3.g1"}
    (status,) = made.deployments
    assert (status.state, status.settled) == ("failed", True)
    assert "web-0 did not get healthy in its time, at setup: setup failed: no such file" in status.reason
    assert next(s.reason for s in made.instances if s.record.id.name == "web-1") == "upgrade has stopped at web-0"
    assert record(world).good[0].revision == 1


def test_one_that_never_gets_ready_stops_it_in_its_own_time():
    quick = replace(FAST, timeout_s=30.0)
    world = ready(upgrade=quick)
    world.images[NEW] = Script(services_s=None)
    begun = world.clock.now()
    world.up(wanted("debian-13", upgrade=quick))
    watched(world, lambda _made: None, turns=6000)
    stopped = record(world).rollout.stopped
    assert (stopped.instance, stopped.stage) == ("web-0", "services")
    assert "nginx.service" in stopped.reason
    assert stopped.at - begun < 60
    assert len(world.serving()) == 2


def test_a_rollback_brings_the_kept_overlays_back_and_touches_nobody_else():
    world = ready()
    world.images[NEW] = BAD
    world.up(wanted("debian-13"))
    world.settle()
    say(world, upgradeverbs.rolled_back)
    watched(world, lambda _made: None)
    assert world.serving() == {f"web-{n}.g1" for n in range(4)}
    assert digests(world) == [OLD] * 4
    assert (record(world).revision, record(world).rollout) == (3, None)
    assert told(world)[-1] == "rollback to revision 3 is done"


def test_a_rollback_without_kept_overlays_makes_machines_anew():
    world = ready()
    world.images[NEW] = BAD
    world.up(wanted("debian-13"))
    world.settle()
    for known in world.store.intent().instances:
        if known.kept is not None:
            world.store.save_instance(replace(known, kept=None))
    say(world, upgradeverbs.rolled_back)
    watched(world, lambda _made: None)
    assert world.serving() == {"web-0.g3", "web-1.g1", "web-2.g3", "web-3.g1"}
    assert digests(world) == [OLD] * 4


def test_a_rollback_of_an_upgrade_that_is_over_goes_domain_by_domain_and_a_second_one_returns():
    world = ready()
    world.up(wanted("debian-13"))
    world.settle()
    say(world, upgradeverbs.rolled_back)
    seen: list[int] = []
    watched(world, lambda _made: seen.append(len(world.serving())))
    assert (digests(world), min(seen)) == ([OLD] * 4, 2)
    say(world, upgradeverbs.rolled_back)
    world.settle()
    assert digests(world) == [NEW] * 4


def test_there_is_no_rollback_without_a_good_revision_nor_a_second_one_meanwhile():
    world = ready()
    with pytest.raises(UserError, match="no other revision of hello has been healthy"):
        say(world, upgradeverbs.rolled_back)
    world.images[NEW] = BAD
    world.up(wanted("debian-13"))
    world.settle()
    say(world, upgradeverbs.rolled_back)
    with pytest.raises(UserError, match="is being rolled back already"):
        say(world, upgradeverbs.rolled_back)


def test_disks_that_have_grown_stay_as_large_after_a_rollback():
    data = Disk("data", DiskKind.VOLUME, 64, "/srv")
    world = ready(disks=(data,))
    world.images[NEW] = BAD
    world.up(wanted("debian-13", disks=(replace(data, size_mib=128),)))
    world.settle()
    say(world, upgradeverbs.rolled_back)
    world.settle()
    assert [known.machine.disks[0].size_mib for known in world.store.intent().instances] == [128] * 4
    assert world.serving() == {f"web-{n}.g1" for n in range(4)}


def test_a_new_up_supersedes_a_stuck_one_unhealthy_instances_first():
    world = ready()
    world.images[NEW] = BAD
    world.up(wanted("debian-13"))
    world.settle()
    world.up(wanted("debian-14"))
    order: list[str] = []

    def look(_made: Plan) -> None:
        for known in world.store.intent().instances:
            if known.machine.digest == digest_of("debian-14") and known.id.name not in order:
                order.append(known.id.name)

    watched(world, look)
    assert order == ["web-0", "web-2", "web-1", "web-3"]
    assert digests(world) == [digest_of("debian-14")] * 4


def test_the_same_up_tries_again():
    quick = replace(FAST, timeout_s=30.0)
    world = ready(upgrade=quick)
    world.images[NEW] = Script(services_s=None)
    world.up(wanted("debian-13", upgrade=quick))
    world.settle()
    assert record(world).rollout.stopped is not None
    del world.images[NEW]
    for instance in retried(world.store.intent(), record(world), world.clock.now()):
        world.store.save_instance(instance)
    world.up(wanted("debian-13", upgrade=quick))
    assert record(world).revision == 2
    world.settle()
    assert digests(world) == [NEW] * 4


def test_resume_gives_one_whose_setup_failed_a_new_machine():
    world = ready()
    world.images[NEW] = BAD
    world.up(wanted("debian-13"))
    world.settle()
    del world.images[NEW]
    known = record(world)
    for instance in upgradeverbs.given_another_chance(known, world.store.intent().instances, world.clock.now()):
        world.store.save_instance(instance)
    say(world, upgradeverbs.resumed)
    world.settle()
    assert digests(world) == [NEW] * 4
    # What is kept for a way back is still what was there before the upgrade.
    say(world, upgradeverbs.rolled_back)
    world.settle()
    assert world.serving() == {f"web-{n}.g1" for n in range(4)}


def test_what_haproxy_has_not_looked_at_yet_is_no_reason_to_go_on():
    hasty = replace(FAST, min_ready_s=0.0)
    world = ready(upgrade=hasty)
    world.balancer.unchecked = {"web-0.g2", "web-2.g2"}
    world.up(wanted("debian-13", upgrade=hasty))
    with world.loop() as loop:
        for _turn in range(100):
            world.clock.wait(max(loop.tick().requeue_s, 0.01))
        assert sorted(world.serving()) == ["web-0.g2", "web-1.g1", "web-2.g2", "web-3.g1"]
        world.balancer.unchecked = set()
        world.settle_by(loop)
    assert digests(world) == [NEW] * 4


def test_a_change_at_haproxy_is_done_when_it_has_looked_at_everybody_again():
    world = ready()
    world.clock.wait(5)
    world.balancer.unchecked = {"web-1.g1"}
    (told,) = world.look().deployments
    assert (told.state, told.settled) == ("ready", False)
    slow = Endpoint("http", (80, 80), 8080, Protocol.HTTP, traffic=Traffic(check=Check(interval_s=60)))
    world.up(wanted(endpoints=(slow,)))
    (told,) = world.settle().deployments  # where it looks once a minute, nobody waits for that
    assert (told.state, told.settled) == ("ready", True)


def test_a_target_that_haproxy_does_not_find_well_is_no_good_revision():
    world = ready()
    world.clock.wait(5)
    moved = Endpoint("http", (80, 80), 9999, Protocol.HTTP)
    world.up(wanted(endpoints=(moved,)))
    world.balancer.unchecked = {f"web-{n}.g1" for n in range(4)}
    with world.loop() as loop:
        for _turn in range(5):
            world.clock.wait(max(loop.tick().requeue_s, 0.01))
        assert [good.revision for good in record(world).good] == [1]
        world.balancer.unchecked = set()
        world.settle_by(loop)
    assert [good.revision for good in record(world).good] == [2, 1]
