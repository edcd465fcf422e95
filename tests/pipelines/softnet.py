"""SOFTNet's front end (Liong et al., ICIP 2021): TV-L1 flow over k frames and strain, less the nose bridge's motion.

softnet.py FRAMES K OUT.npy: (pair, y, x, 3), flow and strain of the 128 x 128 crop, eyes masked.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

NOSE = slice(58, 69), slice(58, 69)


def compute_strain(u, v):
    u_x = u - np.roll(u, -1, axis=1)
    u_x[:, -1] = u_x[:, -2]
    u_y = u - np.roll(u, -1, axis=0)
    u_y[-1] = u_y[-2]
    v_x = v - np.roll(v, -1, axis=1)
    v_x[:, -1] = v_x[:, -2]
    v_y = v - np.roll(v, -1, axis=0)
    v_y[-1] = v_y[-2]
    return np.sqrt(u_x**2 + v_y**2 + 0.5 * (u_y + v_x) ** 2)


def main(folder, k, out):
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(Path(folder).glob("*.png"))]
    images = [cv2.resize(image, (128, 128)) for image in images]
    optical_flow = cv2.optflow.DualTVL1OpticalFlow_create()
    features = []
    for prev, curr in zip(images[:-k], images[k:], strict=True):
        flow = optical_flow.calc(prev, curr, None)
        u, v = flow[..., 0], flow[..., 1]
        feature = np.dstack([u, v, compute_strain(u, v)])
        feature -= feature[NOSE].mean(axis=(0, 1))
        for y, left, right in ((44, 26, 56), (44, 72, 102)):
            feature[y - 8 : y + 8, left:right] = 0
        features.append(feature)
    np.save(out, np.stack(features))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
