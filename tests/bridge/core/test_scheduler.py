"""The model's queue and ledger."""

from hypothesis import given
from hypothesis import strategies as st

from musebridge.bridge.core.scheduler import NoteLedger, Owner, Scheduled, Scheduler, silence
from musebridge.events import SUSTAIN, Control, NoteOff, NoteOn


def on(pitch: int) -> NoteOn:
    return NoteOn(pitch=pitch, velocity=64)


def off(pitch: int) -> NoteOff:
    return NoteOff(pitch=pitch)


def test_events_leave_in_order_of_due_time_and_ties_in_order_of_pushing() -> None:
    scheduler = Scheduler()
    for due_s, event in [(2.0, on(62)), (1.0, on(60)), (1.0, on(61))]:
        scheduler.push(Scheduled(due_s, event))
    assert scheduler.next_due() == 1.0
    assert scheduler.pop_due(0.5) == []
    assert [s.event for s in scheduler.pop_due(1.0)] == [on(60), on(61)]
    assert [s.event for s in scheduler.pop_due(9.0)] == [on(62)]
    assert scheduler.next_due() is None


def test_cancel_drops_the_future_and_releases_the_present() -> None:
    scheduler = Scheduler()
    for due_s, event in [(1.0, on(60)), (2.0, on(64)), (3.0, off(60)), (3.0, off(64))]:
        scheduler.push(Scheduled(due_s, event))
    scheduler.pop_due(1.5)
    assert scheduler.cancel(1.5) == 3
    assert scheduler.pop_due(1.5) == [Scheduled(1.5, off(60))]
    assert scheduler.pop_due(9.0) == []


def test_cancelling_twice_counts_no_release_as_dropped_and_releases_once() -> None:
    scheduler = Scheduler()
    scheduler.push(Scheduled(1.0, on(60)))
    scheduler.pop_due(1.0)
    assert [scheduler.cancel(1.1), scheduler.cancel(1.2)] == [0, 0]
    assert scheduler.pop_due(2.0) == [Scheduled(1.1, off(60))]


def test_finish_releases_then_silences() -> None:
    scheduler = Scheduler()
    scheduler.push(Scheduled(1.0, on(60)))
    scheduler.push(Scheduled(5.0, on(61)))
    scheduler.pop_due(1.0)
    assert [s.event for s in scheduler.finish(2.0)] == [off(60), *silence([0])]


def test_a_key_struck_twice_is_ended_in_between() -> None:
    scheduler = Scheduler()
    for due_s in (1.0, 2.0):
        scheduler.push(Scheduled(due_s, on(60), Owner.PLAYER))
    assert [s.event for s in scheduler.pop_due(3.0)] == [on(60), off(60), on(60)]


def test_a_pedal_is_lifted_only_where_it_went_down() -> None:
    up, down = Control(controller=SUSTAIN, value=0), Control(controller=SUSTAIN, value=90)
    scheduler = Scheduler()
    for due_s, event in enumerate([up, down, up, up]):
        scheduler.push(Scheduled(due_s, event, Owner.PLAYER))
    assert [s.event for s in scheduler.pop_due(9.0)] == [down, up]


events = st.builds(on, st.integers(60, 64)) | st.builds(off, st.integers(60, 64))
moves = st.tuples(st.sampled_from(["push", "push", "pop", "cancel"]), st.floats(0, 1), events)


@given(st.lists(moves, max_size=60))
def test_no_interleaving_leaves_a_note_sounding(script: list[tuple[str, float, NoteOn | NoteOff]]) -> None:
    scheduler, now_s, left = Scheduler(), 0.0, NoteLedger()
    for move, delta_s, event in script:
        now_s += delta_s
        if move == "push":
            scheduler.push(Scheduled(now_s + delta_s, event))
        elif move == "cancel":
            scheduler.cancel(now_s)
        else:
            for scheduled in scheduler.pop_due(now_s):
                left.note(scheduled.event)
    for scheduled in scheduler.finish(now_s):
        left.note(scheduled.event)
    assert left.releases() == []


# Two owners


def player(due_s: float, event: NoteOn | NoteOff) -> Scheduled:
    return Scheduled(due_s, event, Owner.PLAYER)


def leaves(*scheduled: Scheduled, then_cancel: bool = False) -> list[Scheduled]:
    scheduler = Scheduler()
    for item in scheduled:
        scheduler.push(item)
    sent = scheduler.pop_due(9.0)
    if then_cancel:
        scheduler.cancel(9.0)
        sent += scheduler.pop_due(9.0)
    return sent


def test_the_model_neither_strikes_nor_ends_a_key_that_the_player_holds() -> None:
    assert leaves(player(1, on(60)), Scheduled(2, on(60)), Scheduled(3, off(60))) == [player(1, on(60))]


def test_a_note_of_the_model_that_the_player_strikes_becomes_the_players() -> None:
    assert leaves(Scheduled(1, on(60)), player(2, on(60)), Scheduled(3, off(60)), then_cancel=True) == [
        Scheduled(1, on(60)),
        Scheduled(2, off(60)),
        player(2, on(60)),
    ]


def test_the_player_ends_only_his_own_notes() -> None:
    assert leaves(Scheduled(1, on(60)), player(2, off(60))) == [Scheduled(1, on(60))]


def test_cancel_and_withdraw_leave_the_players_notes_alone() -> None:
    scheduler = Scheduler()
    scheduler.push(player(1, on(60)))
    scheduler.push(Scheduled(1, on(64)))
    scheduler.pop_due(1.0)
    for item in (player(2, off(60)), Scheduled(2, off(64)), Scheduled(3, on(65))):
        scheduler.push(item)
    assert scheduler.withdraw() == 2
    assert scheduler.cancel(1.5) == 0
    assert scheduler.pop_due(9.0) == [Scheduled(1.5, off(64)), player(2, off(60))]


def test_a_release_is_not_withdrawn() -> None:
    scheduler = Scheduler()
    scheduler.push(Scheduled(1.0, on(60)))
    scheduler.pop_due(1.0)
    scheduler.release(Scheduled(1.5, off(60)))
    assert scheduler.withdraw() == 0
    assert scheduler.cancel(1.2) == 0
    assert [item.event for item in scheduler.pop_due(9.0)] == [off(60)]


def test_the_end_silences_every_channel_that_was_used() -> None:
    scheduler = Scheduler()
    scheduler.push(Scheduled(1.0, NoteOn(pitch=60, velocity=64, channel=4)))
    scheduler.push(player(1.0, on(62)))
    scheduler.pop_due(1.0)
    events = [item.event for item in scheduler.finish(2.0)]
    assert set(events[:2]) == {NoteOff(pitch=60, channel=4), off(62)}
    assert events[2:] == silence([0, 4])
