"""HAProxy's file and commands: no value can become a second line or a second command."""

from dataclasses import replace

import pytest

from orchestrator.engine.rotation import fingerprint, frontends, layout, routes, signature
from orchestrator.model.action import Server
from orchestrator.model.secret import SecretRef
from orchestrator.model.spec import Protocol, Tls, Traffic
from orchestrator.model.traffic import Balance, Check, Sticky
from orchestrator.render import haproxy
from tests.fakes.build import deployment

FRONTS = frontends([deployment()])
SERVER = Server(FRONTS[0].name, "web-0.g1", "198.18.0.10", 8080)
COOKIE = replace(FRONTS[0], traffic=Traffic(sticky=Sticky.COOKIE))
CERTIFICATE = SecretRef("file:/etc/ssl/own.pem", "5eed")
HOSTILE = [
    "",
    "a b",
    "a;show env",
    "a\nb",
    "a\tb",
    "a\0b",
    "a'b",
    'a"b',
    "a\\b",
    "a#b",
    "ä",
    "a\r",
    "$(x)",
    "a,b",
    "{x}",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "say",
    [
        haproxy.word,
        lambda t: haproxy.add_command(replace(SERVER, name=t), FRONTS[0]),
        lambda t: haproxy.add_command(replace(SERVER, backend=t), FRONTS[0]),
        lambda t: haproxy.add_command(replace(SERVER, address=t), FRONTS[0]),
        lambda t: haproxy.enable_commands(replace(SERVER, name=t), FRONTS[0]),
        lambda t: haproxy.enable_commands(replace(SERVER, backend=t), COOKIE),
        lambda t: haproxy.down_command("b", t),
        haproxy.session_command,
        lambda t: haproxy.config_text([replace(FRONTS[0], traffic=Traffic(tls=Tls(CERTIFICATE, t or "?")))], []),
        lambda t: haproxy.delete_command("b", t),
        lambda t: haproxy.route_commands(1, {"198.51.100.1:80": t}),
        lambda t: haproxy.route_commands(1, {t: "b"}),
        lambda t: haproxy.state_command(t, "s", "drain"),
        lambda t: haproxy.state_command("b", "s", t),
        lambda t: haproxy.config_text([replace(FRONTS[0], vip=t)], []),
        lambda t: haproxy.config_text([replace(FRONTS[0], name=t)], []),
        lambda t: haproxy.config_text(FRONTS, [replace(SERVER, name=t)]),
    ],
)
def test_no_word_can_be_a_second_command(say, text):
    with pytest.raises(ValueError, match="not a word for HAProxy"):
        say(text)


@pytest.mark.parametrize("text", ["", "x", "/a b", "/a\nb", "/;x", "/a#b", '/"', "/\\", "/ä", "/a\0"])
def test_no_check_path_can_be_a_second_line(text):
    with pytest.raises(ValueError, match="not a path for HAProxy"):
        haproxy.uri(text)


def test_a_path_with_a_query_is_a_path():
    assert haproxy.uri("/a-b_c/%20?x=1&y=~.+") == "/a-b_c/%20?x=1&y=~.+"


def test_the_file_identifies_itself():
    text = haproxy.config_text(FRONTS, [SERVER])
    assert haproxy.saved_fingerprint(text) == fingerprint(FRONTS, [SERVER])
    assert f"description {layout(FRONTS)}.{signature(routes(FRONTS))}\n" in text
    assert haproxy.saved_fingerprint("global\n") == haproxy.saved_fingerprint("") == ""


def test_a_port_leads_where_the_map_says_else_to_its_own_backend():
    text = lines(FRONTS[0])
    at = text.index("frontend 198.51.100.1:80")
    assert text.index("use_backend %[fe_name,map(routes.map)]") > at
    assert text.index(f"default_backend {FRONTS[0].name}") > at
    assert haproxy.route_commands(3, routes(FRONTS)) == (
        f"add map @3 routes.map 198.51.100.1:80 {FRONTS[0].name}",
        "commit map @3 routes.map",
    )


def test_the_order_of_servers_does_not_change_the_file():
    other = replace(SERVER, name="web-1.g1")
    assert haproxy.config_text(FRONTS, [SERVER, other]) == haproxy.config_text(FRONTS, [other, SERVER])


def test_a_server_of_another_backend_is_not_in_this_one():
    text = haproxy.config_text(FRONTS, [replace(SERVER, backend="other")])
    assert "web-0.g1" not in text


def front(protocol=Protocol.HTTP, path="", **traffic):
    return replace(FRONTS[0], protocol=protocol, check_path=path, traffic=Traffic(**traffic))


def lines(*frontends):
    return [line.strip() for line in haproxy.config_text(frontends, [SERVER]).splitlines()]


SLOW = Check(0.5, 10.0, 1, 7, 8081, (204, 204))
PLAIN = "check inter 2000ms rise 2 fall 3"


@pytest.mark.parametrize(
    ("given", "keywords"),
    [
        (front(), PLAIN),
        (front(path="/x"), PLAIN),
        (front(check=SLOW), "check inter 500ms rise 1 fall 7 port 8081"),
        (front(Protocol.HTTPS, "/x"), f"{PLAIN} check-ssl verify none"),
        (front(Protocol.HTTPS), PLAIN),
        (front(Protocol.HTTPS, "/x", check=SLOW), "check inter 500ms rise 1 fall 7 port 8081"),
        (front(proxy_protocol=True), f"{PLAIN} send-proxy-v2 check-send-proxy"),
        (front(proxy_protocol=True, check=SLOW), "check inter 500ms rise 1 fall 7 port 8081 send-proxy-v2"),
        (front(max_per_instance=9), f"{PLAIN} maxconn 9"),
    ],
)
def test_a_server_is_the_same_in_the_file_and_on_the_socket(given, keywords):
    assert f"server web-0.g1 198.18.0.10:8080 {keywords}" in lines(given)
    assert haproxy.add_command(SERVER, given).endswith(f"/web-0.g1 198.18.0.10:8080 {keywords}")


@pytest.mark.parametrize(
    ("given", "some"),
    [
        (front(Protocol.HTTPS), {"mode tcp"}),
        (front(balance=Balance.SOURCE), {"balance source", "hash-type consistent"}),
        (front(balance=Balance.LEASTCONN), {"balance leastconn"}),
        (front(max_connections=1000, idle_s=90), {"maxconn 1000", "timeout client 90000ms", "timeout server 90000ms"}),
        (front(path="/x", check=SLOW), {"timeout check 10000ms", "http-check expect status 204-204"}),
        (front(sticky=Sticky.SOURCE), {"peers vmrole", "stick on src"}),
        (front(sticky=Sticky.COOKIE), {"cookie VMROLE insert indirect nocache httponly dynamic"}),
        (front(), {"http-request set-header X-Forwarded-Proto http"}),
        (
            front(tls=Tls(CERTIFICATE)),
            {
                "bind 198.51.100.1:80 ssl crt tls/5eed.pem ssl-min-ver TLSv1.2 alpn h2,http/1.1",
                "http-request set-header X-Forwarded-Proto https",
            },
        ),
        (
            front(Protocol.TCP, tls=Tls(CERTIFICATE, "1.3")),
            {"bind 198.51.100.1:80 ssl crt tls/5eed.pem ssl-min-ver TLSv1.3"},
        ),
    ],
)
def test_each_option_has_its_lines(given, some):
    assert some <= set(lines(given))


def test_what_is_not_asked_for_is_not_there():
    assert not [line for line in lines(front()) if line.startswith(("peers", "stick", "cookie", "maxconn"))]


def test_a_cookie_on_tls_never_goes_without():
    assert "cookie VMROLE insert indirect nocache httponly secure dynamic" in lines(
        front(sticky=Sticky.COOKIE, tls=Tls(CERTIFICATE))
    )


def test_a_certificate_without_a_key_is_named_by_its_source_and_never_holds_it():
    one, two = (haproxy.certificate_file(SecretRef(f"file:/x/{name}")) for name in "ab")
    assert one != two
    assert "/" not in one
