"""Every row of the table of cases, in every way that an operation is used."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

import fallline.ops
from fallline.core import tree
from fallline.core.autodiff import jvp, vjp
from fallline.core.errors import UnsupportedError
from fallline.core.graph import trace
from fallline.core.op import Op
from fallline.core.spec import Spec, spec_of
from fallline.core.trace import FUNCTIONS, METHODS, UFUNCS, Tracer
from fallline.testing import check_gradients
from tests.ops.cases import ROWS, X

# What is there to say that it cannot be done; tests/core/test_trace.py covers these.
REFUSED = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal}

every = pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])
