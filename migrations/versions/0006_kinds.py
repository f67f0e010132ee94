"""How long a vector is, and whether a version logs attributions."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("feature", sa.Column("length", sa.BigInteger(), nullable=True))
    op.add_column(
        "version",
        sa.Column("attributions", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )


def downgrade() -> None:
    op.drop_column("version", "attributions")
    op.drop_column("feature", "length")
