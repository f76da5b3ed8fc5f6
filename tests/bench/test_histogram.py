import random

import pytest

from bench.histogram import Histogram


def test_a_quantile_is_off_by_less_than_a_hundredth():
    chance = random.Random(1)
    seconds = [chance.lognormvariate(-5, 2) for _ in range(20_000)]
    histogram = Histogram()
    for each in seconds:
        histogram.record(each)
    for share in (0.01, 0.5, 0.9, 0.99, 0.999):
        exact_ms = 1_000 * sorted(seconds)[max(0, round(share * len(seconds)) - 1)]
        assert histogram.quantile_ms(share) == pytest.approx(exact_ms, rel=0.01, abs=0.002)


@pytest.mark.parametrize("us", [0, 1, 255, 256, 257, 511, 512, 4_095, 4_096, 1_000_000, 2**32 - 1])
def test_a_bucket_holds_what_was_put_in(us):
    histogram = Histogram()
    histogram.record((us + 0.5) / 1e6)
    assert us / 1_000 <= histogram.quantile_ms(1.0) <= (us * 1.008 + 1) / 1_000


def test_what_is_longer_than_an_hour_counts_as_longest_and_a_clock_that_went_back_as_none():
    histogram = Histogram()
    histogram.record(1e6)
    histogram.record(-1.0)
    assert histogram.total == 2
    assert histogram.quantile_ms(0.5) == 0
    assert histogram.quantile_ms(1.0) > 3_600_000


def test_two_are_one_after_a_merge():
    one, other = Histogram(), Histogram()
    one.record(0.001)
    other.record(0.1)
    one.merge(other.sparse())
    assert one.total == 2
    assert one.quantile_ms(1.0) == pytest.approx(100, rel=0.01)


def test_nothing_has_no_quantile():
    assert Histogram().quantile_ms(0.99) == 0
