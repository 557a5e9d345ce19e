"""The tables of the reading room. ``actions`` and ``reads`` say who did what and when; no action is ever changed.

A change here comes with a migration (`mammoscope.review.store.migrations`); a test compares the two.
"""

import sqlalchemy as sa

from mammoscope.node.db.schema import UTCDateTime

metadata = sa.MetaData()

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    # Study Instance UID, or what a data set calls the study.
    sa.Column("key", sa.String(256), nullable=False, unique=True),
    # What a reader knows the patient by; it may come from a header.
    sa.Column("patient", sa.String(256), nullable=False, index=True),
    sa.Column("patient_name", sa.String(256), nullable=False, default=""),
    sa.Column("taken_on", sa.String(10), nullable=False, default=""),
    sa.Column("scanner", sa.String(128), nullable=False, default=""),
    # What the source says: done, sending, failed ...; and one sentence where it was not processed.
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text),
    sa.Column("came_at", UTCDateTime, nullable=False, index=True),
    # Counted up whenever the source changed it.
    sa.Column("version", sa.String(64), nullable=False, default=""),
    sa.Column("images", sa.Integer, nullable=False, default=0),
    sa.Column("findings", sa.Integer, nullable=False, default=0),
    sa.Column("highest", sa.Float, index=True),
    # How far the readers are: see `mammoscope.review.store.reads.ReviewProgress`.
    sa.Column("progress", sa.String(16), nullable=False, default="unread", index=True),
    # The source has it no longer.
    sa.Column("gone", sa.Boolean, nullable=False, default=False),
    # Where its last report goes and how far that is: [name, status] of each destination.
    sa.Column("destinations", sa.JSON),
)

images = sa.Table(
    "images",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.Integer, sa.ForeignKey("studies.id"), nullable=False, index=True),
    # SOP Instance UID, or the name within a data set's images.
    sa.Column("key", sa.String(1024), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("laterality", sa.String(1)),
    sa.Column("view", sa.String(8)),
    sa.Column("rows", sa.Integer),
    sa.Column("columns", sa.Integer),
    sa.Column("reason", sa.Text),
    # Of its breast as displayed, for the drift of images: see `mammoscope.review.statistics`.
    sa.Column("measured", sa.Boolean),
    sa.Column("mean_grey", sa.Float),
    sa.Column("contrast", sa.Float),
    sa.Column("breast_share", sa.Float),
    sa.UniqueConstraint("study", "key"),
)

proposals = sa.Table(
    "proposals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("image", sa.Integer, sa.ForeignKey("images.id"), nullable=False, index=True),
    # model, or annotation where a data set came with boxes.
    sa.Column("origin", sa.String(16), nullable=False),
    sa.Column("x0", sa.Float, nullable=False),
    sa.Column("y0", sa.Float, nullable=False),
    sa.Column("x1", sa.Float, nullable=False),
    sa.Column("y1", sa.Float, nullable=False),
    sa.Column("score", sa.Float),
    sa.Column("label", sa.String(64), nullable=False),
    # The model looked again since and proposes others: kept for the verdicts on it, shown no more.
    sa.Column("replaced", sa.Boolean, nullable=False, default=False),
    # What was said of it before anybody read: birads, shape, margin, comment.
    sa.Column("details", sa.JSON),
)

actions = sa.Table(
    "actions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("image", sa.Integer, sa.ForeignKey("images.id"), nullable=False),
    sa.Column("reader", sa.String(64), nullable=False),
    # From 1 for each image and reader: two that were made of the same state cannot both be the next.
    sa.Column("number", sa.Integer, nullable=False),
    # Given by the page, so that an action sent twice over a bad connection counts once.
    sa.Column("token", sa.String(64), nullable=False, unique=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("mark", sa.String(64), nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
    sa.Column("at", UTCDateTime, nullable=False),
    sa.UniqueConstraint("image", "reader", "number"),
    sa.Index("actions_by_mark", "image", "mark"),
)

reads = sa.Table(
    "reads",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.Integer, sa.ForeignKey("studies.id"), nullable=False),
    # first, second or arbiter: of each there is one.
    sa.Column("place", sa.String(8), nullable=False),
    sa.Column("reader", sa.String(64), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("began_at", UTCDateTime, nullable=False),
    sa.Column("ended_at", UTCDateTime),
    # normal, recall or technical recall, once it is done.
    sa.Column("opinion", sa.String(16)),
    sa.UniqueConstraint("study", "place"),
    sa.UniqueConstraint("study", "reader"),
)

sendings = sa.Table(
    "sendings",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("study", sa.Integer, sa.ForeignKey("studies.id"), nullable=False, index=True),
    # Number of the node's report: what became of it stands there.
    sa.Column("report", sa.Integer, nullable=False),
    sa.Column("reader", sa.String(64), nullable=False),
    sa.Column("at", UTCDateTime, nullable=False),
    sa.Column("objects", sa.Integer, nullable=False),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    # Argon2id, in PHC format; None for one who logs in elsewhere, or by name alone on this machine.
    sa.Column("password", sa.String(256)),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("active", sa.Boolean, nullable=False, default=True),
    sa.Column("made_at", UTCDateTime, nullable=False),
    # The OpenID Connect provider by whom they log in, and who they are there.
    sa.Column("issuer", sa.String(512)),
    sa.Column("subject", sa.String(256)),
    sa.UniqueConstraint("issuer", "subject"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    # SHA-256 of the cookie: who reads this table cannot use it.
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("user", sa.String(64), nullable=False, index=True),
    sa.Column("form_token", sa.String(64), nullable=False),
    sa.Column("began_at", UTCDateTime, nullable=False),
    sa.Column("seen_at", UTCDateTime, nullable=False),
)
