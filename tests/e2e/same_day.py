"""What the survival tests compare: the same day decides the same, byte for byte."""

SPEED = 30.0  # bars a second: the day lasts about 10 s, so that what disturbs it falls into it


def same(played, undisturbed):
    """Assert that two lines decided the same bytes."""
    assert played.n_orders > 0
    assert played.positions == undisturbed.positions
    assert (played.n_orders, played.n_fills) == (undisturbed.n_orders, undisturbed.n_fills)
    assert played.journal_sha256 == undisturbed.journal_sha256
    assert played.orders_sha256 == undisturbed.orders_sha256
    assert played.fills_sha256 == undisturbed.fills_sha256
    assert played.equity == undisturbed.equity
