"""What HAProxy's runtime sockets say, as 2.6.12 said it."""

from orchestrator.drivers import _runtime as runtime

PROC = """\
#<PID>          <type>          <reloads>       <uptime>        <version>
3309            master          1 [failed: 0]   0d00h00m04s     2.6.12-1+deb12u4
# workers
3754            worker          0               0d00h00m01s     2.6.12-1+deb12u4
# old workers
3311            worker          1               0d00h00m04s     2.6.12-1+deb12u4
3312            worker          2               0d00h00m09s     2.6.12-1+deb12u4
# programs

"""
SESSIONS = """\
0x5627f4c6ee10: proto=tcpv4 src=127.0.0.1:48004 fe=d be=d srv=web-0.g1 ts=00 epoch=0 age=1s scb=[8,1h,fd=20] exp=3s rc=0 c_exp=
0x5627f4d97860: proto=tcpv4 src=127.0.0.1:42224 fe=d be=d srv=web-0.g1 ts=00 epoch=0 age=1s scb=[5,11h,fd=22] exp=3s rc=0 c_exp=3s
0x5627f4d97861: proto=tcpv4 src=127.0.0.1:42225 fe=d be=d srv=web-0.g11 ts=00 epoch=0 age=1s scb=[8,1h,fd=23] exp=3s rc=0 c_exp=
0x5627f4d98bb0: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 scb=[8,1h,fd=-1] exp=10s rc=0 c_exp=
"""  # noqa: E501 - HAProxy's own lines
STAT = "# pxname,svname,qcur,qmax,scur,smax\nd,web-0.g1,0,0,2,5\nd,web-1.g1,0,0,,\nd,BACKEND,0,0,2,5\n\n"


def test_processes():
    assert runtime.master_pids(PROC) == [3309]
    assert runtime.old_workers(PROC) == [3311, 3312]
    assert runtime.old_workers(PROC.partition("# old")[0]) == runtime.old_workers("") == []


def test_only_the_sessions_that_a_server_has_taken_are_ended():
    assert runtime.sessions_of(SESSIONS, "d", "web-0.g1") == ["0x5627f4c6ee10"]
    assert runtime.sessions_of(SESSIONS, "d", "web-9.g1") == runtime.sessions_of("", "d", "web-0.g1") == []


def test_routes():
    said = "0x55cbd8a1b060 198.51.100.1:80 hello.staging.web.http\n\n"
    assert runtime.parse_routes(said) == {"198.51.100.1:80": "hello.staging.web.http"}
    assert runtime.parse_routes("Unknown map identifier. Please use #<id> or <file>.\n\n") == {}
    assert runtime.parse_routes("") == {}
    assert runtime.new_version("New version created: 12\n\n") == 12
    assert runtime.new_version("Unknown map identifier. Please use #<id> or <file>.\n") is None


def test_sessions_now():
    assert runtime.parse_sessions(STAT) == {("d", "web-0.g1"): 2, ("d", "web-1.g1"): 0, ("d", "BACKEND"): 2}
