"""The ladder from nothing to a running machine, and its order: the old one is gone before the new one starts."""

from dataclasses import replace

import pytest

from orchestrator.engine.lifecycle import MAX_STARTS
from orchestrator.engine.plan import plan
from orchestrator.model.action import (
    Action,
    CreateOverlay,
    CreateSeed,
    DefineDomain,
    DeleteVolume,
    DestroyDomain,
    ForgetInstance,
    ResumeDomain,
    SaveInstance,
    StartDomain,
    UndefineDomain,
)
from orchestrator.model.record import Failure, InstanceRecord, Intent, Stage, Wanted
from orchestrator.model.world import DomainSeen, HostSeen, NetworkSeen, Power, World
from tests.fakes.build import NOW, OWNER, READY, WEB, deployment, record, web

HAS_RUN = record(timeline=READY, has_run=True)


def domain(generation: int = 1, power: Power = Power.RUNNING, owner: str = OWNER) -> dict[str, DomainSeen]:
    name = web(0, generation).domain
    return {name: DomainSeen(name, power, owner)}


def host(
    *domains: dict[str, DomainSeen], volumes: tuple[str, ...] = (), name: str = "local", **changes: object
) -> HostSeen:
    known = {key: value for each in domains for key, value in each.items()}
    return replace(HostSeen(name, "", known, {}, frozenset(volumes), True), **changes)


def actions(known: InstanceRecord, *hosts: HostSeen, wanted: Wanted = Wanted.UP) -> list[Action]:
    """What the plan has to do about the instance itself."""
    intent = Intent(OWNER, (deployment(wanted=wanted),), (known,))
    made = plan(intent, World({seen.name: seen for seen in hosts}), NOW + 1)
    return [step.action for step in made.tracks]


def steps(*hosts: HostSeen, of: InstanceRecord | None = None) -> list[type]:
    return [type(action) for action in actions(of or record(), *hosts)]


def test_from_nothing():
    assert steps(host()) == [CreateOverlay, CreateSeed, DefineDomain, StartDomain]


def test_from_a_domain_that_is_off():
    assert steps(host(domain(power=Power.OFF), volumes=web(0).volumes)) == [StartDomain]


def test_nothing_to_do_when_it_runs():
    assert steps(host(domain(), volumes=web(0).volumes)) == []


def test_a_paused_machine_goes_on():
    assert steps(host(domain(power=Power.PAUSED))) == [ResumeDomain]


def test_an_overlay_that_has_run_is_never_made_anew():
    assert steps(host(volumes=web(0).volumes), of=HAS_RUN) == [CreateSeed, DefineDomain, StartDomain]


def test_an_overlay_that_was_never_run_is_made_anew():
    assert steps(host(volumes=(web(0).overlay,))) == [CreateOverlay, CreateSeed, DefineDomain, StartDomain]


@pytest.mark.parametrize(
    "seen",
    [
        host(domain(power=Power.UNSETTLED)),
        host(problem="away"),
        host(domain(owner="somebody")),
        host(domain(owner="")),
        host(networks={WEB.deployment.network: NetworkSeen("x", True, "somebody", None)}),
    ],
    ids=["unsettled", "away", "foreign domain", "domain without a mark", "foreign network"],
)
def test_nothing_is_done_when_it_could_do_harm(seen):
    assert steps(seen) == []


def test_nothing_is_made_of_a_used_machine_until_its_pool_can_be_looked_into():
    assert steps(host(has_pool=False), of=HAS_RUN) == []


def test_an_unknown_host_has_no_steps():
    assert steps(host(name="other"), of=record(host="gone")) == []


@pytest.mark.parametrize("changes", [{"failure": Failure(Stage.SETUP, "x", NOW)}, {"starts": MAX_STARTS}])
def test_a_machine_that_was_given_up_is_left_as_it_is(changes):
    assert steps(host(domain(power=Power.OFF), volumes=web(0).volumes), of=replace(HAS_RUN, **changes)) == []


def test_the_old_generation_is_off_and_gone_before_the_new_one_starts():
    new = record(generation=2)
    seen = host(domain(1), volumes=web(0, 1).volumes)
    assert steps(seen, of=new) == [
        CreateOverlay, CreateSeed, DestroyDomain, UndefineDomain, DeleteVolume, DeleteVolume, DeleteVolume,
        DefineDomain, StartDomain,
    ]  # fmt: skip


def test_the_new_disks_are_made_while_the_old_one_still_serves():
    new = record(generation=2)
    found = actions(new, host(domain(1)))
    assert found.index(DestroyDomain("local", web(0, 1).domain)) > max(
        i for i, action in enumerate(found) if isinstance(action, CreateOverlay | CreateSeed)
    )


def test_another_machine_of_the_instance_on_another_host_is_ended_first():
    other = host(domain(1), name="other", volumes=web(0, 1).volumes)
    found = actions(record(generation=2), host(), other)
    kinds = [type(action) for action in found]
    assert DestroyDomain("other", web(0, 1).domain) in found
    assert kinds.index(UndefineDomain) < kinds.index(StartDomain)


def test_leftovers_are_swept_beside_a_machine_that_runs():
    new = record(generation=2)
    seen = host(domain(2), volumes=(*web(0, 2).volumes, *web(0, 1).volumes, "somebody.qcow2"))
    assert set(actions(new, seen)) == {DeleteVolume("local", v) for v in web(0, 1).volumes}


def test_machines_of_others_are_left_alone():
    neighbour = {web(1).domain: DomainSeen(web(1).domain, Power.RUNNING, OWNER)}
    assert steps(host(domain(), neighbour, volumes=(*web(0).volumes, *web(1).volumes))) == []


@pytest.mark.parametrize(
    "seen", [host(), host(domain(power=Power.OFF))], ids=["nothing is there", "a domain without its disk"]
)
def test_a_machine_that_has_run_and_lost_its_overlay_is_made_anew(seen):
    (overlay,) = (a for a in actions(HAS_RUN, seen) if isinstance(a, CreateOverlay))
    assert overlay.machine == web(0, 2)


@pytest.mark.parametrize(
    "seen",
    [host(domain()), host(volumes=web(0).volumes), host(problem="away"), host(has_pool=False)],
    ids=["it runs", "it is there", "unknown", "the pool is off"],
)
def test_no_overlay_is_made_anew_that_may_still_be_there(seen):
    assert web(0) not in [a.machine for a in actions(HAS_RUN, seen) if isinstance(a, CreateOverlay)]


def test_a_machine_that_runs_on_a_deleted_overlay_is_left_until_the_next_one_can_take_over():
    net = NetworkSeen(WEB.deployment.network, True, OWNER, None)
    found = actions(HAS_RUN, host(domain(), volumes=(web(0).seed,), networks={net.name: net}))
    assert [type(action) for action in found] == [CreateOverlay, CreateSeed]
    assert {action.machine for action in found} == {web(0, 2)}


def test_nothing_is_left_of_an_instance_that_is_taken_away():
    seen = host(domain(1), domain(2, Power.OFF), volumes=(*web(0, 1).volumes, *web(0, 2).volumes))
    found = actions(record(generation=2), seen, wanted=Wanted.GONE)
    assert isinstance(found[-1], ForgetInstance)
    assert {a.domain for a in found if isinstance(a, UndefineDomain)} == {web(0, 1).domain, web(0, 2).domain}
    assert {a.volume for a in found if isinstance(a, DeleteVolume)} == {*web(0, 1).volumes, *web(0, 2).volumes}
    assert DestroyDomain("local", web(0, 2).domain) not in found


def test_an_instance_is_not_forgotten_while_a_host_cannot_be_asked():
    assert actions(record(), host(), host(name="other", problem="away"), wanted=Wanted.GONE) == []


def test_a_foreign_domain_is_not_taken_away():
    found = actions(record(), host(domain(owner="somebody")), wanted=Wanted.GONE)
    assert [type(a) for a in found] == [ForgetInstance]


@pytest.mark.parametrize("networks", [{}, {"hello.production": NetworkSeen("hello.production", False, OWNER, None)}])
def test_a_machine_whose_network_has_gone_is_rebooted_once_it_is_back(networks):
    seen = host(domain(), volumes=web(0).volumes, networks=networks)
    intent = Intent(OWNER, (deployment(),), (HAS_RUN,))
    made = plan(intent, World({"local": seen}), NOW + 1)
    (saved,) = (step.action for step in made.first if isinstance(step.action, SaveInstance))
    assert saved.record.reboot == NOW + 1
    assert saved.record.farewell is not None
