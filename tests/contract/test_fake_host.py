"""The host in memory promises what every host does, and takes as harm what must never be done to a real one."""

from dataclasses import replace

import pytest

from orchestrator.errors import HostAway, NoRoom, Refused
from orchestrator.model.guard import Guard
from orchestrator.model.names import VolumeId
from orchestrator.model.world import Power
from tests.fakes.build import DIGEST, OWNER, web
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults, Harm
from tests.fakes.guests import Script
from tests.fakes.host import Domain, FakeHost

from .test_host import COPY, MACHINE, MIB, NAME, VOLUME, HostContract, read


class TestFakeHost(HostContract):
    @pytest.fixture
    def clock(self):
        return FakeClock()

    @pytest.fixture
    def faults(self):
        return Faults()

    @pytest.fixture
    def host(self, clock, faults):
        host = FakeHost("local", OWNER, clock, faults, lambda _name: Script())
        for number in range(3):  # libvirt's test driver, which keeps the other promises, knows no filters
            host.define_filter(Guard(f"vmrole-{OWNER}.{web(number).instance}", ()))
        return host

    @pytest.fixture
    def forget(self):
        def at_once(host: FakeHost) -> None:
            host.domains[MACHINE.domain] = replace(host.domains[MACHINE.domain], is_persistent=False)

        return at_once

    @pytest.fixture
    def pause(self):
        def at_once(host: FakeHost) -> None:
            host.domains[MACHINE.domain] = replace(host.domains[MACHINE.domain], power=Power.PAUSED, why="by somebody")

        return at_once

    @pytest.fixture
    def lay_base(self, tmp_path):
        return lambda host: host.place_image(DIGEST, tmp_path, lambda _text: None)

    @pytest.fixture
    def lay_disks(self, lay_base):
        def lay(host: FakeHost) -> None:
            lay_base(host)
            host.create_overlay(MACHINE, DIGEST, 0)
            host.create_seed(MACHINE, b"disc")

        return lay

    def test_a_domain_goes_twice(self, defined):
        for _again in range(2):
            defined.undefine_domain(MACHINE.domain)
            assert defined.observe().domains == {}

    def test_an_answer_file_is_ejected_twice_and_only_then_deleted(self, running):
        with pytest.raises(Harm, match="deleted under"):
            running.delete_volume(MACHINE.seed)
        for _again in range(2):
            running.eject_seed(MACHINE)
            assert MACHINE.seed not in running.observe().domains[MACHINE.domain].files
        running.delete_volume(MACHINE.seed)
        running.destroy_domain(MACHINE.domain)
        running.start_domain(MACHINE)
        assert running.observe().domains[MACHINE.domain].power is Power.RUNNING

    def test_a_machine_does_not_start_for_the_first_time_without_its_answer_file(self, defined):
        defined.eject_seed(MACHINE)
        with pytest.raises(Harm, match="first time"):
            defined.start_domain(MACHINE)

    def test_a_host_that_is_away_says_so(self, host):
        host.is_away = True
        with pytest.raises(HostAway):
            host.observe()

    def test_a_guest_that_is_asked_to_shut_down_goes_off_by_itself(self, defined, clock):
        defined.shut_down(MACHINE)  # nothing to do
        defined.start_domain(MACHINE)
        for _again in range(2):
            defined.shut_down(MACHINE)
            assert defined.observe().domains[MACHINE.domain].power is Power.RUNNING
            clock.pass_by(0.3)
        seen = defined.observe().domains[MACHINE.domain]
        assert (seen.power, seen.why) == (Power.OFF, "shutdown")

    @pytest.fixture
    def running(self, defined):
        defined.start_domain(MACHINE)
        return defined

    def test_a_disk_grows_by_who_has_it_open(self, running):
        running.grow_disk(VOLUME.file, 128 * MIB, MACHINE.domain)
        assert running.observe().sizes[VOLUME.file] == 128 * MIB
        running.destroy_domain(MACHINE.domain)
        with pytest.raises(Refused):
            running.grow_disk(VOLUME.file, 256 * MIB, MACHINE.domain)
        running.grow_disk(VOLUME.file, 256 * MIB, "")
        assert running.observe().sizes[VOLUME.file] == 256 * MIB

    def test_a_volumes_content_moves_and_comes_back(self, stored):
        stored.volumes[VOLUME.file] = replace(stored.volumes[VOLUME.file], content="old")
        stored.snapshot_volume(VOLUME, NAME, "")
        stored.import_volume(VOLUME, 5, iter([b"new", b"er"]), lambda _text: None)
        assert (read(stored), stored.observe().sizes[VOLUME.file]) == (b"newer", 5)
        stored.restore_volume(VOLUME, NAME)
        assert (read(stored), stored.observe().sizes[VOLUME.file]) == (b"old", 64 * MIB)
        stored.put_copy(COPY, b"{}")
        with stored.export_volume(COPY.file) as pieces:
            assert b"".join(pieces) == b"{}"

    def test_a_volume_is_not_whole_while_it_comes(self, stored, faults):
        faults.broken["import_end", VOLUME.file] = [HostAway("away")]
        with pytest.raises(HostAway):
            stored.import_volume(VOLUME, 3, iter([b"new"]), lambda _text: None)
        assert {VOLUME.file, VOLUME.coming} <= stored.observe().volumes
        stored.import_volume(VOLUME, 3, iter([b"new"]), lambda _text: None)
        assert VOLUME.coming not in stored.observe().volumes

    def test_what_has_no_room_leaves_nothing(self, stored):
        stored.free_bytes = 0
        with pytest.raises(NoRoom):
            stored.import_volume(web_volume := VolumeId(web(1).instance, "data"), 3, iter([]), lambda _text: None)
        with pytest.raises(NoRoom):
            stored.create_disk(web_volume.file, MIB)
        with pytest.raises(NoRoom):
            stored.snapshot_volume(VOLUME, NAME, "")
        assert stored.observe().volumes == {VOLUME.file}

    def test_a_base_that_somebody_wrote_into_is_seen_until_it_is_placed_anew(self, stored, lay_base):
        lay_base(stored)
        stored.altered.add(DIGEST)
        assert stored.observe().altered == {DIGEST}
        lay_base(stored)
        assert stored.observe().altered == frozenset()

    @pytest.mark.parametrize("power", [Power.RUNNING, Power.PAUSED, Power.UNSETTLED])
    def test_no_two_have_a_file_open(self, defined, power):
        defined.domains["desktop"] = Domain("", "", power, files=frozenset({VOLUME.file}))
        assert defined.observe().domains["desktop"].files == {VOLUME.file}
        with pytest.raises(Harm, match="desktop"):
            defined.start_domain(MACHINE)

    def test_a_machine_is_not_started_without_a_disk(self, defined):
        defined.delete_volume(VOLUME.file)
        with pytest.raises(Harm, match="without"):
            defined.start_domain(MACHINE)

    def test_a_machine_is_not_started_on_half_a_volume(self, defined):
        defined.create_disk(VOLUME.coming, 0)
        with pytest.raises(Harm, match="not whole"):
            defined.start_domain(MACHINE)

    def test_nobody_touches_a_file_that_is_open(self, running):
        for act in (
            lambda: running.delete_volume(VOLUME.file),
            lambda: running.import_volume(VOLUME, 3, iter([b"new"]), lambda _text: None),
            lambda: running.snapshot_volume(VOLUME, NAME, ""),
            lambda: running.grow_disk(VOLUME.file, 128 * MIB, ""),
            lambda: read(running),
            running.delete_pool,
        ):
            with pytest.raises(Harm):
                act()

    def test_a_volume_is_not_lost_with_its_pool(self, stored):
        with pytest.raises(Harm):
            stored.delete_pool()
        stored.delete_volume(VOLUME.file)
        stored.delete_pool()
