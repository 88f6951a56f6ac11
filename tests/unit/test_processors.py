"""The processors' time is asked for only where a role's number follows it, and only now and then."""

import pytest

from orchestrator.control.processors import INTERVAL_S, Processors
from orchestrator.control.workers import Workers
from orchestrator.errors import HostAway
from orchestrator.model.load import Autoscale, Figure
from orchestrator.model.record import Intent
from tests.fakes.build import NOW, OWNER, deployment, record, role, service, web

CPU = Autoscale(1, 4, Figure.CPU, 50.0)


class Host:
    """Counts who asks."""

    def __init__(self):
        self.asked = []
        self.is_away = False

    def processor_times(self, domains):
        self.asked.append(tuple(domains))
        if self.is_away:
            raise HostAway("away")
        return dict.fromkeys(domains, 7.0)


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def processors(host):
    lane = Workers(1, name="figures")
    yield Processors({"local": host}, {"local": lane})
    lane.close()


def intent(wish):
    known = deployment(service(role(autoscale=wish), role("db")))
    return Intent(OWNER, (known,), (record(web(0).instance), record(web(1).instance)))


def look(processors, wish, *times):
    """Looks at these times, each after the answer to the one before has come."""
    found = {}
    for at in times:
        found = processors.look(intent(wish), NOW + at)
        future = processors._looks["local"].future
        if future is not None:
            future.exception(5)
    return found


def test_nobody_is_asked_for_what_nobody_wants(processors, host):
    for wish in (None, Autoscale(1, 4, Figure.SESSIONS, 50.0)):
        assert look(processors, wish, *range(10)) == {}
    assert host.asked == []


def test_the_answer_is_the_next_looks(processors, host):
    seen = look(processors, CPU, 0, 1)["local"]
    assert (seen.at, dict(seen.used_s)) == (NOW, {web(0).domain: 7.0, web(1).domain: 7.0})
    look(processors, CPU, 1.5, 2, 2.5)
    assert len(host.asked) == 1
    look(processors, CPU, INTERVAL_S, INTERVAL_S + 1)
    assert len(host.asked) == 2


def test_a_host_that_is_away_has_no_figures(processors, host):
    look(processors, CPU, 0, 1)
    host.is_away = True
    assert look(processors, CPU, 4, 5) == {}
    host.is_away = False
    assert look(processors, CPU, 6, 7)["local"].at == NOW + 6
