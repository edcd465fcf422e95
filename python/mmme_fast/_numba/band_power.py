"""Weighted sums of |DFT|^2 over windows; the twin of cpp/kernels/band_power.cpp."""


def band_power(*arguments: object) -> None:
    raise NotImplementedError
