"""The steps from each version of the node's tables to the next, in ``versions/``, run by Alembic at every start.

A released step is never changed: a change of the tables is a new file with the number after the last, beside the change
in `mammoscope.node.db.schema`.
"""
