"""Mammoscope: finds masses in mammograms and puts them where a radiologist reads.

Research use only; not a medical device.
"""

__version__ = "0.2.0"
