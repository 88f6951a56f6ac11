"""What an image asks of a machine, and what is said when the host has it not."""

import pytest

from orchestrator.doctor import lacking
from orchestrator.engine.deploy import deployed
from orchestrator.model.image import Traits, platform_of
from orchestrator.model.record import Intent
from orchestrator.model.spec import Platform
from orchestrator.render.records import dump_deployment, load_deployment
from tests.fakes.build import HELLO, OWNER, deployment, role, service

WINDOWS = Platform("windows", "uefi", secure_boot=True, tpm=True)


@pytest.mark.parametrize(
    ("traits", "platform"),
    [
        (Traits(), Platform()),
        (Traits(os="other", firmware="uefi", virtio=False), Platform("linux", "uefi", virtio=False)),
        (Traits(os="windows", secure_boot=True, tpm=True), WINDOWS),
    ],
)
def test_traits_say_what_a_machine_has_to_be_like(traits, platform):
    assert platform_of(traits) == platform


def test_a_platform_is_pinned_with_its_image_and_another_one_is_another_revision():
    known = deployment()
    pinned = {"digests": known.digests, "vip": known.vip, "subnets": known.subnets}
    same = deployed(Intent(OWNER, (known,)), HELLO, service(), **pinned)
    other = deployed(Intent(OWNER, (known,)), HELLO, service(), **pinned, platforms={"web": WINDOWS})
    assert same == known
    assert (other.revision, other.machine(role()).platform) == (2, WINDOWS)
    assert load_deployment(dump_deployment(other)) == other


def test_a_record_from_before_platforms_is_read_as_it_was_meant():
    text = dump_deployment(deployment()).replace(b',"platforms":{}', b"")
    assert b"platforms" not in text
    assert load_deployment(text).machine(role()).platform == Platform()


@pytest.mark.parametrize(
    ("has_uefi", "has_tpm", "verdicts"),
    [(True, True, ["ok", "ok"]), (False, True, ["bad", "ok"]), (True, False, ["ok", "bad"])],
)
def test_what_an_image_asks_for_and_the_host_has_not_is_said(has_uefi, has_tpm, verdicts):
    found = list(lacking({"win:1": WINDOWS, "deb:1": Platform()}, has_uefi=has_uefi, has_tpm=has_tpm))
    assert [finding.verdict for finding in found] == verdicts
    assert all("win:1" in finding.found and "deb:1" not in finding.found for finding in found)
    assert list(lacking({"deb:1": Platform()}, has_uefi=False, has_tpm=False)) == []
