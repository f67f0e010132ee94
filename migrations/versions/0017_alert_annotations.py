"""What an alert says beside its summary: numbers, its runbook, its dashboard, its query."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Null where an older version has told of it.
    op.add_column("request_alert", sa.Column("annotations", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("request_alert", "annotations")
