"""Layers written out in loops or by their formulas, in float64; for comparison only."""

from __future__ import annotations

import numpy as np


def convolution(x, w, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Number by number; padding rows above and below, columns left and right."""
    n, _, height, width = x.shape
    o, c, kh, kw = w.shape
    (s, t), (a, b), (d, e) = stride, padding, dilation
    p = (height + 2 * a - (kh - 1) * d - 1) // s + 1
    q = (width + 2 * b - (kw - 1) * e - 1) // t + 1
    y = np.zeros((n, o, p, q))
    for m, k, i, j in np.ndindex(n, o, p, q):
        first = k // (o // groups) * c
        for ch, u, v in np.ndindex(c, kh, kw):
            row, column = i * s + u * d - a, j * t + v * e - b
            if 0 <= row < height and 0 <= column < width:
                y[m, k, i, j] += x[m, first + ch, row, column] * w[k, ch, u, v]
    return y


def transposed(x, w, size, stride=(1, 1), padding=(0, 0), groups=1):
    """Every number of x puts its kernel into y."""
    n, c, p, q = x.shape
    _, o, kh, kw = w.shape
    y = np.zeros((n, o * groups, *size))
    for m, ch, i, j in np.ndindex(n, c, p, q):
        first = ch // (c // groups) * o
        for k, u, v in np.ndindex(o, kh, kw):
            row, column = i * stride[0] + u - padding[0], j * stride[1] + v - padding[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                y[m, first + k, row, column] += x[m, ch, i, j] * w[ch, k, u, v]
    return y


def batch_norm(x, gamma, beta, eps):
    """y, the mean and the variance of every channel, in training."""
    y, mean, var = np.zeros_like(x), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        values = x[:, c]
        mean[c] = sum(values.ravel()) / values.size
        var[c] = sum((values.ravel() - mean[c]) ** 2) / values.size
        y[:, c] = gamma[c] * (values - mean[c]) / np.sqrt(var[c] + eps) + beta[c]
    return y, mean, var


def batch_norm_gradient(x, gamma, eps, g):
    """Of sum g y by x, gamma and beta: Ioffe & Szegedy 2015, the equations of section 3, reduced.

    With z = (x - mean) / sqrt(var + eps):
    dx = gamma / sqrt(var + eps) (g - mean(g) - z mean(g z)), dgamma = sum g z, dbeta = sum g
    """
    dx, dgamma, dbeta = np.zeros_like(x), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        values, up = x[:, c], g[:, c]
        deviation = np.sqrt(values.var() + eps)
        z = (values - values.mean()) / deviation
        dgamma[c], dbeta[c] = np.sum(up * z), np.sum(up)
        dx[:, c] = gamma[c] / deviation * (up - up.mean() - z * np.mean(up * z))
    return dx, dgamma, dbeta
