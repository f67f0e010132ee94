"""What windows say about the causes of incidents, and the incidents."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "signal",
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end", sa.DateTime(timezone=True), nullable=False),
        *_cause(),
        sa.Column("state", sa.String(), nullable=False),
        *_consequence(),
        sa.PrimaryKeyConstraint("version_id", "cause", "start", "end", name=op.f("pk_signal")),
    )
    op.create_table(
        "incident",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        *_cause(),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        *_consequence(),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opened_end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("acknowledged_by", sa.String(), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.String(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident")),
    )
    op.create_index(
        op.f("ix_incident_version_id_cause_opened_start"),
        "incident",
        ["version_id", "cause", "opened_start"],
    )
    op.create_index(op.f("ix_incident_model_id"), "incident", ["model_id"])
    op.create_index(
        "one_open_incident",
        "incident",
        ["version_id", "cause"],
        unique=True,
        postgresql_where=sa.text("state IN ('open', 'acknowledged')"),
    )


def _cause() -> list[sa.Column[str]]:
    return [
        sa.Column(name, sa.String(), nullable=False)
        for name in ("kind", "metric", "subject", "slice")
    ]


def _consequence() -> list[sa.Column[str]]:
    return [
        sa.Column(name, sa.String(), nullable=False) for name in ("severity", "action", "reason")
    ]


def downgrade() -> None:
    op.drop_table("incident")
    op.drop_table("signal")
