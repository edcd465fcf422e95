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


def main(folder, k, out):
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(Path(folder).glob("*.png"))]
    rows, columns = (
        [slice(part[0], part[-1] + 1) for part in np.array_split(np.arange(size), BLOCKS)] for size in images[0].shape
    )
    blocks = [(y, x) for y in rows for x in columns]
    result = []
    for i in range(k, len(images) - k):
        a, b = flow_between(images[i - k], images[i]), flow_between(images[i - k], images[i + k])
        magnitude, angle = cv2.cartToPolar(a[..., 0], a[..., 1])
        quadrant = (angle / (np.pi / 2)).astype(int) % 4
        difference = magnitude - cv2.magnitude(b[..., 0], b[..., 1])
        for block in blocks:
            main = quadrant[block] == np.bincount(quadrant[block].ravel(), minlength=4).argmax()
            values = np.sort(difference[block][main])[::-1]
            result.append(values[: max(1, len(values) // 3)].mean())
    np.save(out, np.reshape(result, (-1, BLOCKS**2)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
