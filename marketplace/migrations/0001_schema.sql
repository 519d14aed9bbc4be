-- One schema for SQLite and PostgreSQL. Ids are UUIDv7 texts, times milliseconds since 1970 in UTC, money minor units,
-- lists JSON texts, truth values 0 and 1.

CREATE TABLE accounts (
  id TEXT PRIMARY KEY,
  handle TEXT NOT NULL UNIQUE,
  email TEXT NOT NULL UNIQUE,
  display_name TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  -- consumer, publisher, moderator or admin: each may do what those before it may.
  role TEXT NOT NULL,
  -- free, team or enterprise.
  tier TEXT NOT NULL,
  stripe_customer TEXT,
  connect_account TEXT,
  charges_enabled BIGINT NOT NULL DEFAULT 0,
  disabled_at BIGINT,
  created_at BIGINT NOT NULL
);

CREATE TABLE sessions (
  token_sha256 TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES accounts (id),
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_account ON sessions (account_id);

CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES accounts (id),
  name TEXT NOT NULL,
  token_sha256 TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT
);
CREATE INDEX tokens_account ON tokens (account_id);

-- Who did what that others may ask about.
CREATE TABLE audit (
  id TEXT PRIMARY KEY,
  at BIGINT NOT NULL,
  account_id TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL
);

CREATE TABLE namespaces (
  name TEXT PRIMARY KEY,
  owner_id TEXT NOT NULL REFERENCES accounts (id),
  created_at BIGINT NOT NULL
);
CREATE INDEX namespaces_owner ON namespaces (owner_id);

CREATE TABLE agents (
  id TEXT PRIMARY KEY,
  namespace TEXT NOT NULL REFERENCES namespaces (name),
  name TEXT NOT NULL,
  -- The name without what the eye overlooks, to find names that look alike.
  name_key TEXT NOT NULL,
  title TEXT NOT NULL,
  summary TEXT NOT NULL,
  readme TEXT NOT NULL,
  license TEXT NOT NULL,
  repository TEXT NOT NULL,
  categories TEXT NOT NULL,
  tags TEXT NOT NULL,
  screenshots TEXT NOT NULL,
  -- draft (nothing published yet), listed, or removed.
  state TEXT NOT NULL,
  latest_version TEXT,
  installs BIGINT NOT NULL DEFAULT 0,
  review_count BIGINT NOT NULL DEFAULT 0,
  stars_sum BIGINT NOT NULL DEFAULT 0,
  -- free, one_time or subscription, and the amount of the active price.
  price_kind TEXT NOT NULL DEFAULT 'free',
  price_minor BIGINT NOT NULL DEFAULT 0,
  price_currency TEXT NOT NULL DEFAULT 'usd',
  created_at BIGINT NOT NULL,
  published_at BIGINT,
  -- Of anything a list shows: the search index reads again what changed.
  changed_at BIGINT NOT NULL,
  UNIQUE (namespace, name)
);
CREATE INDEX agents_changed ON agents (changed_at);
CREATE INDEX agents_key ON agents (name_key);

CREATE TABLE versions (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id),
  version TEXT NOT NULL,
  -- latest or pre.
  channel TEXT NOT NULL,
  manifest TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  size_bytes BIGINT NOT NULL,
  -- started, validating, scanning, rejected, quarantined, passed, errored; a passed one is published once approved.
  scan_state TEXT NOT NULL,
  -- waiting, approved or refused.
  review_state TEXT NOT NULL,
  reason TEXT NOT NULL DEFAULT '',
  findings TEXT NOT NULL DEFAULT '[]',
  submitted_by TEXT NOT NULL REFERENCES accounts (id),
  decided_by TEXT,
  decided_at BIGINT,
  yanked_at BIGINT,
  yank_reason TEXT,
  created_at BIGINT NOT NULL,
  published_at BIGINT,
  UNIQUE (agent_id, version)
);
CREATE INDEX versions_queue ON versions (review_state, created_at);
CREATE INDEX versions_sha256 ON versions (sha256);

-- What each account has now.
CREATE TABLE installs (
  account_id TEXT NOT NULL REFERENCES accounts (id),
  agent_id TEXT NOT NULL REFERENCES agents (id),
  version TEXT NOT NULL,
  -- installed or uninstalled.
  state TEXT NOT NULL,
  first_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (account_id, agent_id)
);
CREATE INDEX installs_agent ON installs (agent_id, first_at);
CREATE INDEX installs_first ON installs (first_at);

-- Every version an account ever had, with how it came: install, upgrade, rollback, uninstall.
CREATE TABLE install_history (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  version TEXT NOT NULL,
  action TEXT NOT NULL,
  at BIGINT NOT NULL
);
CREATE INDEX install_history_of ON install_history (account_id, agent_id);

CREATE TABLE reviews (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id),
  account_id TEXT NOT NULL REFERENCES accounts (id),
  version TEXT NOT NULL,
  stars BIGINT NOT NULL,
  text TEXT NOT NULL,
  -- visible, hidden (by a moderator) or deleted (by its author).
  state TEXT NOT NULL,
  reply TEXT,
  replied_at BIGINT,
  helpful BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  edited_at BIGINT NOT NULL,
  UNIQUE (agent_id, account_id)
);
CREATE INDEX reviews_of_agent ON reviews (agent_id, state, helpful, id);

CREATE TABLE review_votes (
  review_id TEXT NOT NULL REFERENCES reviews (id),
  account_id TEXT NOT NULL REFERENCES accounts (id),
  PRIMARY KEY (review_id, account_id)
);

CREATE TABLE reports (
  id TEXT PRIMARY KEY,
  -- review or agent.
  subject TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  account_id TEXT NOT NULL REFERENCES accounts (id),
  reason TEXT NOT NULL,
  -- open, upheld or dismissed.
  state TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  decided_by TEXT,
  decided_at BIGINT,
  UNIQUE (subject, subject_id, account_id)
);

CREATE TABLE collections (
  id TEXT PRIMARY KEY,
  owner_id TEXT NOT NULL REFERENCES accounts (id),
  slug TEXT NOT NULL,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  -- Chosen by the house, shown to all.
  curated BIGINT NOT NULL DEFAULT 0,
  created_at BIGINT NOT NULL,
  UNIQUE (owner_id, slug)
);

CREATE TABLE collection_items (
  collection_id TEXT NOT NULL REFERENCES collections (id),
  agent_id TEXT NOT NULL REFERENCES agents (id),
  position BIGINT NOT NULL,
  note TEXT NOT NULL,
  PRIMARY KEY (collection_id, agent_id)
);

-- Prices never change: a new one replaces the active one, and who bought at the old one keeps it.
CREATE TABLE prices (
  id TEXT PRIMARY KEY,
  agent_id TEXT NOT NULL REFERENCES agents (id),
  -- one_time or subscription (a month).
  kind TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  trial_days BIGINT NOT NULL DEFAULT 0,
  active BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX prices_agent ON prices (agent_id, active);

-- One try to buy something: an agent at a price, or seats of a tier.
CREATE TABLE orders (
  id TEXT PRIMARY KEY,
  account_id TEXT NOT NULL REFERENCES accounts (id),
  agent_id TEXT,
  price_id TEXT,
  tier TEXT,
  seats BIGINT NOT NULL DEFAULT 1,
  kind TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  publisher_id TEXT,
  fee_minor BIGINT NOT NULL,
  -- open, paid, refunded, disputed, lost or expired.
  state TEXT NOT NULL,
  checkout_session TEXT,
  payment_intent TEXT,
  subscription TEXT,
  created_at BIGINT NOT NULL
);
CREATE INDEX orders_account ON orders (account_id);
CREATE INDEX orders_intent ON orders (payment_intent);
CREATE INDEX orders_subscription ON orders (subscription);
CREATE INDEX orders_session ON orders (checkout_session);

CREATE TABLE subscriptions (
  id TEXT PRIMARY KEY,
  order_id TEXT NOT NULL REFERENCES orders (id),
  -- As Stripe says: trialing, active, past_due, canceled, unpaid, incomplete.
  status TEXT NOT NULL,
  seats BIGINT NOT NULL,
  period_end BIGINT NOT NULL,
  -- When the newest object that we took was made.
  as_of BIGINT NOT NULL
);

-- Payments as they stand. Refunds and disputes may be told before the payment: each fact has its own column.
CREATE TABLE charges (
  payment_intent TEXT PRIMARY KEY,
  charge TEXT,
  order_id TEXT,
  paid_minor BIGINT NOT NULL DEFAULT 0,
  fee_minor BIGINT NOT NULL DEFAULT 0,
  refunded_minor BIGINT NOT NULL DEFAULT 0,
  -- none, open, won or lost.
  dispute TEXT NOT NULL DEFAULT 'none',
  currency TEXT NOT NULL DEFAULT 'usd',
  paid_at BIGINT
);
CREATE INDEX charges_order ON charges (order_id);

CREATE TABLE entitlements (
  account_id TEXT NOT NULL REFERENCES accounts (id),
  agent_id TEXT NOT NULL REFERENCES agents (id),
  order_id TEXT NOT NULL,
  -- active, held or ended.
  state TEXT NOT NULL,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (account_id, agent_id)
);

CREATE TABLE seats (
  owner_id TEXT NOT NULL REFERENCES accounts (id),
  account_id TEXT NOT NULL REFERENCES accounts (id),
  created_at BIGINT NOT NULL,
  PRIMARY KEY (owner_id, account_id)
);

-- One effect per event.
CREATE TABLE stripe_events (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  received_at BIGINT NOT NULL
);

-- Double entry: the lines of one entry have sum zero in each currency. Positive is owed to or held by the account.
CREATE TABLE ledger (
  entry TEXT NOT NULL,
  line BIGINT NOT NULL,
  at BIGINT NOT NULL,
  -- cash, platform_fee, publisher:<account id>, refunds, ...
  account TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  order_id TEXT,
  PRIMARY KEY (entry, line)
);
CREATE INDEX ledger_account ON ledger (account);

CREATE TABLE payouts (
  id TEXT PRIMARY KEY,
  publisher_id TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  -- pending, paid or failed.
  state TEXT NOT NULL,
  as_of BIGINT NOT NULL
);

-- Events on their way to Millstream, written by the transaction that they tell about.
CREATE TABLE outbox (
  id TEXT PRIMARY KEY,
  event TEXT NOT NULL,
  -- The batch that the event was put into; its number and content never change.
  sequence BIGINT
);
CREATE INDEX outbox_sequence ON outbox (sequence);

CREATE TABLE outbox_sender (
  producer TEXT PRIMARY KEY,
  epoch BIGINT NOT NULL,
  sequence BIGINT NOT NULL,
  holder TEXT NOT NULL,
  lease_until BIGINT NOT NULL
);

CREATE TABLE mails (
  id TEXT PRIMARY KEY,
  recipient TEXT NOT NULL,
  subject TEXT NOT NULL,
  body TEXT NOT NULL,
  tries BIGINT NOT NULL DEFAULT 0,
  due_at BIGINT NOT NULL,
  sent_at BIGINT
);
CREATE INDEX mails_due ON mails (sent_at, due_at);
