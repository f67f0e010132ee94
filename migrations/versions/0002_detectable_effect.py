"""A measurement says how small an effect its window could have shown."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("measurement", sa.Column("detectable_effect", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("measurement", "detectable_effect")
