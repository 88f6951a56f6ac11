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
    SaveCopy,
    UndefineDomain,
)
from orchestrator.model.names import DeploymentCopy, VolumeId, base_marker, base_volume, local_disk
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
COPY = DeploymentCopy(HELLO, 1)
LAID = HostSeen("local", networks={HELLO.network: NETWORK}, volumes=BASE | {COPY.file, COPY.marker}, has_pool=True)
BARE = replace(LAID, volumes=BASE)
VOLUME = VolumeId(web(0).instance, "data")


def steps(seen: HostSeen, *instances: object) -> list[type]:
    return [type(action) for action in prepare(seen, [deployment()], instances or (record(),), (), OWNER)]


def test_an_empty_host_gets_all_of_it_in_order():
    assert steps(HostSeen("local")) == [CreatePool, PlaceImage, CreateNetwork, SaveCopy]


def test_what_is_laid_is_left():
    assert steps(LAID) == []


def test_a_base_without_its_marker_is_uploaded_again():
    assert steps(replace(LAID, volumes=LAID.volumes - {base_marker(DIGEST)})) == [PlaceImage]


def test_a_network_that_is_off_is_started():
    assert steps(replace(LAID, networks={HELLO.network: replace(NETWORK, active=False)})) == [CreateNetwork]


def test_addresses_change_without_a_new_network():
    assert steps(LAID, record(), record(web(1).instance)) == [ChangeLeases]


def test_an_instance_elsewhere_has_a_name_here_but_no_lease():
    away = record(web(1).instance, host="other", dip="198.19.0.10")
    (change,) = prepare(LAID, [deployment()], [record(), away], (), OWNER)
    assert isinstance(change, ChangeLeases)
    assert change.leases == {LEASE}
    assert {name.ip for name in change.names} == {"198.18.0.10", "198.19.0.10"}


def test_a_roles_name_leads_to_all_that_are_offered():
    many = [record(web(n).instance, dip=f"198.18.0.{10 + n}") for n in range(9)]
    offered = {record.id for record in many[1:]}
    (change,) = prepare(LAID, [deployment()], many, (), OWNER, offered)
    assert isinstance(change, ChangeLeases)
    found = {(name.name, name.ip) for name in change.names if name.name.startswith("web.")}
    assert found == {(f"web.{HELLO.domain}", record.dip) for record in many[1:]}
    # By its short name, of three letters, to as many as libvirt can tell apart.
    assert {name.ip for name in change.names if name.name == "web"} == {record.dip for record in many[1:7]}
    assert len({name.spelt for name in change.names}) == len(change.names)
    assert {HostName.read(name.ip, name.spelt) for name in change.names} == change.names


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
    seen = replace(BARE, domains=domains, volumes=BASE | set(web(7, 3).volumes) | set(other.volumes))
    assert list(sweep(seen, HELLO, OWNER, is_erased=False)) == [
        DestroyDomain("local", web(7, 3).domain),
        UndefineDomain("local", web(7, 3).domain),
        UndefineDomain("local", web(8).domain),
        *(DeleteVolume("local", volume) for volume in sorted(web(7, 3).volumes)),
        DeleteNetwork("local", HELLO.network),
    ]
    assert (
        sweep(replace(BARE, networks={HELLO.network: replace(NETWORK, owner="x")}), HELLO, OWNER, is_erased=False) == ()
    )


def test_an_unneeded_image_goes_marker_first():
    other = digest_of("other")
    seen = replace(BARE, volumes=BASE | {base_volume(other), base_marker(other)})
    assert list(tidy(seen, [DIGEST])) == [
        DeleteVolume("local", base_marker(other)),
        DeleteVolume("local", base_volume(other)),
    ]


def test_the_pool_goes_with_the_last_image():
    assert [type(a) for a in tidy(BARE, [])] == [DeleteVolume, DeleteVolume, DeletePool]


def test_nothing_goes_while_a_machine_stands_on_it():
    assert tidy(replace(BARE, volumes=BASE | {web(0).overlay}), []) == ()
    assert tidy(BARE, [DIGEST]) == ()
    assert tidy(replace(BARE, problem="away"), []) == ()
    assert tidy(HostSeen("local"), []) == ()


def test_a_base_that_somebody_has_taken_away_or_written_into_is_put_back():
    assert steps(replace(LAID, volumes=LAID.volumes - {base_volume(DIGEST)})) == [PlaceImage]
    assert steps(replace(LAID, altered=frozenset({DIGEST}))) == [PlaceImage]


def test_the_copy_of_an_older_revision_goes_once_the_newer_one_is_whole():
    newer = deployment(revision=2)
    half = replace(LAID, volumes=LAID.volumes | {DeploymentCopy(HELLO, 2).file})
    assert [type(a) for a in prepare(half, [newer], [record()], (), OWNER)] == [SaveCopy]
    whole = replace(half, volumes=half.volumes | {DeploymentCopy(HELLO, 2).marker})
    gone = [DeleteVolume("local", COPY.marker), DeleteVolume("local", COPY.file)]
    assert list(prepare(whole, [newer], [record()], (), OWNER)) == gone


def test_volumes_outlive_their_deployment_unless_they_are_to_go_with_it():
    local = local_disk(web(0).instance, 1, "cache")
    volumes = {VOLUME.file, VOLUME.snapshot("s"), VOLUME.snapshot_marker("s")}
    seen = replace(LAID, networks={}, volumes=LAID.volumes | {local, *volumes})
    kept = {action.volume for action in sweep(seen, HELLO, OWNER, is_erased=False)}
    assert kept == {local, COPY.file, COPY.marker}
    assert {action.volume for action in sweep(seen, HELLO, OWNER, is_erased=True)} == kept | volumes
    assert [type(a) for a in tidy(replace(BARE, volumes=BASE | volumes), [])] == [DeleteVolume, DeleteVolume]
