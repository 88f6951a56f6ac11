"""Who needs which image, and what may go."""

from dataclasses import replace

from orchestrator.engine.imagery import Use, blockers, host_uses, overlays, removable, stored_uses, users
from orchestrator.model.image import Image, is_version, parse_tag
from orchestrator.model.record import Act, Intent, Kept, Successor, Wanted
from orchestrator.model.world import HostSeen
from tests.fakes.build import DIGEST, NOW, deployment, record, web
from tests.fakes.small import digest_of

OLD, NEW = digest_of("old"), digest_of("new")


def image(reference, digest, *, added=1.0, leaving=False):
    name, _, version = reference.partition(":")
    return Image(name, version, digest, 1, 1, added, leaving=leaving)


def test_the_store_needs_current_next_and_kept_machines_and_roles():
    instance = record()
    machine = instance.machine
    full = replace(
        instance,
        next=Successor(Act.UPGRADE, 2, replace(machine, digest=NEW), "local", "198.18.0.10", 1),
        kept=Kept(1, replace(machine, digest=OLD), 1),
    )
    uses = stored_uses(Intent("o", (deployment(),), (full,)))
    assert users(DIGEST, uses) == ("hello/web-0", "hello (role web)")
    assert users(NEW, uses) == ("hello/web-0 (its next machine)",)
    assert users(OLD, uses) == ("hello/web-0 (its overlay from before, kept for undo-reimage)",)


def test_a_deployment_that_goes_needs_only_what_its_instances_stand_on():
    uses = stored_uses(Intent("o", (deployment(wanted=Wanted.GONE),), ()))
    assert uses == ()


def test_a_host_needs_what_is_below_any_overlay_there():
    file = web(3).overlay
    host = HostSeen("h0", volumes=frozenset({file, "base.x.qcow2", web(3).seed}))
    assert overlays(host) == (file,)
    assert users(OLD, host_uses([host], {("h0", file): OLD})) == ("hello/web-3 on host h0",)
    assert users(NEW, host_uses([host], {("h0", file): OLD})) == ()
    assert users(NEW, host_uses([host], {})) == ("hello/web-3 on host h0, and its base cannot be told",)


def test_a_host_that_cannot_be_asked_needs_everything():
    uses = host_uses([HostSeen("h0", problem="no answer")], {})
    assert users(NEW, uses) == ("host h0 cannot be asked: no answer",)


def test_one_more_name_for_the_same_content_lets_an_entry_go():
    one, two = image("web:1", OLD), image("web:2", OLD)
    assert blockers(one, [one, two], [Use(OLD, "x")]) == ()
    assert blockers(one, [one], [Use(OLD, "x")]) == ("x",)


def test_prune_takes_older_versions_and_marked_ones_that_nobody_needs():
    old, used = image("a:2026-11-20", OLD), image("a:2026-11-21", NEW, added=2.0)
    named, new = image("a:proven", digest_of("named")), image("a:2026-11-21.2", DIGEST, added=3.0)
    marked = image("b:1", digest_of("b"), leaving=True)
    assert removable([old, used, named, new, marked], [Use(NEW, "x")]) == (old, marked)
    assert removable([old, used, new, marked], [Use("", "a host")]) == ()


def test_the_newest_that_stays_is_kept_even_if_a_marked_one_is_newer():
    old, marked = image("a:1", OLD), image("a:2", NEW, added=NOW, leaving=True)
    assert removable([old, marked], []) == (marked,)


def test_tags_and_versions():
    assert parse_tag("debian-12") == ("debian-12", "")
    assert parse_tag("debian-12:2026-11-20.2") == ("debian-12", "2026-11-20.2")
    assert [parse_tag(text) for text in ("", "A", "a:", "a:-x", "a:../b", "a:b:c", "a/b")] == [None] * 7
    assert not is_version("x" * 41)
