"""What the lab keeps on disk, and what of a home `lab down` removes."""

from pathlib import Path

import pytest

from orchestrator.errors import UserError
from orchestrator.lab import files, keeper, lifecycle


def test_record_reads_back(tmp_path):
    record = files.Record(5, 3, "kvm")
    files.write_record(tmp_path, record)
    assert files.read_record(tmp_path) == record


@pytest.mark.parametrize("text", ["", "{", "[]", '{"slot": 1}', '{"slot": 0, "hosts": "x", "accelerator": "tcg"}'])
def test_a_damaged_record_counts_as_none(tmp_path, text):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/lab.json").write_text(text)
    assert files.read_record(tmp_path) is None


def test_remove_spares_the_images(tmp_path):
    for folder in ("lab", "run", "images"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    for name in ("vmrole.db", "vmrole.db-wal", "vmrole.lock", "loop.lock", "site.json", "notes.txt"):
        (tmp_path / name).touch()
    files.remove(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "notes.txt"]


def test_a_host_keeps_its_disk_when_its_settings_are_written_again(tmp_path):
    (tmp_path / "lab").mkdir()
    files.write_node(tmp_path, "h0", "kvm")
    volume = tmp_path / "lab/h0/lib/images/volume"
    volume.write_text("data")
    assert (tmp_path / "lab/h0" / keeper.PROVEN_KVM).exists()
    files.write_node(tmp_path, "h0", "tcg")
    assert volume.read_text() == "data"
    assert not (tmp_path / "lab/h0" / keeper.PROVEN_KVM).exists()


def test_hosts_have_different_uuids(tmp_path):
    (tmp_path / "lab").mkdir()
    for node in ("h0", "h1"):
        files.write_node(tmp_path, node, "tcg")
    texts = {(tmp_path / "lab" / node / "etc/libvirtd.conf").read_text() for node in ("h0", "h1")}
    assert len(texts) == 2


@pytest.mark.parametrize("hosts", [0, -1, 16])
def test_a_lab_has_a_sensible_number_of_hosts(tmp_path, hosts):
    with pytest.raises(UserError, match="1 to 15 hosts"):
        lifecycle._wanted(tmp_path, hosts)


def test_hosts_are_never_taken_away(tmp_path):
    files.write_record(tmp_path, files.Record(0, 3, "tcg"))
    with pytest.raises(UserError, match="take some away"):
        lifecycle._wanted(tmp_path, 2)
    assert lifecycle._wanted(tmp_path, None).hosts == 3
    assert lifecycle._wanted(tmp_path, 4) == files.Record(0, 4, "tcg")


@pytest.mark.parametrize("home", ["/run/vmrole", "/var/lib/libvirt", "/dev/shm/x"])
def test_a_home_that_nodes_could_not_see_is_refused(home):
    with pytest.raises(UserError, match="cannot be"):
        lifecycle._usable(Path(home))


def test_a_dead_daemon_is_started_again_later_and_later():
    pids = iter(range(100, 200))
    started = []
    supervisor = keeper.Supervisor(["libvirtd"], lambda name: started.append(name) or next(pids))
    supervisor.start_due(0.0)
    supervisor.ended(100, 20.0)  # it had lived
    assert supervisor.wait_s(20.0) == pytest.approx(0.1)
    supervisor.start_due(20.1)
    supervisor.ended(101, 20.2)  # it had not
    assert supervisor.wait_s(20.2) == pytest.approx(0.2)
    supervisor.ended(999, 20.2)  # somebody's orphan
    supervisor.start_due(20.3)
    assert started == ["libvirtd"] * 2
    supervisor.start_due(20.4)
    assert started == ["libvirtd"] * 3
