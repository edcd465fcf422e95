"""Micro-expression spotting and EEG band power, from film and recordings on disk, fast."""

__version__ = "0.1.0"
