"""
The one way to look back in time, and to join one table of times to another.

Everything here is left-closed on `known_at`: what is known at or before an instant may be used at that instant, and
nothing later. Times are int64 microseconds since 1970 (datetime64 of any unit is taken too), ascending; each function
checks that and says where it does not hold. No other module of this repository rolls, lags, joins, resamples, buckets
or normalizes over time: tests/house/test_no_way_round.py finds who tries.
"""

from qraft_quant.align.buckets import BucketSums, bucket_ends, bucket_sums
from qraft_quant.align.grid import AlignedMetrics, MetricRows, align_metrics
from qraft_quant.align.join import as_of_index, as_of_join
from qraft_quant.align.lag import expanding_mean, lag, rolling, windows
from qraft_quant.align.resample import LongerBars, resample
from qraft_quant.align.scale import FittedScaler, fit_scaler
from qraft_quant.align.times import micros

__all__ = [
    "AlignedMetrics",
    "BucketSums",
    "FittedScaler",
    "LongerBars",
    "MetricRows",
    "align_metrics",
    "as_of_index",
    "as_of_join",
    "bucket_ends",
    "bucket_sums",
    "expanding_mean",
    "fit_scaler",
    "lag",
    "micros",
    "resample",
    "rolling",
    "windows",
]
