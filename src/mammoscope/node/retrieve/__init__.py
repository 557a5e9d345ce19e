"""Studies fetched from archives: in come an archive's settings, out go images in the inbox.

`archives` holds the ways to ask (C-FIND with C-MOVE or C-GET, DICOMweb), `poller.Puller` and its rounds decide what to
fetch, `history` remembers what was fetched.
"""
