"""How often an incident was told of."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "incident",
        sa.Column("announcements", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
    )
    # Nobody is told now of what opened long ago; that it closes is news.
    op.execute("UPDATE incident SET announcements = 1 WHERE state <> 'closed'")


def downgrade() -> None:
    op.drop_column("incident", "announcements")
