"""Whether the node is well: in come its state and its events, out go metrics, readiness and an alarm.

`metrics` is what Prometheus reads, `readiness` answers ``/healthz`` and ``/readyz``, `phantom_check` sends a synthetic
study through the whole node and waits for its results.
"""
