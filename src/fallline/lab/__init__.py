"""The lab: fair comparisons of optimizers, kept as records, reported with their uncertainty."""

from fallline.lab.comparison import Comparison, compare, report
from fallline.lab.problem import Metric, Problem, named
from fallline.lab.protocol import BUDGETS, Budget

__all__ = ["compare", "report", "Comparison", "Problem", "Metric", "named", "Budget", "BUDGETS"]
