"""The twin of cpp/kernels/farneback.cpp."""


def farneback(*arguments: object) -> None:
    raise NotImplementedError
