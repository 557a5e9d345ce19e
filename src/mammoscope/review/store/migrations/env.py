"""The steps from each version of the reading room's tables to the next are in ``versions/``; Alembic runs them.

They run at every start. A released step is never changed: a change of the tables is a new file with the number after
the last, beside the change in `mammoscope.review.store.schema`.
"""

from alembic import context

from mammoscope.review.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
