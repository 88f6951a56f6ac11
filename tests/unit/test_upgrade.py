"""How a change is to go through a role, as the file says it and as records keep it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.servicefile import parse
from orchestrator.control.apply import apply
from orchestrator.errors import InvalidInput, StoreConflict
from orchestrator.model.action import SaveCopy, SaveDeployment
from orchestrator.model.record import Event
from orchestrator.model.rollout import Good, Rollout, Stopped
from orchestrator.model.upgrade import Share, Upgrade, domain_of
from orchestrator.render.records import dump_deployment, load_deployment, upgraded
from tests.fakes.build import HELLO, NOW, deployment, role, service
from tests.fakes.world import FakeWorld

GOING = Rollout(2, NOW, {"web": 1}, 3, NOW, stopped=Stopped("web-0", "services", "nginx failed", NOW))
KEPT = (Good(1, service(), {"web": "sha256:0"}),)


def upgrade(fields: str) -> Upgrade:
    text = f"service: a\nroles: {{b: {{image: c, instances: 10, upgrade: {{{fields}}}}}}}"
    return parse(text, "f").roles[0].upgrade


@pytest.mark.parametrize(("said", "away"), [("1", 1), ("3", 3), ("25%", 2), ("50%", 5), ("1%", 1), ("100%", 10)])
def test_max_unavailable_is_a_number_or_a_part_rounded_down_but_at_least_one(said, away):
    assert upgrade(f"max_unavailable: {said}").away(10) == away


@given(st.integers(0, 100), st.integers(1, 200))
def test_a_part_is_never_more_than_all(percent, instances):
    share = Share(percent, is_percent=True)
    assert 0 <= share.least(instances) <= share.most(instances) + 1 <= instances + 1


@given(st.integers(0, 199), st.integers(1, 20))
def test_instance_i_is_in_domain_i_mod_n(ordinal, domains):
    assert domain_of(ordinal, domains) == ordinal % domains


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("max_unavailable: 0", "must be at least 1 without max_surge"),
        ("max_unavailable: 0%", "must be at least 1 without max_surge"),
        ("domains: 0", "at least 1"),
        ("min_ready: 5", "must be a time like"),
        ("automatic: no-no", "must be true or false"),
        ("max_unavailable: 101%", "from 0 to 100%, got 101%"),
        ("max_unavailable: -1", "from 0 to 200, got -1"),
        ("max_unavailable: true", "or a part of them like 25%"),
        ("max_unavailable: half", "or a part of them like 25%"),
        ("max_unavailable: 1.5", "or a part of them like 25%"),
    ],
)
def test_what_is_no_share_is_refused(said, message):
    with pytest.raises(InvalidInput) as told:
        upgrade(said)
    assert message in told.value.problems[0].message
    assert told.value.problems[0].path.startswith("roles.b.upgrade")


def test_a_record_of_before_keeps_its_max_unavailable():
    old = json.loads(dump_deployment(deployment()))
    (spoken,) = old["service"]["roles"]
    del spoken["upgrade"]
    del old["rollout"], old["good"]
    spoken["max_unavailable"] = 3
    assert load_deployment(upgraded(json.dumps(old))) == deployment(
        service(role(upgrade=Upgrade(max_unavailable=Share(3))))
    )


def test_an_upgrade_under_way_is_kept_but_not_copied_to_hosts():
    record = deployment(rollout=GOING, good=KEPT)
    assert load_deployment(dump_deployment(record)) == record
    world = FakeWorld()
    world.hosts["local"].create_pool()
    apply(SaveCopy("local", record), world.effects)
    (content,) = (volume.content for volume in world.hosts["local"].volumes.values() if volume.content)
    assert load_deployment(content) == deployment()


def test_the_loop_stores_a_deployment_as_it_was_when_it_looked():
    world = FakeWorld()
    world.up(service())
    (known,) = world.store.intent().deployments
    apply(SaveDeployment(replace(known, rollout=GOING), Event(NOW, str(HELLO), "upgrade")), world.effects)
    assert world.store.intent().deployments[0].rollout == GOING
    with pytest.raises(StoreConflict):
        apply(SaveDeployment(known), world.effects)
