"""``python -m mammoscope`` is the command line."""

from mammoscope.cli import main

main()
