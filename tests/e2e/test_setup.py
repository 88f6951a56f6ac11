"""Setup's commands and start-up tasks on the small image; the rest of ``setup`` is on an ordinary one (test_debian)."""

import pytest

from tests.e2e.conftest import service, write

pytestmark = pytest.mark.vm


def test_a_command_that_fails_is_setups_failure_and_the_next_ones_do_not_run(lab, tmp_path):
    """On the small image, with the same words as on an ordinary one."""
    run = [{"run": "echo the database is not there >&2; exit 4", "name": "database"}, "touch /root/next"]
    done = lab.run("up", write(tmp_path / "f.yaml", service("fails", setup={"run": run})))
    assert done.code == 1
    assert "run database failed with exit code 4: the database is not there" in done.err
    assert lab.run("exec", "fails/web-0", "--", "test", "-e", "/root/next").code == 1


def test_nothing_is_ready_before_its_startup_tasks_ended(lab, tmp_path):
    tasks = [
        {"run": "sleep 6; echo done >/root/task", "name": "slow"},
        {"run": "sleep 60", "name": "hangs", "timeout": "3s"},
    ]
    file = write(tmp_path / "s.yaml", service("slow", setup={"startup_tasks": tasks}))
    done = lab.run("up", file)
    assert done.code == 1
    assert "start-up task slow" in done.out + done.err  # what it waited for
    assert "start-up task hangs did not end in time" in done.err
    assert "run `vmrole reboot`" in done.err
    assert lab.ok("exec", "slow/web-0", "--", "cat", "/root/task").out == "done\n"
    assert lab.instance("slow", "web-0")["timeline"]["services"] is None
    ok = write(tmp_path / "s.yaml", service("slow", setup={"startup_tasks": tasks[:1]}))
    lab.ok("up", ok)
    line = lab.instance("slow", "web-0")["timeline"]
    assert line["services"] - line["agent"] >= 5


def test_a_command_may_reboot_the_machine_and_the_next_one_goes_on(lab, tmp_path):
    run = ["echo one >>/root/log; sync; reboot; sleep 30", "echo two >>/root/log"]
    lab.ok("up", write(tmp_path / "r.yaml", service("twice", setup={"run": run})))
    assert lab.ok("exec", "twice/web-0", "--", "cat", "/root/log").out == "one\ntwo\n"
