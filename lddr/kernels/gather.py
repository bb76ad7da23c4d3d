"""The trilinear gather as plain loops: the sums of `lddr.warping.warp`, forward and backward, row by row.

A voxel of the result is a weighted sum of eight voxels of the image. A row of the result is made in three steps: the
places its voxels come from; the corner of the image next to each place, and the distances from it; the eight values.
The first two steps are arithmetic on neighbours in memory, which the processor does for many voxels at once.

An image is handed over as `[B, C, D * H * W]` with its sides (D, H, W), a displacement as `[B, 3, d, h, w]`; all are
float32 and contiguous. Every place is clamped to the image, so nothing outside it is ever read or written.
"""

import numpy as np

from lddr.kernels.compiled import Kernel, part

f32, i32, uint = np.float32, np.int32, np.uintp  # an unsigned offset spares the test for negative indices


@part
def move(b, i, j, field, places):
    """Add the displacements of row (i, j) of `field[b]` to the voxels' own indices: `places`, `[3, w]`."""
    for k in range(places.shape[1]):
        places[0, k] = f32(i) + field[b, 0, i, j, k]
        places[1, k] = f32(j) + field[b, 1, i, j, k]
        places[2, k] = f32(k) + field[b, 2, i, j, k]


@part
def clamp(place, last):
    """Bring a place into 0 ... last; NaN becomes `last`, as in `grid_sample`."""
    inside = place if place < last else last
    return inside if inside > f32(0) else f32(0)


@part
def locate(places, sides, corner, x):
    """Find for each place of a row its corner towards index 0, an offset, and the distances from it: `x`, `[3, w]`."""
    D, H, W = sides
    for k in range(places.shape[1]):
        p, q, r = clamp(places[0, k], f32(D - 1)), clamp(places[1, k], f32(H - 1)), clamp(places[2, k], f32(W - 1))
        a, b, c = min(i32(p), i32(max(D - 2, 0))), min(i32(q), i32(max(H - 2, 0))), min(i32(r), i32(max(W - 2, 0)))
        corner[k] = (a * i32(H) + b) * i32(W) + c
        x[0, k], x[1, k], x[2, k] = p - f32(a), q - f32(b), r - f32(c)


@part
def steps(sides):
    """Give the offset from a voxel to the next one along each axis; 0 along an axis with one voxel."""
    D, H, W = sides
    return uint(H * W if D > 1 else 0), uint(W if H > 1 else 0), uint(1 if W > 1 else 0)


@part
def between(low, high, share):
    """Go from `low` to `high` by a share of the way; to the bit at either end."""
    return (f32(1) - share) * low + share * high


@part
def fetch(image, step, corner, x, out):
    """Read a row: the eight values around each place, joined along the last axis, then the middle, then the first."""
    e1, e2, e3 = step
    for k in range(len(out)):
        o = uint(corner[k])
        a = between(image[o], image[o + e3], x[2, k])
        b = between(image[o + e2], image[o + e2 + e3], x[2, k])
        c = between(image[o + e1], image[o + e1 + e3], x[2, k])
        d = between(image[o + e1 + e2], image[o + e1 + e2 + e3], x[2, k])
        out[k] = between(between(a, b, x[1, k]), between(c, d, x[1, k]), x[0, k])


@Kernel
def warp_rows(start, stop, image, sides, displacement, plus, out):
    """Write `out[b, c, x] = image[b, c, x + u(x)]`, and with `plus` add u(x) itself; a row is (b, i, j)."""
    d, h, w = out.shape[2:]
    places, x, corner = np.empty((3, w), f32), np.empty((3, w), f32), np.empty(w, i32)
    for row in range(start, stop):
        b, i, j = row // (d * h), row // h % d, row % h
        move(b, i, j, displacement, places)
        locate(places, sides, corner, x)
        for c in range(out.shape[1]):
            fetch(image[b, c], steps(sides), corner, x, out[b, c, i, j])
            if plus:
                for k in range(w):
                    out[b, c, i, j, k] += displacement[b, c, i, j, k]


@part
def slope(image, step, corner, x, gradient, out):
    """Add to `out`, `[3, w]`, how the values that `fetch` reads change along each axis, times `gradient`, `[w]`."""
    e1, e2, e3 = step
    for k in range(len(corner)):
        o = uint(corner[k])
        z, y = x[2, k], x[1, k]
        a0, a1, b0, b1 = image[o], image[o + e3], image[o + e2], image[o + e2 + e3]
        o += e1
        c0, c1, d0, d1 = image[o], image[o + e3], image[o + e2], image[o + e2 + e3]
        a, b, c, d = between(a0, a1, z), between(b0, b1, z), between(c0, c1, z), between(d0, d1, z)
        out[0, k] += gradient[k] * (between(c, d, y) - between(a, b, y))
        out[1, k] += gradient[k] * between(b - a, d - c, x[0, k])
        out[2, k] += gradient[k] * between(between(a1 - a0, b1 - b0, y), between(c1 - c0, d1 - d0, y), x[0, k])


@Kernel
def displacement_gradient_rows(start, stop, image, sides, displacement, plus, gradient, out):
    """Write the gradient of `warp_rows` for the displacement; it is 0 along an axis on which a place was clamped."""
    d, h, w = gradient.shape[2:]
    places, x, corner = np.empty((3, w), f32), np.empty((3, w), f32), np.empty(w, i32)
    total = np.empty((3, w), f32)
    for row in range(start, stop):
        b, i, j = row // (d * h), row // h % d, row % h
        move(b, i, j, displacement, places)
        locate(places, sides, corner, x)
        for axis in range(3):
            for k in range(w):
                total[axis, k] = 0
        for c in range(gradient.shape[1]):
            slope(image[b, c], steps(sides), corner, x, gradient[b, c, i, j], total)
        for axis in range(3):
            last = f32(sides[axis] - 1)
            for k in range(w):
                inside = f32(0) < places[axis, k] < last
                out[b, axis, i, j, k] = total[axis, k] if inside else f32(0)
                if plus:
                    out[b, axis, i, j, k] += gradient[b, axis, i, j, k]


@Kernel
def image_gradient_rows(start, stop, sides, displacement, gradient, out):
    """Add to `out`, `[B, C, D * H * W]` zeros, the gradient of `warp_rows` for the image.

    Every voxel gives its gradient to the eight that it was made of. Two voxels may share one of them, so no two threads
    work on one channel: a row is (b, c).
    """
    channels, d, h, w = gradient.shape[1:]
    places, x, corner = np.empty((3, w), f32), np.empty((3, w), f32), np.empty(w, i32)
    e1, e2, e3 = steps(sides)
    for row in range(start, stop):
        b, c = row // channels, row % channels
        image = out[b, c]
        for i in range(d):
            for j in range(h):
                move(b, i, j, displacement, places)
                locate(places, sides, corner, x)
                for k in range(w):
                    o = uint(corner[k])
                    far = gradient[b, c, i, j, k] * x[0, k]
                    near = gradient[b, c, i, j, k] - far
                    for half in (near, far):
                        high = half * x[1, k]
                        low = half - high
                        image[o] += low - low * x[2, k]
                        image[o + e3] += low * x[2, k]
                        image[o + e2] += high - high * x[2, k]
                        image[o + e2 + e3] += high * x[2, k]
                        o += e1
