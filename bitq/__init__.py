"""bitq: train every run of a low-bit study, measure the bytes that would ship, test every claim."""

__version__ = "0.1.0"
