import pytest
import torch
from threadpoolctl import threadpool_info

from musebridge.training.compute.parallel import parallel_map


def test_results_come_in_order_from_tasks_that_keep_to_one_thread():
    before = torch.get_num_threads()
    found = parallel_map([lambda i=i: (i, torch.get_num_threads()) for i in range(5)], workers=2)
    assert found == [(i, 1) for i in range(5)]
    assert torch.get_num_threads() == before


def test_no_library_starts_threads_of_its_own():
    before = threadpool_info()
    for pools in parallel_map([threadpool_info] * 2, workers=2):
        assert {pool["num_threads"] for pool in pools} == {1}
    assert threadpool_info() == before


def test_a_task_that_fails_is_heard_of():
    with pytest.raises(ZeroDivisionError):
        parallel_map([lambda: 1, lambda: 1 // 0])
