"""A screening as HTML without scripts or outside files: the page of a set, and one page a feature."""

from qraft_screening.pages.feature_page import Operator, ProofNote, feature_page
from qraft_screening.pages.set_page import set_page

__all__ = ["Operator", "ProofNote", "feature_page", "set_page"]
