"""Flow in regions, as in the MEGC challenges: Farneback from a window's first frame, the head held still.

roi.py FRAMES LENGTH OUT.npy: (window, frame, region, 2), mean flow of each region's strongest fifth in pixels.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

SIZE = 256
# Middles of regions of 20 x 20 pixels, (x, y): brows, lids, wings of the nose, mouth; of 256.
REGIONS = [
    (60, 70), (80, 64), (100, 68), (156, 68), (176, 64), (196, 70), (80, 104), (176, 104), (108, 150), (148, 150),
    (96, 190), (112, 196), (128, 200), (144, 196), (160, 190),
]  # fmt: skip


def strongest(flow, share):
    vectors = flow.reshape(-1, 2)
    order = np.argsort(np.hypot(*vectors.T))
    return vectors[order[-max(1, int(share * len(order))) :]].mean(axis=0)


def cut(image, dx, dy):
    return cv2.resize(image[16 + dy : -16 + dy, 16 + dx : -16 + dx], (SIZE, SIZE))


def main(folder, length, out):
    images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(Path(folder).glob("*.png"))]
    windows = []
    for begin in range(0, len(images) - length + 1, length // 2):
        first = cut(images[begin], 0, 0)
        signals = []
        for image in images[begin + 1 : begin + length]:
            dx = dy = 0
            for _ in range(3):
                flow = cv2.calcOpticalFlowFarneback(first, cut(image, dx, dy), None, 0.5, 3, 15, 5, 7, 1.5, 0)
                head = strongest(flow[118:139, 118:139], 0.7)
                step = np.round(head).astype(int)
                if np.hypot(*head) <= 1 or max(abs(dx + step[0]), abs(dy + step[1])) > 15:
                    break
                dx, dy = dx + step[0], dy + step[1]
            signals.append([strongest(flow[y - 10 : y + 10, x - 10 : x + 10], 0.2) - head for x, y in REGIONS])
        windows.append(signals)
    np.save(out, np.array(windows))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
