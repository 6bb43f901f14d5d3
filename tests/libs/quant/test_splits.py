import numpy as np
import pytest

from qraft_quant.splits import (
    combinatorial_purged,
    n_combinatorial_paths,
    n_combinatorial_splits,
    purged_rows,
    purged_walk_forward,
)


def test_purge_and_embargo_leave_out_exactly_the_published_rows():
    # ml4t/diagnostic, test_purging_correctness: n = 100, test [50, 60), h = 5, embargo 5.
    purged = purged_rows(100, [(50, 60)], horizon_bars=5, embargo_bars=0)
    embargoed = purged_rows(100, [(50, 60)], horizon_bars=5, embargo_bars=5)

    assert sorted(set(range(50)) - set(purged.tolist())) == [45, 46, 47, 48, 49]
    assert sorted(set(purged.tolist()) - set(embargoed.tolist())) == [60, 61, 62, 63, 64]
    assert embargoed.size == 80


def test_combinatorial_splits_equal_the_published_index_sets():
    # skfolio 1.12, CombinatorialPurgedCV(n_folds=3, n_test_folds=2) on 12 rows.
    purged = combinatorial_purged(12, n_folds=3, n_test_folds=2, purge_bars=1, embargo_bars=0)
    embargoed = combinatorial_purged(12, n_folds=3, n_test_folds=2, purge_bars=0, embargo_bars=1)

    assert [split.test_folds for split in purged] == [(0, 1), (0, 2), (1, 2)]
    assert [split.train.tolist() for split in purged] == [[9, 10, 11], [5, 6], [0, 1, 2]]
    assert [split.train.tolist() for split in embargoed] == [[9, 10, 11], [5, 6, 7], [0, 1, 2, 3]]
    assert [split.test.tolist() for split in purged][1] == [0, 1, 2, 3, 8, 9, 10, 11]


def test_combinatorial_counts_equal_the_published_ones():
    assert (n_combinatorial_splits(6, 2), n_combinatorial_paths(6, 2)) == (15, 5)
    assert (n_combinatorial_paths(10, 2), n_combinatorial_paths(10, 8)) == (9, 36)
    assert (n_combinatorial_splits(5, 2), n_combinatorial_paths(5, 2)) == (10, 4)
    assert len(combinatorial_purged(60, n_folds=6, n_test_folds=2, purge_bars=1, embargo_bars=1)) == 15


def test_senselessly_many_combinations_are_refused():
    with pytest.raises(ValueError, match=r"184756"):
        combinatorial_purged(1000, n_folds=20, n_test_folds=10, purge_bars=0, embargo_bars=0)


def test_walk_forward_tests_tile_the_rows_and_train_only_on_the_past():
    folds = purged_walk_forward(1000, n_folds=3, horizon_bars=12, purge_bars=12, embargo_bars=8)

    assert [(fold.test_start, fold.test_end) for fold in folds] == [(400, 600), (600, 800), (800, 1000)]
    assert [(fold.train_start, fold.train_end) for fold in folds] == [(0, 380), (0, 580), (0, 780)]


@pytest.mark.parametrize("h", [1, 7, 50])
def test_no_training_label_of_a_walk_forward_reaches_its_test(h):
    for fold in purged_walk_forward(1000, n_folds=4, horizon_bars=h, purge_bars=h, embargo_bars=0):
        last_label_row = fold.train_end - 1 + h
        assert last_label_row == fold.test_start - 1
        train = np.arange(fold.train_start, fold.train_end)
        assert np.array_equal(
            train,
            purged_rows(fold.test_start + 1, [(fold.test_start, fold.test_start + 1)], horizon_bars=h, embargo_bars=0),
        )


def test_horizon_without_a_purge_as_long_is_refused():
    with pytest.raises(ValueError, match="purge of at least as many"):
        purged_walk_forward(1000, n_folds=3, horizon_bars=12, purge_bars=11, embargo_bars=50)


def test_too_few_rows_are_refused_with_the_number_needed():
    with pytest.raises(ValueError, match="need more than 5041 rows"):
        purged_walk_forward(5040, n_folds=3, horizon_bars=2016, purge_bars=2016, embargo_bars=0)

    assert purged_walk_forward(5042, n_folds=3, horizon_bars=2016, purge_bars=2016, embargo_bars=0)[0].train_end == 1


@pytest.mark.parametrize("span", [(-1, 3), (3, 3), (5, 11)])
def test_test_span_outside_the_rows_is_refused(span):
    with pytest.raises(ValueError, match="test span"):
        purged_rows(10, [span], horizon_bars=1, embargo_bars=0)


def test_negative_gaps_and_impossible_folds_are_refused():
    with pytest.raises(ValueError, match=">= 0 rows"):
        purged_rows(10, [(2, 4)], horizon_bars=-1, embargo_bars=0)
    with pytest.raises(ValueError, match="n_test_folds"):
        n_combinatorial_splits(4, 4)
    with pytest.raises(ValueError, match="first_test_frac"):
        purged_walk_forward(100, n_folds=0, horizon_bars=1, purge_bars=1, embargo_bars=0)
