"""Labels as plain loops: the nearest one, or the one with the largest share, with no mask of every label in memory."""

import numpy as np

from lddr.kernels.compiled import Kernel, part
from lddr.kernels.gather import clamp, f32, i32, locate, move, steps, uint


@Kernel
def nearest_rows(start, stop, labels, sides, displacement, out):
    """Write the label of the nearest voxel (of two as near, the one with the even index, as `grid_sample` does it)."""
    D, H, W = sides
    d, h, w = out.shape[2:]
    places, corner = np.empty((3, w), f32), np.empty(w, i32)
    for row in range(start, stop):
        b, i, j = row // (d * h), row // h % d, row % h
        move(b, i, j, displacement, places)
        for k in range(w):
            p, q, r = clamp(places[0, k], f32(D - 1)), clamp(places[1, k], f32(H - 1)), clamp(places[2, k], f32(W - 1))
            corner[k] = (i32(np.rint(p)) * i32(H) + i32(np.rint(q))) * i32(W) + i32(np.rint(r))
        for c in range(out.shape[1]):
            for k in range(w):
                out[b, c, i, j, k] = labels[b, c, uint(corner[k])]


@part
def largest_share(found, shares):
    """Give the label with the largest sum of shares among eight; of equal ones the smallest label."""
    best, most = found[0], f32(-1)
    for m in range(8):
        total = f32(0)
        for n in range(8):
            if found[n] == found[m]:
                total += shares[n]
        if total > most or (total == most and found[m] < best):
            best, most = found[m], total
    return best


@Kernel
def linear_rows(start, stop, labels, sides, displacement, out):
    """Write the label that has the largest share among the eight voxels around each place."""
    d, h, w = out.shape[2:]
    places, x, corner = np.empty((3, w), f32), np.empty((3, w), f32), np.empty(w, i32)
    found, shares = np.empty(8, labels.dtype), np.empty(8, f32)
    e1, e2, e3 = steps(sides)
    for row in range(start, stop):
        b, i, j = row // (d * h), row // h % d, row % h
        move(b, i, j, displacement, places)
        locate(places, sides, corner, x)
        for c in range(out.shape[1]):
            source = labels[b, c]
            for k in range(w):
                o = uint(corner[k])
                same = True
                for m in range(8):
                    found[m] = source[o + e1 * uint(m >> 2) + e2 * uint(m >> 1 & 1) + e3 * uint(m & 1)]
                    same = same and found[m] == found[0]
                if not same:  # rare: most voxels lie inside one label
                    for m in range(8):
                        share = x[0, k] if m >> 2 else f32(1) - x[0, k]
                        share *= x[1, k] if m >> 1 & 1 else f32(1) - x[1, k]
                        shares[m] = share * (x[2, k] if m & 1 else f32(1) - x[2, k])
                out[b, c, i, j, k] = found[0] if same else largest_share(found, shares)
