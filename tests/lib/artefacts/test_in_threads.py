import threading

import pytest

from ewaldflow.lib.artefacts.in_threads import in_threads


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_and_few_items_wait(threads):
    taken, ended = [], []

    def items():
        for n in range(20):
            assert n - len(ended) <= threads + 3
            taken.append(n)
            yield n

    def work(n):
        ended.append(n)
        return n * n

    assert in_threads(work, items(), threads) == [n * n for n in range(20)]
    assert sorted(ended) == taken == list(range(20))


def test_the_first_error_ends_it():
    begun = []
    lock = threading.Lock()

    def work(n):
        with lock:
            begun.append(n)
        if n == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        in_threads(work, iter(range(1000)), 2)
    assert len(begun) < 10
