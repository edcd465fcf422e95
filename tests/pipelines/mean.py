"""MEAN's front end (Gan et al.): TV-L1 flow from one reused object, strain of backward differences, 0..1 each.

mean.py FRAMES K OUT.npy: (pair, y, x, 4), flow in pixels, its strain, and the strain scaled to 0..1.
"""

import sys
from pathlib import Path

import cv2
import numpy as np


def backward(field, axis):
    return np.diff(field, axis=axis, prepend=np.take(field, [0], axis=axis))  # first = 0


def main(folder, k, out):
    paths = sorted(Path(folder).glob("*.png"))
    tvl1 = cv2.optflow.createOptFlow_DualTVL1()
    flow = None
    features = []
    for i in range(len(paths) - k):
        onset, apex = (cv2.cvtColor(cv2.imread(str(paths[j])), cv2.COLOR_BGR2GRAY) for j in (i, i + k))
        onset, apex = (cv2.resize(image, (128, 128)) for image in (onset, apex))
        flow = tvl1.calc(onset, apex, flow)  # the same array again and again
        u, v = cv2.split(flow)
        shear = 0.5 * (backward(u, 0) + backward(v, 1))
        strain = np.sqrt(backward(u, 1) ** 2 + backward(v, 0) ** 2 + 2 * shear**2)
        scaled = cv2.normalize(strain, None, 0, 1, cv2.NORM_MINMAX)
        features.append(np.dstack([u, v, strain, scaled]))
    np.save(out, np.stack(features))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
