"""Which options of an endpoint go together: whatever is let through can be rendered, all else is told at its field."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.servicefile import parse
from orchestrator.engine.rotation import frontends
from orchestrator.errors import InvalidInput
from orchestrator.model.spec import Endpoint, Protocol, Service, Visibility
from orchestrator.model.traffic import Balance, Sticky
from orchestrator.render.haproxy import config_text
from tests.fakes.build import deployment

CHECK = {
    "path": st.sampled_from(["/", "/healthz?x=1"]),
    "interval": st.sampled_from(["0.5s", "1m"]),
    "timeout": st.just("3s"),
    "rise": st.integers(1, 5),
    "fall": st.integers(1, 5),
    "port": st.integers(1, 65535),
    "status": st.sampled_from([204, "200-299"]),
}
FIELDS = {
    "protocol": st.sampled_from(["http", "https", "tcp", "udp"]),
    "visibility": st.sampled_from(["input", "input", "internal", "instance"]),
    "check": st.fixed_dictionaries({}, optional=CHECK),
    "balance": st.sampled_from(["roundrobin", "leastconn", "source"]),
    "sticky": st.sampled_from(["none", "cookie", "source"]),
    "proxy_protocol": st.booleans(),
    "max_connections": st.integers(1, 5000),
    "max_connections_per_instance": st.integers(1, 500),
    "idle_timeout": st.sampled_from(["5s", "1h"]),
    "tls": st.just({"certificate": {"secret": "store:site"}, "min_version": "1.3"}),
    "ignore_instance_status": st.booleans(),
}


@st.composite
def written(draw):
    """An endpoint as it stands in a file."""
    fields = draw(st.fixed_dictionaries({}, optional=FIELDS))
    return fields | ({} if fields.get("visibility") == "internal" else {"port": 80}) | {"target": 8080}


def makes_sense(endpoint: Endpoint) -> bool:
    traffic, protocol = endpoint.traffic, endpoint.protocol
    is_chosen = traffic.balance is not Balance.ROUNDROBIN or traffic.sticky is not Sticky.NONE
    return not (
        (traffic.sticky is Sticky.COOKIE and protocol is not Protocol.HTTP)
        or (traffic.tls is not None and protocol is Protocol.HTTPS)
        or (endpoint.check_path and protocol is Protocol.TCP and not traffic.check.port)
        or (endpoint.visibility is Visibility.INSTANCE and is_chosen)
        or (endpoint.visibility is Visibility.INTERNAL and endpoint.traffic != Endpoint("x", (0, 0), 1).traffic)
    )


@given(written())
@settings(max_examples=400, deadline=None)
def test_what_is_let_through_makes_sense_and_all_else_is_told_where_it_stands(fields):
    text = json.dumps({"service": "hello", "roles": {"web": {"image": "tiny", "endpoints": {"it": fields}}}})
    found, told = read(text)
    assert all(path.startswith("roles.web.endpoints.it") for path in told)
    if found is None:
        assert told
        return
    (endpoint,) = found.roles[0].endpoints
    assert fields.get("protocol") != "udp"
    assert makes_sense(endpoint)
    assert config_text(frontends([deployment(found)]), []).startswith("# vmrole ")


def read(text: str) -> tuple[Service | None, list[str]]:
    """What a file says, or the paths of what is wrong in it."""
    try:
        return parse(text, "f"), []
    except InvalidInput as refused:
        return None, [problem.path for problem in refused.problems]


def test_every_misfit_is_told_at_once():
    fields = "{port: 80, protocol: https, sticky: cookie, tls: {certificate: {secret: store:x}}, check: {status: 1}}"
    _found, told = read(f"service: a\nroles: {{web: {{image: b, endpoints: {{it: {fields}}}}}}}")
    assert {path.removeprefix("roles.web.endpoints.it.") for path in told} == {"sticky", "tls", "check.status"}
