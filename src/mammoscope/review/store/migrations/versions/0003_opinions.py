"""What a reader says of a study as a whole."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; readings that are done already stay without an opinion."""
    op.add_column("reads", sa.Column("opinion", sa.String(16)))
