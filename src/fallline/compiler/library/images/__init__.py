"""Kernels of images: convolutions, pooling, samples into lanes."""
