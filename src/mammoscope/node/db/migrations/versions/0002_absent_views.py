"""Reports name the expected views of which no image came."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Reports of before said nothing of it: none is taken for absent."""
    op.add_column("reports", sa.Column("absent_views", sa.JSON, nullable=False, server_default="[]"))
    # Mammoscope 0.1.0 looks at this number alone, and refuses what is not 1.
    op.execute("UPDATE versions SET version = 2")
