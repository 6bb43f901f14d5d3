import numpy as np
import pytest

from svc_train.adapters.lightgbm_heads import LightGbmLearner, parse_trees
from svc_train.domain.config import TrainConfig
from svc_train.domain.samples import complete_samples, on_stride
from svc_train.domain.trees import Tree, distinct_thresholds, floor32
from svc_train.ports import Lesson

CONFIG = TrainConfig(seed=3, n_trees=5, n_rows_leaf_min=20, feature_frac=1.0)


def walk(tree, x):
    """Decide by float32 thresholds, as a graph runtime does."""
    if tree.feature.size == 0:
        return tree.leaf[0]
    node, threshold = 0, floor32(tree.threshold)
    while node >= 0:
        goes_left = x[tree.feature[node]] <= threshold[node]
        node = tree.left[node] if goes_left else tree.right[node]
    return tree.leaf[~node]


def fit(x, target, config=CONFIG, kind="expected_return"):
    lesson = Lesson(np.arange(x.shape[0]), {kind: target})
    return next(LightGbmLearner(config).bin(x).fit_each([lesson]))[kind]


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(0, 1, (2_000, 4)).astype(np.float32)


def test_floor32_is_the_largest_float32_at_or_below():
    values = np.random.default_rng(0).normal(0, 1, 10_000) * 10.0 ** np.arange(-30, 30).repeat(167)[:10_000]

    floored = floor32(values)

    assert floored.dtype == np.float32
    assert (floored.astype(np.float64) <= values).all()
    assert (np.nextafter(floored, np.float32(np.inf)).astype(np.float64) > values).all()


def test_rounding_to_nearest_would_move_a_threshold_onto_the_next_sample():
    above = np.nextafter(np.float32(1.0), np.float32(2.0))
    threshold = (1.0 + float(above)) / 2 + 1e-9

    assert np.float32(threshold) == above
    assert floor32(np.array([threshold]))[0] == np.float32(1.0)


def test_parsed_trees_sum_to_the_native_output(x):
    head = fit(x, np.sin(x[:, 0] * 3) + x[:, 1].astype(np.float64) * x[:, 2] + 5.0)

    total = np.array([sum(walk(tree, row) for tree in head.trees) for row in x[:200]])

    assert len(head.trees) == 5
    assert total + head.offset == pytest.approx(head.raw(x[:200]), abs=1e-12)


def test_values_around_zero_go_where_the_native_model_sends_them(x):
    # LightGBM reads |x| <= 1e-35 as zero; its split below zero lies on that bound.
    x[::3, 0] = 0.0
    head = fit(x, np.sign(x[:, 0]).astype(np.float64))
    assert any((np.abs(tree.threshold[tree.feature == 0]) < 1e-30).any() for tree in head.trees)
    bound = np.float32(1e-35)
    tiny = [v for b in (bound, -bound) for v in (b, np.nextafter(b, np.float32(0)), np.nextafter(b, np.float32(2 * b)))]
    rows = x[: len(tiny)].copy()
    rows[:, 0] = tiny

    total = np.array([sum(walk(tree, row) for tree in head.trees) for row in rows])

    assert total + head.offset == pytest.approx(head.raw(rows), abs=1e-12)


def test_target_without_signal_gives_a_constant_head():
    x = np.ones((500, 2), dtype=np.float32)

    head = fit(x, np.full(500, 0.25))

    assert head.raw(x[:2]) == pytest.approx([0.25, 0.25])
    assert all(tree.feature.size == 0 for tree in head.trees)


def test_splits_that_a_threshold_cannot_express_are_refused():
    text = "tree\n\nTree=0\nnum_leaves=2\nsplit_feature=0\nthreshold=1\nleft_child=-1\nright_child=-2\nleaf_value=1 2\n"

    assert next(parse_trees(text + "decision_type=2\n")).leaf.tolist() == [1.0, 2.0]
    for kind in (1, 4, 8):
        with pytest.raises(ValueError, match="plain numeric splits"):
            next(parse_trees(text + f"decision_type={kind}\n"))


def test_distinct_thresholds_are_by_feature_without_repeats():
    none = np.empty(0, dtype=np.int64)
    trees = [
        Tree(np.array([1, 1]), np.array([0.5, 0.25]), none, none, np.zeros(3)),
        Tree(np.array([1, 2]), np.array([0.5, 9.0]), none, none, np.zeros(3)),
    ]

    assert [found.tolist() for found in distinct_thresholds(trees, n_features=3)] == [[], [0.25, 0.5], [9.0]]


def test_samples_are_the_complete_rows_in_order():
    features = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    features[0, 1, 0], features[2, 2, 1] = np.nan, np.inf

    samples = complete_samples(features)

    pairs = list(zip(samples.bar.tolist(), samples.symbol.tolist(), strict=True))
    assert pairs == [(b, s) for b in range(4) for s in range(3) if (b, s) not in {(0, 1), (2, 2)}]
    assert np.array_equal(samples.x, features[samples.bar, samples.symbol])
    with pytest.raises(ValueError, match="more history"):
        complete_samples(np.full((2, 2, 2), np.nan, dtype=np.float32))


def test_stride_staggers_symbols_on_the_absolute_grid():
    samples = complete_samples(np.zeros((6, 3, 1), dtype=np.float32))

    on = on_stride(samples, first_index=100, stride=3).reshape(6, 3)
    later = on_stride(samples, first_index=102, stride=3).reshape(6, 3)

    assert (on.sum(axis=0) == 2).all() and (on.sum(axis=1) == 1).all()
    assert np.array_equal(on[2:], later[:-2])
