"""Run by Alembic for each migration, in the transaction that `mammoscope.node.db.engine` opened."""

from alembic import context

from mammoscope.node.db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite's is, with transactions begun as `engine` begins them
    render_as_batch=True,  # SQLite cannot change a column in place
)
context.run_migrations()
