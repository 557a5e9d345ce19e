"""Who did what: in come the node's events, out goes a trail in which every change shows.

`recorder.Audit` writes them down and hands them on, `trail.AuditTrail` is the chain of lines on the disk, `atna` puts
them into the words of DICOM PS3.15 A.5 for a syslog collector.
"""
