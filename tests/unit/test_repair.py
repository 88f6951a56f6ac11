"""The ladder and the budget, as values: it only climbs, it ends, and never more are disturbed than may be."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.health import Finding, Health
from orchestrator.engine.repair import ORDER, Need, Patient, budget, need, next_remedy, permitted
from orchestrator.model.record import Care, Remedy
from orchestrator.model.spec import Repair, Rung
from tests.fakes.build import NOW, web

ALL = frozenset(Remedy)
HUNG = Finding(Health.UNKNOWN, "hung", Remedy.REBOOT, is_deaf=True)
SICK = Finding(Health.UNHEALTHY, "httpd (down)", Remedy.RESTART, ("httpd",))
SILENT = Finding(Health.UNKNOWN, "silent")
FAILED = Finding(Health.UNHEALTHY, "failed at setup: no disk", Remedy.REIMAGE, is_sure=True)
REPAIR = Repair()


def climb(repair: Repair, found: Finding, possible: frozenset[Remedy]) -> tuple[list[Remedy], str]:
    """Every rung that is taken while nothing helps, and why it ends."""
    care: Care | None = None
    taken: list[Remedy] = []
    while True:
        wanted = need(care, repair, found, possible, NOW)
        assert wanted is not None
        if wanted.remedy is None:
            return taken, wanted.verdict
        taken.append(wanted.remedy)
        known = care or Care(NOW, found.reason)
        tries = known.tries + 1 if known.remedy is wanted.remedy else 1
        care = replace(known, remedy=wanted.remedy, tries=tries, at=NOW)


def test_it_climbs_from_the_lowest_rung_that_could_help_to_the_end():
    taken, verdict = climb(REPAIR, SICK, ALL)
    assert [remedy.value for remedy in taken] == ["restart", "reboot", "reimage", "reimage", "reimage", "relocate"]
    assert verdict == "1 of 1 relocations did not help: httpd (down)"
    assert climb(REPAIR, HUNG, ALL)[0][0] is Remedy.REBOOT


def test_what_does_not_help_is_said_with_its_count():
    taken, verdict = climb(REPAIR, FAILED, ALL - {Remedy.RELOCATE})
    assert taken == [Remedy.REIMAGE] * 3
    assert verdict == "3 of 3 reimages failed at setup: no disk"


def test_silence_alone_is_no_reason_for_any_rung():
    assert need(None, REPAIR, SILENT, ALL, NOW) == Need()
    assert need(Care(NOW, "x", remedy=Remedy.REBOOT, tries=1), REPAIR, SILENT, ALL, NOW) == Need()


def test_a_fault_of_the_boot_waits_for_the_grace_and_a_service_does_not():
    assert need(None, REPAIR, HUNG, ALL, NOW) == Need(Remedy.REBOOT, NOW + 600)
    assert need(None, replace(REPAIR, grace_s=5.0), HUNG, ALL, NOW) == Need(Remedy.REBOOT, NOW + 5)
    assert need(None, REPAIR, SICK, ALL, NOW) == Need(Remedy.RESTART, 0.0)
    assert need(None, REPAIR, FAILED, ALL, NOW) == Need(Remedy.REIMAGE, 0.0)


def test_each_rung_is_given_its_time_to_help():
    care = Care(NOW, "x", remedy=Remedy.REIMAGE, tries=1, at=NOW + 7)
    assert need(care, REPAIR, FAILED, ALL, NOW) == Need(Remedy.REIMAGE, NOW + 7 + 60)


def test_what_only_looks_wrong_for_now_needs_nothing():
    assert need(None, REPAIR, replace(SICK, is_doubtful=True), ALL, NOW) is None
    assert need(None, REPAIR, Finding(), ALL, NOW) is None


def test_nothing_is_done_once_it_has_stopped():
    assert need(Care(NOW, "x", verdict="3 of 3"), REPAIR, SICK, ALL, NOW) is None


RUNGS = st.builds(Rung, st.integers(0, 3), st.floats(0, 100))
REPAIRS = st.builds(
    Repair, st.just(True), st.floats(0, 600), st.integers(1, 100), RUNGS, RUNGS, RUNGS, RUNGS
)  # fmt: skip


@given(repair=REPAIRS, found=st.sampled_from([SICK, HUNG, FAILED]), possible=st.frozensets(st.sampled_from(ORDER)))
def test_whatever_may_be_tried_it_never_goes_down_and_always_ends(repair, found, possible):
    taken, verdict = climb(repair, found, possible)
    heights = [ORDER.index(remedy) for remedy in taken]
    assert heights == sorted(heights)
    assert found.first is not None
    assert all(height >= ORDER.index(found.first) for height in heights)
    assert set(taken) <= possible
    assert verdict
    for remedy, rung in zip(ORDER, (repair.restart, repair.reboot, repair.reimage, repair.relocate), strict=True):
        assert taken.count(remedy) <= rung.tries


@given(repair=REPAIRS, care=st.builds(Care, st.just(NOW), st.just("x"), remedy=st.sampled_from([None, *ORDER])))
def test_the_next_rung_is_never_below_the_last(repair, care):
    chosen = next_remedy(care, repair, Remedy.RESTART, ALL)
    if chosen is not None and care.remedy is not None:
        assert ORDER.index(chosen) >= ORDER.index(care.remedy)


# --- the budget


def test_the_budget_is_at_least_one():
    assert [budget(n, Repair(max_percent=20)) for n in (1, 3, 5, 10, 14)] == [1, 1, 1, 2, 2]
    assert budget(3, Repair(max_percent=100)) == 3


def patient(ordinal: int, **changes: bool) -> Patient:
    return Patient(**{
        "id": web(ordinal).instance, "is_serving": True, "is_treated": False, "wants": False, **changes,
    })  # fmt: skip


def named(chosen: frozenset) -> list[str]:
    return sorted(key.name for key in chosen)


def test_all_that_look_bad_at_once_are_treated_one_at_a_time():
    assert named(permitted([patient(n, wants=True) for n in range(3)], 1)) == ["web-0"]
    others = [patient(n, wants=True) for n in range(2)]
    assert named(permitted([*others, patient(2, is_serving=False, is_treated=True)], 1)) == ["web-2"]


def test_who_serves_nobody_comes_first_and_who_serves_only_if_it_can_be_spared():
    dead = patient(2, is_serving=False, wants=True)
    assert named(permitted([patient(0, wants=True), dead], 1)) == ["web-2"]
    stays = patient(1, is_serving=False)  # away for another reason: an upgrade, say
    assert named(permitted([patient(0, wants=True), stays], 1)) == []
    assert named(permitted([dead, stays], 1)) == ["web-2"]


def test_the_last_one_that_serves_is_not_kept_out_for_its_silence():
    silent = {"wants": True, "is_mild": True}
    assert named(permitted([patient(0, **silent)], 1)) == []
    assert named(permitted([patient(0, **silent), patient(1)], 1)) == ["web-0"]
    assert named(permitted([patient(n, **silent) for n in range(3)], 3)) == ["web-0", "web-1"]


PATIENTS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=8
)


@given(flags=PATIENTS, most=st.integers(1, 8))
def test_never_more_are_disturbed_than_may_be(flags, most):
    role = [
        Patient(web(n).instance, serving and not treated, treated, wants, mild and not treated, counts)
        for n, (serving, treated, wants, mild, counts) in enumerate(flags)
    ]
    chosen = permitted(role, most)
    treated = {one.id for one in role if one.is_treated}
    new = {one.id: one for one in role if one.id in chosen - treated}
    harsh = [one for one in new.values() if not one.is_mild]
    assert len(treated) + len(harsh) <= max(most, len(treated))
    away = {one.id for one in role if one.counts and not one.is_serving} | treated
    taken = [one for one in new.values() if one.is_serving]
    assert not taken or len(away) + len(taken) <= most
    assert all(one.wants for one in new.values())
