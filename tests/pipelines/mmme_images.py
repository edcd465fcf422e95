"""Flow and strain images as the MMME notebooks draw them: flow quantised to 30/255 pixel, axes of np.gradient swapped.

mmme_images.py FRAMES K OUT.npy: (pair, y, x, 3) uint8, the images of u, v and strain between frames k apart.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

BOUND = 15  # pixels: -15..15 become 0..255


def main(folder, k, out):
    frames = [cv2.imread(str(path), 0) for path in sorted(Path(folder).glob("*.png"))]
    frames = [cv2.resize(frame, (128, 128), interpolation=cv2.INTER_AREA) for frame in frames]
    dtvl1 = cv2.optflow.createOptFlow_DualTVL1()
    images = []
    for i in range(0, len(frames) - k, k):
        flow = dtvl1.calc(frames[i], frames[i + k], None)
        flow = np.round((flow + BOUND) / (2 * BOUND) * 255).clip(0, 255).astype(np.uint8)
        u, v = ((channel / 255.0 * 2 * BOUND) - BOUND for channel in (flow[..., 0], flow[..., 1]))
        ux, uy = np.gradient(u)
        vx, vy = np.gradient(v)
        strain = np.sqrt(ux**2 + vy**2 + 0.5 * (uy + vx) ** 2)
        strain = cv2.normalize(strain, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        images.append(np.dstack([flow, strain]))
    np.save(out, np.stack(images))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
