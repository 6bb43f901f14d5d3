"""What is in the lake, judged: completeness, gaps, outliers, drift of units, stale feeds, and what would mend them."""
