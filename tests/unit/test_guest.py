"""Guests are asked to stop once, by what there is; and an enlarged disk is waited for, but not for ever."""

import base64

import pytest

from orchestrator.drivers.guest import GROW_S, RESTART, STOP, AgentGuests
from orchestrator.drivers.winguest import RESTART_ARGV
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.record import Act
from orchestrator.model.spec import WINDOWS, Disk, DiskKind, Ready
from orchestrator.model.world import GuestSeen
from orchestrator.render.disks import grow_argv
from tests.fakes.build import web
from tests.fakes.clock import FakeClock

REFUSED, SILENT = AgentRefused("refused"), AgentSilent("silent")
DATA = Disk("data", DiskKind.VOLUME, 64, "/srv/data")


class Agent:
    """A host with one guest, whose agent has one answer for each command, or raises it."""

    def __init__(self, **answers: object) -> None:
        self._answers = {command.replace("_", "-"): answer for command, answer in answers.items()}
        self.asked: list[tuple[str, dict]] = []

    def agent(self, _domain, command, arguments, _timeout_s):
        self.asked.append((command, arguments))
        answer = self._answers[command]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def shut_down(self, _machine):
        self.asked.append(("power button", {}))

    def commands(self) -> list[str]:
        return [command for command, _ in self.asked]


@pytest.mark.parametrize(
    ("answers", "commands"),
    [
        ({"guest_exec": {"pid": 7}}, ["guest-exec"]),
        ({"guest_exec": SILENT}, ["guest-exec", "power button"]),
        ({"guest_exec": REFUSED, "guest_shutdown": SILENT}, ["guest-exec", "guest-shutdown"]),
        ({"guest_exec": REFUSED, "guest_shutdown": {}}, ["guest-exec", "guest-shutdown"]),
        ({"guest_exec": REFUSED, "guest_shutdown": REFUSED}, ["guest-exec", "guest-shutdown", "power button"]),
    ],
    ids=["script", "silent", "no exec, goes off", "no exec, answers", "nothing but the button"],
)
def test_a_guest_is_asked_to_stop_by_what_there_is(answers, commands):
    host = Agent(**answers)
    AgentGuests(FakeClock()).shut_down(host, web(0), Act.REIMAGE)
    assert host.commands() == commands


def test_the_guest_is_told_why_and_nobody_waits_for_it():
    host = Agent(guest_exec={"pid": 7})
    AgentGuests(FakeClock()).shut_down(host, web(0), Act.REIMAGE)
    ((_, arguments),) = host.asked
    assert arguments["arg"] == ["-c", STOP, "vmrole-stop", "reimage"]


def test_services_are_restarted_by_name_and_what_can_be_no_name_is_left_out():
    host = Agent(guest_exec={"pid": 7})
    AgentGuests(FakeClock()).restart(host, web(0), ("nginx.service", "-f", "a b", "x;y", "../z", "getty@tty1.service"))
    ((_, arguments),) = host.asked
    assert arguments["arg"] == ["-c", RESTART, "vmrole-restart", "nginx.service", "getty@tty1.service"]


def test_windows_restarts_services_by_powershell_which_is_given_their_names_as_data():
    host = Agent(guest_exec={"pid": 7})
    AgentGuests(FakeClock()).restart(host, web(0), ("Spooler", "a b", "W32Time"), system=WINDOWS)
    ((_, arguments),) = host.asked
    assert (arguments["path"], arguments["arg"]) == (RESTART_ARGV[0], list(RESTART_ARGV[1:]))
    assert base64.b64decode(arguments["input-data"]) == b"Spooler\nW32Time"


def test_nobody_is_asked_to_restart_nothing():
    host = Agent(guest_exec={"pid": 7})
    AgentGuests(FakeClock()).restart(host, web(0), ("/etc/passwd",))
    assert host.asked == []


def test_a_guest_that_refuses_a_restart_is_one_that_it_does_not_help():
    host = Agent(guest_exec=REFUSED)
    AgentGuests(FakeClock()).restart(host, web(0), ("httpd",))
    assert host.commands() == ["guest-exec"]
    with pytest.raises(AgentSilent):
        AgentGuests(FakeClock()).restart(Agent(guest_exec=SILENT), web(0), ("httpd",))


def test_a_disk_is_enlarged_by_the_guests_own_script():
    host = Agent(guest_exec={"pid": 7}, guest_exec_status={"exited": True, "exitcode": 0})
    AgentGuests(FakeClock()).grow(host, web(0), DATA)
    assert host.asked[0][1]["path"] == "/bin/sh"
    assert host.asked[0][1]["arg"] == grow_argv(DATA)[1:]


def test_why_a_disk_cannot_be_enlarged_is_the_scripts_last_word():
    said = base64.b64encode(b"resize2fs: no\ndisk data (/srv/data): it is not mounted\n").decode()
    host = Agent(guest_exec={"pid": 7}, guest_exec_status={"exited": True, "exitcode": 1, "err-data": said})
    with pytest.raises(AgentRefused, match=r"disk data: disk data \(/srv/data\): it is not mounted"):
        AgentGuests(FakeClock()).grow(host, web(0), DATA)


def test_a_disk_that_is_never_done_is_not_waited_for_for_ever():
    clock = FakeClock()
    begun = clock.now()
    with pytest.raises(AgentSilent, match="still enlarging"):
        AgentGuests(clock).grow(Agent(guest_exec={"pid": 7}, guest_exec_status={"exited": False}), web(0), DATA)
    assert GROW_S <= clock.now() - begun < GROW_S + 1


FAILED = b"""{"v1": {"datasource": "DataSourceNoCloud", "errors": ["Runparts: 1 failures (runcmd)"]}}"""
PRINTED = b"""Cloud-init v. 22.4.2 running 'modules:final' at Tue, 24 Nov 2026 12:01:19 +0000. Up 40.76 seconds.
disk data (/srv/data): it is not blank
2026-11-24 12:01:21,162 - cc_scripts_user.py[WARNING]: Failed to run module scripts-user
2026-11-24 12:01:21,170 - util.py[WARNING]: Running module scripts-user failed
Cloud-init v. 22.4.2 finished at Tue, 24 Nov 2026 12:01:21 +0000.
"""


class Files(Agent):
    """An agent that lets files be read, each as a whole."""

    def __init__(self, **files: bytes) -> None:
        super().__init__(guest_file_close={}, guest_file_seek={"position": 0})
        self._names, self._files = list(files), list(files.values())

    def agent(self, domain, command, arguments, timeout_s):
        if command == "guest-file-open":
            name = arguments["path"].rsplit("/", 1)[-1].split(".")[0].replace("-", "_")
            if name not in self._names:
                raise REFUSED
            return self._names.index(name)
        if command == "guest-file-read":
            return {"buf-b64": base64.b64encode(self._files[arguments["handle"]]).decode()}
        return super().agent(domain, command, arguments, timeout_s)


KEYS = b"""ci-info: +-------+-------------+
Generating public/private ed25519 key pair.
Your identification has been saved in /etc/ssh/ssh_host_ed25519_key
Your public key has been saved in /etc/ssh/ssh_host_ed25519_key.pub
The key fingerprint is:
SHA256:wVh+6lyIFAiUgylrjTxA82+Cs9fNNEmCxygG/MnZVCE root@web-0
The key's randomart image is:
+--[ED25519 256]--+
|+*oo Eooo        |
|  .              |
+----[SHA256]-----+
"""


def test_of_a_failed_setup_no_keys_that_cloud_init_made_are_told():
    host = Files(boot_id=b"b\n", result=FAILED, cloud_init_output=b"E: no such package\n" + KEYS)
    seen = AgentGuests(FakeClock()).look(host, web(0), dip="198.18.0.10", ready=Ready(), known_boot=None)
    assert seen.setup_errors[-1] == "its last output: E: no such package"


def test_a_failed_setup_is_told_with_what_its_commands_printed_last():
    host = Files(boot_id=b"b\n", result=FAILED, cloud_init_output=PRINTED)
    seen = AgentGuests(FakeClock()).look(host, web(0), dip="198.18.0.10", ready=Ready(), known_boot=None)
    assert seen.setup_errors[-1] == "its last output: disk data (/srv/data): it is not blank"


GOOD = b"""{"v1": {"datasource": "DataSourceNoCloud", "errors": []}}"""


@pytest.mark.parametrize(
    ("files", "seen"),
    [
        ({"setup": b"running start_up 0 migrate\n"}, GuestSeen("b", setup_stage="start-up task migrate")),
        ({"status": b'{"v1": {"stage": "init"}}'}, GuestSeen("b", setup_stage="init")),
        (
            {"result": GOOD, "setup": b"failed start_up 3 migrate\nout too old\n"},
            GuestSeen("b", True, startup="start-up task migrate failed with exit code 3: too old"),
        ),
        (
            {"result": FAILED, "setup": b"failed first_boot 4 db\nout no\n", "cloud_init_output": PRINTED},
            GuestSeen("b", True, "", ("Runparts: 1 failures (runcmd)", "run db failed with exit code 4: no")),
        ),
    ],
)
def test_how_far_the_commands_of_setup_are(files, seen):
    host = Files(boot_id=b"b\n", **files)
    assert AgentGuests(FakeClock()).look(host, web(0), dip="198.18.0.10", ready=Ready(), known_boot=None) == seen
