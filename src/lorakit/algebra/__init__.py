"""Algebra on adapters as values: sums, other ranks; each with the error that it makes.

combine   sum of w_i s_i B_i A_i, exactly or cut to a rank; TIES, DARE, magnitude pruning
resize    the best adapter of another rank
"""

from lorakit.algebra.combination import combine
from lorakit.algebra.outcome import Deviation, Outcome
from lorakit.algebra.resizing import resize

__all__ = ["Deviation", "Outcome", "combine", "resize"]
