"""What an adapter has learned: spectra, shared subspaces, and what it amplifies of its base."""

from lorakit.analysis.adapted import adapted_values
from lorakit.analysis.comparison import Comparison, Similarity
from lorakit.analysis.matrices import MatrixAnalysis, RankChoice
from lorakit.analysis.overview import Analysis, analyze
from lorakit.analysis.page import analysis_page
from lorakit.analysis.projection import Projection
from lorakit.analysis.spectrum import Spectrum
from lorakit.analysis.subspaces import Control

__all__ = [
    "Analysis",
    "Comparison",
    "Control",
    "MatrixAnalysis",
    "Projection",
    "RankChoice",
    "Similarity",
    "Spectrum",
    "adapted_values",
    "analysis_page",
    "analyze",
]
