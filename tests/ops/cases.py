"""One table of cases: every operation and every NumPy function that tracing knows has a row here.

A row is what is under test (a NumPy function or an `Op`), a function that uses it, and arguments:
float64 arrays that are differentiated; what else it needs is closed over. Entries stay away from
kinks, ties and the borders of domains by more than a finite difference.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fallline.ops.activation as act
from fallline import ops
from fallline.core.op import Op
from fallline.core.trace import UFUNCS
from fallline.ops import elementwise as _  # the kinds; modules come by their full names
from fallline.ops import linalg, reduce, shape

