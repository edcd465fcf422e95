"""Main directional maximal difference (Wang et al. 2017; the baseline of MEGC 2020), on Farneback flow.

mdmd.py FRAMES K OUT.npy: (frame, 36), each block's main directional difference, strongest third, in pixels.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

BLOCKS = 6


def flow_between(prev, curr):
    return cv2.calcOpticalFlowFarneback(
        prev, curr, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )


def difference(a, b):
    magnitude_a, angle_a = cv2.cartToPolar(a[..., 0], a[..., 1])
    magnitude_b, _ = cv2.cartToPolar(b[..., 0], b[..., 1])
    quadrant = (angle_a / (np.pi / 2)).astype(int) % 4
    main = quadrant == np.bincount(quadrant.ravel(), minlength=4).argmax()
    values = np.sort((magnitude_a - magnitude_b)[main])[::-1]
    return values[: max(1, len(values) // 3)].mean()


def main(folder, k, out):
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(Path(folder).glob("*.png"))]
    result = []
    for i in range(k, len(images) - k):
        a, b = flow_between(images[i - k], images[i]), flow_between(images[i - k], images[i + k])
        rows = zip(np.array_split(a, BLOCKS), np.array_split(b, BLOCKS), strict=True)
        blocks = [p for row in rows for p in zip(*(np.array_split(f, BLOCKS, axis=1) for f in row), strict=True)]
        result.append([difference(*block) for block in blocks])
    np.save(out, np.array(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
