"""Who logs in by a provider, where a study's report goes, and what images are like."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    with op.batch_alter_table("users") as users:
        users.add_column(sa.Column("issuer", sa.String(512)))
        users.add_column(sa.Column("subject", sa.String(256)))
        users.create_unique_constraint("users_of_providers", ["issuer", "subject"])
    op.add_column("studies", sa.Column("destinations", sa.JSON))
    op.add_column("images", sa.Column("measured", sa.Boolean))
    for name in ("mean_grey", "contrast", "breast_share"):
        op.add_column("images", sa.Column(name, sa.Float))
