"""What `up` and `down` change in the intent, and what of the site they may take."""

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from orchestrator.engine.deploy import after, clashes, deployed, free_subnets, retried, withdrawn
from orchestrator.errors import Refused
from orchestrator.model.names import DeploymentId
from orchestrator.model.record import Failure, Intent, Stage, Wanted
from orchestrator.model.world import HostSeen, NetworkSeen
from tests.fakes.build import GOSSIP, HELLO, HTTP, NOW, OWNER, READY, SSH, deployment, record, role, service


def again(known: object, what: object = None) -> object:
    intent = Intent(OWNER, (known,))
    return deployed(intent, HELLO, what or known.service, digests=known.digests, vip=known.vip, subnets=known.subnets)


def test_the_same_file_is_the_same_record():
    known = replace(deployment(), version=3)
    assert again(known) == known


def test_another_file_is_another_revision_of_the_same_row():
    known = replace(deployment(), version=3)
    found = again(known, service(role(instances=2)))
    assert (found.revision, found.version, found.vip) == (2, 3, known.vip)


def test_another_digest_of_the_same_image_is_another_revision():
    known = deployment()
    found = deployed(
        Intent(OWNER, (known,)), HELLO, known.service, digests={"web": "sha256:1"}, vip=known.vip, subnets=known.subnets
    )
    assert (found.revision, found.digests, found.vip) == (2, {"web": "sha256:1"}, known.vip)


def test_up_after_down_wants_it_again():
    gone = withdrawn(deployment(), with_volumes=False)
    assert gone.wanted is Wanted.GONE
    assert withdrawn(withdrawn(gone, with_volumes=True), with_volumes=False).wanted is Wanted.ERASED
    assert again(gone).wanted is Wanted.UP


def test_up_gives_a_failed_instance_another_chance():
    failed = record(failure=Failure(Stage.SETUP, "x", NOW), starts=3)
    well = record(replace(failed.id, ordinal=1), timeline=READY)
    intent = Intent(OWNER, (deployment(),), (failed, well))
    (found,) = retried(intent, deployment(), NOW + 100)
    assert (found.id, found.failure, found.starts, found.deadline) == (failed.id, None, 0, NOW + 400)
    assert after(intent, deployment(), [found]).instances[0] == found


def seen(name, *subnets):
    networks = {str(n): NetworkSeen(str(n), True, "", IPv4Network(s) if s else None) for n, s in enumerate(subnets)}
    return HostSeen(name, networks=networks)


def test_the_lowest_free_subnet_overlaps_nothing_on_the_host():
    hosts = {"local": seen("local", "198.18.1.128/25", None)}
    found = free_subnets({"local": IPv4Network("198.18.0.0/16")}, hosts, Intent(OWNER, (deployment(),)))
    assert found == {"local": IPv4Network("198.18.2.0/24")}


def test_a_deployments_subnets_have_the_same_number_on_every_host():
    pools = {"h0": IPv4Network("198.18.0.0/19"), "h1": IPv4Network("198.18.32.0/19")}
    hosts = {"h0": seen("h0", "198.18.0.0/24"), "h1": seen("h1", "198.18.33.0/24")}
    found = free_subnets(pools, hosts, Intent(OWNER))
    assert found == {"h0": IPv4Network("198.18.2.0/24"), "h1": IPv4Network("198.18.34.0/24")}


def test_no_subnet_is_left():
    with pytest.raises(Refused, match="no network is free"):
        free_subnets({"local": IPv4Network("198.18.0.0/23")}, {"local": seen("local", "198.18.0.0/15")}, Intent(OWNER))


@pytest.mark.parametrize(
    ("listener", "clash"),
    [
        (("*", 80), {80: "*"}), (("0.0.0.0", 80), {80: "0.0.0.0"}), (("::", 80), {80: "::"}),
        (("198.51.100.1", 80), {80: "198.51.100.1"}), (("127.0.0.1", 80), {}), (("*", 81), {}),
        (("*", 9105), {9105: "*"}), (("*", 9000), {}),
    ],
)  # fmt: skip
def test_a_port_that_somebody_else_has(listener, clash):
    wanted = deployment(service(role(endpoints=(HTTP, SSH, GOSSIP))))
    assert clashes(wanted, [listener], ()) == clash
    assert clashes(wanted, [listener], (80, 9105)) == {}


def test_a_deployment_is_replaced_in_the_intent():
    other = deployment(service(name="zoo"))
    intent = after(Intent(OWNER, (deployment(), other)), deployment(revision=2))
    assert sorted((d.id, d.revision) for d in intent.deployments) == [(HELLO, 2), (DeploymentId("zoo"), 1)]
