"""How operations on images become launches; see `lanes` for how images lie.

Where there is no vector unit, or where there are too few samples to fill its lanes, a convolution
is a product of matrices: the windows of a sample are copied into the columns of a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from fallline.compiler import choice
from fallline.compiler.launch import (
    Block,
    Launch,
    Lowering,
    Place,
    Row,
    job_count,
    own,
    ranges,
)
from fallline.compiler.layout import Layout, row_major
from fallline.compiler.library.images import conv, pool
from fallline.compiler.library.products import gemm
from fallline.compiler.lowerings import lowering
from fallline.core.graph import Node
from fallline.core.spec import Spec
from fallline.ops.conv import Geometry

JOBS = 32  # about so many, if they are worth it
LEAST = 1 << 20  # floating-point operations of a job
COPY = 4  # so much more does it cost to copy and read an element than to read it


class Axis(NamedTuple):
    """Which element of x a tap of w meets for an output: output * along + tap * tapped + first.

    outputs, size, taps  of y, x and w along this axis
    """

    outputs: int
    along: int
    tapped: int
    first: int
    size: int
    taps: int


class Phase(NamedTuple):
    """Outputs start, start + step, ..., and taps begin, begin + every, ..., along one axis."""

    axis: Axis
    start: int
    step: int
    begin: int
    every: int


def forward(geometry: Geometry, d: int, outputs: int, size: int, taps: int) -> Axis:
    """Of a convolution along rows (d = 0) or columns (d = 1)."""
    before = geometry.padding[d][0]
    return Axis(outputs, geometry.stride[d], geometry.dilation[d], -before, size, taps)


def backward(geometry: Geometry, d: int, outputs: int, size: int, taps: int) -> list[Phase]:
    """Of its transpose, from y of `size` elements to x of `outputs`.

    Element r of x is met by those taps i for which (r + padding - i dilation) is a multiple of the
    stride; they are the same for every stride-th element.
    """
    s, e, before = geometry.stride[d], geometry.dilation[d], geometry.padding[d][0]
    every = s // math.gcd(s, e)
    found = []
    for start in range(min(s, outputs)):
        begin = next((i for i in range(every) if (start + before - i * e) % s == 0), taps)
        count = len(range(begin, taps, every))
        first = (start + before - begin * e) // s if count else 0
        n = len(range(start, outputs, s))
        axis = Axis(n, 1, -(e * every) // s, first, size, count)
        found.append(Phase(axis, start, s, begin, every))
    return found


# With samples in lanes ---------------------------------------------------------------------------

IN_BLOCKS = frozenset(["convolve_lanes", "convolve_back_lanes"])  # and pooling


def blocks(node: Node) -> list[Block]:
    """The jobs of an operation on images: (block of samples, 1, first channel, channels)."""
    if node.kind.startswith("pool_"):
        grain, pieces, groups = 1, job_count(node.spec.size + node.args[0].spec.size), 1
    else:
        groups = node.params["geometry"].groups
        grain = conv.tile(node.spec.shape[1] // groups)[0]
        pieces = max(1, min(JOBS, _flops(node) // LEAST))
    samples, channels = node.spec.shape[:2]
    outs = channels // groups
    parts = ranges(outs, max(1, pieces // (samples * groups)), grain)
    return [
        (block, 1, group * outs + out, count)
        for block in range(samples)
        for group in range(groups)
        for out, count in parts
    ]


def _flops(node: Node) -> int:
    """Of a convolution or of its transpose: two for each tap of each element of the smaller."""
    w = node.args[1]
    y = node.args[0] if node.kind == "convolve_back_lanes" else node
    return 2 * y.spec.size * math.prod(w.spec.shape) // y.spec.shape[1]


@lowering("convolve_lanes")
def _convolve(node: Node, to: Lowering) -> list[Launch]:
    x, w = node.args
    geometry: Geometry = node.params["geometry"]
    (_, c, h, width, _), (o, _, kh, kw) = x.spec.shape, w.spec.shape
    rows, columns = node.spec.shape[2:4]
    down = [Phase(forward(geometry, 0, rows, h, kh), 0, 1, 0, 1)]
    right = [Phase(forward(geometry, 1, columns, width, kw), 0, 1, 0, 1)]
    taps = row_major(w.spec.shape)
    return _convolutions(node, to, geometry, down, right, (o, c), (taps[0], taps[1]))


@lowering("convolve_back_lanes")
def _convolve_back(node: Node, to: Lowering) -> list[Launch]:
    y, w = node.args
    geometry: Geometry = node.params["geometry"]
    (_, o, p, q, _), (_, _, kh, kw) = y.spec.shape, w.spec.shape
    c, rows, columns = node.spec.shape[1:4]
    down = backward(geometry, 0, rows, p, kh)
    right = backward(geometry, 1, columns, q, kw)
    taps = row_major(w.spec.shape)
    return _convolutions(node, to, geometry, down, right, (c, o), (taps[1], taps[0]))


def _convolutions(
    node: Node,
    to: Lowering,
    geometry: Geometry,
    down: list[Phase],
    right: list[Phase],
    channels: tuple[int, int],
    steps: tuple[int, int],
) -> list[Launch]:
    """Sums over channels and taps: for each phase of the outputs a launch, in the same jobs.

    channels  of the result and of what is summed up; steps  in w from one of these to the next
    """
    x, w = (to.layout(a) for a in node.args)
    y = own(node)
    dtype, lanes, groups = node.spec.dtype, node.spec.shape[-1], geometry.groups
    outs, ins = channels[0] // groups, channels[1] // groups
    w_row, w_column = row_major(node.args[1].spec.shape)[2:]
    w_group = node.args[1].spec.size // groups  # a group's kernels come together
    text = conv.convolve_text(dtype, lanes, conv.tile(outs))
    flops, nbytes = _flops(node), sum(a.spec.nbytes for a in (*node.args, node))
    launches: list[Launch] = []
    for row in down:
        for column in right:
            rows: list[Row] = []
            for block, _, channel, count in blocks(node):
                group, out = divmod(channel, outs)
                x0 = block * x.strides[0] + group * ins * x.strides[1]
                w0 = group * w_group + out * steps[0] + row.begin * w_row + column.begin * w_column
                y0 = row.start * y.strides[2] + column.start * y.strides[3]
                if node not in to.private:
                    y0 += block * y.strides[0] + channel * y.strides[1]
                rows.append(
                    [
                        *(count, ins, *row.axis, *column.axis),
                        *(to.at(x, x0), x.strides[1], x.strides[2]),
                        *(to.at(w, w0), *steps),
                        *(w_row * row.every, w_column * column.every),
                        *(to.at(y, y0), y.strides[1]),
                        *(y.strides[2] * row.step, y.strides[3] * column.step),
                    ]
                )
            joined = bool(launches)
            title = node.title.removesuffix("_lanes")
            launches.append(Launch(text, rows, title, flops, nbytes, joined=joined))
            flops = nbytes = 0
    return launches


@lowering("correlate_lanes")
def _correlate(node: Node, to: Lowering) -> list[Launch]:
    """The gradient of the weights: a job for some of them, over all samples."""
    x, y = (to.layout(a) for a in node.args)
    geometry: Geometry = node.params["geometry"]
    (blocks, c, h, width, lanes), (_, o, p, q, _) = (a.spec.shape for a in node.args)
    kh, kw = node.params["kernel"]
    groups, samples, item = geometry.groups, node.params["n"], node.spec.dtype.itemsize
    outs, ins = o // groups, c // groups
    taps = ins * kh * kw
    tile = conv.weight_tile(outs, taps)
    flops = 2 * samples * o * taps * p * q
    # A job reads some channels of x, which it may copy, and some of y: parts that cost about alike.
    tiles = -(-outs // tile[0]) * -(-taps // tile[1])
    pieces = max(1, min(JOBS, flops // (2 * LEAST), tiles // 3) // groups)
    best = math.sqrt(pieces * (outs * p * q) / (COPY * ins * h * width))
    out_parts = ranges(outs, min(pieces, max(1, round(best))), tile[0])
    tap_parts = ranges(taps, -(-pieces // len(out_parts)), tile[1])
    (down, right), (tall, wide) = geometry.stride, geometry.dilation
    (above, _), (before, _) = geometry.padding
    below = max(0, (p - 1) * down + (kh - 1) * tall - above - (h - 1))
    after = max(0, (q - 1) * right + (kw - 1) * wide - before - (width - 1))
    text = conv.correlate_text(node.spec.dtype, lanes, tile)
    # What a job keeps to itself: its sums, a vector for each, and the channels that it reads.
    tiles = -(-out_parts[0][1] // tile[0]) * -(-tap_parts[0][1] // tile[1])
    channels = min(ins, (tap_parts[0][1] - 2) // (kh * kw) + 2)
    plane = (above + h + below) * (before + width + after)
    vectors = (tiles * tile[0] * tile[1], channels * plane)
    own_memory = Node(Spec((sum(vectors) * lanes,), node.spec.dtype), name="sums and image")
    to.private[own_memory] = own_memory.spec.nbytes
    rows: list[Row] = []
    for group in range(groups):
        for out, count in out_parts:
            first_out = group * outs + out
            for tap, n in tap_parts:
                rows.append(
                    [
                        *(count, tap, tap + n, blocks, samples, kh, kw, p, q),
                        *(down, tall, right, wide, h, width, above, below, before, after),
                        *(to.at(x, group * ins * x.strides[1]), x.strides[0]),
                        *(to.at(y, first_out * y.strides[1]), y.strides[0]),
                        *(Place(node, first_out * taps * node.spec.dtype.itemsize), taps),
                        *(Place(own_memory), Place(own_memory, vectors[0] * lanes * item)),
                    ]
                )
    nbytes = sum(a.spec.nbytes for a in (*node.args, node))
    return [Launch(text, rows, "correlate", flops, nbytes)]


@lowering("to_lanes")
def _to_lanes(node: Node, to: Lowering) -> list[Launch]:
    """Each block of samples as the columns of a matrix."""
    x = to.layout(node.args[0])
    lanes, n = node.params["lanes"], node.args[0].spec.shape[0]
    features = math.prod(node.spec.shape[1:-1])
    rows: list[Row] = []
    for block in range(node.spec.shape[0]):
        height = min(lanes, n - block * lanes)
        source = to.at(x, block * lanes * features)
        target = Place(node, block * lanes * features * node.spec.dtype.itemsize)
        rows.append([height, features, source, features, target, lanes])
    text = conv.turn_text(node.spec.dtype, lanes)
    return [Launch(text, rows, "to_lanes", 0, node.args[0].spec.nbytes + node.spec.nbytes)]


@lowering("from_lanes")
def _from_lanes(node: Node, to: Lowering) -> list[Launch]:
    """Back: the columns of each block that are samples."""
    x = to.layout(node.args[0])
    blocks, *_, lanes = node.args[0].spec.shape
    features = math.prod(node.spec.shape[1:])
    rows: list[Row] = []
    for block in range(blocks):
        width = min(lanes, node.spec.shape[0] - block * lanes)
        source = to.at(x, block * lanes * features)
        target = Place(node, block * lanes * features * node.spec.dtype.itemsize)
        rows.append([features, width, source, lanes, target, features])
    text = conv.turn_text(node.spec.dtype, lanes)
    return [Launch(text, rows, "from_lanes", 0, node.args[0].spec.nbytes + node.spec.nbytes)]


# Without lanes: products of matrices, a sample at a time ------------------------------------------

WINDOW_BYTES = 1 << 19  # of the windows that are a matrix at a time: they stay in a near cache


class _Matrices:
    """A convolution of samples as products, some rows of the result at a time.

    For each group of channels and each sample, y (outs, rows columns) = w (outs, taps) m, where m
    are the windows; they lie in memory of the thread.
    """

    def __init__(self, x: Node, w: Node, y: Node, geometry: Geometry, to: Lowering) -> None:
        self.x, self.w, self.y = x, w, y
        self.geometry = geometry
        self.dtype = x.spec.dtype
        (self.n, c, self.h, self.width), (o, _, self.kh, self.kw) = x.spec.shape, w.spec.shape
        self.rows, self.columns = y.spec.shape[2:]
        self.ins, self.outs = c // geometry.groups, o // geometry.groups
        self.taps = self.ins * self.kh * self.kw
        row_bytes = self.taps * self.columns * self.dtype.itemsize
        step = max(1, min(self.rows, WINDOW_BYTES // max(row_bytes, 1)))
        self.parts = [(p, min(step, self.rows - p)) for p in range(0, self.rows, step)]
        self.matrix = Node(Spec((self.taps * step * self.columns,), self.dtype), name="windows")
        to.private[self.matrix] = self.matrix.spec.nbytes
        self.flops = 2 * y.spec.size * self.taps

    def image(self, x: Place, start: int, count: int) -> Row:
        """The arguments of the kernels that go from a sample to its windows, or back."""
        g = self.geometry
        (down, right), (tall, wide) = g.stride, g.dilation
        (above, _), (left, _) = g.padding
        sizes = self.ins, count, self.columns, start, self.kh, self.kw
        places = down, tall, above, self.h, right, wide, left, self.width
        return [*sizes, *places, x, Place(self.matrix)]

    def each(self, to: Lowering, x: Layout, y: Layout, w: Layout) -> Iterator[tuple[Place, ...]]:
        """Where x, y and w of every group of every sample begin."""
        for sample in range(self.n):
            for group in range(self.geometry.groups):
                x0 = sample * x.strides[0] + group * self.ins * x.strides[1]
                y0 = sample * y.strides[0] + group * self.outs * y.strides[1]
                yield to.at(x, x0), to.at(y, y0), to.at(w, group * self.outs * self.taps)

    def product(
        self, form: str, sizes: tuple[int, int, int], rows: list[Row], joined: bool
    ) -> Launch:
        """Rows are those of a product after its sizes."""
        m, n, k = sizes
        served = gemm.call(self.dtype, form, m, n, k, choice.limit(self.dtype))
        rows = [[*served.first, m, n, k, *row] for row in rows]
        flops = 2 * m * n * k * len(rows)
        return Launch(served.text, rows, "matmul", flops, 0, served.calls_blas, joined)


def _moved(place: Place, elements: int, itemsize: int) -> Place:
    return Place(place.key, place.offset + elements * itemsize)


@lowering("convolve")
def _convolve_by_products(node: Node, to: Lowering) -> list[Launch]:
    x, w = node.args
    m = _Matrices(x, w, node, node.params["geometry"], to)
    item, pixels = m.dtype.itemsize, m.rows * m.columns
    places = list(m.each(to, to.layout(x), own(node), to.layout(w)))
    found: list[Launch] = []
    for start, count in m.parts:
        windows = [m.image(x0, start, count) for x0, _, _ in places]
        text = conv.windows_text(m.dtype)
        found.append(Launch(text, windows, "windows", 0, x.spec.nbytes, joined=bool(found)))
        n = count * m.columns
        rows: list[Row] = [
            [w0, m.taps, Place(m.matrix), n, _moved(y0, start * m.columns, item), pixels, 0]
            for _, y0, w0 in places
        ]
        found.append(m.product("NN", (m.outs, n, m.taps), rows, True))
    return found


@lowering("convolve_back")
def _convolve_back_by_products(node: Node, to: Lowering) -> list[Launch]:
    y, w = node.args
    m = _Matrices(node, w, y, node.params["geometry"], to)
    item, pixels = m.dtype.itemsize, m.rows * m.columns
    places = list(m.each(to, own(node), to.layout(y), to.layout(w)))
    found: list[Launch] = []
    for start, count in m.parts:
        n = count * m.columns
        rows: list[Row] = [
            [w0, m.taps, _moved(y0, start * m.columns, item), pixels, Place(m.matrix), n, 0]
            for _, y0, w0 in places
        ]
        found.append(m.product("TN", (m.taps, n, m.outs), rows, bool(found)))
        back = [m.image(x0, start, count) for x0, _, _ in places]
        text = conv.fold_text(m.dtype)
        found.append(Launch(text, back, "fold", 0, node.spec.nbytes, joined=True))
    return found


@lowering("correlate")
def _correlate_by_products(node: Node, to: Lowering) -> list[Launch]:
    """A job for each group, which goes through the samples in their order."""
    x, y = node.args
    m = _Matrices(x, node, y, node.params["geometry"], to)
    item, pixels = m.dtype.itemsize, m.rows * m.columns
    places = list(m.each(to, to.layout(x), to.layout(y), own(node)))
    found: list[Launch] = []
    if not m.n:  # a sum over nothing
        nothing: Row = [Place(node), m.taps] * 3
        found.append(m.product("NN", (node.spec.shape[0], m.taps, 0), [[*nothing, 0]], False))
    for sample in range(m.n):
        here = places[sample * m.geometry.groups : (sample + 1) * m.geometry.groups]
        for start, count in m.parts:
            windows = [m.image(x0, start, count) for x0, _, _ in here]
            text = conv.windows_text(m.dtype)
            nbytes = x.spec.nbytes // m.n
            found.append(Launch(text, windows, "windows", 0, nbytes, joined=bool(found)))
            n = count * m.columns
            more = int(len(found) > 1)
            rows: list[Row] = [
                [_moved(y0, start * m.columns, item), pixels, Place(m.matrix), n, w0, m.taps, more]
                for _, y0, w0 in here
            ]
            found.append(m.product("NT", (m.outs, m.taps, n), rows, True))
    return found


# Pooling, with samples in lanes or not -----------------------------------------------------------


def _pooling(node: Node, to: Lowering) -> list[Launch]:
    """A range of the planes is a job; x is the larger image, y the smaller one."""
    name = node.title.removeprefix("pool_").removesuffix("_lanes")
    in_lanes = node.title.endswith("_lanes")
    back = name in ("put", "spread")
    x, y = (node, node.args[0]) if back else (node.args[0], node)
    lanes = node.spec.shape[-1] if in_lanes else 1
    (_, _, h, w), (_, c, p, q) = x.spec.shape[:4], y.spec.shape[:4]
    kh, kw = node.params["kernel"]
    geometry: Geometry = node.params["geometry"]
    (down, right), ((above, _), (left, _)) = geometry.stride, geometry.padding
    text = pool.text(name, node.args[0].spec.dtype, lanes)
    sizes = [math.prod(a.spec.shape[2:]) for a in (*node.args, node)]
    joined = bool(to.blocks)
    rows: list[Row] = []
    for block, height, channel, count in to.blocks or blocks(node):
        plane = block * c + channel
        operands = [_plane(to, a, plane, n) for a, n in zip(node.args, sizes)]
        start = 0 if node in to.private else plane * sizes[-1]
        result = Place(node, start * node.spec.dtype.itemsize)
        numbers = height * count, p, q, kh, kw, down, above, h, right, left, w
        rows.append([*numbers, *operands, result])
    nbytes = sum(a.spec.nbytes for a in (*node.args, node))
    flops = node.spec.size * kh * kw
    return [Launch(text, rows, f"pool_{name}", flops, nbytes, joined=joined)]


def _plane(to: Lowering, arg: Node, plane: int, size: int) -> Place:
    """Where a plane of an argument begins; what this job has made for itself begins with it."""
    layout = to.layout(arg)
    return to.at(layout, 0 if layout.root in to.private else plane * size)


for _name in ("place", "pick", "put", "sum", "spread"):
    lowering(f"pool_{_name}")(_pooling)
    lowering(f"pool_{_name}_lanes")(_pooling)
