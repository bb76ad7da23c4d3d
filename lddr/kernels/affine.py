"""Affine map, displacement and reading in one pass over the result, with no field in between in memory.

For a voxel x of the result, the displacement is `u(x) = T v(G x) + R x`, and the value that of the image at `x + u(x)`.
An affine map before a displacement, a displacement on a coarser grid, and the way from one scanner's file to another's
differ in the numbers only. They are handed over together, as `way`:

- v, a displacement that was found on some grid, `[B, 3, n]` float32, read trilinearly with the border repeated;
- its sides;
- where that grid lies: one of the words below;
- G, `[3, 4]`, from a voxel of the result to a place on that grid;
- T, `[B, 3, 3]`, and R, `[B, 3, 4]`, an affine map of the voxel; G, T and R are float64.
"""

import numpy as np

from lddr.kernels.compiled import Kernel, part
from lddr.kernels.gather import between, clamp, f32, fetch, i32, locate, steps, uint

# There is no v; it lies on the result's grid; on one with parallel axes; on any.
NOWHERE, HERE, PARALLEL, ANYWHERE = 0, 1, 2, 3


@part
def line(i, j, affine, out):
    """Map the voxels of row (i, j) by `affine`, `[3, 4]`: `out`, `[3, w]`."""
    for axis in range(3):
        begin = f32(affine[axis, 0] * i + affine[axis, 1] * j + affine[axis, 3])
        step = f32(affine[axis, 2])
        for k in range(out.shape[1]):
            out[axis, k] = begin + step * f32(k)


@part
def add_turned(turn, v, begin, u):
    """Add `turn @ v` to a row of u, `[3, n]`; the row of v, `[3, m]`, begins at an offset."""
    for axis in range(3):
        t0, t1, t2 = f32(turn[axis, 0]), f32(turn[axis, 1]), f32(turn[axis, 2])
        for k in range(u.shape[1]):
            o = begin + uint(k)
            u[axis, k] += t0 * v[0, o] + t1 * v[1, o] + t2 * v[2, o]


@part
def add_coarse(i, j, v, sides, to_v, turn, scratch, u):
    """Add `turn @ v` to a row of u that runs along the last axis of v's grid.

    The four rows of v around it are joined first, turned, and then read between two neighbours for every voxel.
    """
    corner, share, mixed, joined = scratch
    e1, e2, e3 = steps(sides)
    p = clamp(f32(to_v[0, 0] * i + to_v[0, 3]), f32(sides[0] - 1))
    q = clamp(f32(to_v[1, 1] * j + to_v[1, 3]), f32(sides[1] - 1))
    a, b = min(i32(p), i32(max(sides[0] - 2, 0))), min(i32(q), i32(max(sides[1] - 2, 0)))
    begin, x, y = uint((a * sides[1] + b) * sides[2]), p - f32(a), q - f32(b)
    for axis in range(3):
        channel = v[axis]
        for k in range(sides[2]):
            o = begin + uint(k)
            near, far = between(channel[o], channel[o + e2], y), between(channel[o + e1], channel[o + e1 + e2], y)
            mixed[axis, k] = between(near, far, x)
            joined[axis, k] = 0
    add_turned(turn, mixed, uint(0), joined)
    for axis in range(3):
        for k in range(u.shape[1]):
            o = uint(corner[k])
            u[axis, k] += between(joined[axis, o], joined[axis, o + e3], share[k])


@part
def prepare(w, way):
    """Make the memory that a row needs, and for a parallel grid what is the same for all rows: see `add_coarse`."""
    sides, where, to_v = way[1:4]
    places, x, u, corner = np.empty((3, w), f32), np.empty((3, w), f32), np.empty((3, w), f32), np.empty(w, i32)
    share, mixed, joined = np.empty(w, f32), np.empty((3, sides[2]), f32), np.empty((3, sides[2]), f32)
    along = np.empty(w, i32)
    if where == PARALLEL:
        for k in range(w):
            r = clamp(f32(to_v[2, 2] * k + to_v[2, 3]), f32(sides[2] - 1))
            along[k] = min(i32(r), i32(max(sides[2] - 2, 0)))
            share[k] = r - f32(along[k])
    return (places, x, u, corner), (along, share, mixed, joined)


@part
def displace(b, i, j, way, memory):
    """Compute row (i, j) of u."""
    v, sides, where, to_v, turn, rest = way
    places, x, u, corner = memory[0]
    line(i, j, rest[b], u)
    if where == HERE:
        add_turned(turn[b], v[b], uint((i * sides[1] + j) * sides[2]), u)
    elif where == PARALLEL:
        add_coarse(i, j, v[b], sides, to_v, turn[b], memory[1], u)
    elif where == ANYWHERE:
        line(i, j, to_v, places)
        locate(places, sides, corner, x)
        for axis in range(3):
            fetch(v[b, axis], steps(sides), corner, x, places[axis])  # the places themselves have served
        add_turned(turn[b], places, uint(0), u)


@part
def step_on(i, j, u, places):
    """Add the displacements of a row to the voxels' own indices."""
    for k in range(u.shape[1]):
        places[0, k], places[1, k], places[2, k] = f32(i) + u[0, k], f32(j) + u[1, k], f32(k) + u[2, k]


@part
def fade(places, sides, fill, out):
    """Let the values of a row go over into `fill` within one voxel outside the image; NaN is outside."""
    for k in range(len(out)):
        inside = f32(1)
        for axis in range(3):
            near = f32(1) - abs(places[axis, k] - clamp(places[axis, k], f32(sides[axis] - 1)))
            inside *= near if near > f32(0) else f32(0)
        if inside < f32(1):
            out[k] = fill if inside == f32(0) else fill + inside * (out[k] - fill)


@Kernel
def pull_rows(start, stop, image, sides, way, constant, fill, field, out):
    """Write `out[b, c, x] = image[b, c, x + u(x)]`, and u itself to `field`; a row is (b, i, j).

    Either may have no channel, which leaves it out: `out` is `[B, C, d, h, w]`, `field` `[B, 3, d, h, w]`. Outside the
    image the border is repeated, or with `constant` the value is `fill`.
    """
    d, h, w = out.shape[2:]
    memory = prepare(w, way)
    places, x, u, corner = memory[0]
    for row in range(start, stop):
        b, i, j = row // (d * h), row // h % d, row % h
        displace(b, i, j, way, memory)
        for axis in range(field.shape[1]):
            for k in range(w):
                field[b, axis, i, j, k] = u[axis, k]
        if out.shape[1] > 0:
            step_on(i, j, u, places)
            locate(places, sides, corner, x)
        for c in range(out.shape[1]):
            fetch(image[b, c], steps(sides), corner, x, out[b, c, i, j])
            if constant:
                fade(places, sides, fill, out[b, c, i, j])


@Kernel
def pull_nearest_rows(start, stop, labels, sides, way, fill, out):
    """Write the label of the voxel in whose cube `x + u(x)` lies, `fill` outside all of them; see `pull_rows`."""
    D, H, W = sides
    d, h, w = out.shape[2:]
    memory = prepare(w, way)
    places, x, u, corner = memory[0]
    half = f32(0.5)
    for row in range(start, stop):
        b, i, j = row // (d * h), row // h % d, row % h
        displace(b, i, j, way, memory)
        step_on(i, j, u, places)
        for k in range(w):
            p, q, r = places[0, k] + half, places[1, k] + half, places[2, k] + half
            inside = p >= 0 and q >= 0 and r >= 0 and p < D and q < H and r < W
            corner[k] = (i32(p) * i32(H) + i32(q)) * i32(W) + i32(r) if inside else i32(-1)
        for c in range(out.shape[1]):
            for k in range(w):
                out[b, c, i, j, k] = labels[b, c, uint(corner[k])] if corner[k] >= 0 else fill
