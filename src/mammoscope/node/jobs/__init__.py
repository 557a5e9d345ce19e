"""What is done with a study, in steps that a crash does not undo.

In come studies that the tracker calls complete, quiet or overdue (`study_completion.StudyTracker`).
`scheduler.Scheduler` makes durable work of them (`queue.DurableWork`): `read_study.StudyWork` reads each image,
`make_report.Reporter` makes the result objects, `deliver_report.DeliveryWork` sends them. Out go reports at their
destinations, or a record of why not. `heartbeat.Heartbeat` says which worker lives; `trial.survives` tells whether an
image ends what reads it.
"""
