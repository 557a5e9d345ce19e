"""The steps from each version of the node's tables to the next are in ``versions/``; Alembic runs them with this file.

They run at every start, in the transaction that `mammoscope.node.db.engine` opened. A released step is never changed: a
change of the tables is a new file with the number after the last, beside the change in `mammoscope.node.db.schema`.
"""

from alembic import context

from mammoscope.node.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite's is, with transactions begun as `engine` begins them
    render_as_batch=True,  # SQLite cannot change a column in place
)
context.run_migrations()
