"""How much one address is sent."""

from hypothesis import given
from hypothesis import strategies as st

from musebridge.bridge.core.rate_limit import RateLimit


def test_so_much_at_once_and_then_so_much_a_second() -> None:
    limit = RateLimit(burst=3, per_s=2)
    assert [limit.allows("a", 10.0) for _ in range(5)] == [True, True, True, False, False]
    assert [limit.allows("a", 10.4), limit.allows("a", 10.5), limit.allows("a", 10.6)] == [False, True, False]
    assert [limit.allows("a", 99.0) for _ in range(4)] == [True, True, True, False]


def test_each_address_has_its_own() -> None:
    limit = RateLimit(burst=1, per_s=1)
    assert limit.allows("a", 0.0)
    assert limit.allows("b", 0.0)
    assert not limit.allows("a", 0.0)


def test_a_flood_of_addresses_is_not_remembered_and_not_answered() -> None:
    limit = RateLimit(burst=1, per_s=1)
    assert sum(limit.allows(i, 0.0) for i in range(10_000)) == 256
    assert limit.allows("later", 1.0)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 0.3)), max_size=200))
def test_nobody_is_sent_more(times: list[tuple[int, float]]) -> None:
    limit, now_s, allowed = RateLimit(burst=5, per_s=10), 0.0, dict.fromkeys(range(4), 0)
    for who, later_s in times:
        now_s += later_s
        allowed[who] += limit.allows(who, now_s)
        assert allowed[who] <= 5 + 10 * now_s + 1e-6
