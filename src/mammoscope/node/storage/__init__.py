"""Files that a power cut cannot take back: in come received objects and results, out go their paths.

`receiver.Reception` takes an object, `inbox.Inbox` holds the images, `outbox.Outbox` the results of each report;
`durable_files` writes and syncs, `disk_space.DiskGuard` says when nothing more may be taken.
"""
