"""The boxes that were found on each image are kept, for those who look at them later."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Of images that were read before, only the number of findings is known."""
    op.add_column("images_read", sa.Column("found", sa.JSON))
