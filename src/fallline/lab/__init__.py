"""The lab: fair comparisons of optimizers, kept as records, reported with their uncertainty."""

from fallline.lab.comparison import Comparison, compare, report
from fallline.lab.contenders import contenders
from fallline.lab.problem import PROBLEMS, Metric, Problem, named
from fallline.lab.protocol import BUDGETS, Budget
from fallline.lab.records import StudyMismatchError

__all__ = [
    "BUDGETS",
    "PROBLEMS",
    "Budget",
    "Comparison",
    "Metric",
    "Problem",
    "StudyMismatchError",
    "compare",
    "contenders",
    "named",
    "report",
]
