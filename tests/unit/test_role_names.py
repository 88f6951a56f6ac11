"""Roles and instances are names in one DNS: none of them may stand for two things."""

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.errors import InvalidInput
from tests.fakes.build import HELLO, WEB, role, service
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld


def roles(*names: str) -> str:
    return "service: hello\nroles:\n" + "".join(f"  {name}: {{image: tiny}}\n" for name in names)


def test_a_role_called_as_an_instance_of_another_is_refused():
    with pytest.raises(InvalidInput) as told:
        parse(roles("web", "web-12", "db"), "hello.yaml")
    (problem,) = told.value.problems
    assert "roles.web-12" in str(problem)
    assert "is also the name of an instance of role web" in str(problem)


def test_a_number_alone_makes_no_role_an_instance():
    assert [r.name for r in parse(roles("web-12", "db-a", "db"), "hello.yaml").roles] == ["web-12", "db-a", "db"]


def addresses(world: FakeWorld, name: str) -> set[str]:
    return {known.ip for known in world.hosts["local"].networks[HELLO.network].names if known.name == name}


def test_a_roles_name_leads_to_those_that_are_ready():
    world = FakeWorld()
    world.up(service(role(instances=2), role("db", endpoints=())))
    world.settle()
    both = {world.record("web-0").dip, world.record("web-1").dip}
    assert addresses(world, "web") == addresses(world, "web.hello.internal") == both
    assert addresses(world, "db") == {world.record("db-0").dip}
    world.scripts[str(WEB)] = Script(busy="counting money")
    world.settle()
    assert addresses(world, "web") == {world.record("web-1").dip}
    assert addresses(world, "web-0") == {world.record("web-0").dip}
    world.scripts[str(WEB)] = Script()
    world.settle()
    assert addresses(world, "web") == both
