"""What instances stand on, and that it goes when nobody stands there."""

from dataclasses import replace
from ipaddress import IPv4Network

from orchestrator.engine.ground import prepare, sweep, tidy
from orchestrator.model.action import (
    ChangeLeases,
    CreateNetwork,
    CreatePool,
    DeleteNetwork,
    DeletePool,
    DeleteVolume,
    DestroyDomain,
    PlaceImage,
    UndefineDomain,
)
from orchestrator.model.names import base_marker, base_volume
from orchestrator.model.record import Wanted
from orchestrator.model.world import DomainSeen, HostName, HostSeen, Lease, NetworkSeen, Power
from tests.fakes.build import DIGEST, HELLO, OWNER, deployment, record, web
from tests.fakes.small import digest_of

SUBNET = IPv4Network("198.18.0.0/24")
LEASE = Lease(web(0).instance.mac, "198.18.0.10", "web-0")
NETWORK = NetworkSeen(
    HELLO.network, True, OWNER, SUBNET, frozenset({LEASE}), frozenset({HostName("198.18.0.10", "web-0")})
)
BASE = frozenset({base_volume(DIGEST), base_marker(DIGEST)})
LAID = HostSeen("local", networks={HELLO.network: NETWORK}, volumes=BASE, has_pool=True)


def steps(seen: HostSeen, *instances: object) -> list[type]:
    return [type(action) for action in prepare(seen, [deployment()], instances or (record(),), OWNER)]


def test_an_empty_host_gets_all_of_it_in_order():
    assert steps(HostSeen("local")) == [CreatePool, PlaceImage, CreateNetwork]


def test_what_is_laid_is_left():
    assert steps(LAID) == []


def test_a_base_without_its_marker_is_uploaded_again():
    assert steps(replace(LAID, volumes=frozenset({base_volume(DIGEST)}))) == [PlaceImage]


def test_a_network_that_is_off_is_started():
    assert steps(replace(LAID, networks={HELLO.network: replace(NETWORK, active=False)})) == [CreateNetwork]


def test_addresses_change_without_a_new_network():
    assert steps(LAID, record(), record(web(1).instance)) == [ChangeLeases]


def test_an_instance_elsewhere_has_a_name_here_but_no_lease():
    away = record(web(1).instance, host="other", dip="198.19.0.10")
    (change,) = prepare(LAID, [deployment()], [record(), away], OWNER)
    assert isinstance(change, ChangeLeases)
    assert change.leases == {LEASE}
    assert {name.ip for name in change.names} == {"198.18.0.10", "198.19.0.10"}


def test_nothing_is_laid_for_nobody():
    assert steps(HostSeen("other")) == []
    assert steps(HostSeen("local"), record(wanted=Wanted.GONE)) == []
    assert steps(HostSeen("local", problem="away")) == []


def test_a_network_of_somebody_else_is_left_alone():
    foreign = replace(NETWORK, owner="somebody", active=False)
    assert steps(replace(LAID, networks={HELLO.network: foreign})) == []


def test_a_sweep_leaves_nothing_of_ours_and_everything_of_others():
    def domain(name: str, power: Power, owner: str) -> dict[str, DomainSeen]:
        return {name: DomainSeen(name, power, owner)}

    other = web(0, key=replace(HELLO, service="other"))
    domains = {
        **domain(web(7, 3).domain, Power.RUNNING, OWNER),
        **domain(web(8).domain, Power.OFF, OWNER),
        **domain(web(9).domain, Power.RUNNING, "somebody"),
        **domain(other.domain, Power.RUNNING, OWNER),
    }
    seen = replace(LAID, domains=domains, volumes=BASE | set(web(7, 3).volumes) | set(other.volumes))
    assert list(sweep(seen, HELLO, OWNER)) == [
        DestroyDomain("local", web(7, 3).domain),
        UndefineDomain("local", web(7, 3).domain),
        UndefineDomain("local", web(8).domain),
        *(DeleteVolume("local", volume) for volume in sorted(web(7, 3).volumes)),
        DeleteNetwork("local", HELLO.network),
    ]
    assert sweep(replace(LAID, networks={HELLO.network: replace(NETWORK, owner="x")}), HELLO, OWNER) == ()


def test_an_unneeded_image_goes_marker_first():
    other = digest_of("other")
    seen = replace(LAID, volumes=BASE | {base_volume(other), base_marker(other)})
    assert list(tidy(seen, [DIGEST])) == [
        DeleteVolume("local", base_marker(other)),
        DeleteVolume("local", base_volume(other)),
    ]


def test_the_pool_goes_with_the_last_image():
    assert [type(a) for a in tidy(LAID, [])] == [DeleteVolume, DeleteVolume, DeletePool]


def test_nothing_goes_while_a_machine_stands_on_it():
    assert tidy(replace(LAID, volumes=BASE | {web(0).overlay}), []) == ()
    assert tidy(LAID, [DIGEST]) == ()
    assert tidy(replace(LAID, problem="away"), []) == ()
    assert tidy(HostSeen("local"), []) == ()
