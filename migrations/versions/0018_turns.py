"""Turns that a row stands for; nobody logs a change beside another."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# A release from before waits elsewhere, and would choose the number of an entry that is being
# written.  It takes this failure for one of the database, and answers 503 instead of 500.
_IN_TURN = """
CREATE FUNCTION audit_in_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO turn (name) VALUES ('audit')
    ON CONFLICT (name) DO UPDATE SET name = turn.name WHERE false;
    IF EXISTS (SELECT FROM audit WHERE id >= NEW.id) THEN
        RAISE EXCEPTION 'another change was logged meanwhile'
        USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NEW;
END
$$
"""
_ROWS = """
CREATE TRIGGER audit_in_turn BEFORE INSERT ON audit
FOR EACH ROW EXECUTE FUNCTION audit_in_turn()
"""


def upgrade() -> None:
    op.create_table(
        "turn",
        sa.Column("name", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_turn")),
    )
    op.execute(_IN_TURN)
    op.execute(_ROWS)


def downgrade() -> None:
    op.execute("DROP TRIGGER audit_in_turn ON audit")
    op.execute("DROP FUNCTION audit_in_turn()")
    op.drop_table("turn")
