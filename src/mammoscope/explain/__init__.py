"""Why the model proposes a finding: heat maps, how far to trust them, and how faithful they are. No torch."""

from mammoscope.explain.drise import FEWEST_MASKS, Occlusion, drise, similarity_to
from mammoscope.explain.heat_map import NOISY, SAME_MAP, ExplainError, HeatMap, correlation, rank_correlation
from mammoscope.explain.process import ExplainingProcess
from mammoscope.explain.sanity import Faithfulness, faithfulness, shuffled_bundle

__all__ = [
    "FEWEST_MASKS",
    "NOISY",
    "SAME_MAP",
    "ExplainError",
    "ExplainingProcess",
    "Faithfulness",
    "HeatMap",
    "Occlusion",
    "correlation",
    "drise",
    "faithfulness",
    "rank_correlation",
    "shuffled_bundle",
    "similarity_to",
]
