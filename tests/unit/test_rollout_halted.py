"""Upgrades that wait for a word, and what goes on beside them."""

import json
from dataclasses import replace

import pytest

from orchestrator.engine import rollout, upgradeverbs, verbs
from orchestrator.engine.plan import Plan
from orchestrator.engine.scaling import scaled
from orchestrator.errors import UserError
from orchestrator.model.setup import Setup
from orchestrator.model.spec import Ready, Size
from orchestrator.model.upgrade import Share, Upgrade
from tests.fakes.build import HELLO, HTTP
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld
from tests.unit.test_rollout import BAD, FAST, NEW, OLD, digests, ready, record, say, told, wanted, watched


def test_without_automatic_each_domain_waits_for_a_word():
    by_hand = replace(FAST, is_automatic=False)
    world = ready(upgrade=by_hand)
    world.up(wanted("debian-13", upgrade=by_hand))
    made = world.settle()
    assert (made.deployments[0].state, digests(world)) == ("waiting", [NEW, OLD, NEW, OLD])
    assert "waits for resume before the next domain" in made.deployments[0].reason
    say(world, upgradeverbs.resumed)
    made = world.settle()
    assert (made.deployments[0].state, digests(world)) == ("ready", [NEW] * 4)


def test_a_paused_upgrade_finishes_what_has_begun_and_begins_nothing():
    world = ready()
    world.up(wanted("debian-13"))
    with world.loop() as loop:
        while not any(known.farewell for known in world.store.intent().instances):
            world.clock.wait(max(loop.tick().requeue_s, 0.01))
    say(world, lambda known: upgradeverbs.paused(known, world.clock.now()))
    made = world.settle()
    assert (made.deployments[0].state, digests(world)) == ("paused", [NEW, OLD, NEW, OLD])
    assert len(world.serving()) == 4
    say(world, upgradeverbs.resumed)
    world.settle()
    assert digests(world) == [NEW] * 4


def test_a_canary_goes_first_and_waits_for_promote():
    world = ready()
    world.up(wanted("debian-13"), canary=1)
    made = world.settle()
    assert (made.deployments[0].state, digests(world)) == ("waiting", [NEW, OLD, OLD, OLD])
    assert "web-0 healthy, waits for promote or rollback" in made.deployments[0].reason
    with pytest.raises(UserError, match="waits for a word about its canary"):
        say(world, upgradeverbs.resumed)
    say(world, upgradeverbs.promoted)
    world.settle()
    assert digests(world) == [NEW] * 4
    assert record(world).rollout is None


def test_a_canary_that_is_taken_back_gets_its_overlay_back():
    world = ready()
    world.up(wanted("debian-13"), canary=1)
    world.settle()
    world.clock.pass_by(3600)  # longer than an overlay is kept without an upgrade
    world.settle()
    say(world, upgradeverbs.rolled_back)
    world.settle()
    assert world.serving() == {f"web-{n}.g1" for n in range(4)}


def test_a_bad_canary_stops_and_is_not_promoted():
    world = ready()
    world.images[NEW] = BAD
    world.up(wanted("debian-13"), canary=2)
    made = world.settle()
    assert (made.deployments[0].state, digests(world)) == ("failed", [NEW, OLD, NEW, OLD])
    with pytest.raises(UserError, match="the canary web-0 did not get healthy: setup failed"):
        say(world, upgradeverbs.promoted)


@pytest.mark.parametrize("canary", [0, 1])
def test_what_is_made_anew_while_it_is_halted_is_of_the_old_make(canary):
    four = replace(FAST, domains=4)
    world = ready(upgrade=four)
    world.images[NEW] = Script() if canary else BAD
    world.up(wanted("debian-13", upgrade=four), canary=canary)
    world.settle()
    world.ask(lambda known: verbs.reimage(known, record(world).machine(record(world).service.roles[0])), "web-3")
    world.settle()
    assert world.record("web-3").machine.digest == OLD
    assert world.record("web-3").generation >= 2


def test_what_is_added_while_it_is_halted_is_of_the_good_make():
    world = ready()
    world.images[NEW] = BAD
    world.up(wanted("debian-13"))
    world.settle()
    say(world, lambda known: scaled(known, "web", 5))
    made = world.settle()
    assert (world.record("web-4").machine.digest, made.deployments[0].state) == (OLD, "failed")
    assert "web-4.g1" in world.serving()


def test_a_change_that_needs_no_machine_touches_none_and_is_no_upgrade():
    world = ready()
    world.up(wanted(endpoints=(HTTP, replace(HTTP, name="more", ports=(81, 81))), ready=Ready(timeout_s=99)))
    world.settle()
    assert [known.generation for known in world.store.intent().instances] == [1] * 4
    assert told(world) == []
    assert [good.revision for good in record(world).good] == [2, 1]


def test_new_images_are_on_every_host_before_the_first_instance_goes_down():
    world = FakeWorld("east", "west", "north")
    world.up(wanted(instances=2))
    world.settle()
    world.up(wanted("debian-13", instances=2))

    def look(_made: Plan) -> None:
        if any(known.farewell for known in world.store.intent().instances):
            for host in world.hosts.values():
                assert any(NEW.removeprefix("sha256:")[:12] in name and name.endswith(".ok") for name in host.volumes)

    watched(world, look)
    assert digests(world) == [NEW] * 2


def test_a_host_that_does_not_answer_holds_the_upgrade_back():
    world = FakeWorld("east", "west")
    world.up(wanted(instances=2))
    world.settle()
    world.up(wanted("debian-13", instances=2))
    world.hosts["west"].is_away = True
    with world.loop() as loop:
        for _turn in range(200):
            world.clock.wait(max(loop.tick().requeue_s, 0.01))
    assert digests(world) == [OLD] * 2
    world.hosts["west"].is_away = False
    world.settle()
    assert digests(world) == [NEW] * 2


def test_a_service_of_which_nothing_serves_is_mended_all_at_once():
    world = FakeWorld()
    world.images[OLD] = BAD
    world.up(wanted())
    world.settle()
    world.up(wanted("debian-13"))
    world.settle()
    begun = {known.timeline.requested for known in world.store.intent().instances}
    assert max(begun) - min(begun) < 1
    assert digests(world) == [NEW] * 4


def test_a_repair_goes_on_beside_it_within_one_budget():
    one = Upgrade(domains=4, max_unavailable=Share(1), min_ready_s=1.0)
    world = ready(upgrade=one)
    world.up(wanted("debian-13", size=Size(2), upgrade=one))
    world.ask(lambda known: verbs.reboot(known, world.clock.now()), "web-2", "web-3")
    seen: list[int] = []
    watched(world, lambda _made: seen.append(len(world.serving())))
    assert (min(seen), digests(world)) == (3, [NEW] * 4)


def test_down_in_the_middle_of_it_leaves_nothing():
    world = ready(upgrade=replace(FAST, max_surge=Share(1)))
    world.images[NEW] = BAD
    world.up(wanted("debian-13", upgrade=replace(FAST, max_surge=Share(1))))
    world.settle()
    world.down(HELLO)
    world.settle()
    assert world.store.intent().instances == ()
    assert not any(host.domains for host in world.hosts.values())


def test_who_was_given_an_older_machine_back_keeps_it_when_there_are_more_instances():
    world = ready()
    world.up(wanted("debian-13"))
    world.settle()
    world.ask(verbs.undo, "web-1")
    world.settle()
    assert digests(world) == [NEW, OLD, NEW, NEW]
    say(world, lambda known: scaled(known, "web", 5))
    world.settle()
    say(world, lambda known: scaled(known, "web", 6))
    world.settle()
    assert digests(world) == [NEW, OLD, NEW, NEW, NEW, NEW]
    world.up(wanted("debian-13", instances=7))  # says it of all of them
    world.settle()
    assert digests(world) == [NEW] * 7


def test_settings_reach_old_and_new_machines_at_once_and_a_rollback_takes_them_back():
    def colours() -> list[str]:
        files = sorted(world.guests.files.items())
        running = [name for name, _text in files if name in world.hosts["local"].domains]
        return [json.loads(world.guests.files[name])["settings"]["COLOUR"] for name in running]

    by_hand = replace(FAST, is_automatic=False)
    blue, red = (Setup(settings=(("COLOUR", colour),)) for colour in ("blue", "red"))
    world = ready(upgrade=by_hand, setup=blue)
    world.up(wanted("debian-13", upgrade=by_hand, setup=red))
    world.settle()
    assert (digests(world), colours()) == ([NEW, OLD, NEW, OLD], ["red"] * 4)
    say(world, upgradeverbs.rolled_back)
    world.settle()
    assert (digests(world), colours()) == ([OLD] * 4, ["blue"] * 4)


def test_another_file_begins_anew_also_where_an_upgrade_was_paused_or_had_a_canary():
    world = ready()
    world.up(wanted("debian-13"), canary=1)
    world.settle()
    say(world, lambda known: upgradeverbs.paused(known, world.clock.now()))
    world.up(wanted("debian-13", setup=Setup(settings=(("COLOUR", "red"),))))
    world.settle()
    assert digests(world) == [NEW] * 4


def test_where_nobody_may_be_away_an_extra_one_stands_in_for_a_canary_and_on_the_way_back():
    none_away = replace(FAST, max_surge=Share(1), max_unavailable=Share(0))
    world = ready(upgrade=none_away)
    seen: list[int] = []

    def go_on() -> None:
        watched(world, lambda _made: seen.append(len(world.serving())))

    world.up(wanted("debian-13", upgrade=none_away), canary=1)
    go_on()
    assert digests(world) == [NEW, OLD, OLD, OLD]
    say(world, upgradeverbs.promoted)
    go_on()
    assert digests(world) == [NEW] * 4
    say(world, upgradeverbs.rolled_back)
    go_on()
    assert digests(world) == [OLD] * 4
    assert min(seen) == 4


def test_more_canaries_than_there_are_instances_wait_for_a_word_too():
    none_away = replace(FAST, max_surge=Share(1), max_unavailable=Share(0))
    world = ready(upgrade=none_away)
    world.up(wanted("debian-13", upgrade=none_away), canary=9)
    world.settle()
    assert (digests(world), record(world).rollout.waits) == ([NEW] * 4, rollout.PROMOTE)
    assert record(world).good[0].revision == 1  # a rollback would go back to that
    say(world, upgradeverbs.promoted)
    world.settle()
    assert (digests(world), record(world).rollout, record(world).good[0].revision) == ([NEW] * 4, None, 2)
