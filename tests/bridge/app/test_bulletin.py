"""What is told in batches: the plan as it changes, what the player plays, and nothing where nobody listens."""

from musebridge.bridge.app.bulletin import BATCH_LENGTH, Bulletin, ToldOutbox
from musebridge.bridge.core.scheduler import Owner, Scheduled, Scheduler
from musebridge.events import SUSTAIN, Control, NoteOff, NoteOn

C, E = NoteOn(pitch=60, velocity=70), NoteOn(pitch=64, velocity=80)


def listened_to(start_s: float = 100.0) -> tuple[Bulletin, ToldOutbox]:
    bulletin = Bulletin(start_s)
    bulletin.is_wanted = True
    return bulletin, ToldOutbox(Scheduler(), bulletin)


def test_notes_and_their_ends_are_told_before_they_sound_in_milliseconds_since_the_start() -> None:
    bulletin, outbox = listened_to()
    outbox.push(Scheduled(100.5, C))
    outbox.push(Scheduled(100.7504, NoteOff(pitch=60)))
    news = [("time", (100,)), ("plan", (500, 60, 70)), ("plan", (750, 60, 0))]
    assert bulletin.batches(100.1) == [news]
    assert bulletin.batches(100.2) == []


def test_a_plan_that_is_void_before_anybody_was_told_is_not_told() -> None:
    bulletin, outbox = listened_to()
    outbox.push(Scheduled(100.5, C))
    bulletin.heard(100.05, E)
    assert outbox.withdraw() == 1
    outbox.push(Scheduled(100.6, E))
    news = [("time", (100,)), ("heard", (50, 64, 80)), ("withdrawn", ()), ("plan", (600, 64, 80))]
    assert bulletin.batches(100.1) == [news]


def test_nothing_withdrawn_is_no_news_and_a_panic_always_is() -> None:
    bulletin, outbox = listened_to()
    assert outbox.withdraw() == outbox.cancel(100.0) == 0
    assert bulletin.batches(100.1) == []
    outbox.panic(100.1)
    assert bulletin.batches(100.2) == [[("time", (200,)), ("withdrawn", ())]]


def test_what_is_not_the_models_is_not_planned() -> None:
    bulletin, outbox = listened_to()
    outbox.push(Scheduled(100.5, C, Owner.PLAYER))
    outbox.push(Scheduled(100.5, Control(controller=1, value=3)))
    assert bulletin.batches(100.1) == []


def test_of_the_players_controllers_the_sustain_pedal_is_told() -> None:
    bulletin, _ = listened_to()
    bulletin.heard(100.0, Control(controller=SUSTAIN, value=127))
    bulletin.heard(100.0, Control(controller=7, value=100))
    assert bulletin.batches(100.1) == [[("time", (100,)), ("pedal", (0, 127))]]


def test_batches_leave_thirty_times_a_second_at_most_and_fit_a_packet() -> None:
    bulletin, _ = listened_to()
    for _ in range(BATCH_LENGTH + 1):
        bulletin.heard(100.0, C)
    assert bulletin.batches(100.03) == []
    assert [len(batch) for batch in bulletin.batches(100.04)] == [BATCH_LENGTH + 1, 2]


def test_nothing_is_kept_where_nobody_listens() -> None:
    bulletin, outbox = listened_to()
    bulletin.is_wanted = False
    outbox.push(Scheduled(100.5, C))
    outbox.withdraw()
    bulletin.heard(100.0, C)
    bulletin.is_wanted = True
    assert bulletin.batches(100.1) == []
