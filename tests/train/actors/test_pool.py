"""Many actors, simulated: how much is in flight, what is dropped, who is replaced, when training gives up."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from pipeline.errors import TrainError
from tests.train.actors.simulated import FORM, Simulated, changed, chunk, lost
from train.actors.chunk import Chunk, Counts, Order
from train.actors.pool import IN_FLIGHT, Pool
from train.settings.parts import ActorSettings

ORDER = Order(random=False, scene_weights=np.ones(2))


def pool_of(actors: Simulated, count: int, counts: Counts | None = None, **settings: float) -> Pool:
    """With the clock of the simulation."""
    return Pool(actors, count, FORM, ActorSettings.model_validate(settings), counts, clock=lambda: actors.now)


def learn(pool: Pool, iterations: int, *, begin: int = 0) -> list[Chunk]:
    """Take chunks, each with a new policy."""
    taken = []
    for version in range(begin, begin + iterations):
        pool.publish({"version": version, "arrays": {}})
        taken.append(pool.take(lambda: ORDER))
    return taken


def test_what_is_in_flight_is_bounded_however_slow_the_learner_is():
    """64 actors: two chunks each; all of them are heard, policies are as old as that makes them."""
    actors = Simulated()
    pool = pool_of(actors, 64)
    taken = learn(pool, 640)
    assert actors.largest == [IN_FLIGHT * 64, IN_FLIGHT]
    actors.now += 10_000  # the learner was away; what is done is no silence
    taken += learn(pool, 640, begin=640)
    assert actors.largest == [IN_FLIGHT * 64, IN_FLIGHT]
    assert set(actors.started.values()) == {1}
    heard = {one.incarnation for one in taken}
    assert len(heard) == 64
    ages = [version - one.version for version, one in enumerate(taken)]
    assert min(ages) >= 0 and max(ages) <= 3 * 64
    assert pool.counts == Counts(taken=1280)
    assert len({(one.incarnation, one.number) for one in taken}) == 1280, "none twice"


def test_memory_does_not_grow_with_chunks():
    """What was learned from is given back."""
    actors = Simulated()
    pool = pool_of(actors, 64)
    learn(pool, 300)
    tracemalloc.start()
    try:
        learn(pool, 50, begin=300)
        before = tracemalloc.get_traced_memory()[0]
        learn(pool, 500, begin=350)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100 * FORM.bytes  # of 500 chunks; orders of the simulation are among it


def test_stale_chunks_are_dropped_and_counted():
    """Whose policy is more iterations behind than the setting allows for each actor; the next one is taken."""
    for behind, stale in ((3, 0), (4, 1)):
        pool = pool_of(Simulated(), 1, max_staleness=3)
        learn(pool, 1)  # another one is in flight then, by policy 0
        pool.metrics()
        (taken,) = learn(pool, 1, begin=behind)
        assert pool.counts == Counts(taken=2, stale=stale)
        assert taken.version == (behind if stale else 0)
        assert pool.metrics()["actors/staleness"] == behind - taken.version


def test_a_version_that_was_not_asked_for_is_refused():
    """And its sender replaced: nothing is learned by a policy that it isn't of."""
    actors = Simulated()
    actors.send = lambda _, made: changed(made, "", version=made.version + 1) if made.incarnation == 0 else made
    pool = pool_of(actors, 1)
    (taken,) = learn(pool, 1)
    assert taken.version == 0
    assert pool.counts == Counts(taken=1, refused=1, replaced=1)


def test_who_sends_nan_is_replaced():
    """Once; the others go on."""
    actors, nan = Simulated(), np.full((4, 3), np.nan, np.float32)
    actors.send = lambda index, made: changed(made, "reward", nan) if made.incarnation == 1 else made
    pool = pool_of(actors, 4)
    taken = learn(pool, 40)
    assert all(np.isfinite(one.fields["reward"]).all() for one in taken)
    assert pool.counts == Counts(taken=40, refused=1, replaced=1)
    assert actors.started == {0: 1, 1: 2, 2: 1, 3: 1}
    assert pool.metrics()["actors/alive"] == 4


def test_a_process_that_ray_started_again_is_counted():
    """By its incarnation; what its predecessor sent later is not learned from."""
    actors = Simulated()
    sent = iter([(5, 0), (5, 1), (6, 0), (5, 2), (6, 0), (6, 1)])
    actors.send = lambda _, made: chunk(*next(sent), made.version)
    pool = pool_of(actors, 1)
    taken = learn(pool, 4)
    assert [(one.incarnation, one.number) for one in taken] == [(5, 0), (5, 1), (6, 0), (6, 1)]
    assert pool.counts == Counts(taken=4, repeated=2, replaced=1)


def test_a_silent_actor_is_replaced():
    """After the time that it has; the others are not waited for longer."""
    actors = Simulated()
    actors.silent = {2}
    pool = pool_of(actors, 3, silent_seconds=20)
    learn(pool, 30)
    assert actors.now == 15 and actors.started == {0: 1, 1: 1, 2: 1}
    learn(pool, 15, begin=30)
    assert actors.started[2] == 2
    actors.silent.clear()
    learn(pool, 60, begin=45)
    assert pool.counts.replaced == actors.started[2] - 1 <= 3
    assert pool.metrics()["actors/alive"] == 3


def test_who_fails_again_and_again_is_started_less_and_less_often():
    """While others work, training goes on."""
    actors = Simulated()
    actors.send = lambda index, made: lost() if index == 0 else made
    pool = pool_of(actors, 2)
    learn(pool, 600)
    assert actors.now == 600
    assert 8 < actors.started[0] < 20
    assert pool.counts.replaced == actors.started[0] - 1 or pool.counts.replaced == actors.started[0]
    assert actors.started[1] == 1


def test_when_all_fail_there_is_one_error():
    """Which says why the last one did."""
    actors = Simulated()
    actors.send = lost
    with pytest.raises(TrainError, match=r"(?s)7 were replaced one after another.*ran out of memory.*--resume"):
        learn(pool_of(actors, 2, max_replacements=3), 1)


def test_counts_go_on():
    """Those of a resumed training."""
    pool = pool_of(Simulated(), 2, Counts(taken=5, replaced=2))
    learn(pool, 3)
    metrics = pool.metrics()
    assert (metrics["actors/taken"], metrics["actors/replaced"], metrics["actors/count"]) == (8, 2, 2)
