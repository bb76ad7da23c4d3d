"""Otsu's threshold: the grey level that parts dark from bright."""

import numpy as np


def otsu(image: np.ndarray, bins: int = 256) -> float:
    """Find the grey level for which the means of what is darker and what is brighter lie furthest apart.

    Apart as the variance between the two groups has it, over a histogram of so many bins. The same number as
    `skimage.filters.threshold_otsu`, whose import takes longer than a registration.

    Source: Otsu 1979, IEEE Transactions on Systems, Man, and Cybernetics 9:62.
    """
    count, edges = np.histogram(image, bins)
    level = (edges[1:] + edges[:-1]) / 2
    darker, brighter = np.cumsum(count), np.cumsum(count[::-1])[::-1]
    dark_mean = np.cumsum(count * level) / darker
    bright_mean = (np.cumsum((count * level)[::-1]) / brighter[::-1])[::-1]
    between = darker[:-1] * brighter[1:] * (dark_mean[:-1] - bright_mean[1:]) ** 2
    return float(level[np.argmax(between)])
