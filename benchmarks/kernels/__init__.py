"""How near the kernels come to what the machine can do, measured in the same run.

roof       what it can do: multiply-adds in registers, bytes a second of each cache and of memory
products   matrix products in all forms, beside BLAS
loops      the fused loops of a training step, and reductions
functions  exp, log, tanh, ...: nanoseconds an element, beside NumPy and SciPy
randoms    random numbers: nanoseconds each, beside NumPy
steps      every phase of whole training steps, each timed alone
images     the same of networks of images

`python -m benchmarks.kernels` runs them; `timing` says how.
"""
