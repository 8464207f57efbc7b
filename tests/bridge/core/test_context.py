"""The stream of tokens over a finite window."""

import pytest

from musebridge.bridge.app.testing import ScriptedEngine
from musebridge.bridge.core.context import Context


def context(capacity: int = 8) -> tuple[Context, ScriptedEngine]:
    engine = ScriptedEngine(lambda tokens: sum(tokens) % 100, capacity)
    return Context(engine), engine


def test_the_engine_reads_each_token_once_and_in_order() -> None:
    stream, engine = context()
    for tokens in ([1], [2, 3], [], [4]):
        stream.append(tokens)
    assert (engine.tokens, stream.unread) == ([], 4)
    stream.read(3)
    assert (engine.tokens, stream.unread) == ([1, 2, 3], 1)
    assert stream.position == 4
    assert stream.logits().argmax() == 10
    assert engine.tokens == [1, 2, 3, 4]


def test_a_full_window_keeps_its_newer_half_and_positions_go_on() -> None:
    stream, engine = context(capacity=8)
    stream.append(list(range(1, 9)))
    stream.append([9])
    stream.read()
    assert engine.tokens == [6, 7, 8, 9]
    assert stream.position == 9
    assert stream.logits().argmax() == 30


def test_more_tokens_than_the_window_holds_leave_the_newest() -> None:
    stream, engine = context(capacity=8)
    stream.append(list(range(50)))
    stream.read()
    assert engine.tokens == [46, 47, 48, 49]
    assert stream.position == 50


def test_rollback_forgets_and_the_logits_come_back() -> None:
    stream, engine = context()
    stream.append([1, 2, 3, 4])
    stream.read()
    stream.rollback(2)
    assert (engine.tokens, stream.position) == ([1, 2], 2)
    assert stream.logits().argmax() == 3
    stream.append([7])
    assert stream.logits().argmax() == 10
    assert engine.tokens == [1, 2, 7]


def test_what_is_taken_back_before_it_was_read_is_never_read() -> None:
    stream, engine = context()
    stream.append([1, 2])
    stream.read()
    stream.append([3, 4])
    stream.rollback(3)
    stream.read()
    assert engine.tokens == [1, 2, 3]


def test_the_newer_half_is_read_again_beside_the_stream_and_then_taken() -> None:
    stream, engine = context(capacity=16)
    stream.append(list(range(1, 15)))
    stream.read()
    assert not stream.nearly_full
    stream.append([15])
    assert stream.nearly_full
    stream.read()
    stream.prepare(4)
    stream.append([16])
    assert stream.logits().argmax() == sum(range(1, 17)) % 100, "the stream goes on"
    stream.prepare(4)
    assert stream.nearly_full
    stream.prepare(4)
    assert (engine.tokens, stream.nearly_full, stream.unread) == (list(range(8, 17)), False, 0)
    assert stream.position == 16
    assert stream.logits().argmax() == sum(range(8, 17)) % 100


def test_what_is_taken_back_is_taken_back_from_both_caches() -> None:
    stream, engine = context(capacity=16)
    stream.append(list(range(1, 16)))
    stream.read()
    stream.prepare(7)
    stream.rollback(12)
    stream.append([50, 51, 52])
    stream.read()
    stream.prepare(7)
    assert engine.tokens == [8, 9, 10, 11, 12, 50, 51, 52]
    stream.append(list(range(60, 67)))
    stream.prepare(3)
    stream.rollback(8)
    stream.append([70])
    assert stream.logits().argmax() == 8 + 70


def test_when_what_was_left_to_read_is_taken_back_the_other_cache_is_ready() -> None:
    stream, engine = context(capacity=16)
    stream.append(list(range(1, 17)))
    stream.read()
    stream.prepare(7)
    stream.rollback(15)
    stream.prepare(7)
    assert (engine.tokens, stream.nearly_full) == (list(range(9, 16)), False)
    assert stream.logits().argmax() == sum(range(9, 16))


def test_a_stream_that_is_cleared_goes_on_with_new_tokens_alone() -> None:
    stream, engine = context()
    stream.append([1, 2, 3])
    stream.read()
    stream.clear()
    stream.append([4])
    assert (stream.logits().argmax(), engine.tokens) == (4, [4])
    assert stream.position == 4
    assert not stream.holds(3)


def test_logits_can_be_asked_for_twice() -> None:
    stream, _ = context()
    stream.append([1, 2])
    first = stream.logits()
    first[:] = 0.0
    assert stream.logits().argmax() == 3


def test_a_position_that_is_forgotten_or_to_come_is_refused() -> None:
    stream, _ = context(capacity=8)
    stream.append(list(range(9)))
    for position in (5, 10):
        with pytest.raises(ValueError, match=r"position must be in 6\.\.9"):
            stream.rollback(position)


def test_what_was_prefetched_counts_when_it_is_written_and_only_then() -> None:
    engine = ScriptedEngine(lambda tokens: tokens[-1] + 1)
    context = Context(engine)
    context.append([1, 2])
    context.read()
    context.prefetch([3])
    assert (engine.tokens, context.position, context.unread) == ([1, 2, 3], 2, 0)
    context.append([])
    context.append([3])
    assert (context.position, context.unread) == (3, 0)
    assert context.logits().argmax() == 4
    context.prefetch([7, 8])
    context.prefetch([9])
    context.append([5])
    assert (engine.tokens, context.unread) == ([1, 2, 3], 1)
    assert context.logits().argmax() == 6
    context.prefetch([7])
    assert context.logits().argmax() == 6
    context.prefetch([7])
    context.rollback(2)
    assert context.logits().argmax() == 3
    assert engine.tokens == [1, 2]
