"""How many instances a role should have for what there is to do: decided from figures, over time."""

import json
import time
from dataclasses import replace

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.engine.autoscale import TOLERANCE, trend, verdicts
from orchestrator.engine.deploy import deployed, paused
from orchestrator.engine.load import Reading, loads, noted
from orchestrator.engine.recover import counted
from orchestrator.engine.scaling import scaled
from orchestrator.engine.status import InstanceStatus, State
from orchestrator.errors import InvalidInput, UserError
from orchestrator.model.load import Autoscale, Figure, Load, Scaled
from orchestrator.model.record import Intent, Stage
from orchestrator.model.world import BackendSeen, BalancerSeen, CpuSeen, World
from tests.fakes.build import HELLO, HTTP, NOW, OWNER, READY, SSH, deployment, record, role, service, web
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld

SESSIONS = Autoscale(1, 5, Figure.SESSIONS, 10.0, 60.0)
BACKEND = "hello.production.web.http"
LONG_READY = {**READY, "rotation": NOW - 500}


def seen(total, seconds=100.0, every=2.0):
    """A load that was the same for so long."""
    count = int(seconds / every)
    return Load(tuple((NOW - every * number, float(total)) for number in range(count, -1, -1)))


def judged(load, *, count=2, wish=SESSIONS, now=NOW, **changes):
    """The verdict on a role of which all instances are ready."""
    known = replace(deployment(service(role(instances=count, autoscale=wish))), **changes)
    instances = tuple(record(web(n).instance, timeline=LONG_READY) for n in range(count))
    intent = Intent(OWNER, (known,), instances)
    world = World(loads={(HELLO, "web"): load})
    statuses = [ready(one) for one in instances]
    (found,) = verdicts(intent, statuses, world, now)
    return found


def ready(one):
    return InstanceStatus(one, State.READY, Stage.ROTATION, NOW, in_rotation=True)


@pytest.mark.parametrize(
    ("total", "count", "wanted"),
    [
        (20, 2, 2), (22, 2, 2), (18, 2, 2),  # at the target, or near it
        (23, 2, 3), (31, 2, 4), (500, 2, 5), (500, 5, 5),  # as many as it takes, at most five
        (9, 2, 1), (10, 2, 2), (0, 5, 4), (0, 2, 1), (0, 1, 1),  # one at a time, and only if that leaves some room
        (36, 5, 4), (37, 5, 5),
    ],
)  # fmt: skip
def test_the_number_follows_the_figure(total, count, wanted):
    assert judged(seen(total), count=count).wanted == wanted


def test_it_says_why():
    more = judged(seen(31))
    assert (more.figure, more.reason) == (
        15.5,
        "15.5 sessions an instance over 30 s, the target is 10; 31.0 of all of them",
    )
    assert judged(seen(0)).reason.endswith("the target is 10; one less would have been enough for 60 s")
    assert judged(seen(99), count=5).reason.endswith("; 5 are the most")
    assert judged(seen(0), count=1).reason.endswith("; 1 are the fewest")


@pytest.mark.parametrize("total", range(0, 120, 3))
def test_what_was_decided_is_not_taken_back(total):
    """After a change the same load asks for no change in the other direction: it does not flap."""
    count, way = 2, 0
    for _turn in range(10):
        wanted = judged(seen(total), count=count).wanted
        if wanted == count:
            return
        assert way in {0, wanted > count or -1}
        way, count = (wanted > count or -1), wanted
    raise AssertionError("it never came to rest")


def test_fewer_only_when_that_would_have_done_all_the_time():
    busy_once = Load((*seen(0, 100).samples[:25], *((NOW - 40 + n, 60.0) for n in range(20)), *seen(0, 18).samples))
    assert judged(busy_once, count=3).wanted == 3
    assert judged(seen(0, 50), count=3).wanted == 3
    assert judged(seen(0, 50), count=3).reason.endswith("; one goes if that stays so for 10 s")


def test_it_waits_between_two_changes():
    just_out = {"scaled": {"web": Scaled(out=NOW - 59)}}
    assert judged(seen(99), **just_out).reason.endswith("; the last came 59 s ago (cool_down 60 s)")
    assert judged(seen(99), **just_out).wanted == 2
    assert judged(seen(0), **just_out).reason.endswith("; the last change was 59 s ago (cool_down 60 s)")
    # More come soon after some went: that is what they are for.
    assert judged(seen(99), scaled={"web": Scaled(back=NOW - 1)}).wanted == 5
    assert judged(seen(0), scaled={"web": Scaled(back=NOW - 1)}).wanted == 2
    assert judged(seen(99), scaled={"web": Scaled(out=NOW - 60)}).wanted == 5


def test_none_goes_before_those_that_came_have_shown_what_they_do():
    known = deployment(service(role(instances=2, autoscale=SESSIONS)))
    late = record(web(1).instance, timeline={**READY, "rotation": NOW - 30})
    early = record(web(0).instance, timeline={**READY, "rotation": NOW - 500})
    world = World(loads={(HELLO, "web"): seen(0)})
    (found,) = verdicts(Intent(OWNER, (known,), (early, late)), [ready(early), ready(late)], world, NOW)
    assert (found.wanted, "the last change was 30 s ago" in found.reason) == (2, True)


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (Load(), "there are no figures yet"),
        (replace(seen(99), problem="HAProxy does not answer"), "HAProxy does not answer"),
        (seen(99, 20), "figures of 20 s so far, 30 s are needed"),
        (Load(((NOW - 31, 99.0), (NOW, 99.0))), "only 1 looks in the last 30 s"),
        (Load(tuple((at - 16, value) for at, value in seen(99).samples)), "there are no figures yet"),
    ],
)
def test_nothing_is_changed_without_figures(load, why):
    found = judged(load)
    assert (found.wanted, found.figure, found.reason) == (2, None, why)


def test_nothing_is_changed_while_the_role_is_not_at_rest():
    assert judged(seen(99), paused=paused(deployment(), "", NOW).paused).reason == "the service is paused"
    known = deployment(service(role(instances=3, autoscale=SESSIONS)))
    own = [record(web(n).instance, timeline=READY) for n in range(3)]
    intent, world = Intent(OWNER, (known,), tuple(own)), World(loads={(HELLO, "web"): seen(99)})

    def why(*statuses):
        (found,) = verdicts(intent, statuses, world, NOW)
        assert found.wanted == 3
        return found.reason

    first, second, third = (ready(one) for one in own)
    assert why(first, second) == "web-2 is not there yet"
    assert why(first, second, replace(third, state=State.SETUP)) == "web-2 is setup"
    assert why(first, second, replace(third, record=replace(own[2], reboot=NOW))) == "web-2 is about to change"
    extra = ready(record(web(3).instance, timeline=READY))
    assert why(first, second, third, extra) == "web-3 is about to change"


def test_a_short_look_is_enough_to_say_what_would_be():
    assert trend(seen(31, 4), SESSIONS, NOW, is_trial=True).mean == 31
    assert trend(seen(31, 4), SESSIONS, NOW, is_trial=False).problem


def fold(wish, *readings, every=2.0):
    """The load after readings, each some time after the one before."""
    load = Load()
    for number, reading in enumerate(readings):
        load = noted(load, reading, wish, NOW + every * number)
    return load


def counters(number, every=2.0, **values):
    return Reading(counters={name: (NOW + every * number, float(value)) for name, value in values.items()})


def test_a_rate_is_the_difference_of_two_looks():
    load = fold(SESSIONS, counters(0, a=100, b=0), counters(1, a=120, b=10), counters(2, a=120, b=10))
    assert [value for _at, value in load.samples] == [15.0, 0.0]


def test_a_counter_that_begins_anew_and_one_that_is_new():
    load = fold(SESSIONS, counters(0, a=100), counters(1, a=6), counters(2, a=6, b=500), counters(3, a=6, b=502))
    assert [value for _at, value in load.samples] == [3.0, 1.0]


def test_one_that_was_not_asked_again_is_waited_for():
    load = fold(SESSIONS, counters(0, a=100), counters(0, a=100), counters(2, a=140))
    assert load.samples == ((NOW + 4, 10.0),)


def test_levels_are_noted_once_a_second_and_forgotten_in_time():
    load = fold(SESSIONS, *[Reading(level=1.0)] * 10, every=0.5)
    assert len(load.samples) == 5
    load = fold(SESSIONS, *[Reading(level=1.0)] * 200)
    assert NOW + 2 * 199 - 90 <= load.samples[0][0] <= NOW + 2 * 199 - 88


def test_after_a_long_silence_it_begins_anew():
    away = Reading(problem="away")
    load = fold(SESSIONS, Reading(level=1.0), *[away] * 5, Reading(level=2.0))
    assert [value for _at, value in load.samples] == [1.0, 2.0]
    load = fold(SESSIONS, Reading(level=1.0), *[away] * 9, Reading(level=2.0))
    assert [value for _at, value in load.samples] == [2.0]
    assert fold(SESSIONS, Reading(level=1.0), away).problem == "away"


def looked(wish, world, *instances):
    known = deployment(service(role(instances=2, autoscale=wish, endpoints=(HTTP, SSH))))
    return loads({}, Intent(OWNER, (known,), instances), world, NOW).get((HELLO, "web"))


def test_the_sessions_of_every_endpoint_count():
    figures = {BACKEND: BackendSeen(5), "hello.production.web.ssh.1": BackendSeen(2), "zoo.x.y.z": BackendSeen(99)}
    assert looked(SESSIONS, World(balancer=BalancerSeen(True, backends=figures))).samples == ((NOW, 7.0),)
    assert looked(SESSIONS, World(balancer=BalancerSeen(problem="gone"))).problem == "gone"
    assert looked(SESSIONS, World()).problem == "HAProxy does not run"


def test_the_processors_of_machines_that_serve_count():
    cpu = replace(SESSIONS, figure=Figure.CPU, target=50.0)
    one, two = record(web(0).instance, timeline=READY), record(web(1).instance)
    world = World(processors={"local": CpuSeen(NOW, {web(0).domain: 3.0})})
    assert looked(cpu, world, one, two).counters == {web(0).domain: (NOW, 300.0)}
    assert "web-1 uses is not known yet" in looked(cpu, world, one, record(web(1).instance, timeline=READY)).problem


def test_nothing_is_remembered_of_others():
    assert loads({(HELLO, "web"): Load()}, Intent(OWNER, (deployment(),)), World(), NOW) == {}


def up(known, wanted):
    wish = {"digests": known.digests, "vip": known.vip, "subnets": known.subnets}
    return deployed(Intent(OWNER, (known,)), HELLO, service(wanted), **wish)


def test_up_of_an_unchanged_number_leaves_the_number():
    file = role(instances=2, autoscale=SESSIONS)
    four = scaled(deployment(service(file)), "web", 4)
    assert up(four, file) == four
    assert up(four, replace(file, image="debian-13")).count("web") == 4
    assert up(four, replace(file, instances=3)).count("web") == 3
    assert up(four, replace(file, autoscale=replace(SESSIONS, most=3))).count("web") == 3
    assert up(four, replace(file, autoscale=None)).count("web") == 2


def test_scale_stays_within_the_bounds():
    known = deployment(service(role(autoscale=SESSIONS)))
    with pytest.raises(UserError, match="web has from 1 to 5 instances, as its autoscale says"):
        scaled(known, "web", 6)
    assert scaled(known, "web", 5).count("web") == 5


def test_recovery_keeps_what_is_there():
    known = deployment(service(role(autoscale=SESSIONS), role("db", 3)))
    there = [record(web(n).instance) for n in (0, 2, 3)]
    assert counted(known, there).ordinals("web") == (0, 2, 3)
    assert counted(known, there).ordinals("db") == (0, 1, 2)
    assert counted(known, []) == known


def run(world, loop, seconds, before=lambda: None):
    end = world.clock.now() + seconds
    while world.clock.now() < end:
        before()
        made = loop.tick()
        world.clock.wait(max(made.requeue_s, 0.01))
    return made


def test_out_and_in_again_in_a_whole_world():
    wish = Autoscale(1, 4, Figure.SESSIONS, 5.0, 20.0)
    world = FakeWorld()
    world.up(service(role(autoscale=wish)))
    with world.loop() as loop:
        run(world, loop, 10)

        def busy():
            world.balancer.sessions[BACKEND, "web-0.g1"] = 14

        made = run(world, loop, 60, busy)
        assert len(made.instances) == 3
        assert made.deployments[0].state == "ready"
        world.balancer.sessions.clear()
        made = run(world, loop, 100)
    assert [status.record.id.name for status in made.instances] == ["web-0"]
    told = [event for _number, event in world.store.events("") if event.actor == "autoscale"]
    assert [event.what for event in told] == [
        "web: 1 → 3 instances", "web: 3 → 2 instances", "web: 2 → 1 instances"
    ]  # fmt: skip
    assert "the target is 5" in told[0].cause
    assert told[2].at - told[1].at >= 20
    assert world.store.intent().deployments[0].revision == 1


def test_requests_and_processors_in_a_whole_world():
    for figure, target in ((Figure.REQUESTS, 5.0), (Figure.CPU, 60.0)):
        world = FakeWorld()
        world.up(service(role(autoscale=Autoscale(1, 4, figure, target, 10.0))))
        world.hosts["local"].percent = 80.0
        begun = world.clock.now()

        def busy(world=world, begun=begun):
            world.balancer.requests[BACKEND] = int(10 * (world.clock.now() - begun))
            time.sleep(0.05)  # for the thread that asks for the processors' time: it is in no hurry

        with world.loop() as loop:
            made = run(world, loop, 60, busy)
        told = [event.what for _number, event in world.store.events("") if event.actor == "autoscale"]
        assert told[0] == "web: 1 → 2 instances", figure
        assert len(made.instances) == (2 if figure is Figure.REQUESTS else 4)  # each new one is as busy


def test_one_that_does_not_get_ready_holds_up_the_rest():
    world = FakeWorld()
    world.scripts["hello.production.web-1"] = Script(setup_errors=("no room",))
    world.up(service(role(autoscale=Autoscale(1, 4, Figure.SESSIONS, 5.0, 10.0))))
    with world.loop() as loop:
        run(world, loop, 5)
        made = run(world, loop, 90, lambda: world.balancer.sessions.update({(BACKEND, "web-0.g1"): 6}))
    assert len(made.instances) == 2


def problems(**fields):
    text = json.dumps({"service": "hello", "roles": {"web": {"image": "tiny", **fields}}})
    with pytest.raises(InvalidInput) as caught:
        parse(text, "f")
    return {problem.path.removeprefix("roles.web."): problem.message for problem in caught.value.problems}


ON_VIP = {"http": {"port": 80, "protocol": "http"}}
GOOD = {"max": 4, "target": {"sessions_per_instance": 5}}


def accepted(**fields):
    return parse(json.dumps({"service": "x", "roles": {"web": {"image": "tiny", **fields}}}), "f").roles[0]


def test_autoscale_in_the_file():
    found = accepted(endpoints=ON_VIP, autoscale={**GOOD, "min": 2, "cool_down": "90s"})
    assert (found.autoscale, found.instances) == (Autoscale(2, 4, Figure.SESSIONS, 5.0, 90.0), 2)
    assert accepted(endpoints=ON_VIP, autoscale=GOOD, instances=3).instances == 3
    cpu = accepted(autoscale={"max": 4, "target": {"cpu_percent": 62.5}}).autoscale
    assert cpu == Autoscale(1, 4, Figure.CPU, 62.5, 120.0)


@pytest.mark.parametrize(
    ("autoscale", "more", "path", "said"),
    [
        ({**GOOD, "min": 5}, {}, "autoscale.max", "at least min, which is 5"),
        ({**GOOD, "min": 2}, {"instances": 1}, "instances", "must be from 2 to 4"),
        (GOOD, {"instances": 5}, "instances", "must be from 1 to 4"),
        (GOOD, {"endpoints": {}}, "autoscale.target", "needs an endpoint on the VIP"),
        ({"max": 4}, {}, "autoscale.target", "is missing"),
        ({"max": 4, "target": {}}, {}, "autoscale.target", "needs one of sessions_per_instance, requests_per_second"),
        ({"max": 4, "target": {"cpu_percent": 50, "requests_per_second": 1}}, {}, "autoscale.target", "one only"),
        ({"max": 4, "target": {"cpu_percent": 150}}, {}, "autoscale.target.cpu_percent", "at most 100"),
        ({"max": 4, "target": {"sessions_per_instance": 0}}, {}, "autoscale.target.sessions_per_instance", "than 0"),
        ({**GOOD, "cool_down": "1s"}, {}, "autoscale.cool_down", "must be at least 5s"),
        ({**GOOD, "max": 201}, {}, "autoscale.max", "at most 200"),
        ({**GOOD, "figure": 1}, {}, "autoscale.figure", "is not a field here"),
        ("yes", {}, "autoscale", "must be a mapping"),
        (GOOD, {"endpoints": {"one": {"port": "9000-9002", "target": 22, "visibility": "instance"}}},
         "endpoints.one.port", "has 3 ports for up to 4 instances"),
    ],
)  # fmt: skip
def test_an_autoscale_that_cannot_be(autoscale, more, path, said):
    found = problems(**{"endpoints": ON_VIP, "autoscale": autoscale, **more})
    assert said in found[path], found
    assert TOLERANCE == 0.1
