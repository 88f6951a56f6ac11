"""Whatever goes wrong, in whatever order: no more are disturbed than may be, and silence alone destroys nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.engine.repair import budget
from orchestrator.model.spec import Repair, Rung
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld
from tests.unit.test_mending import DEAD, SICK, UNSET, done, ready, touched, treated, watch
from tests.unit.test_pauses_and_deaths import pause

WELL = Script()
HARD = ("restart", "shut_down", "destroy_domain", "create_overlay")


@dataclass(frozen=True)
class Trouble:
    """For ``seconds`` an instance's guests behave so, and HAProxy's checks of it fail or not."""

    ordinal: int
    script: Script
    is_down: bool
    seconds: float


def troubles(*scripts: Script, is_down: st.SearchStrategy[bool] | None = None) -> st.SearchStrategy[list[Trouble]]:
    downs = is_down if is_down is not None else st.booleans()
    one = st.builds(Trouble, st.integers(0, 3), st.sampled_from(scripts), downs, st.sampled_from([7.0, 40.0, 120.0]))
    return st.lists(one, min_size=1, max_size=4)


def suffer(world: FakeWorld, what: Sequence[Trouble], most: int) -> None:
    def within(world: FakeWorld) -> None:
        assert treated(world) <= most

    for trouble in what:
        world.scripts[f"hello.production.web-{trouble.ordinal}"] = trouble.script
        servers = {f"web-{trouble.ordinal}.g{n}" for n in range(1, 9)}
        world.balancer.down = world.balancer.down | servers if trouble.is_down else world.balancer.down - servers
        watch(world, trouble.seconds, within)


RESTARTED, REBOOTED = (replace(SICK, mended_by=(remedy,)) for remedy in ("restart", "reboot"))
REPAIRS = st.builds(
    Repair, st.just(True), st.sampled_from([5.0, 60.0]), st.sampled_from([20, 50, 100]),
    st.builds(Rung, st.integers(0, 2), st.just(10.0)), st.builds(Rung, st.integers(0, 2), st.just(10.0)),
)  # fmt: skip


@settings(max_examples=6, deadline=None)
@given(repair=REPAIRS, what=troubles(WELL, SICK, DEAD, UNSET, RESTARTED, REBOOTED))
def test_no_more_than_the_budget_is_treated_and_all_is_well_again_once_it_may_be(repair, what):
    world = ready(4, repair=repair)
    suffer(world, what, budget(4, repair))
    world.scripts.clear()
    world.balancer.down.clear()
    made = watch(world, 400)
    stopped = [r for r in world.store.intent().instances if r.care is not None and r.care.verdict]
    assert len(world.serving()) == 4 - len([r for r in stopped if r.failure is not None])
    assert made.steps == ()


@settings(max_examples=6, deadline=None)
@given(what=troubles(WELL, DEAD, is_down=st.just(False)), percent=st.sampled_from([20, 100]))
def test_silence_alone_destroys_nothing(what, percent):
    world = ready(4, repair=Repair(True, 5.0, percent))
    suffer(world, what, 0)
    assert done(world, *HARD) == []


@settings(max_examples=6, deadline=None)
@given(what=troubles(WELL, DEAD, SICK), is_paused=st.booleans())
def test_where_repair_is_off_or_paused_nothing_is_done(what, is_paused):
    world = ready(4, repair=Repair(is_on=is_paused))
    if is_paused:
        pause(world)
    suffer(world, what, 0)
    assert touched(world) == set()
